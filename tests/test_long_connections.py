"""WebSockets and event streams are held while everything behind them changes, and end when they are meant to."""
import time

import pytest
from held_connections import Events, Tunnel, long_lived_image
from hob_instance import Hob, wait_until
from test_strategies import Deploying


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    hob = Hob()
    hob.image = long_lived_image(tmp_path_factory.mktemp("image"))
    try:
        hob.up()
        yield hob
        hob.down()
        assert hob.remains() == []
    finally:
        hob.close()


# Small, so that all of them have room beside each other.
OPTIONS = ["--sleep-after", "off", "--min-size", "2", "--cpu", "0.25", "--memory", "0.5"]
PATIENT = [*OPTIONS, "--keep-previous", "off", "--request-timeout", "0s"]
HURRIED = [*OPTIONS, "--keep-previous", "off", "--request-timeout", "5s"]


def deploy(hob, name, *options):
    hob.deploy(name, *(options or OPTIONS), image=hob.image)
    return hob.host(name)


class Held:
    """Some of each kind."""

    def __init__(self, hob, host, each=4):
        self.tunnels = [Tunnel(hob.http_port, host) for _ in range(each)]
        self.streams = [Events(hob.http_port, host) for _ in range(each)]

    def go_on(self):
        """Asserts that all do."""
        assert all(tunnel.alive() for tunnel in self.tunnels)
        goals = [stream.count + 3 for stream in self.streams]
        wait_until("more events", 15, lambda: all(s.count >= goal or s.ended for s, goal in zip(self.streams, goals)))
        assert [(s.ended, s.gaps) for s in self.streams] == [(None, [])] * len(self.streams)

    def close(self):
        for connection in self.tunnels + self.streams:
            connection.close()


def test_control_and_the_host_agent_killed(lasting):
    held = Held(lasting, deploy(lasting, "killed"))
    for role in ("control", "host", "control"):
        lasting.kill(role)
        held.go_on()
    held.close()


def test_an_edge_upgraded_twice_then_its_drain_time_over(lasting):
    host = deploy(lasting, "upgraded")
    held = Held(lasting, host)
    for _ in range(2):
        lasting.run("upgrade")
        held.go_on()
    later = Held(lasting, host, each=1)
    assert len(lasting.status()["draining"]) == 1  # the one between had none, and is gone
    lasting.run("upgrade", "--drain-timeout", "2")
    later.go_on()
    wait_until("its time is over", 20, lambda: not later.tunnels[0].alive())
    wait_until("for streams, too", 20, lambda: later.streams[0].ended)
    held.go_on()  # that one has the time it was given
    held.close()
    wait_until("no old edge", 20, lambda: lasting.status()["draining"] == [])


def version_at(hob, host):
    return hob.get(host, "/version").text


def test_connections_to_the_version_before_last_while_it_is_kept(lasting):
    host = deploy(lasting, "kept")
    held = Held(lasting, host)
    deploy(lasting, "kept", *OPTIONS, "--env", "VERSION=1")
    assert version_at(lasting, host) == "1\n"
    held.go_on()
    held.close()


def test_a_deployment_waits_for_connections_to_the_old_tasks(lasting):
    host = deploy(lasting, "patient", *PATIENT)
    held = Held(lasting, host)
    deploying = Deploying(lasting, "patient", *PATIENT, "--env", "VERSION=1", image=lasting.image)
    wait_until("the new version has all new ones", 60, lambda: {version_at(lasting, host) for _ in range(20)} == {"1\n"})
    held.go_on()
    held.close()
    assert deploying.end().returncode == 0
    assert version_at(lasting, host) == "1\n"


def test_a_deployment_ends_connections_when_the_drain_time_is_over(lasting):
    host = deploy(lasting, "hurried", *HURRIED)
    tunnel = Tunnel(lasting.http_port, host)
    began = time.monotonic()
    deploying = Deploying(lasting, "hurried", *HURRIED, "--env", "VERSION=1", image=lasting.image)
    wait_until("its time is over", 60, lambda: not tunnel.alive())
    assert time.monotonic() - began >= 5
    assert deploying.end().returncode == 0
    with Tunnel(lasting.http_port, host) as other:
        assert other.alive()
    tunnel.close()
