"""The stock clients: boto3, the AWS CLI, skopeo."""
import base64
import datetime
import http.client
import json
import subprocess
import uuid

import pytest
from hob_instance import HELLO, HOB, wait_until

boto3 = pytest.importorskip("boto3")
from botocore.exceptions import ClientError  # noqa: E402


@pytest.fixture(scope="module")
def image(hob):
    """The sample image, pushed by skopeo with an ECR token, as the API names it."""
    token = hob.boto("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, password = base64.b64decode(token).decode().split(":", 1)
    done = subprocess.run(["skopeo", "copy", "--dest-tls-verify=false", "--dest-creds", f"{user}:{password}",
                           f"oci-archive:{HELLO}", f"docker://{hob.registry}/clients/hello:1"],
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    assert done.returncode == 0, done.stdout
    return f"{hob.registry}/clients/hello:1"


def source(image, **environment):
    return {"ImageRepository": {"ImageIdentifier": image, "ImageRepositoryType": "ECR",
                                "ImageConfiguration": {"Port": "8080", "RuntimeEnvironmentVariables": environment}},
            "AutoDeploymentsEnabled": False}


def test_boto3_takes_a_service_through_its_life(hob, image):
    runner = hob.boto("apprunner")
    name = "boto-" + uuid.uuid4().hex[:8]
    made = runner.create_service(ServiceName=name, SourceConfiguration=source(image, VERSION="1"))
    arn = made["Service"]["ServiceArn"]
    assert made["Service"]["Status"] == "OPERATION_IN_PROGRESS"
    assert arn.startswith("arn:aws:apprunner:us-east-1:000000000001:service/" + name + "/")
    hob.wait_status(runner, arn, "RUNNING")
    host = made["Service"]["ServiceUrl"]
    assert hob.get(host, "/env?VERSION").text == "1\n"
    assert name in [s["ServiceName"] for s in runner.list_services()["ServiceSummaryList"]]

    runner.update_service(ServiceArn=arn, SourceConfiguration=source(image, VERSION="2"))
    with pytest.raises(ClientError) as refused:
        runner.pause_service(ServiceArn=arn)
    assert refused.value.response["Error"]["Code"] == "InvalidStateException"
    hob.wait_status(runner, arn, "RUNNING")
    assert hob.get(host, "/env?VERSION").text == "2\n"

    runner.pause_service(ServiceArn=arn)
    hob.wait_status(runner, arn, "PAUSED")
    runner.resume_service(ServiceArn=arn)
    hob.wait_status(runner, arn, "RUNNING")
    operations = [o["Type"] for o in runner.list_operations(ServiceArn=arn)["OperationSummaryList"]]
    assert operations == ["RESUME_SERVICE", "PAUSE_SERVICE", "UPDATE_SERVICE", "CREATE_SERVICE"]
    runner.delete_service(ServiceArn=arn)
    hob.wait_status(runner, arn, "DELETED")


def test_aws_cli_creates_and_deletes(hob, image):
    made = hob.aws("apprunner", "create-service", "--service-name", "cli-service", "--source-configuration",
                   json.dumps(source(image)))
    arn = made["Service"]["ServiceArn"]
    hob.wait_status(hob.boto("apprunner"), arn, "RUNNING")
    listed = hob.aws("apprunner", "list-services")["ServiceSummaryList"]
    assert "cli-service" in [s["ServiceName"] for s in listed]
    assert hob.aws("apprunner", "describe-service", "--service-arn", arn)["Service"]["Status"] == "RUNNING"
    hob.aws("apprunner", "delete-service", "--service-arn", arn)
    hob.wait_status(hob.boto("apprunner"), arn, "DELETED")


def test_hob_aws_is_the_stock_cli_pointed_here(hob):
    done = subprocess.run([HOB, "--data", str(hob.data), "aws", "sts", "get-caller-identity"],
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Account"] == "000000000001"


def test_hob_env_in_a_shell(hob):
    script = f'eval "$({HOB} env --data {hob.data})" && aws sts get-caller-identity --output text'
    done = subprocess.run(["bash", "-c", script], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "000000000001" in done.stdout


def test_wrong_keys_are_refused(hob):
    for keys, code in [
        ({"access_key": "AKIAAAAAAAAAAAAAAAAA"}, "UnrecognizedClientException"),
        ({"secret_key": "x" * 40}, "InvalidSignatureException"),
    ]:
        with pytest.raises(ClientError) as refused:
            hob.boto("apprunner", **keys).list_services()
        assert refused.value.response["Error"]["Code"] == code
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403)


def signed_at(hob, when):
    """The status and error of ListServices, signed rightly but at another time."""
    from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
    env = hob.environment()
    body = b"{}"
    request = AWSRequest("POST", hob.endpoint + "/", data=body, headers={
        "Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AppRunner.ListServices", "Host": hob.registry})
    signer = SigV4Auth(Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]), "apprunner", "us-east-1")
    request.context["timestamp"] = when.strftime(SIGV4_TIMESTAMP)
    signer._modify_request_before_signing(request)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signer._inject_signature_to_request(request, signer.signature(text, request))
    connection = http.client.HTTPConnection("127.0.0.1", hob.api_port, timeout=10)
    try:
        connection.request("POST", "/", body=body, headers=dict(request.headers.items()))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"{}").get("__type", "")
    finally:
        connection.close()


def test_a_wrong_clock_is_refused(hob):
    now = datetime.datetime.utcnow()
    assert signed_at(hob, now) == (200, "")
    for wrong in (datetime.timedelta(days=-1), datetime.timedelta(minutes=-6), datetime.timedelta(minutes=6)):
        status, error = signed_at(hob, now + wrong)
        assert status in (400, 403), wrong
        assert error.endswith("InvalidSignatureException"), (wrong, error)


def test_accounts_do_not_see_each_other(hob, service):
    service("hello-mine")
    other = hob.json("account", "create", "other")
    runner = hob.boto("apprunner", access_key=other["AccessKeyId"], secret_key=other["SecretAccessKey"])
    assert runner.list_services()["ServiceSummaryList"] == []
    arn = next(s["Arn"] for s in hob.json("ps")["Services"] if s["Name"] == "hello-mine")
    with pytest.raises(ClientError) as refused:
        runner.describe_service(ServiceArn=arn)
    assert refused.value.response["Error"]["Code"] in ("ResourceNotFoundException", "InvalidRequestException")


def test_validation_names_the_member(hob, image):
    runner = hob.boto("apprunner", parameter_validation=False)
    with pytest.raises(ClientError) as refused:
        runner.create_service(ServiceName="a", SourceConfiguration=source(image))
    assert refused.value.response["Error"]["Code"] in ("InvalidRequestException", "ValidationException")
    assert "serviceName" in refused.value.response["Error"]["Message"]


def test_logs_through_cloudwatch(hob, service):
    host = service("hello-watch")
    hob.get(host, "/")
    logs = hob.boto("logs")

    def application_group():
        names = [g["logGroupName"] for g in logs.describe_log_groups()["logGroups"]]
        return next((n for n in names if n.startswith("/aws/apprunner/hello-watch/") and n.endswith("/application")), None)

    group = wait_until("the application's group", 20, application_group)
    wait_until("the request's line", 20, lambda: [
        e for e in logs.filter_log_events(logGroupName=group, filterPattern="GET")["events"] if e["message"] == "GET /"])
