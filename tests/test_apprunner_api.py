"""App Runner's API as stock clients meet it: boto3 and the `aws` CLI. The behaviours are AWS's."""
import base64
import re
import subprocess
import sys
import time
import uuid

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from hob_instance import HELLO, wait_until

ARN = r"arn:aws:apprunner:us-east-1:000000000001:service/{}/[0-9a-f]{{32}}"


def fresh(prefix="svc"):
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def code_of(error):
    return error.value.response["Error"]["Code"]


def message_of(error):
    return error.value.response["Error"].get("Message") or error.value.response["Message"]


def push_hello(hob, name="hello", tag="1"):
    """The sample image in the instance's registry, by skopeo; answers its reference."""
    reference = f"{hob.registry}/{name}:{tag}"
    token = hob.boto("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    subprocess.run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--dest-creds",
                    base64.b64decode(token).decode(), f"oci-archive:{HELLO}", f"docker://{reference}"],
                   check=True, timeout=60, capture_output=True)
    return reference


def settled(hob, arn, status="RUNNING"):
    """Waits until no operation is in progress; the service must then have this status."""
    client = hob.boto("apprunner")
    last = {}

    def look():
        last.update(client.describe_service(ServiceArn=arn)["Service"])
        return last["Status"] != "OPERATION_IN_PROGRESS"
    wait_until(f"the end of the operation on {arn}", 90, look)
    assert last["Status"] == status, f"{last['Status']}\n{events(hob, last)}\n{hob.logs_tail()}"
    return last


def ended(hob, arn, operation):
    """Waits for the end of an operation; answers its summary."""
    client = hob.boto("apprunner")

    def look():
        for each in client.list_operations(ServiceArn=arn)["OperationSummaryList"]:
            if each["Id"] == operation and each["Status"] not in ("PENDING", "IN_PROGRESS", "ROLLBACK_IN_PROGRESS"):
                return each
        return None
    return wait_until(f"the end of operation {operation}", 90, look)


def events(hob, service):
    """What Hob said it did with a service."""
    group = f"/aws/apprunner/{service['ServiceName']}/{service['ServiceId']}/service"
    return "\n".join(event["message"] for event in hob.boto("logs").filter_log_events(logGroupName=group)["events"])


def create(hob, image, name, variables=None):
    configuration = source(image)
    if variables:
        configuration["ImageRepository"]["ImageConfiguration"]["RuntimeEnvironmentVariables"] = variables
    return hob.boto("apprunner").create_service(ServiceName=name, SourceConfiguration=configuration)["Service"]


@pytest.fixture(scope="module")
def image(hob):
    return push_hello(hob)


@pytest.fixture(scope="module", autouse=True)
def removed(hob):
    """What this file made is gone after it."""
    yield
    client = hob.boto("apprunner")
    for each in client.list_services()["ServiceSummaryList"]:
        if each["Status"] not in ("DELETED", "OPERATION_IN_PROGRESS"):
            client.delete_service(ServiceArn=each["ServiceArn"])


@pytest.fixture(scope="module")
def hello(hob, image):
    return settled(hob, create(hob, image, fresh("hello"))["ServiceArn"])


def source(image, port="8080", **more):
    return {"ImageRepository": {"ImageIdentifier": image, "ImageRepositoryType": "ECR",
                                "ImageConfiguration": {"Port": port}}, "AutoDeploymentsEnabled": False, **more}


def test_create_answers_whole_service_at_once(hob, image):
    name = fresh()
    made = hob.boto("apprunner").create_service(
        ServiceName=name, SourceConfiguration=source(image), InstanceConfiguration={"Cpu": "1 vCPU", "Memory": "2 GB"},
        Tags=[{"Key": "team", "Value": "web"}])
    service = made["Service"]
    assert re.fullmatch(ARN.format(name), service["ServiceArn"])
    assert service["ServiceArn"].endswith(service["ServiceId"])
    assert service["Status"] == "OPERATION_IN_PROGRESS"
    assert re.fullmatch(r"[a-z2-9]{10}\.us-east-1\.hob\.localhost", service["ServiceUrl"])
    assert service["InstanceConfiguration"] == {"Cpu": "1024", "Memory": "2048"}
    assert service["HealthCheckConfiguration"] == {"Protocol": "TCP", "Path": "/", "Interval": 5, "Timeout": 2,
                                                   "HealthyThreshold": 1, "UnhealthyThreshold": 5}
    assert service["AutoScalingConfigurationSummary"]["AutoScalingConfigurationName"] == "DefaultConfiguration"
    assert service["NetworkConfiguration"]["EgressConfiguration"]["EgressType"] == "DEFAULT"
    assert "ObservabilityConfiguration" not in service
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", made["OperationId"])
    assert ended(hob, service["ServiceArn"], made["OperationId"])["Status"] == "SUCCEEDED"
    tags = hob.boto("apprunner").list_tags_for_resource(ResourceArn=service["ServiceArn"])["Tags"]
    assert tags == [{"Key": "team", "Value": "web"}]


def test_a_name_is_taken_until_its_service_is_deleted(hob, image):
    client, name = hob.boto("apprunner"), fresh()
    first = settled(hob, client.create_service(ServiceName=name, SourceConfiguration=source(image))["Service"]["ServiceArn"])
    with pytest.raises(ClientError) as error:
        client.create_service(ServiceName=name, SourceConfiguration=source(image))
    assert code_of(error) == "InvalidRequestException"
    assert message_of(error) == f"Service with the provided name already exists: {name}."
    deleted = client.delete_service(ServiceArn=first["ServiceArn"])
    ended(hob, first["ServiceArn"], deleted["OperationId"])
    gone = client.describe_service(ServiceArn=first["ServiceArn"])["Service"]
    assert gone["Status"] == "DELETED"
    assert gone["DeletedAt"]
    second = client.create_service(ServiceName=name, SourceConfiguration=source(image))["Service"]
    assert second["ServiceId"] != first["ServiceId"]
    assert hob.get(first["ServiceUrl"]).status == 404


def test_pause_and_resume(hob, image):
    client = hob.boto("apprunner")
    service = settled(hob, create(hob, image, name=fresh())["ServiceArn"])
    arn = service["ServiceArn"]
    client.pause_service(ServiceArn=arn)
    settled(hob, arn, "PAUSED")
    assert hob.get(service["ServiceUrl"]).status == 503
    with pytest.raises(ClientError) as error:
        client.pause_service(ServiceArn=arn)
    assert code_of(error) == "InvalidStateException"
    with pytest.raises(ClientError) as error:
        client.start_deployment(ServiceArn=arn)
    assert code_of(error) == "InvalidRequestException"
    assert message_of(error) == "Can't start a deployment on the specified service, because it isn't in RUNNING state."
    client.resume_service(ServiceArn=arn)
    again = settled(hob, arn)
    assert again["ServiceUrl"] == service["ServiceUrl"]
    assert hob.get(service["ServiceUrl"]).status == 200


def test_update_shows_the_new_values_at_once_and_merges(hob, image):
    client = hob.boto("apprunner")
    service = settled(hob, create(hob, image, name=fresh(), variables={"GREETING": "one"})["ServiceArn"])
    arn = service["ServiceArn"]
    updated = client.update_service(ServiceArn=arn, InstanceConfiguration={"Memory": "4 GB"})["Service"]
    assert updated["Status"] == "OPERATION_IN_PROGRESS"
    assert updated["InstanceConfiguration"] == {"Cpu": "1024", "Memory": "4096"}
    with pytest.raises(ClientError) as error:
        client.update_service(ServiceArn=arn, InstanceConfiguration={"Memory": "2 GB"})
    assert code_of(error) == "InvalidStateException"
    assert message_of(error) == "Service cannot be updated in the current state: OPERATION_IN_PROGRESS."
    after = settled(hob, arn)
    assert after["SourceConfiguration"] == service["SourceConfiguration"]
    operations = client.list_operations(ServiceArn=arn)["OperationSummaryList"]
    assert [each["Type"] for each in operations] == ["UPDATE_SERVICE", "CREATE_SERVICE"]
    assert all(each["Status"] == "SUCCEEDED" and each["EndedAt"] for each in operations)


def test_an_image_that_is_not_there_fails_the_create_and_says_so(hob):
    made = create(hob, f"{hob.registry}/no-such-image:1", name=fresh())
    service = settled(hob, made["ServiceArn"], "CREATE_FAILED")
    assert "no-such-image" in events(hob, service)
    hob.boto("apprunner").delete_service(ServiceArn=made["ServiceArn"])


def test_a_failed_update_leaves_the_old_version_serving(hob, image):
    client = hob.boto("apprunner")
    service = settled(hob, create(hob, image, name=fresh())["ServiceArn"])
    arn = service["ServiceArn"]
    bad = source(image)  # it listens where PORT says, which is not where it is looked for
    bad["ImageRepository"]["ImageConfiguration"]["RuntimeEnvironmentVariables"] = {"PORT": "9999"}
    operation = client.update_service(ServiceArn=arn, SourceConfiguration=bad, HealthCheckConfiguration={
        "Interval": 1, "Timeout": 1, "UnhealthyThreshold": 1})["OperationId"]
    assert ended(hob, arn, operation)["Status"] in ("ROLLBACK_SUCCEEDED", "FAILED")
    after = settled(hob, arn)
    assert after["SourceConfiguration"] == service["SourceConfiguration"]
    assert after["HealthCheckConfiguration"] == service["HealthCheckConfiguration"]
    assert hob.get(service["ServiceUrl"]).status == 200
    said = events(hob, service)
    assert "9999" in said, said  # where it does listen


def test_a_start_deployment_of_a_pushed_tag(hob):
    client = hob.boto("apprunner")
    image = push_hello(hob, name="moving", tag="latest")
    service = settled(hob, create(hob, image, name=fresh())["ServiceArn"])
    operation = client.start_deployment(ServiceArn=service["ServiceArn"])["OperationId"]
    assert ended(hob, service["ServiceArn"], operation)["Status"] == "SUCCEEDED"
    listed = client.list_operations(ServiceArn=service["ServiceArn"])["OperationSummaryList"]
    assert listed[0]["Type"] == "START_DEPLOYMENT"


def test_paging_and_an_empty_page_token(hob, image):
    client = hob.boto("apprunner")
    for _ in range(3):
        create(hob, image, name=fresh("page"))
    seen, token = [], None
    while True:
        page = client.list_services(MaxResults=2, **({"NextToken": token} if token else {}))
        assert len(page["ServiceSummaryList"]) <= 2
        seen += [each["ServiceArn"] for each in page["ServiceSummaryList"]]
        token = page.get("NextToken")
        if not token:
            break
    assert len(seen) == len(set(seen))
    assert set(seen) == {each["ServiceArn"] for each in client.list_services()["ServiceSummaryList"]}


@pytest.mark.parametrize("wrong, says", [
    ({"ServiceName": "x"}, "length"),
    ({"ServiceName": "a b c d"}, "pattern"),
    ({"InstanceConfiguration": {"Cpu": "3 vCPU"}}, "cpu"),
    ({"InstanceConfiguration": {"Cpu": "256", "Memory": "4096"}}, ""),
    ({"HealthCheckConfiguration": {"Interval": 21}}, "interval"),
    ({"HealthCheckConfiguration": {"Protocol": "UDP"}}, "protocol"),
    ({"AutoScalingConfigurationArn": "arn:aws:apprunner:us-east-1:000000000001:autoscalingconfiguration/none/1/" + "0" * 32},
     "The auto scaling configuration ARN you specified isn't valid."),
    ({"Tags": [{"Key": "hob:nonsense", "Value": "1"}]}, "hob:nonsense"),
    ({"Tags": [{"Key": "hob:request-timeout", "Value": "soon"}]}, "hob:request-timeout"),
])
def test_what_a_user_does_wrong_is_refused_and_nothing_is_made(hob, image, wrong, says):
    environment = hob.environment()
    client = boto3.client("apprunner", endpoint_url=hob.endpoint, region_name="us-east-1",
                          aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
                          aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
                          config=Config(parameter_validation=False))  # what is tested is our validation
    arguments = {"ServiceName": fresh(), "SourceConfiguration": source(image), **wrong}
    before = len(client.list_services()["ServiceSummaryList"])
    with pytest.raises(ClientError) as error:
        client.create_service(**arguments)
    assert code_of(error) == "InvalidRequestException"
    assert says.lower() in message_of(error).lower()
    assert len(client.list_services()["ServiceSummaryList"]) == before


def test_reserved_variables_are_refused(hob, image):
    bad = source(image)
    bad["ImageRepository"]["ImageConfiguration"]["RuntimeEnvironmentVariables"] = {"AWSAPPRUNNER_X": "1"}
    with pytest.raises(ClientError) as error:
        hob.boto("apprunner").create_service(ServiceName=fresh(), SourceConfiguration=bad)
    assert code_of(error) == "InvalidRequestException"


def test_an_unknown_service_is_not_found(hob):
    arn = "arn:aws:apprunner:us-east-1:000000000001:service/ghost/" + "0" * 32
    for call in ("describe_service", "delete_service", "pause_service", "list_operations"):
        with pytest.raises(ClientError) as error:
            getattr(hob.boto("apprunner"), call)(ServiceArn=arn)
        assert code_of(error) == "ResourceNotFoundException", call


def test_auto_scaling_configurations(hob):
    client, name = hob.boto("apprunner"), fresh("busy")
    first = client.create_auto_scaling_configuration(AutoScalingConfigurationName=name, MaxConcurrency=50)["AutoScalingConfiguration"]
    second = client.create_auto_scaling_configuration(AutoScalingConfigurationName=name, MinSize=2)["AutoScalingConfiguration"]
    assert (first["AutoScalingConfigurationRevision"], second["AutoScalingConfigurationRevision"]) == (1, 2)
    assert first["Status"].lower() == "active"
    described = client.describe_auto_scaling_configuration(AutoScalingConfigurationArn=first["AutoScalingConfigurationArn"])
    assert described["AutoScalingConfiguration"]["Latest"] is False
    partial = second["AutoScalingConfigurationArn"].rsplit("/", 2)[0]
    latest = client.describe_auto_scaling_configuration(AutoScalingConfigurationArn=partial)["AutoScalingConfiguration"]
    assert latest["AutoScalingConfigurationRevision"] == 2
    gone = client.delete_auto_scaling_configuration(AutoScalingConfigurationArn=second["AutoScalingConfigurationArn"])
    assert gone["AutoScalingConfiguration"]["Status"].lower() == "inactive"
    third = client.create_auto_scaling_configuration(AutoScalingConfigurationName=name)["AutoScalingConfiguration"]
    assert third["AutoScalingConfigurationRevision"] == 2
    with pytest.raises(ClientError) as error:
        client.create_auto_scaling_configuration(AutoScalingConfigurationName=name, MinSize=5, MaxSize=2)
    assert code_of(error) == "InvalidRequestException"


def test_operations_that_are_not_built_say_so(hob):
    with pytest.raises(ClientError) as error:
        hob.boto("apprunner").create_vpc_connector(VpcConnectorName="none", Subnets=["subnet-1"])
    assert code_of(error) == "UnsupportedOperationException"


def test_the_stock_cli(hob, image):
    name = fresh("cli")
    made = hob.aws("apprunner", "create-service", "--service-name", name, "--source-configuration",
                   '{"ImageRepository":{"ImageIdentifier":"%s","ImageRepositoryType":"ECR","ImageConfiguration":{"Port":"8080"}},'
                   '"AutoDeploymentsEnabled":false}' % image)
    arn = made["Service"]["ServiceArn"]
    settled(hob, arn)
    assert hob.aws("apprunner", "describe-service", "--service-arn", arn)["Service"]["Status"] == "RUNNING"
    assert name in str(hob.aws("apprunner", "list-services"))
    wrong = hob.aws("apprunner", "describe-service", "--service-arn", arn[:-32] + "0" * 32, check=False)
    assert wrong.returncode != 0
    assert "ResourceNotFoundException" in wrong.stderr
    assert hob.aws("sts", "get-caller-identity")["Account"] == "000000000001"


def test_a_newer_boto3_understands_us_too(hob, hello):
    newer = subprocess.run(["bash", "-lc", "command -v python3"], capture_output=True, text=True, check=False).stdout.strip()
    if not newer or subprocess.run([newer, "-c", "import boto3"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no other python3 with boto3 on this machine")
    if newer == sys.executable:
        pytest.skip("the default python3 is this one")
    script = ("import boto3; c = boto3.client('apprunner', endpoint_url='%s'); s = c.describe_service(ServiceArn='%s')['Service'];"
              "print(s['Status'], s['NetworkConfiguration']['IpAddressType']);"
              "print([x['IsDefault'] for x in c.list_auto_scaling_configurations()['AutoScalingConfigurationSummaryList']])")
    done = subprocess.run([newer, "-c", script % (hob.endpoint, hello["ServiceArn"])], capture_output=True, text=True,
                          env={**hob.environment(), "PATH": "/usr/bin:/bin"}, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("RUNNING IPV4")


def test_times_are_recent(hob, hello):
    assert abs(time.time() - hello["CreatedAt"].timestamp()) < 3600
