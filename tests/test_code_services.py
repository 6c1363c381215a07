"""App Runner's code services: a repository's URL by boto3 and the `aws` CLI, built by the server, served at its URL."""
import textwrap

import pytest

from git_server import GitServer, commit, git
from hob_instance import Hob, wait_until

FIRST_BUILD_SECONDS_MAX = 900  # Debian's base image is made in it

SERVER = """\
require('http').createServer((request, response) => {
  response.end(process.env.GREETING + ' one\\n');
}).listen(process.env.PORT);
"""
APP_FILE = """\
version: 1.0
runtime: nodejs22
build:
  commands:
    build: ["node --check server.js"]
run:
  command: node server.js
  network: {port: 3000}
  env: [{name: GREETING, value: hello}]
"""


@pytest.fixture(scope="module")
def instance(build_state):
    hob = Hob()
    try:
        hob.up()
        yield hob
        hob.down()
        assert hob.remains() == []
    finally:
        hob.close()


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    root = tmp_path_factory.mktemp("code")
    folder = root / "shop.git"
    git(root, "init", "--quiet", "--initial-branch=main", "shop.git")
    write(folder)
    server = GitServer(root)
    yield folder, f"{server.url}/shop.git"
    server.close()


def write(folder, server=SERVER, app_file=APP_FILE):
    (folder / "server.js").write_text(server)
    (folder / "apprunner.yaml").write_text(app_file)
    return commit(folder, "change")


def code(url, source="REPOSITORY", branch="main", **values):
    configuration = {"ConfigurationSource": source}
    if values:
        configuration["CodeConfigurationValues"] = values
    return {"AutoDeploymentsEnabled": False, "CodeRepository": {
        "RepositoryUrl": url, "SourceCodeVersion": {"Type": "BRANCH", "Value": branch},
        "CodeConfiguration": configuration}}


def ended(apprunner, arn, operation, seconds=120):
    def look():
        found = [each for each in apprunner.list_operations(ServiceArn=arn)["OperationSummaryList"]
                 if each["Id"] == operation]
        return found[0] if found and "EndedAt" in found[0] else None
    return wait_until("the operation ends", seconds, look)["Status"]


def deployment_log(instance, service, operation):
    logs = instance.boto("logs")
    group = f"/aws/apprunner/{service['ServiceName']}/{service['ServiceId']}/service"
    try:
        events = logs.get_log_events(logGroupName=group, logStreamName=f"deployment/{operation}", startFromHead=True)
    except logs.exceptions.ResourceNotFoundException:
        return []  # it has not begun
    return [each["message"] for each in events["events"]]


@pytest.fixture(scope="module")
def shop(instance, repository):
    """A service of the repository, running."""
    _, url = repository
    apprunner = instance.boto("apprunner")
    made = apprunner.create_service(ServiceName="shop", SourceConfiguration=code(url))
    service = made["Service"]
    assert ended(apprunner, service["ServiceArn"], made["OperationId"], FIRST_BUILD_SECONDS_MAX) == "SUCCEEDED", \
        "\n".join(deployment_log(instance, service, made["OperationId"]))
    return service, made["OperationId"]


def test_a_repository_becomes_a_service(instance, repository, shop):
    folder, url = repository
    service, operation = shop
    assert instance.get(service["ServiceUrl"]).text == "hello one\n"
    shown = instance.aws("apprunner", "describe-service", "--service-arn", service["ServiceArn"])
    assert shown["Service"]["SourceConfiguration"] == code(url)
    log = deployment_log(instance, service, operation)
    assert f"[Build] commit {git(folder, 'rev-parse', 'main')}" in log
    assert any(line.startswith("[AppRunner] Deployment Artifact: [Repo Type: Source]") for line in log)


def test_a_commit_goes_live_a_broken_one_does_not_and_the_last_one_comes_back(instance, repository, shop):
    folder, _ = repository
    service, _ = shop
    arn, host = service["ServiceArn"], service["ServiceUrl"]
    apprunner = instance.boto("apprunner")

    write(folder, SERVER.replace("one", "two"))
    operation = apprunner.start_deployment(ServiceArn=arn)["OperationId"]
    assert ended(apprunner, arn, operation) == "SUCCEEDED"
    assert instance.get(host).text == "hello two\n"

    write(folder, "require('http'.createServer(\n")
    operation = apprunner.start_deployment(ServiceArn=arn)["OperationId"]
    assert ended(apprunner, arn, operation) == "ROLLBACK_SUCCEEDED"
    assert instance.get(host).text == "hello two\n"
    log = deployment_log(instance, service, operation)
    assert any("SyntaxError" in line for line in log)
    assert any("Failed to build your application source code." in line for line in log)
    assert instance.boto("apprunner").describe_service(ServiceArn=arn)["Service"]["Status"] == "RUNNING"

    instance.run("rollback", "shop")
    assert instance.get(host).text == "hello one\n"


def test_a_build_is_cancelled_and_leaves_the_version_before(instance, repository, shop):
    folder, _ = repository
    service, _ = shop
    apprunner = instance.boto("apprunner")
    write(folder, SERVER.replace("one", "three"), APP_FILE.replace("node --check server.js", "echo waiting; sleep 600"))
    operation = apprunner.start_deployment(ServiceArn=service["ServiceArn"])["OperationId"]
    wait_until("it waits", 60, lambda: "[Build] waiting" in deployment_log(instance, service, operation))
    instance.run("cancel", "shop")
    assert ended(apprunner, service["ServiceArn"], operation) == "ROLLBACK_SUCCEEDED"
    assert instance.get(service["ServiceUrl"]).text == "hello one\n"


@pytest.mark.parametrize("role", ["host", "control"])
def test_a_build_outlives_who_orders_and_who_does_it(instance, repository, shop, role):
    folder, _ = repository
    service, _ = shop
    apprunner = instance.boto("apprunner")
    write(folder, SERVER.replace("one", role), APP_FILE.replace("node --check server.js", f"echo {role}; sleep 4"))
    operation = apprunner.start_deployment(ServiceArn=service["ServiceArn"])["OperationId"]
    wait_until("it builds", 60, lambda: f"[Build] {role}" in deployment_log(instance, service, operation))
    instance.kill(role)
    assert ended(apprunner, service["ServiceArn"], operation) == "SUCCEEDED"
    assert instance.get(service["ServiceUrl"]).text == f"hello {role}\n"


def test_the_apis_configuration_takes_the_files_place(instance, repository):
    folder, url = repository
    write(folder, app_file="not looked at: [")
    apprunner = instance.boto("apprunner")
    source = code(url, "API", Runtime="NODEJS_22", BuildCommand="node --check server.js && echo checked",
                  StartCommand="node server.js", Port="8000", RuntimeEnvironmentVariables={"GREETING": "hi"})
    made = apprunner.create_service(ServiceName="by-api", SourceConfiguration=source)
    service = made["Service"]
    status = ended(apprunner, service["ServiceArn"], made["OperationId"])
    log = deployment_log(instance, service, made["OperationId"])
    assert status == "SUCCEEDED", "\n".join(log)
    assert "[Build] checked" in log
    assert instance.get(service["ServiceUrl"]).text == "hi one\n"
    assert apprunner.describe_service(ServiceArn=service["ServiceArn"])["Service"]["SourceConfiguration"] == source
    values = source["CodeRepository"]["CodeConfiguration"]["CodeConfigurationValues"]
    values["RuntimeEnvironmentVariables"] = {"GREETING": "good day"}
    updated = apprunner.update_service(ServiceArn=service["ServiceArn"], SourceConfiguration=source)
    assert ended(apprunner, service["ServiceArn"], updated["OperationId"]) == "SUCCEEDED"
    assert instance.get(service["ServiceUrl"]).text == "good day one\n"
    instance.run("rm", "by-api")


@pytest.mark.parametrize("change, why", [
    ({"RepositoryUrl": "ssh://git@127.0.0.1/a.git"}, "https:// or http://"),
    ({"RepositoryUrl": "https://user:secret@127.0.0.1/a.git"}, "holds a user or a password"),
    ({"SourceCodeVersion": {"Type": "BRANCH", "Value": "--upload-pack=id"}}, "doesn't start with '-'"),
    ({"CodeConfiguration": {"ConfigurationSource": "API"}}, "CodeConfigurationValues are required"),
    ({"CodeConfiguration": {"ConfigurationSource": "API", "CodeConfigurationValues": {"Runtime": "PYTHON_3"}}},
     "a StartCommand is required"),
])
def test_what_cannot_be_is_refused_before_anything_is_made(instance, repository, change, why):
    apprunner = instance.boto("apprunner")
    source = code(repository[1])
    source["CodeRepository"].update(change)
    with pytest.raises(apprunner.exceptions.InvalidRequestException) as refused:
        apprunner.create_service(ServiceName="refused", SourceConfiguration=source)
    assert why in str(refused.value)


@pytest.mark.parametrize("branch, files, why", [
    ("nowhere", {}, "there is no branch, tag or commit nowhere"),
    ("main", {"server.js": SERVER}, "App Runner configuration file apprunner.yaml not found."),
    ("main", {"apprunner.yaml": APP_FILE.replace("nodejs22", "dotnet6")}, "dotnet"),
    ("main", {"apprunner.yaml": APP_FILE + textwrap.indent("secrets: [{name: KEY, value-from: key}]\n", "  ")},
     "secrets aren't supported"),
    ("main", {"apprunner.yaml": APP_FILE + "wrong: 1\n"}, "wrong"),
])
def test_a_source_that_cannot_be_built_says_why_within_seconds(instance, tmp_path, branch, files, why):
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "bad.git")
    (tmp_path / "bad.git" / "README").write_text("bad\n")
    for name, text in files.items():
        (tmp_path / "bad.git" / name).write_text(text)
    commit(tmp_path / "bad.git", "bad")
    server = GitServer(tmp_path)
    apprunner = instance.boto("apprunner")
    try:
        source = code(f"{server.url}/bad.git", branch=branch)
        made = apprunner.create_service(ServiceName="broken", SourceConfiguration=source)
        arn = made["Service"]["ServiceArn"]
        assert ended(apprunner, arn, made["OperationId"], 60) == "FAILED"
        assert why in "\n".join(deployment_log(instance, made["Service"], made["OperationId"]))
        assert apprunner.describe_service(ServiceArn=arn)["Service"]["Status"] == "CREATE_FAILED"
    finally:
        server.close()
        instance.run("rm", "broken", check=False)
