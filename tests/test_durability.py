"""What the API answered with success is there after kill -9 of everything, at any instant."""
import os
import random
import threading
import time

from hob_instance import wait_until

KILLS = int(os.environ.get("HOB_KILLS", "100"))
WRITERS = 4
SECONDS_MAX = 900  # of the whole test
PAUSE_MAX = 0.25   # s from a start to the kill, at random


class Writers:
    """Clients that create repositories and tag them, and remember what was acknowledged."""

    def __init__(self, hob):
        self.acknowledged = {}  # repository -> last acknowledged value of its tag
        self.attempted = {}     # repository -> values of writes since, whose answers are not known
        self.errors = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(hob.boto("ecr"), number), daemon=True)
                         for number in range(WRITERS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def _run(self, ecr, number):
        from botocore.exceptions import BotoCoreError, ClientError
        count = 0
        arns = {}
        while not self._stop.is_set():
            count += 1
            name = f"w{number}/r{count % 50}"
            try:
                if name not in arns:
                    arns[name] = ecr.create_repository(repositoryName=name)["repository"]["repositoryArn"]
                    self.acknowledged[name] = None
                self.attempted.setdefault(name, set()).add(str(count))
                ecr.tag_resource(resourceArn=arns[name], tags=[{"Key": "value", "Value": str(count)}])
                self.acknowledged[name] = str(count)
                del self.attempted[name]
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code == "RepositoryAlreadyExistsException":
                    arns[name] = ecr_arn(name)  # made by a call whose answer was lost
                    self.acknowledged.setdefault(name, None)
                elif error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                    self.errors.append(str(error))
            except BotoCoreError:
                time.sleep(0.01)  # killed under us: what became of it is not known


def ecr_arn(name):
    return f"arn:aws:ecr:us-east-1:000000000001:repository/{name}"


def test_acknowledged_writes_survive_kills_at_random_instants(new_hob):
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    print(f"seed {seed}")
    hob = new_hob()
    hob.up()
    deadline = time.monotonic() + SECONDS_MAX
    kills = 0
    with Writers(hob) as writers:
        while kills < KILLS and time.monotonic() < deadline:
            time.sleep(chance.random() * PAUSE_MAX)
            hob.kill_all()
            hob.up()
            kills += 1
        before = len(writers.acknowledged)
    assert kills == KILLS, f"{kills} kills in {SECONDS_MAX} s"
    assert writers.errors == []
    assert before > 0 and any(writers.acknowledged.values())

    ecr = hob.boto("ecr", attempts=5)
    wait_until("the API", 20, lambda: ecr.describe_registry())
    lost = []
    for name, value in sorted(writers.acknowledged.items()):
        tags = {t["Key"]: t["Value"] for t in ecr.list_tags_for_resource(resourceArn=ecr_arn(name))["tags"]}
        # A write without an answer may have happened or not.
        allowed = {value} | writers.attempted.get(name, set())
        if tags.get("value") not in allowed:
            lost.append((name, tags.get("value"), sorted(map(str, allowed))))
    assert lost == [], f"seed {seed}"
