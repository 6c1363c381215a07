"""Load held through: real clients of several kinds while everything behind them changes, every failed request counted."""
import contextlib
import http.client
import os
import signal

import pytest
from hob_instance import wait_until
from load import Http2Load, Load


@pytest.fixture(scope="module")
def held():
    """One instance, a service of four instances that never sleep."""
    from hob_instance import Hob
    hob = Hob()
    try:
        hob.up()
        hob.deploy("held", "--env", "VERSION=0", "--min-size", "4", "--sleep-after", "off", "--keep-previous", "off")
        yield hob
        hob.down()
        assert hob.remains() == []
    finally:
        hob.close()


class Clients:
    """Keep-alive and new connections, HTTP/1.1, HTTP/2 and TLS, together."""

    def __init__(self, hob):
        host = hob.host("held")
        self.loads = [Load(hob.http_port, host, connections=3, path="/healthz"),
                      Load(hob.http_port, host, connections=2, path="/healthz", keep_alive=False),
                      Load(hob.https_port, host, connections=1, path="/healthz", tls=True),
                      Load(hob.https_port, host, connections=1, path="/healthz", tls=True, keep_alive=False),
                      Http2Load(hob.https_port, host, path="/healthz")]
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        for load in self.loads:
            self._stack.enter_context(load)
        self.more()
        return self

    def __exit__(self, *exception):
        return self._stack.__exit__(*exception)

    def more(self, each=20):
        """Until each kind of client has been answered so often."""
        goals = [load.answered + each for load in self.loads]
        wait_until(f"answers; failed: {self.failed[:5]}", 30,
                   lambda: all(load.answered >= goal for load, goal in zip(self.loads, goals)))

    @property
    def failed(self):
        return [failure for load in self.loads for failure in load.failed]


def test_twenty_deployments_in_a_row(held):
    with Clients(held) as clients:
        for i in range(1, 21):
            held.deploy("held", "--env", f"VERSION={i}")
        assert held.get(held.host("held"), "/env?VERSION").text == "20\n"
        clients.more()
    assert clients.failed == []


def test_control_and_the_host_agent_killed(held):
    with Clients(held) as clients:
        for role in ("control", "host", "control"):
            held.kill(role)
            clients.more()
    assert clients.failed == []


def test_upgraded_several_times(held):
    host = held.host("held")
    before = held.status()["roles"]
    # One that is idle all the while, and one that waits for its answer.
    idle = http.client.HTTPConnection("127.0.0.1", held.http_port, timeout=20)
    idle.connect()
    waiting = http.client.HTTPConnection("127.0.0.1", held.http_port, timeout=20)
    waiting.request("GET", "/wait?ms=3000", headers={"Host": host})
    with Clients(held) as clients:
        for _ in range(3):
            held.run("upgrade")
            clients.more()
        answer = waiting.getresponse()
        assert (answer.status, answer.read()) == (200, b"waited\n")
        idle.request("GET", "/healthz", headers={"Host": host})
        answer = idle.getresponse()
        assert (answer.status, answer.getheader("Connection")) == (200, "close")
        answer.read()
        held.deploy("held", "--env", "VERSION=upgraded")  # control waits for no edge that has gone
    assert clients.failed == []
    idle.close()
    waiting.close()
    after = held.status()
    assert all(after["roles"][role]["pid"] != before[role]["pid"] for role in before)
    assert all(role["restarts"] == before[name]["restarts"] for name, role in after["roles"].items() if name != "edge")
    wait_until("the old edges gone", 20, lambda: held.status()["draining"] == [])


def test_half_of_the_tasks_killed_at_once(held):
    with Clients(held) as clients:
        tasks = held.task_processes()["hello"]
        killed = set(tasks[:len(tasks) // 2])
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_until("four again", 60, lambda: len(set(held.task_processes().get("hello", [])) - killed) >= 4)
        clients.more()
    # Each had another place to go.
    assert clients.failed == []


def test_a_killed_edge_costs_at_most_what_it_had_in_hand(held):
    with Clients(held) as clients:
        held.kill("edge")
        clients.more()
    # At most one a connection; new ones waited in the supervisor's socket.
    assert len(clients.failed) <= 8, clients.failed
