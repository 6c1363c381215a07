"""Where source code comes from: connections, observability configurations, and Hob's own git remote."""
import base64
import os
import subprocess
import urllib.parse

import pytest
from botocore.exceptions import ClientError
from hob_instance import HOB


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


class Repository:
    """A git repository of a test's own, whose user has no configuration."""

    def __init__(self, hob, folder):
        self.hob = hob
        self.folder = folder
        folder.mkdir()
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments, check=True):
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder.parent), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
        done = subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments], cwd=self.folder,
                              env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=400)
        if check and done.returncode != 0:
            raise AssertionError(f"git {' '.join(arguments)}: {done.stdout}{done.stderr}{self.hob.logs_tail()}")
        return done

    def commit(self, **files):
        for name, text in files.items():
            (self.folder / name.replace("_", ".")).write_text(text)
        self.git("add", ".")
        self.git("commit", "-q", "-m", "change")
        return self.head()

    def head(self):
        return self.git("rev-parse", "HEAD").stdout.strip()

    def remote_head(self):
        return self.git("ls-remote", "hob", "refs/heads/main").stdout[:40]

    def add_remote(self, *arguments):
        done = subprocess.run([os.path.abspath(HOB), "remote", "add", *arguments, "--data", str(self.hob.data)], cwd=self.folder, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout


def test_a_push_deploys(hob, build_state, tmp_path):
    work = Repository(hob, tmp_path / "pushed")
    first = work.commit(index_html="<p>first</p>")
    assert "git push hob main" in work.add_remote()
    # The credential helper knows the key; it is not in the repository's configuration.
    assert hob.environment()["AWS_SECRET_ACCESS_KEY"] not in (work.folder / ".git/config").read_text()
    try:
        said = work.git("push", "hob", "main").stderr
        assert "remote: " in said and "http://" in said, said
        assert work.remote_head() == first
        host = hob.host("pushed")
        assert "first" in hob.get(host, "/").text

        second = work.commit(index_html="<p>second</p>")
        work.git("push", "-q", "hob", "main")
        assert "second" in hob.get(host, "/").text
        assert work.remote_head() == second

        # What cannot be built is refused, and the branch stays at what runs.
        work.commit(apprunner_yaml="version: 1.0\nruntime: cobol\nbuild: {commands: {build: [make]}}\nrun: {command: ./app}\n")
        refused = work.git("push", "hob", "main", check=False)
        assert refused.returncode == 1
        assert "remote: refused: the deployment failed" in refused.stderr and "cobol" in refused.stderr, refused.stderr
        assert "[remote rejected] main -> main" in refused.stderr
        assert work.remote_head() == second
        assert "second" in hob.get(host, "/").text

        # A history that is rewritten, and a branch that is only kept.
        work.git("reset", "-q", "--hard", first)
        work.commit(index_html="<p>third</p>")
        assert work.git("push", "hob", "main", check=False).returncode == 1
        work.git("push", "-q", "--force", "hob", "main")
        assert "third" in hob.get(host, "/").text
        kept = work.git("push", "hob", "main:fix").stderr
        assert "branch fix is kept; the service follows main" in kept
    finally:
        hob.run("rm", "pushed", check=False)


def test_the_remote_is_the_accounts_own(hob, tmp_path):
    work = Repository(hob, tmp_path / "private")
    work.commit(index_html="<p>mine</p>")
    keys = hob.environment()
    other = hob.json("account", "create", "git")

    def url(user, password, name="private"):
        # A secret key may hold what an address gives another meaning.
        login = f"{user}:{urllib.parse.quote(password, safe='')}"
        return f"http://{login}@127.0.0.1:{hob.api_port}/git/{name}.git"

    wrong = work.git("ls-remote", url(keys["AWS_ACCESS_KEY_ID"], "wrong"), check=False)
    assert wrong.returncode == 128 and "Authentication failed" in wrong.stderr
    unknown = work.git("ls-remote", url(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"]), check=False)
    assert unknown.returncode == 128 and "not found" in unknown.stderr
    theirs = work.git("ls-remote", url(other["AccessKeyId"], other["SecretAccessKey"]), check=False)
    assert theirs.returncode == 128 and "not found" in theirs.stderr
    # A registry's password reads, and does not push.
    token = base64.b64decode(hob.boto("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]).decode()
    reader = work.git("push", url("AWS", token.removeprefix("AWS:")), "main", check=False)
    assert reader.returncode != 0 and "403" in reader.stderr
    nothing = work.git("push", url(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], "bad.name"), "main", check=False)
    assert nothing.returncode != 0 and "not found" in nothing.stderr
