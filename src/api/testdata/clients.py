"""Drives the endpoint of endpoint_test.cc with boto3, and prints one line: ok.

The endpoint's App Runner handler keeps nothing: create_service answers what it was given, describe_service that there
is none, list_services fails inside. AWS_ENDPOINT_URL, keys and region come from the environment.
"""
import datetime
import os

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import ClientError

URL = os.environ["AWS_ENDPOINT_URL"]


def client(service, **options):
    config = Config(retries={"max_attempts": 0, "mode": "standard"}, parameter_validation=False)
    return boto3.client(service, endpoint_url=URL, config=config, **options)


def refused(code, call, status=400, text=None, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        told = error.response["Error"]
        assert told["Code"] == code, told
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == status, error.response
        assert len(error.response["ResponseMetadata"]["RequestId"]) == 36, error.response
        if text is not None:
            assert told["Message"] == text, told["Message"]
        assert told["Message"], told
        return
    raise AssertionError(f"{call} was not refused with {code}")


runner, ecr, sts = client("apprunner"), client("ecr"), client("sts")

# Everything a service can be given goes in and comes out again, escapes and all.
source = {"ImageRepository": {"ImageIdentifier": "127.0.0.1:4566/hello:1", "ImageRepositoryType": "ECR",
                              "ImageConfiguration": {"Port": "80", "RuntimeEnvironmentVariables": {
                                  "GREETING": "hi \"you\" \\ \n\t\x01 é 😀", "EMPTY": ""}}},
          "AutoDeploymentsEnabled": False}
made = runner.create_service(ServiceName="hello", SourceConfiguration=source,
                             InstanceConfiguration={"Cpu": "256", "Memory": "0.5 GB"},
                             HealthCheckConfiguration={"Protocol": "HTTP", "Path": "/", "Interval": 20})
service = made["Service"]
assert service["ServiceName"] == "hello" and made["OperationId"] == "operation", made
assert service["SourceConfiguration"] == source, service["SourceConfiguration"]
assert service["HealthCheckConfiguration"] == {"Protocol": "HTTP", "Path": "/", "Interval": 20}, service
assert service["CreatedAt"] == datetime.datetime(2026, 11, 23, 12, 0, 0, 125000, datetime.timezone.utc), service
assert "DeletedAt" not in service, service
assert len(made["ResponseMetadata"]["RequestId"]) == 36, made

# Constraints, told in AWS's words.
refused("InvalidRequestException", runner.create_service, ServiceName="x", SourceConfiguration=source,
        text="2 validation errors detected: Value 'x' at 'serviceName' failed to satisfy constraint: Member must have "
             "length greater than or equal to 4; Value 'x' at 'serviceName' failed to satisfy constraint: Member must "
             "satisfy regular expression pattern: [A-Za-z0-9][A-Za-z0-9-_]{3,39}")
refused("InvalidRequestException", runner.list_services, MaxResults=21,
        text="1 validation error detected: Value '21' at 'maxResults' failed to satisfy constraint: Member must have "
             "value less than or equal to 20")
refused("InvalidRequestException", runner.create_service, ServiceName="hello",
        text="1 validation error detected: Value null at 'sourceConfiguration' failed to satisfy constraint: Member "
             "must not be null")
refused("InvalidParameterException", ecr.create_repository, repositoryName="A B",
        text="1 validation error detected: Value 'A B' at 'repositoryName' failed to satisfy constraint: Member must "
             "satisfy regular expression pattern: "
             "[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*(\\/[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*)*")
# A handler's error, a failure of ours, an operation that is not built, a service we do not have.
refused("ResourceNotFoundException", runner.describe_service, text="no such service",
        ServiceArn="arn:aws:apprunner:us-east-1:000000000001:service/hello/0f1e2d3c4b5a69788796a5b4c3d2e1f0")
refused("InternalServiceErrorException", runner.list_services, status=500)
refused("UnsupportedOperationException", runner.create_vpc_connector, VpcConnectorName="conn", Subnets=["subnet-1"],
        text="Hob does not do apprunner:CreateVpcConnector yet; the README lists what it does.")
ours = "it has: apprunner, ecr, sts."
refused("UnknownOperationException", client("ssm").describe_parameters, text=f"Hob does not have the service 'ssm'; {ours}")
refused("UnknownOperationException", client("lambda").list_functions)
refused("InvalidAction", client("s3").list_buckets, text=f"Hob does not have the service 's3'; {ours}")
refused("InvalidAction", client("s3").get_object, Bucket="b", Key="k")
refused("InvalidAction", client("iam", region_name="us-east-1").list_users,
        text=f"Hob does not have the service 'iam'; {ours}")

# Query.
identity = sts.get_caller_identity()
assert identity["Account"] == "000000000001" and identity["UserId"] == "000000000001", identity
assert identity["Arn"] == "arn:aws:iam::000000000001:root", identity
refused("ValidationError", sts.assume_role, RoleArn="arn:aws:iam::000000000001:role/x", RoleSessionName="s-1",
        DurationSeconds=1,
        text="1 validation error detected: Value '1' at 'durationSeconds' failed to satisfy constraint: Member must "
             "have value greater than or equal to 900")
refused("UnsupportedOperation", sts.assume_role, RoleArn="arn:aws:iam::000000000001:role/x", RoleSessionName="s-1",
        Tags=[{"Key": "a", "Value": "b"}])
for method in "GET", "POST":
    url = sts.generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod=method)
    request = botocore.awsrequest.AWSRequest(method, url, headers={"Content-Type": ""} if method == "POST" else {})
    answer = botocore.httpsession.URLLib3Session().send(request.prepare())
    assert answer.status_code == 200 and b"<Account>000000000001</Account>" in answer.content, answer.content

# Who are you?
wrong = {"aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": "wrong"}
nobody = {"aws_access_key_id": "AKIANOBODY", "aws_secret_access_key": "wrong"}
refused("InvalidSignatureException", client("apprunner", **wrong).list_services)
refused("SignatureDoesNotMatch", client("sts", **wrong).get_caller_identity, status=403)
refused("UnrecognizedClientException", client("apprunner", **nobody).list_services)
refused("InvalidClientTokenId", client("sts", **nobody).get_caller_identity, status=403)
refused("UnrecognizedClientException", client("apprunner", aws_session_token="x", **wrong).list_services)
refused("InvalidSignatureException", client("apprunner", region_name="eu-west-1").list_services,
        text="Credential should be scoped to a valid region.")
print("ok", botocore.__version__)
