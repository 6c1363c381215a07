"""The edge alone (the build's edge_bench), before targets and clients that others wrote: Autobahn and slowhttptest."""
import contextlib
import http.client
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("HOB_BUILD", "build"))
HOST = "localhost"  # slowhttptest looks it up
PATIENCE_SECONDS = 20
WEBSOCKET_CHECKS = 30


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def running(port, *command, environment=None):
    """A program that listens on `port`; it ends with the block."""
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env={**os.environ, **(environment or {})})
    try:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < end, f"{command[0]} does not listen"
                time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(params=["best", "epoll"])
def io(request):
    return request.param


def ask(port, path="/5"):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        client.request("GET", path, headers={"Host": HOST})
        answer = client.getresponse()
        return answer.status, answer.read()
    finally:
        client.close()


@contextlib.contextmanager
def edge_before(target, io, path="/5", environment=None):
    """An edge that has its routes, so that there is something at `path`; yields its port."""
    port = free_port()
    with running(port, BUILD / "bin/edge_bench", port, 1, io, HOST, target, environment=environment):
        end = time.monotonic() + PATIENCE_SECONDS
        while ask(port, path)[0] == 404:
            assert time.monotonic() < end, "the edge has no routes"
            time.sleep(0.02)
        yield port


def test_autobahns_websockets_pass_as_they_are(io):
    target = free_port()
    with running(target, sys.executable, HERE / "websocket_peers.py", "serve", target):
        with edge_before(target, io) as port:
            done = subprocess.run([sys.executable, HERE / "websocket_peers.py", "visit", str(port), HOST],
                                  capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len([line for line in done.stdout.splitlines() if line.startswith("ok ")]) == WEBSOCKET_CHECKS, done.stdout


SLOW = {
    "headers that trickle": ["-H", "-i", "1"],
    "a body that trickles": ["-B", "-i", "1", "-s", "8192"],
    "an answer read slowly": ["-X", "-z", "32", "-w", "512", "-y", "1024"],
    "many ranges": ["-R", "-a", "5", "-b", "3000", "-t", "GET"],
}


@pytest.mark.parametrize("attack", SLOW)
def test_slowhttptest_keeps_nobody_else_from_being_served(attack, tmp_path):
    target = free_port()
    log = tmp_path / "slowhttptest.log"
    with running(target, BUILD / "bin/edge_load", "target", target), edge_before(target, "best") as port, log.open("w") as out:
        attacker = subprocess.Popen(["slowhttptest", *SLOW[attack], "-c", "500", "-r", "500", "-l", "4",
                                     "-u", f"http://{HOST}:{port}/65536"], stdout=out, stderr=out)
        answered = 0
        try:
            while attacker.poll() is None:
                assert ask(port) == (200, b"xxxxx")
                answered += 1
        finally:
            attacker.kill()
            attacker.wait()
    assert answered > 100
    seen = re.sub(r"\x1b\[[\d;]*m", "", log.read_text())
    # Who asks for many ranges is answered at once: nothing of it stays open.
    if "No open connections left" not in seen:
        assert max(int(count) for count in re.findall(r"(?:connected|closed):\s*(\d+)", seen)) > 100, seen
