"""ECR's API as boto3 and the AWS CLI speak it, and what hangs on pushes: automatic deployments, images of other registries, bad images."""
import base64
import contextlib
import datetime
import io
import json
import os
import tarfile
import uuid

import pytest
from botocore.exceptions import ClientError
from hob_instance import HELLO, wait_until
from registry_client import OCI_MANIFEST, Client, digest_of, run, token

ACCOUNT = "000000000001"
LAYER = b"\0" * 1024


@pytest.fixture
def client(hob):
    return Client(hob)


@pytest.fixture
def ecr(hob):
    return hob.boto("ecr", parameter_validation=False)


@pytest.fixture
def name():
    return "e/" + uuid.uuid4().hex[:10]


@contextlib.contextmanager
def refused(code, *parts):
    """What is inside fails with AWS's code, and a text that has each part."""
    with pytest.raises(ClientError) as caught:
        yield
    error = caught.value.response["Error"]
    assert error["Code"] == code, error
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert caught.value.response["ResponseMetadata"]["RequestId"]
    for part in parts:
        assert part in error["Message"], error


def no_repository(name):
    return refused("RepositoryNotFoundException", f"The repository with name '{name}' does not exist in the registry with id '{ACCOUNT}'")


# ---- repositories ----

def test_a_repository_from_its_creation_to_its_end(hob, ecr, client, name):
    made = ecr.create_repository(repositoryName=name, tags=[{"Key": "team", "Value": "a"}])["repository"]
    age = datetime.datetime.now(datetime.timezone.utc) - made.pop("createdAt")
    assert abs(age.total_seconds()) < 60
    arn = f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/{name}"
    assert made == {"repositoryArn": arn, "registryId": ACCOUNT, "repositoryName": name, "repositoryUri": f"{hob.registry}/{name}",
                    "imageTagMutability": "MUTABLE", "imageScanningConfiguration": {"scanOnPush": False},
                    "encryptionConfiguration": {"encryptionType": "AES256"}}
    with refused("RepositoryAlreadyExistsException", f"The repository with name '{name}' already exists in the registry with id '{ACCOUNT}'"):
        ecr.create_repository(repositoryName=name)
    described = ecr.describe_repositories(repositoryNames=[name])["repositories"]
    described[0].pop("createdAt")
    assert described == [made]
    client.push_image(name, "1", LAYER)
    with refused("RepositoryNotEmptyException", "cannot be deleted because it still contains images"):
        ecr.delete_repository(repositoryName=name)
    assert ecr.delete_repository(repositoryName=name, force=True)["repository"]["repositoryArn"] == arn
    with no_repository(name):
        ecr.describe_repositories(repositoryNames=[name])
    # Made anew, it has nothing of the old one.
    ecr.create_repository(repositoryName=name)
    assert ecr.list_images(repositoryName=name)["imageIds"] == []
    assert ecr.list_tags_for_resource(resourceArn=arn)["tags"] == []
    ecr.delete_repository(repositoryName=name)


@pytest.mark.parametrize("call, arguments", [
    ("delete_repository", {}), ("list_images", {}), ("describe_images", {}), ("batch_get_image", {"imageIds": [{"imageTag": "1"}]}),
    ("batch_delete_image", {"imageIds": [{"imageTag": "1"}]}), ("put_image", {"imageManifest": "{}"}),
    ("put_image_tag_mutability", {"imageTagMutability": "MUTABLE"}),
    ("put_image_scanning_configuration", {"imageScanningConfiguration": {"scanOnPush": True}}),
])
def test_a_repository_that_is_not_there(ecr, call, arguments):
    with no_repository("not/there"):
        getattr(ecr, call)(repositoryName="not/there", **arguments)


@pytest.mark.parametrize("name", ["A", "a", "-ab", "a//b", "ab/", "x" * 257, "a..b", ""])
def test_names_that_are_no_repositorys(ecr, name):
    with refused("InvalidParameterException", "repositoryName"):
        ecr.create_repository(repositoryName=name)


def test_settings_and_resource_tags(ecr, name):
    arn = ecr.create_repository(repositoryName=name, imageTagMutability="IMMUTABLE",
                                imageScanningConfiguration={"scanOnPush": True})["repository"]["repositoryArn"]
    answer = ecr.put_image_tag_mutability(repositoryName=name, imageTagMutability="MUTABLE")
    assert (answer["registryId"], answer["repositoryName"], answer["imageTagMutability"]) == (ACCOUNT, name, "MUTABLE")
    answer = ecr.put_image_scanning_configuration(repositoryName=name, imageScanningConfiguration={"scanOnPush": False})
    assert answer["imageScanningConfiguration"] == {"scanOnPush": False}
    described = ecr.describe_repositories(repositoryNames=[name])["repositories"][0]
    assert (described["imageTagMutability"], described["imageScanningConfiguration"]) == ("MUTABLE", {"scanOnPush": False})
    ecr.tag_resource(resourceArn=arn, tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    ecr.tag_resource(resourceArn=arn, tags=[{"Key": "b", "Value": "3"}])
    ecr.untag_resource(resourceArn=arn, tagKeys=["a", "never"])
    assert ecr.list_tags_for_resource(resourceArn=arn)["tags"] == [{"Key": "b", "Value": "3"}]
    with refused("TooManyTagsException"):
        ecr.tag_resource(resourceArn=arn, tags=[{"Key": f"k{i}", "Value": ""} for i in range(51)])
    with refused("InvalidTagParameterException"):
        ecr.tag_resource(resourceArn=arn, tags=[{"Key": "aws:x", "Value": ""}])
    with refused("InvalidParameterException", "resourceArn"):
        ecr.list_tags_for_resource(resourceArn="arn:aws:s3:::bucket")
    with no_repository("no/such"):
        ecr.list_tags_for_resource(resourceArn=f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/no/such")
    with refused("InvalidParameterException", "imageTagMutability"):
        ecr.put_image_tag_mutability(repositoryName=name, imageTagMutability="SOMETIMES")


def test_repositories_come_in_pages(ecr, name):
    names = [f"{name}/{i:02}" for i in range(7)]
    for one in names:
        ecr.create_repository(repositoryName=one)
    pages = list(ecr.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 3}))
    listed = [r["repositoryName"] for page in pages for r in page["repositories"]]
    assert all(len(page["repositories"]) == 3 for page in pages[:-1])
    assert listed == sorted(set(listed)) and set(names) <= set(listed)
    for wrong in ({"maxResults": 0}, {"maxResults": 1001}, {"nextToken": "x"}, {"repositoryNames": names, "maxResults": 3}):
        with refused("InvalidParameterException"):
            ecr.describe_repositories(**wrong)


def test_the_registry_and_its_token(hob, ecr):
    assert ecr.describe_registry()["registryId"] == ACCOUNT
    data = ecr.get_authorization_token()["authorizationData"][0]
    life = data["expiresAt"] - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(hours=11, minutes=55) < life < datetime.timedelta(hours=12, minutes=5)
    assert data["proxyEndpoint"] == f"http://{hob.registry}"
    assert base64.b64decode(data["authorizationToken"]).startswith(b"AWS:")


# ---- images ----

def test_images_are_described_listed_and_got(ecr, client, name):
    digest = client.push_image(name, "1", LAYER)
    manifest = client.ask("GET", f"/v2/{name}/manifests/1").body
    client.put(name, "latest", manifest)
    untagged = client.push_image(name, "gone", LAYER * 2)
    client.ask("DELETE", f"/v2/{name}/manifests/gone")
    details = {d["imageDigest"]: d for d in ecr.describe_images(repositoryName=name)["imageDetails"]}
    assert set(details) == {digest, untagged}
    assert details[digest]["imageTags"] == ["1", "latest"] and "imageTags" not in details[untagged]
    config = json.loads(manifest)["config"]["size"]
    assert details[digest]["imageSizeInBytes"] in (len(LAYER) + config, len(LAYER) + config + len(manifest))
    assert details[digest]["imageManifestMediaType"] == OCI_MANIFEST
    assert (details[digest]["registryId"], details[digest]["repositoryName"]) == (ACCOUNT, name)
    for status, wanted in (("TAGGED", [{"imageDigest": digest, "imageTag": "1"}, {"imageDigest": digest, "imageTag": "latest"}]),
                           ("UNTAGGED", [{"imageDigest": untagged}])):
        assert ecr.list_images(repositoryName=name, filter={"tagStatus": status})["imageIds"] == wanted
    assert len(ecr.list_images(repositoryName=name)["imageIds"]) == 3
    assert [d["imageDigest"] for d in ecr.describe_images(repositoryName=name, imageIds=[{"imageTag": "latest"}])["imageDetails"]] == [digest]
    with refused("ImageNotFoundException", "The image with imageId {imageDigest:'null', imageTag:'2'} does not exist within the repository "
                 f"with name '{name}' in the registry with id '{ACCOUNT}'"):
        ecr.describe_images(repositoryName=name, imageIds=[{"imageTag": "2"}])
    got = ecr.batch_get_image(repositoryName=name, imageIds=[{"imageTag": "latest"}, {"imageDigest": untagged}, {"imageTag": "no"}, {}])
    assert got["images"][0]["imageManifest"].encode() == manifest
    assert [i["imageId"] for i in got["images"]] == [{"imageDigest": digest, "imageTag": "latest"}, {"imageDigest": untagged}]
    assert [(f["failureCode"], f["failureReason"]) for f in got["failures"]] == [
        ("ImageNotFound", "Requested image not found"),
        ("MissingDigestAndTag", "Invalid request parameters: both tag and digest cannot be null")]


def test_images_come_in_pages(ecr, client, name):
    client.push_image(name, "t00", LAYER)
    manifest = client.ask("GET", f"/v2/{name}/manifests/t00").body
    tags = [f"t{i:02}" for i in range(12)]
    for tag in tags[1:]:
        client.put(name, tag, manifest)
    pages = list(ecr.get_paginator("list_images").paginate(repositoryName=name, PaginationConfig={"PageSize": 5}))
    assert [len(page["imageIds"]) for page in pages] == [5, 5, 2]
    assert [i["imageTag"] for page in pages for i in page["imageIds"]] == tags
    assert len(ecr.describe_images(repositoryName=name)["imageDetails"][0]["imageTags"]) == 12


def test_put_image_gives_another_tag(ecr, client, name):
    digest = client.push_image(name, "1", LAYER)
    manifest = ecr.batch_get_image(repositoryName=name, imageIds=[{"imageTag": "1"}])["images"][0]["imageManifest"]
    put = ecr.put_image(repositoryName=name, imageManifest=manifest, imageTag="prod")["image"]
    assert (put["imageId"], put["imageManifest"]) == ({"imageDigest": digest, "imageTag": "prod"}, manifest)
    with refused("ImageAlreadyExistsException", f"Image with digest '{digest}' and tag 'prod' already exists in the repository with name "
                 f"'{name}' in registry with id '{ACCOUNT}'"):
        ecr.put_image(repositoryName=name, imageManifest=manifest, imageTag="prod")
    with refused("ImageDigestDoesNotMatchException"):
        ecr.put_image(repositoryName=name, imageManifest=manifest, imageTag="x", imageDigest=digest_of(b"another"))
    with refused("InvalidParameterException", "ImageManifest"):
        ecr.put_image(repositoryName=name, imageManifest="{}", imageTag="x")
    missing = json.loads(manifest)
    missing["layers"][0]["digest"] = digest_of(b"nowhere")
    with refused("LayersNotFoundException", digest_of(b"nowhere")):
        ecr.put_image(repositoryName=name, imageManifest=json.dumps(missing), imageTag="x")
    with refused("InvalidParameterException", "imageTag"):
        ecr.put_image(repositoryName=name, imageManifest=manifest, imageTag="-not a tag")
    assert client.ask("GET", f"/v2/{name}/tags/list").json()["tags"] == ["1", "prod"]


def test_tags_that_may_not_move(hob, ecr, client, name):
    ecr.create_repository(repositoryName=name, imageTagMutability="IMMUTABLE")
    first = client.push_image(name, "1", LAYER)
    second = client.push_image(name, "2", LAYER * 2)
    of_second = client.ask("GET", f"/v2/{name}/manifests/2").body
    answer = client.put(name, "1", of_second)
    assert (answer.status, answer.code) == (400, "TAG_INVALID")
    assert b"cannot be overwritten because the tag is immutable" in answer.body
    assert client.put(name, "2", of_second).status == 201, "the same again is no change"
    done = run("skopeo", "copy", "--dest-tls-verify=false", "--dest-creds", client.credentials, f"oci-archive:{HELLO}",
               f"docker://{hob.registry}/{name}:1", check=False)
    assert done.returncode != 0 and "immutable" in done.stderr, done.stderr
    with refused("ImageTagAlreadyExistsException", f"The image tag '1' already exists in the '{name}' repository"):
        ecr.put_image(repositoryName=name, imageManifest=of_second.decode(), imageTag="1")
    assert [d["imageDigest"] for d in ecr.describe_images(repositoryName=name, imageIds=[{"imageTag": "1"}])["imageDetails"]] == [first]
    ecr.put_image_tag_mutability(repositoryName=name, imageTagMutability="MUTABLE")
    assert client.put(name, "1", of_second).headers["Docker-Content-Digest"] == second


def test_batch_delete_by_tag_and_by_digest(ecr, client, name):
    digest = client.push_image(name, "a", LAYER)
    client.put(name, "b", client.ask("GET", f"/v2/{name}/manifests/a").body)
    other = client.push_image(name, "c", LAYER * 2)

    def delete(*ids):
        answer = ecr.batch_delete_image(repositoryName=name, imageIds=list(ids))
        return answer["imageIds"], [f["failureCode"] for f in answer["failures"]]

    assert delete({"imageTag": "a"}) == ([{"imageDigest": digest, "imageTag": "a"}], [])
    assert client.ask("GET", f"/v2/{name}/manifests/{digest}").status == 200, "it has another tag"
    assert delete({"imageTag": "a"}, {}, {"imageDigest": digest_of(b"?")}, {"imageDigest": "bad"}) == (
        [], ["ImageNotFound", "MissingDigestAndTag", "ImageNotFound", "InvalidImageDigest"])
    assert delete({"imageTag": "b"}) == ([{"imageDigest": digest, "imageTag": "b"}], [])
    assert client.ask("GET", f"/v2/{name}/manifests/{digest}").status == 404, "that was its last"
    client.put(name, "d", client.ask("GET", f"/v2/{name}/manifests/c").body)
    gone, failures = delete({"imageDigest": other})
    assert sorted(i["imageTag"] for i in gone) == ["c", "d"] and failures == []
    assert ecr.list_images(repositoryName=name)["imageIds"] == []


# ---- the AWS CLI ----

def test_the_aws_cli(hob, client, name, tmp_path):
    made = hob.aws("ecr", "create-repository", "--repository-name", name)["repository"]
    assert made["repositoryUri"] == f"{hob.registry}/{name}"
    password = hob.aws("ecr", "get-login-password", check=False).stdout.strip()
    env = {**os.environ, "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
    run("skopeo", "login", "--tls-verify=false", "--username", "AWS", "--password-stdin", hob.registry, input=password, env=env)
    run("skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci-archive:{HELLO}", f"docker://{hob.registry}/{name}:1", env=env)
    done = run("skopeo", "login", "--tls-verify=false", "--username", "AWS", "--password-stdin", hob.registry, input="wrong", env=env, check=False)
    assert done.returncode != 0
    ids = hob.aws("ecr", "list-images", "--repository-name", name)["imageIds"]
    assert [i["imageTag"] for i in ids] == ["1"]
    assert hob.aws("ecr", "describe-images", "--repository-name", name)["imageDetails"][0]["imageTags"] == ["1"]
    got = hob.aws("ecr", "batch-get-image", "--repository-name", name, "--image-ids", "imageTag=1")["images"][0]
    put = hob.aws("ecr", "put-image", "--repository-name", name, "--image-tag", "2", "--image-manifest", got["imageManifest"])
    assert put["image"]["imageId"]["imageDigest"] == ids[0]["imageDigest"]
    failed = hob.aws("ecr", "delete-repository", "--repository-name", name, check=False)
    assert failed.returncode != 0 and "RepositoryNotEmptyException" in failed.stderr
    assert hob.aws("ecr", "batch-delete-image", "--repository-name", name, "--image-ids", "imageTag=1")["imageIds"]
    hob.aws("ecr", "delete-repository", "--repository-name", name, "--force")
    assert "RepositoryNotFoundException" in hob.aws("ecr", "describe-repositories", "--repository-names", name, check=False).stderr


# ---- services ----

def push_hello(hob, repository, tag, version="1", credentials=None):
    """The sample image with another VERSION, so another image."""
    credentials = credentials or token(hob)
    run("skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--dest-creds", credentials, f"oci-archive:{HELLO}",
        f"docker://{hob.registry}/{repository}:base")
    client = Client(hob, credentials)
    manifest = client.ask("GET", f"/v2/{repository}/manifests/base").json()
    config = client.ask("GET", f"/v2/{repository}/blobs/{manifest['config']['digest']}").json()
    config["config"]["Env"] = [*config["config"].get("Env", []), f"VERSION={version}"]
    manifest["config"] = client.descriptor(repository, json.dumps(config).encode(), manifest["config"]["mediaType"])
    answer = client.put(repository, tag, manifest, manifest.get("mediaType", OCI_MANIFEST))
    assert answer.status == 201, answer.body
    return f"{hob.registry}/{repository}:{tag}"


@pytest.fixture
def removed(hob):
    """Names of services to remove at the end."""
    names = []
    yield names
    for name in names:
        hob.run("rm", name, check=False)


def test_a_pushed_tag_is_deployed_if_it_is_another_image(hob, name, removed):
    runner = hob.boto("apprunner")
    image = push_hello(hob, name, "live")
    source = {"ImageRepository": {"ImageIdentifier": image, "ImageRepositoryType": "ECR", "ImageConfiguration": {"Port": "8080"}}}
    service = "auto-" + name[2:]
    removed.append(service)
    made = runner.create_service(ServiceName=service, SourceConfiguration={**source, "AutoDeploymentsEnabled": True})["Service"]
    still = "still-" + name[2:]
    removed.append(still)
    fixed = runner.create_service(ServiceName=still, SourceConfiguration={**source, "AutoDeploymentsEnabled": False})["Service"]
    for one in (made, fixed):
        hob.wait_status(runner, one["ServiceArn"], "RUNNING")

    def shows(version):
        return hob.get(made["ServiceUrl"], "/env?VERSION").text == f"{version}\n"

    def operations(one):
        return [(o["Type"], o["Status"]) for o in runner.list_operations(ServiceArn=one["ServiceArn"])["OperationSummaryList"]]

    assert shows(1)
    push_hello(hob, name, "live", "1")
    push_hello(hob, name, "other-tag", "9")
    push_hello(hob, name, "live", "2")
    wait_until("version 2", 90, lambda: shows(2))
    hob.wait_status(runner, made["ServiceArn"], "RUNNING")
    push_hello(hob, name, "live", "2")
    push_hello(hob, name, "live", "3")
    wait_until("version 3", 90, lambda: shows(3))
    hob.wait_status(runner, made["ServiceArn"], "RUNNING")
    # One deployment for each other image, none for the same image or another tag.
    assert operations(made) == [("START_DEPLOYMENT", "SUCCEEDED")] * 2 + [("CREATE_SERVICE", "SUCCEEDED")]
    assert operations(fixed) == [("CREATE_SERVICE", "SUCCEEDED")]
    assert hob.get(fixed["ServiceUrl"], "/env?VERSION").text == "1\n"


def test_an_image_of_another_registry(hob, new_hob, removed):
    other = new_hob()
    other.up()
    user, password = token(other).split(":", 1)
    image = push_hello(other, "team/hello", "1", "elsewhere")

    def login(secret):
        hob.run("registry", "login", other.registry, "-u", user, "--password-stdin", input=secret + "\n")

    def deploy(name, check=True):
        removed.append(name)
        return hob.run("deploy", image, "--name", name, "--health-path", "/healthz", check=check)

    done = deploy("else-none", check=False)
    assert done.returncode == 1
    assert f"CannotPullContainerError: {other.registry} wants a login, and none is known for it" in done.stderr, done.stderr
    login("wrong")
    done = deploy("else-wrong", check=False)
    assert done.returncode == 1
    assert "CannotPullContainerError" in done.stderr and "not one of ours" in done.stderr, done.stderr
    assert "wrong" not in hob.run("registry", "list").stdout
    login(password)
    deploy("else-good")
    assert hob.get(hob.host("else-good"), "/env?VERSION").text == "elsewhere\n"
    # The image is here now; who has no login for that registry still does not get it, not even by its digest.
    hob.run("registry", "logout", other.registry)
    digest = Client(other).ask("HEAD", "/v2/team/hello/manifests/1").headers["Docker-Content-Digest"]
    image = f"{other.registry}/team/hello@{digest}"
    done = deploy("else-digest", check=False)
    assert done.returncode == 1 and "wants a login" in done.stderr, done.stderr
    assert hob.get(hob.host("else-good"), "/healthz").status == 200


def test_another_accounts_image_is_not_deployed(hob, client, name):
    """Not by its tag, its digest, nor the registry's long name, though this host has it."""
    digest = client.push_image(name, "1", LAYER)
    made = hob.json("account", "create", "deploys-" + name[2:])
    runner = hob.boto("apprunner", access_key=made["AccessKeyId"], secret_key=made["SecretAccessKey"])
    long_name = f"{ACCOUNT}.dkr.ecr.us-east-1.hob.localhost:{hob.api_port}"
    for i, image in enumerate((f"{hob.registry}/{name}:1", f"{hob.registry}/{name}@{digest}", f"{long_name}/{name}:1")):
        source = {"ImageRepository": {"ImageIdentifier": image, "ImageRepositoryType": "ECR"}, "AutoDeploymentsEnabled": False}
        try:
            arn = runner.create_service(ServiceName=f"steals-{i}", SourceConfiguration=source)["Service"]["ServiceArn"]
        except ClientError as error:
            assert error.response["Error"]["Code"] == "InvalidRequestException"
            continue
        hob.wait_status(runner, arn, "CREATE_FAILED")
        runner.delete_service(ServiceArn=arn)
        hob.wait_status(runner, arn, "DELETED")


# ---- bad images ----

def tar_of(*entries):
    """A tar of (name, content) files, and of TarInfo as they are."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                archive.addfile(info, io.BytesIO(entry[1]))
    return data.getvalue()


def link_out():
    link = tarfile.TarInfo("etc")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    return tar_of(link, ("etc/hob-was-here", b"x"))


def hard_link_out():
    link = tarfile.TarInfo("passwd")
    link.type, link.linkname = tarfile.LNKTYPE, "../../../../../../etc/passwd"
    return tar_of(link)


def blob_file(hob, digest):
    return hob.data / "control/registry/blobs/sha256" / digest[7:]


def lose(hob, digest):
    blob_file(hob, digest).unlink()


def falsify(hob, digest):
    path = blob_file(hob, digest)
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)


def truncate(hob, digest):
    path = blob_file(hob, digest)
    path.chmod(0o600)
    os.truncate(path, 700)


GOOD = tar_of(("hello", uuid.uuid4().bytes * 64))


@pytest.mark.parametrize("layer, damage, diff_id, reason", [
    (tar_of(("../../../../evil", b"x")), None, None, ".."),
    (tar_of(("a/../../evil", b"x")), None, None, ".."),
    (hard_link_out(), None, None, "passwd"),
    (b"this is no archive at all" * 100, None, None, "archive"),
    (GOOD, None, digest_of(b"another"), "unpacks to"),
    (GOOD + b"\0" * 512, lose, None, "opening the blob sha256:"),
    (GOOD + b"\0" * 1024, falsify, None, "digest"),
    (GOOD + b"\0" * 1536, truncate, None, "bytes"),
], ids=["out", "out-later", "hard-link-out", "no-archive", "other-content", "lost", "falsified", "truncated"])
def test_a_bad_image_fails_its_deployment_alone(hob, service, client, name, layer, damage, diff_id, reason):
    neighbour = service("near-" + name[2:])
    image = client.push_image(name, "1", layer, {"Entrypoint": ["/hello"]}, diff_id)
    if damage:
        damage(hob, digest_of(layer))
    bad = "bad-" + name[2:]
    try:
        done = hob.run("deploy", f"{hob.registry}/{name}:1", "--name", bad, check=False)
        assert done.returncode == 1
        assert "CannotPullContainerError" in done.stderr, done.stderr
        assert reason in done.stderr.split("CannotPullContainerError", 1)[1], done.stderr
        assert hob.get(neighbour, "/healthz").status == 200
        assert next(s["Status"] for s in hob.json("ps")["Services"] if s["Name"] == bad) == "CREATE_FAILED"
        assert not (hob.data / "evil").exists() and not os.path.exists("/evil")
        hexes = {path.name[:64] for path in (hob.data / "host").glob("**/images/*.json")}
        assert image[7:] not in hexes
        left = [path for path in (hob.data / "host").glob("**/tmp/*") if "layer" in str(path)]
        assert left == []
    finally:
        hob.run("rm", bad)
    assert bad not in [s["Name"] for s in hob.json("ps")["Services"]]


def test_a_link_of_a_layer_leads_into_the_image_alone(hob, client, name):
    client.push_image(name, "1", link_out(), {"Entrypoint": ["/nothing"]})
    bad = "bad-" + name[2:]
    try:
        assert hob.run("deploy", f"{hob.registry}/{name}:1", "--name", bad, check=False).returncode == 1
        assert not os.path.exists("/etc/hob-was-here")
    finally:
        hob.run("rm", bad)
