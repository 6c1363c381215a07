"""How many instances a service has: none without visitors, again with one, and as many as its settings say."""
import os
import signal

import pytest

from hob_instance import wait_until


def capacity(hob, name):
    return next(s for s in hob.json("ps")["Services"] if s["Name"] == name)


def instances(hob, name):
    of = capacity(hob, name)
    return of["Awake"] + of["Asleep"] + of["Starting"]


def wait_stopped(hob, name):
    wait_until(f"{name} without instances", 60,
               lambda: capacity(hob, name)["Desired"] == 0 and instances(hob, name) == 0, every=0.2)


def test_a_service_without_visitors_is_stopped_and_a_request_starts_it(hob, service):
    host = service("hello-zero", "--min-size", "0", "--stop-after", "2s")
    wait_stopped(hob, "hello-zero")
    assert capacity(hob, "hello-zero")["Status"] == "RUNNING"
    assert hob.get(host, "/healthz", seconds=60).status == 200


def test_a_stopped_service_is_deployed_and_stopped_again(hob, service):
    host = service("hello-zero-new", "--min-size", "0", "--stop-after", "2s", "--env", "VERSION=1")
    wait_stopped(hob, "hello-zero-new")
    service("hello-zero-new", "--env", "VERSION=2")
    assert hob.get(host, "/env?VERSION", seconds=60).text == "2\n"
    wait_stopped(hob, "hello-zero-new")
    hob.run("pause", "hello-zero-new")
    assert hob.get(host, "/healthz").status == 503
    assert instances(hob, "hello-zero-new") == 0
    hob.run("resume", "hello-zero-new")
    assert hob.get(host, "/env?VERSION", seconds=60).text == "2\n"


def test_instances_that_are_not_needed_sleep_and_a_request_wakes_one(hob, service):
    # The second of two is never visited; the first stays awake, as nothing else was asked for.
    service("hello-reserve", "--min-size", "2")
    host = service("hello-asleep", "--sleep-after", "1s")
    wait_until("it sleeps", 90, lambda: capacity(hob, "hello-asleep")["Asleep"] == 1, every=0.2)
    assert capacity(hob, "hello-asleep")["Status"] == "RUNNING"
    assert hob.get(host, "/healthz").status == 200
    wait_until("it sleeps again", 90, lambda: capacity(hob, "hello-asleep")["Asleep"] == 1, every=0.2)
    # Edge and host wake it between themselves.
    supervisor, control = hob.status()["pid"], hob.pid_of("control")
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(control, signal.SIGKILL)
        assert hob.get(host, "/healthz").status == 200
    finally:
        os.kill(supervisor, signal.SIGCONT)
    wait_until("another control", 30, lambda: hob.status()["roles"]["control"]["ready"]
               and hob.pid_of("control") != control)
    wait_until("one of two sleeps", 120, lambda: capacity(hob, "hello-reserve")["Asleep"] == 1
               and capacity(hob, "hello-reserve")["Awake"] == 1, every=0.2)


def test_scale_sets_sizes_and_times(hob, service):
    service("hello-sizes")
    shown = hob.json("scale", "hello-sizes", "--min-size", "2", "--max-size", "4", "--concurrency", "7", "--sleep-after", "5m",
                     "--min-size-schedule", "Mon 08:00-09:00 3")
    assert shown == {"Name": "hello-sizes", "MinSize": 2, "MaxSize": 4, "MaxConcurrency": 7, "SleepAfter": "5m",
                     "StopAfter": "", "MinSizeSchedule": "Mon 08:00-09:00 3", "Strategy": "", "KeepPrevious": "", "Sticky": ""}
    wait_until("two instances", 60, lambda: capacity(hob, "hello-sizes")["Awake"]
               + capacity(hob, "hello-sizes")["Asleep"] == 2, every=0.2)
    # App Runner's own clients see the same.
    apprunner = hob.boto("apprunner")
    arn = capacity(hob, "hello-sizes")["Arn"]
    used = apprunner.describe_service(ServiceArn=arn)["Service"]["AutoScalingConfigurationSummary"]
    assert used["AutoScalingConfigurationName"] == "hello-sizes"
    tags = [{"Key": "hob:min-size", "Value": "5"}]
    with pytest.raises(apprunner.exceptions.InvalidRequestException, match=r"\(5\) can't be greater than MaxSize \(4\)"):
        apprunner.tag_resource(ResourceArn=arn, Tags=tags)
    shown = hob.json("scale", "hello-sizes", "--min-size", "0", "--stop-after", "1h", "--min-size-schedule", "none")
    assert (shown["MinSize"], shown["MaxSize"], shown["StopAfter"], shown["MinSizeSchedule"]) == (0, 4, "1h", "")
    bad = hob.run("scale", "hello-sizes", "--min-size-schedule", "Mon 8-9 2", check=False)
    assert bad.returncode == 1 and "Mon-Fri 08:00-18:00 2" in bad.stderr
    # A part that is wrong leaves the whole undone, and nothing is nothing.
    bad = hob.run("scale", "hello-sizes", "--max-size", "9", "--strategy", "canary 10%", check=False)
    assert bad.returncode == 1 and "canary 10% 5m, 50% 5m" in bad.stderr
    assert hob.json("scale", "hello-sizes")["MaxSize"] == 4
    empty = hob.run("scale", "hello-sizes", "--strategy", "", check=False)
    assert empty.returncode == 2 and "--strategy: it is empty" in empty.stderr, empty.stderr
    assert hob.json("scale", "hello-sizes", "--sticky", "1h")["Sticky"] == "1h"
    assert "HOBSTICKY" in hob.get(hob.host("hello-sizes")).headers.get("Set-Cookie", "")
    hob.run("scale", "hello-sizes", "--sticky", "off")
    wait_until("no cookie", 30, lambda: "Set-Cookie" not in hob.get(hob.host("hello-sizes")).headers)
