"""Requests under load while things end: no failed request but a killed task's own."""
import os
import signal

import pytest
from hob_instance import wait_until
from load import Load


@pytest.fixture
def stable(new_hob):
    hob = new_hob()
    hob.up()
    hob.deploy("hello-stable", "--env", "VERSION=1")
    return hob


def test_no_request_fails_in_a_deployment_and_kills_of_control_and_host(stable):
    host = stable.host("hello-stable")
    with Load(stable.http_port, host, connections=8, path="/healthz") as load:
        load.wait_for(200)
        stable.deploy("hello-stable", "--env", "VERSION=2")
        assert stable.get(host, "/env?VERSION").text == "2\n"
        load.wait_for(200)
        stable.kill("control")
        load.wait_for(200)
        stable.kill("host")
        load.wait_for(200)
    assert load.failed == []
    assert [s["Status"] for s in stable.json("ps")["Services"]] == ["RUNNING"]


def test_control_dead_the_service_answers_and_a_crashed_task_comes_back(stable):
    host = stable.host("hello-stable")
    supervisor, control = stable.status()["pid"], stable.pid_of("control")
    # Stopped, the supervisor starts no other control.
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(control, signal.SIGKILL)
        assert stable.get(host, "/healthz").status == 200
        (task,) = stable.task_processes()["hello"]
        os.kill(task, signal.SIGKILL)

        def restarted():
            now = stable.task_processes().get("hello", [])
            return len(now) == 1 and now != [task]

        wait_until("the task again", 30, restarted)
        wait_until("its answer", 30, lambda: stable.get(host, "/healthz").status == 200)
    finally:
        os.kill(supervisor, signal.SIGCONT)


def test_a_killed_task_costs_at_most_its_requests_in_flight(stable):
    host = stable.host("hello-stable")
    connections = 4
    with Load(stable.http_port, host, connections=connections, path="/healthz") as load:
        load.wait_for(200)
        (task,) = stable.task_processes()["hello"]
        os.kill(task, signal.SIGKILL)
        wait_until("another process", 30, lambda: stable.task_processes().get("hello", [task]) != [task])
        load.wait_for(200, within=60)
    # What comes until the host has started it again waits for it.
    assert len(load.failed) <= connections, load.failed[:20]


def test_edge_restarts_with_its_routes_while_control_is_dead(stable):
    host = stable.host("hello-stable")
    os.kill(stable.pid_of("control"), signal.SIGSTOP)
    try:
        stable.kill("edge")
        wait_until("an answer", 20, lambda: stable.get(host, "/healthz").status == 200)
    finally:
        os.kill(stable.pid_of("control"), signal.SIGCONT)
