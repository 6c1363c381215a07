"""What the API answered with success is there after kill -9 of everything, at any instant."""
import os
import random
import threading
import time

from hob_instance import wait_until

KILLS = int(os.environ.get("HOB_KILLS", "100"))
SECONDS_MAX = 900   # of the whole test
PAUSE_MAX = 0.25    # s from a start to the kill, at random
RESOURCES_MAX = 50  # of a writer; then it writes to the first again
SERVICES_MAX = 10   # likewise; each is a deployment, too


class Written:
    """What a resource's value may be: the last acknowledged, or that of a later write whose answer is not known."""

    def __init__(self):
        self.acknowledged = {}  # name -> value; None: the resource is there, without a value
        self.attempted = {}     # name -> values since

    def attempt(self, name, value):
        self.attempted.setdefault(name, set()).add(value)

    def acknowledge(self, name, value):
        self.acknowledged[name] = value
        self.attempted.pop(name, None)

    def refuse(self, name, value):
        """It was answered with an error: it did not happen."""
        self.attempted[name].discard(value)

    def allowed(self, name):
        return {self.acknowledged[name]} | self.attempted.get(name, set())


class Writers:
    """Clients that make things and change them without a pause, and remember what was acknowledged."""

    def __init__(self, hob, updated):
        self.hob = hob
        self.updated = updated  # ARN of a service that runs
        self.repositories, self.services, self.versions = Written(), Written(), Written()
        self.versions.acknowledge(updated, "0")
        self.arns = {}  # of services, by name
        self.errors = []
        self._stop = threading.Event()
        writers = [lambda: self._repositories("w0"), lambda: self._repositories("w1"),
                   lambda: self._services("w2"), self._versions]
        self._threads = [threading.Thread(target=writer, daemon=True) for writer in writers]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def _each(self, write):
        """Calls `write` with 1, 2, 3… until the end, whatever becomes of the answers."""
        from botocore.exceptions import BotoCoreError, ClientError
        count = 0
        while not self._stop.is_set():
            count += 1
            try:
                write(count)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                    self.errors.append(str(error))
            except BotoCoreError:
                time.sleep(0.01)  # killed under us: what became of it is not known

    def _repositories(self, prefix):
        ecr = self.hob.boto("ecr")

        def write(count):
            name, value = f"{prefix}/r{count % RESOURCES_MAX}", str(count)
            if name not in self.repositories.acknowledged:
                try:
                    ecr.create_repository(repositoryName=name)
                except ecr.exceptions.RepositoryAlreadyExistsException:
                    pass  # made by a call whose answer was lost
                self.repositories.acknowledge(name, None)
            self.repositories.attempt(name, value)
            ecr.tag_resource(resourceArn=ecr_arn(name), tags=[{"Key": "value", "Value": value}])
            self.repositories.acknowledge(name, value)

        self._each(write)

    def _services(self, prefix):
        """Of an image that is not there: they fail at once and stay, and so do their tags."""
        apprunner = self.hob.boto("apprunner")
        source = {"ImageRepository": {"ImageIdentifier": f"{self.hob.registry}/nothing:1", "ImageRepositoryType": "ECR"},
                  "AutoDeploymentsEnabled": False}

        def write(count):
            name, value = f"{prefix}-service-{count % SERVICES_MAX}", str(count)
            if name not in self.arns:
                self._make(apprunner, name, source)
            self.services.attempt(name, value)
            apprunner.tag_resource(ResourceArn=self.arns[name], Tags=[{"Key": "value", "Value": value}])
            self.services.acknowledge(name, value)

        self._each(write)

    def _make(self, apprunner, name, source):
        try:
            made = apprunner.create_service(ServiceName=name, SourceConfiguration=source)
            self.arns[name] = made["Service"]["ServiceArn"]
        except apprunner.exceptions.InvalidRequestException as error:
            if "already exists" not in str(error):
                raise
            self.arns[name] = services(apprunner)[name]  # made by a call whose answer was lost
        self.services.acknowledge(name, None)

    def _versions(self):
        apprunner = self.hob.boto("apprunner")

        def write(count):
            source = apprunner.describe_service(ServiceArn=self.updated)["Service"]["SourceConfiguration"]
            source["ImageRepository"]["ImageConfiguration"]["RuntimeEnvironmentVariables"] = {"VERSION": str(count)}
            self.versions.attempt(self.updated, str(count))
            try:
                apprunner.update_service(ServiceArn=self.updated, SourceConfiguration=source)
                self.versions.acknowledge(self.updated, str(count))
            except apprunner.exceptions.InvalidStateException:
                self.versions.refuse(self.updated, str(count))  # the update before it goes on
                time.sleep(0.05)

        self._each(write)


def ecr_arn(name):
    return f"arn:aws:ecr:us-east-1:000000000001:repository/{name}"


def services(apprunner):
    """All of the account: name -> ARN."""
    found, token = {}, {}
    while token is not None:
        page = apprunner.list_services(**token)
        found.update({s["ServiceName"]: s["ServiceArn"] for s in page["ServiceSummaryList"]})
        token = {"NextToken": page["NextToken"]} if page.get("NextToken") else None
    return found


def test_acknowledged_writes_survive_kills_at_random_instants(new_hob):
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    print(f"seed {seed}")
    hob = new_hob()
    hob.up()
    hob.deploy("updated", "--env", "VERSION=0")
    deadline = time.monotonic() + SECONDS_MAX
    kills = 0
    with Writers(hob, services(hob.boto("apprunner"))["updated"]) as writers:
        while kills < KILLS and time.monotonic() < deadline:
            time.sleep(chance.random() * PAUSE_MAX)
            hob.kill_all()
            hob.up()
            kills += 1
    assert kills == KILLS, f"{kills} kills in {SECONDS_MAX} s"
    assert writers.errors == []
    for written in (writers.repositories, writers.services, writers.versions):
        assert any(value not in (None, "0") for value in written.acknowledged.values()), vars(written)

    ecr, apprunner = hob.boto("ecr", attempts=5), hob.boto("apprunner", attempts=5)
    wait_until("the API", 20, lambda: ecr.describe_registry())
    lost = []

    def compare(written, name, found):
        if found not in written.allowed(name):
            lost.append((name, found, sorted(map(str, written.allowed(name)))))

    for name in sorted(writers.repositories.acknowledged):
        tags = ecr.list_tags_for_resource(resourceArn=ecr_arn(name))["tags"]
        compare(writers.repositories, name, {t["Key"]: t["Value"] for t in tags}.get("value"))
    arns = services(apprunner)
    for name in sorted(writers.services.acknowledged):
        assert arns.get(name) == writers.arns[name], f"seed {seed}: {name} is gone"
        tags = apprunner.list_tags_for_resource(ResourceArn=arns[name])["Tags"]
        compare(writers.services, name, {t["Key"]: t["Value"] for t in tags}.get("value"))
    # An update that is undone says so in its operation; none was, here.
    operations = apprunner.list_operations(ServiceArn=writers.updated)["OperationSummaryList"]
    assert not any("ROLLBACK" in operation["Status"] for operation in operations), operations
    configuration = apprunner.describe_service(ServiceArn=writers.updated)["Service"]["SourceConfiguration"]
    variables = configuration["ImageRepository"]["ImageConfiguration"]["RuntimeEnvironmentVariables"]
    compare(writers.versions, writers.updated, variables.get("VERSION"))
    assert lost == [], f"seed {seed}"
