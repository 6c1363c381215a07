"""Where source code comes from: connections, observability configurations, and Hob's own git remote."""
import subprocess

import pytest
from botocore.exceptions import ClientError


def code_of(refused):
    return refused.value.response["Error"]["Code"]


def test_connections_with_stock_clients(hob):
    runner = hob.boto("apprunner")
    made = runner.create_connection(ConnectionName="code", ProviderType="GITHUB", Tags=[{"Key": "team", "Value": "web"}])
    arn = made["Connection"]["ConnectionArn"]
    assert arn.startswith("arn:aws:apprunner:us-east-1:000000000001:connection/code/")
    assert made["Connection"]["Status"] == "PENDING_HANDSHAKE"
    assert runner.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "web"}]
    with pytest.raises(ClientError) as refused:
        runner.create_connection(ConnectionName="code", ProviderType="GITHUB")
    assert code_of(refused) == "InvalidRequestException"
    with pytest.raises(ClientError) as refused:
        runner.create_connection(ConnectionName="code2", ProviderType="SOURCEFORGE")
    assert code_of(refused) == "InvalidRequestException"

    token = "ghp_a_token_that_must_not_be_seen"
    done = hob.run("connection", "complete", "code", "--token-stdin", "--username", "bot", input=token + "\n")
    assert token not in done.stdout + done.stderr
    listed = hob.aws("apprunner", "list-connections", "--connection-name", "code")
    assert [c["Status"] for c in listed["ConnectionSummaryList"]] == ["AVAILABLE"]
    assert hob.json("connection", "ls")["Connections"][0]["ConnectionName"] == "code"
    # Nowhere on disk, and the key that opens it is control's alone.
    left = subprocess.run(["grep", "-rlF", token, str(hob.data)], stdout=subprocess.PIPE, text=True)
    assert left.stdout == ""
    assert (hob.data / "control/sealing.key").stat().st_mode & 0o777 == 0o600

    # Another account sees none of it.
    other = hob.json("account", "create", "connections")
    theirs = hob.boto("apprunner", access_key=other["AccessKeyId"], secret_key=other["SecretAccessKey"])
    assert theirs.list_connections()["ConnectionSummaryList"] == []
    with pytest.raises(ClientError) as refused:
        theirs.delete_connection(ConnectionArn=arn)
    assert code_of(refused) == "ResourceNotFoundException"

    bad = hob.run("connection", "complete", "code", "--ssh-key", "/etc/hostname", check=False)
    assert bad.returncode == 1 and "no SSH private key" in bad.stderr
    unknown = hob.run("connection", "complete", "nothere", "--token-stdin", input="x\n", check=False)
    assert unknown.returncode == 1 and "no connection nothere" in unknown.stderr
    hob.run("connection", "create", "second", "--provider", "gitlab")
    hob.run("connection", "rm", "second")
    assert runner.delete_connection(ConnectionArn=arn)["Connection"]["Status"] == "DELETED"
    assert runner.list_connections()["ConnectionSummaryList"] == []


def test_observability_configurations_with_stock_clients(hob):
    runner = hob.boto("apprunner")
    first = runner.create_observability_configuration(
        ObservabilityConfigurationName="traces", TraceConfiguration={"Vendor": "AWSXRAY"})["ObservabilityConfiguration"]
    assert first["Status"] == "ACTIVE" and first["Latest"] and first["ObservabilityConfigurationRevision"] == 1
    second = hob.aws("apprunner", "create-observability-configuration", "--observability-configuration-name", "traces")
    assert second["ObservabilityConfiguration"]["ObservabilityConfigurationRevision"] == 2
    assert "TraceConfiguration" not in second["ObservabilityConfiguration"]
    described = runner.describe_observability_configuration(
        ObservabilityConfigurationArn=first["ObservabilityConfigurationArn"])["ObservabilityConfiguration"]
    assert described["Latest"] is False and described["TraceConfiguration"] == {"Vendor": "AWSXRAY"}
    listed = runner.list_observability_configurations(ObservabilityConfigurationName="traces", LatestOnly=False, MaxResults=1)
    rest = runner.list_observability_configurations(ObservabilityConfigurationName="traces", LatestOnly=False,
                                                    NextToken=listed["NextToken"])
    both = listed["ObservabilityConfigurationSummaryList"] + rest["ObservabilityConfigurationSummaryList"]
    assert [c["ObservabilityConfigurationRevision"] for c in both] == [1, 2]
    for configuration in both:
        gone = runner.delete_observability_configuration(
            ObservabilityConfigurationArn=configuration["ObservabilityConfigurationArn"])
        assert gone["ObservabilityConfiguration"]["Status"] == "INACTIVE"
    with pytest.raises(ClientError) as refused:
        runner.delete_observability_configuration(ObservabilityConfigurationArn=first["ObservabilityConfigurationArn"])
    assert code_of(refused) == "ResourceNotFoundException"
