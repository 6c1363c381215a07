"""Deployments by strategy under load: weights, promotion, cancelling, the way back, and control that dies meanwhile."""
import signal
import subprocess
import threading
import time

import pytest
from hob_instance import HELLO, HOB, busybox_image, wait_until
from load import Load

# Healthy, and answers all else with 500.
FAILING = r"""while true; do /bin/busybox nc -ll -p 8080 -e /bin/busybox sh -c '
read -r method path rest
if [ "$path" = /healthz ]; then printf "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"
else printf "HTTP/1.1 500 Broken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"; fi'
done"""


class Deploying:
    """`hob deploy` in the background."""

    def __init__(self, hob, *arguments, **options):
        self._thread = threading.Thread(target=self._run, args=(hob, arguments, options))
        self._thread.start()

    def _run(self, hob, arguments, options):
        self.done = hob.deploy(*arguments, check=False, **options)

    def end(self):
        self._thread.join()
        return self.done


def newest(hob, name):
    return hob.json("deploys", name)["Operations"][0]


def await_step(hob, name, step):
    wait_until(f"{name} is at {step}", 60, lambda: [s["Name"] for s in newest(hob, name)["Steps"]][-1:] == [step])


def share_of(hob, host, version, of=200):
    return sum(hob.get(host, "/env?VERSION").text == f"{version}\n" for _ in range(of)) / of


def status(hob, name):
    return next(s["Status"] for s in hob.json("ps")["Services"] if s["Name"] == name)


def test_a_canary_gets_its_share_and_is_promoted(hob, service):
    host = service("hello-canary", "--env", "VERSION=1", "--strategy", "canary 10% 10m bake=10m")
    with Load(hob.http_port, host, path="/healthz", connections=2) as load:
        deploying = subprocess.Popen([HOB, "deploy", HELLO, "--name", "hello-canary", "--env", "VERSION=2",
                                      "--data", str(hob.data)], text=True, stderr=subprocess.PIPE)
        await_step(hob, "hello-canary", "PRODUCTION_TRAFFIC_SHIFT 10%")
        assert 0.02 < share_of(hob, host, 2) < 0.25
        one, two = hob.json("revisions", "hello-canary")["Revisions"]
        assert (one["Percent"], two["Percent"], two["State"]) == (90, 10, "IN_PROGRESS")
        for revision, version in ((one, 1), (two, 2)):
            own = revision["HostName"] + host[host.index(":"):]
            assert hob.get(own, "/env?VERSION").text == f"{version}\n"
        said = ""
        for line in deploying.stderr:  # until it has told of the step
            said += line
            if "for 10m (until " in line:
                break
        deploying.send_signal(signal.SIGINT)
        said += deploying.communicate(timeout=60)[1]
        assert deploying.returncode == 130, said
        for words in ("strategy: canary 10% 10m bake=10m, as it was set before", "hob promote hello-canary", "for 10m (until ",
                      "hob deploys hello-canary shows how far it is"):
            assert words in said, said
        hob.run("promote", "hello-canary")
        assert share_of(hob, host, 2, of=20) == 1
    assert load.failed == []
    steps = newest(hob, "hello-canary")["Steps"]
    assert [s["Result"] for s in steps] == ["SUCCEEDED"] * len(steps)


def test_a_canary_that_answers_with_errors_is_rolled_back(hob, service, tmp_path):
    host = service("hello-broken", "--env", "VERSION=1", "--strategy", "canary 20% 10m")
    broken = busybox_image(tmp_path, "broken", FAILING)
    deploying = Deploying(hob, "hello-broken", image=broken)
    await_step(hob, "hello-broken", "PRODUCTION_TRAFFIC_SHIFT 20%")
    with Load(hob.http_port, host, path="/env?VERSION", connections=2) as load:
        done = deploying.end()
    assert done.returncode == 1 and "Requests to the new version fail" in done.stderr
    assert load.failed, "nobody saw an error, and it was rolled back"
    with Load(hob.http_port, host, path="/env?VERSION", connections=2) as load:
        load.wait_for(200)
    assert load.failed == []
    assert status(hob, "hello-broken") == "RUNNING"
    assert [r["State"] for r in hob.json("revisions", "hello-broken")["Revisions"]] == ["SUCCEEDED", "FAILED"]


@pytest.mark.parametrize("step", ["PRODUCTION_TRAFFIC_SHIFT 30%", "BAKE_TIME"])
def test_a_deployment_is_cancelled_at_each_step_after_control_died_there(hob, service, step):
    host = service("hello-undone", "--env", "VERSION=1")
    strategy = "canary 30% 10m" if "30%" in step else "blue-green bake=10m"
    with Load(hob.http_port, host, path="/healthz", connections=2) as load:
        deploying = Deploying(hob, "hello-undone", "--env", "VERSION=2", "--strategy", strategy)
        await_step(hob, "hello-undone", step)
        hob.kill("control")
        await_step(hob, "hello-undone", step)
        hob.run("cancel", "hello-undone")
        assert deploying.end().returncode == 1
        assert share_of(hob, host, 1, of=20) == 1
    assert load.failed == []
    assert newest(hob, "hello-undone")["Steps"][-1]["Result"] == "ROLLBACK_SUCCEEDED"
    assert newest(hob, "hello-undone")["Status"] == "ROLLBACK_SUCCEEDED"
    assert " cancelled" in hob.run("revisions", "hello-undone").stdout
    assert "hello-undone: the last deployment failed" not in hob.run("ps").stdout


@pytest.mark.speed
def test_a_rollback_within_the_time_is_a_switch(hob, service):
    host = service("hello-switch", "--env", "VERSION=1", "--strategy", "blue-green")
    hob.deploy("hello-switch", "--env", "VERSION=2")
    kept = hob.json("revisions", "hello-switch")["Revisions"][0]
    assert kept["Kept"] and kept["Percent"] == 0
    assert share_of(hob, host, 2, of=20) == 1
    with Load(hob.http_port, host, path="/healthz", connections=2) as load:
        begun = time.monotonic()
        thread = threading.Thread(target=hob.run, args=("rollback", "hello-switch"))
        thread.start()
        wait_until("the old version answers", 10, lambda: hob.get(host, "/env?VERSION").text == "1\n", every=0.01)
        took = time.monotonic() - begun
        thread.join()
    assert load.failed == []
    print(f"command to first answer of the old version: {took:.2f} s")
    assert took < 1.5
    assert share_of(hob, host, 1, of=20) == 1


def test_a_strategy_that_means_nothing_is_refused(hob, service):
    service("hello-wrong")
    for wrong in ("canary", "rolling min=100 max=100", "blue-green bake=25h"):
        refused = hob.run("scale", "hello-wrong", "--strategy", wrong, check=False)
        assert refused.returncode == 1 and "hob:strategy isn't valid" in refused.stderr
    hob.run("scale", "hello-wrong", "--strategy", "rolling min=50 max=150", "--keep-previous", "off")
    refused = hob.run("promote", "hello-wrong", check=False)
    assert refused.returncode == 1 and "no operation in progress" in refused.stderr
