"""Load held through: real clients of several kinds while everything behind them changes, every failed request counted."""
import collections
import contextlib
import http.client
import os
import signal

import pytest
from hob_instance import busybox_image, wait_until
from load import Http2Load, Load
from test_strategies import FAILING
from zone_host import ZoneHost, kill_all_of, tasks_of


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

    def __init__(self, hob, service="held", path="/healthz"):
        host = hob.host(service)
        self.loads = [Load(hob.http_port, host, connections=3, path=path),
                      Load(hob.http_port, host, connections=2, path=path, keep_alive=False),
                      Load(hob.https_port, host, connections=1, path=path, tls=True),
                      Load(hob.https_port, host, connections=1, path=path, tls=True, keep_alive=False),
                      Http2Load(hob.https_port, host, path=path)]
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
        wait_until(f"answers; failed: {self.failed}", 30,
                   lambda: all(load.answered >= goal for load, goal in zip(self.loads, goals)))

    @property
    def failed(self):
        """How often which client saw what."""
        return collections.Counter((load.kind, failure[1]) for load in self.loads for failure in load.failed)

    @property
    def answered(self):
        return sum(load.answered for load in self.loads)


def test_twenty_deployments_in_a_row(held):
    with Clients(held) as clients:
        for i in range(1, 21):
            held.deploy("held", "--env", f"VERSION={i}")
            assert held.get(held.host("held"), "/env?VERSION").text == f"{i}\n"
        clients.more()
    assert [r["Revision"] for r in held.json("revisions", "held")["Revisions"]] == list(range(2, 22))
    assert not clients.failed, clients.failed


def test_control_and_the_host_agent_killed(held):
    with Clients(held) as clients:
        for role in ("control", "host", "control"):
            held.kill(role)
            clients.more()
    assert not clients.failed, clients.failed


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
    assert not clients.failed, clients.failed
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
    assert not clients.failed, clients.failed


# What a client sees when the process that had its connection is gone.
BROKEN = {"RemoteDisconnected", "ConnectionResetError", "BrokenPipeError", "IncompleteRead", "SSLEOFError", "SSLZeroReturnError",
          "curl's error 16", "curl's error 18", "curl's error 35", "curl's error 52", "curl's error 55", "curl's error 56", "curl's error 92"}


def test_a_killed_edge_costs_what_it_had_in_hand_and_refuses_nobody(held):
    with Clients(held) as clients:
        held.kill("edge")
        clients.more()
    # The supervisor holds the listening sockets: only connections that the edge had are lost, each with its one request. A process
    # takes a moment to die, and who is back before its last thread has ended may be taken by it once more; not who comes later (below).
    for load in clients.loads:
        assert len(load.failed) <= 2 * load.connections, (load.kind, load.failed)
        assert {failure[1] for failure in load.failed} <= BROKEN, (load.kind, load.failed)


def test_who_comes_while_there_is_no_edge_waits_for_the_next(held):
    host = held.host("held")
    for _ in range(3):
        edge = held.pid_of("edge")
        os.kill(edge, signal.SIGKILL)
        # Not only its first thread: until the others have ended they may take a connection with them.
        wait_until("it is gone", 10, lambda: not os.path.exists(f"/proc/{edge}"), every=0.001)
        waiting = [http.client.HTTPConnection("127.0.0.1", held.http_port, timeout=20) for _ in range(50)]
        for connection in waiting:
            connection.request("GET", "/healthz", headers={"Host": host})
        assert [connection.getresponse().read() for connection in waiting] == [b"ok\n"] * len(waiting)
        for connection in waiting:
            connection.close()
        wait_until("the next edge", 30, lambda: held.status()["roles"]["edge"]["ready"])


def test_a_bad_canary_is_rolled_back_and_costs_its_share(held, tmp_path):
    held.deploy("canary", "--env", "VERSION=1", "--strategy", "canary 20% 10m", "--sleep-after", "off",
                "--cpu", "0.25", "--memory", "0.5")
    broken = busybox_image(tmp_path, "broken", FAILING)
    with Clients(held, "canary", "/env?VERSION") as clients:
        before = clients.answered
        done = held.deploy("canary", image=broken, check=False)
        assert done.returncode == 1 and "Requests to the new version fail" in done.stderr
        asked = clients.answered - before + clients.failed.total()
        clients.more()  # what was on its way when the command ended has been counted
        failed = clients.failed
        clients.more()
        assert clients.failed == failed, "somebody still reaches it"
    # Its own answers and nothing else, for every kind of client.
    assert failed and {why for _, why in failed} == {500}, failed
    assert failed.total() < 0.3 * asked, (failed, asked)
    held.run("rm", "canary")


def test_all_tasks_of_a_zone_killed(new_hob):
    hob = new_hob()
    hob.up()
    zone = ZoneHost(hob)
    try:
        hob.deploy("held", "--min-size", "4", "--sleep-after", "off")
        assert (len(tasks_of(hob.id)), len(zone.tasks())) == (2, 2)
        with Clients(hob) as clients:
            # The other zone, then the edge's own: the host starts them again.
            for instance in (zone.id, hob.id):
                killed = tasks_of(instance)
                kill_all_of(killed)
                clients.more()
                wait_until("two again", 60, lambda: len(tasks_of(instance)) >= 2)
                clients.more()
            # The whole zone, its agent too: nobody is there who could.
            zone.kill()
            kill_all_of(zone.tasks())
            clients.more()
            assert zone.tasks() == []
            # It comes back.
            zone.start()
            wait_until("two again", 60, lambda: len(zone.tasks()) >= 2)
            clients.more()
        assert not clients.failed, clients.failed
    finally:
        zone.close()
