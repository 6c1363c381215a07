"""`hob upgrade`: supervisor and daemons become what is installed now; what cannot start changes nothing; killed half way, it starts."""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading

import pytest
from held_connections import Events, Tunnel, long_lived_image
from hob_instance import BUILD, HOB, alive, wait_until
from load import Load


class Programs:
    """A place of programs of a test's own, where others are installed while Hob runs."""

    def __init__(self, folder):
        self.folder = folder / "bin"
        self.folder.mkdir()
        for name in ("hob", "hobd", "hob-monitor"):
            shutil.copy2(pathlib.Path(BUILD) / "bin" / name, self.folder)
        self.versions = 0

    def put(self, name, content):
        """As a package manager does: another file under the name."""
        (self.folder / "new").write_bytes(content)
        (self.folder / "new").chmod(0o755)
        (self.folder / "new").rename(self.folder / name)

    def install(self, *names):
        """The same programs, told apart by what stands after their end."""
        self.versions += 1
        for name in names or ("hob", "hobd"):
            self.put(name, (pathlib.Path(BUILD) / "bin" / name).read_bytes() + b"version %d" % self.versions)

    def script(self, name, text):
        self.put(name, f"#!/bin/sh\n{text}\n".encode())


@pytest.fixture
def installed(new_hob, tmp_path):
    programs = Programs(tmp_path)
    hob = new_hob()
    hob.program = str(programs.folder / "hob")
    return hob, programs


def running_file(pid):
    """What a process executes: its path, device and number."""
    status = os.stat(f"/proc/{pid}/exe")
    return os.readlink(f"/proc/{pid}/exe"), status.st_dev, status.st_ino


def file_of(path):
    status = os.stat(path)
    return str(path), status.st_dev, status.st_ino


def children(pid):
    return {int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def descriptors(pid):
    return sorted(os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0] for fd in os.listdir(f"/proc/{pid}/fd"))


def test_the_supervisor_becomes_the_new_program_and_nothing_is_lost(installed, tmp_path):
    hob, programs = installed
    hob.up()
    hob.deploy("lasting", "--sleep-after", "off", image=long_lived_image(tmp_path))
    host = hob.host("lasting")
    before = hob.status()
    had = descriptors(before["pid"])
    tunnel, events = Tunnel(hob.http_port, host), Events(hob.http_port, host)
    with Load(hob.http_port, host, path="/healthz", connections=3) as load:
        for version in range(3):
            programs.install()
            hob.run("upgrade")
            now = hob.status()
            assert now["pid"] == before["pid"]
            assert running_file(now["pid"]) == file_of(programs.folder / "hob")
            assert pathlib.Path(f"/proc/{now['pid']}/comm").read_text() == "hob\n"
            for role in now["roles"].values():
                assert running_file(role["pid"]) == file_of(programs.folder / "hobd")
                assert role["restarts"] == 0
            # The edge of before any upgrade is handed on from supervisor to supervisor.
            assert before["roles"]["edge"]["pid"] in [edge["pid"] for edge in now["draining"]]
            assert children(now["pid"]) == {r["pid"] for r in now["roles"].values()} | {e["pid"] for e in now["draining"]}
            assert tunnel.echo(f"version {version}") == f"version {version}"
            goal = events.count + 5
            wait_until("more events", 15, lambda: events.count >= goal or events.ended)
            load.wait_for(50)
    assert load.failed == []
    assert events.ended is None and events.gaps == []
    # Only the new programs' lock file says that it runs.
    assert hob.run("up", check=False).stdout.splitlines()[-1] == "ready: Hob was running already"
    tunnel.close()
    events.close()
    wait_until("the old edges gone", 20, lambda: hob.status()["draining"] == [])
    wait_until(f"no descriptor more than before: {had}", 10, lambda: descriptors(before["pid"]) == had)
    hob.deploy("lasting", "--env", "VERSION=2", image=long_lived_image(tmp_path))
    hob.kill("control")
    assert hob.status()["roles"]["control"]["restarts"] == 1
    hob.down()
    assert hob.remains() == []


@pytest.mark.parametrize("name,script", [("hob", "exit 1"), ("hob", "exit 0"), ("hob", f'for word; do [ "$word" = --resume-check ] && exec {HOB} "$@"; done; exit 1'),
                                         ("hobd", "exit 1"), ("hobd", '[ "$1" = --version ] && exit 0; exit 1')])
def test_a_new_program_that_does_not_start_changes_nothing(installed, name, script):
    hob, programs = installed
    hob.up()
    before = hob.status()
    was = running_file(before["pid"])
    good = (programs.folder / "hob").read_bytes()
    programs.script(name, script)
    asker = HOB if name == "hob" else hob.program
    refused = subprocess.run([asker, "upgrade", "--data", str(hob.data)], text=True, capture_output=True)
    assert refused.returncode == 1
    assert "what ran before runs on" in refused.stderr, refused.stderr
    programs.put("hob", good)
    now = hob.status()
    assert now["pid"] == before["pid"] and running_file(now["pid"])[1:] == was[1:]
    assert {role: state["pid"] for role, state in now["roles"].items()} == {role: state["pid"] for role, state in before["roles"].items()}
    # What crashes is started again as the version that runs, and words of daemons are still heard.
    hob.kill("edge")
    programs.install()
    hob.run("upgrade")
    assert running_file(before["pid"]) == file_of(programs.folder / "hob")
    os.kill(before["pid"], signal.SIGTERM)
    wait_until("ended as it was asked", 20, lambda: not alive(before["pid"]))


def test_one_that_fails_while_it_takes_over_executes_the_one_before(installed):
    hob, _ = installed
    hob.up()
    state = os.memfd_create("state", 0)
    os.write(state, b'{"roles": []}')
    os.lseek(state, 0, os.SEEK_SET)
    previous = os.open("/bin/echo", os.O_PATH)
    # Beside the one that runs, whose lock and sockets it is not given.
    done = subprocess.run([HOB, "up", "--data", str(hob.data), "--resume-fd", str(state), "--previous-fd", str(previous)],
                          pass_fds=(state, previous), text=True, capture_output=True, timeout=20)
    assert done.returncode == 0
    assert f"up --data {hob.data} --resume-fd {state} --resume-error reading what is supervised: it has not one control" in done.stdout
    assert hob.status()["ready"]


def stages(hob):
    """Moments of an upgrade at which all may be killed, each a question whether it has come."""
    pid = hob.status()["pid"]
    executes, edge = running_file(pid), hob.pid_of("edge")

    return {"the new hob is tried": lambda: len(children(pid)) > 3,
            "it is executed": lambda: running_file(pid) != executes,
            "another edge is there": lambda: running_file(pid) != executes and len(children(pid)) > 3,
            "the edge has changed": lambda: hob.pid_of("edge") != edge}


@pytest.mark.parametrize("stage", ["the new hob is tried", "it is executed", "another edge is there", "the edge has changed"])
def test_killed_half_way_it_starts_again_with_its_tasks(installed, stage):
    hob, programs = installed
    hob.up()
    hob.deploy("kept", "--sleep-after", "off", "--min-size", "1")
    task = hob.task_processes()["hello"]
    pid = hob.status()["pid"]
    reached = stages(hob)[stage]
    programs.install()
    if stage == "the new hob is tried":  # which takes a moment
        programs.script("hob", 'for word; do [ "$word" = --resume-check ] && exec sleep 5; done; exit 1')
    upgrading = threading.Thread(target=subprocess.run, args=([HOB, "upgrade", "--data", str(hob.data)],), kwargs={"capture_output": True})
    upgrading.start()
    wait_until(stage, 30, reached, every=0.0005)
    daemons = children(pid)
    os.kill(pid, signal.SIGKILL)
    programs.install()
    wait_until("the daemons gone with it", 10, lambda: not any(alive(child) for child in daemons))
    upgrading.join()
    hob.up()
    assert hob.get(hob.host("kept"), "/healthz").text == "ok\n"
    assert hob.task_processes()["hello"] == task
    hob.down()
    assert hob.remains() == []


def test_a_signal_between_the_two_programs_is_heard(installed):
    hob, programs = installed
    hob.up()
    pid = hob.status()["pid"]
    executes = running_file(pid)
    programs.install()
    # A question half asked makes the old one wait a moment for its end before it goes.
    asking = socket.socket(socket.AF_UNIX)
    asking.connect(str(hob.data / "run/supervisor.sock"))
    asking.sendall(b"GET /status HTTP/1.1\r\n")
    upgrading = threading.Thread(target=hob.run, args=("upgrade",), kwargs={"check": False})
    upgrading.start()
    wait_until("executed", 30, lambda: running_file(pid) != executes, every=0.0001)
    os.kill(pid, signal.SIGTERM)
    wait_until("ended", 30, lambda: not alive(pid))
    upgrading.join()
    asking.close()
    # As it does on SIGTERM, with its sockets put away; not killed by it.
    assert not (hob.data / "run/supervisor.sock").exists()


def test_a_draining_edges_requests_are_counted(installed, tmp_path):
    import urllib.request
    hob, programs = installed
    hob.up()
    hob.deploy("lasting", "--sleep-after", "off", image=long_lived_image(tmp_path))
    host = hob.host("lasting")

    def metrics():
        return urllib.request.urlopen(hob.endpoint + "/metrics/edge", timeout=10).read().decode()

    events = Events(hob.http_port, host)
    assert hob.get(host).text == "ok\n"
    assert "draining=" not in metrics()
    edge = hob.pid_of("edge")
    hob.run("upgrade")
    text = metrics()
    assert f'process_resident_memory_bytes{{draining="{edge}"}}' in text
    assert text.count("# TYPE process_resident_memory_bytes") == 1
    sent = [line for line in text.splitlines() if line.startswith("hob_edge_") and f'draining="{edge}"' in line and not line.endswith(" 0")]
    assert sent, text
    events.close()
    wait_until("nothing of it is left", 20, lambda: f'draining="{edge}"' not in metrics())
    assert len(list((hob.data / "run").glob("edge-metrics-*.sock"))) == 1
