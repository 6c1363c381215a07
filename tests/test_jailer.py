"""hob-jailer: what the monitor in it has left of the host, looked at from outside while its API answers."""
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import time

import pytest

BUILD = pathlib.Path(os.environ.get("HOB_BUILD", "build")).resolve()
JAILER = BUILD / "bin/hob-jailer"
VMM = BUILD / "bin/hob-vmm"
UID = 64123
GID = 64124

pytestmark = pytest.mark.skipif(not (BUILD / "tests/vmm_guest_suite").exists(), reason="a sanitized build has no static programs")


class Jail:
    """A jailed monitor; `ask` speaks to its API."""

    def __init__(self, base, name, options=(), monitor=()):
        self.root = base / "hob-vmm" / name / "root"
        command = [JAILER, "--id", name, "--exec-file", VMM, "--uid", str(UID), "--gid", str(GID), "--chroot-base-dir", base,
                   *options, "--", *monitor]
        # Descriptors and variables that must not get in.
        self.leak = os.open("/etc/hostname", os.O_RDONLY)
        self.process = subprocess.Popen(command, pass_fds=[self.leak], env={"SECRET": "x", "PATH": os.environ["PATH"]},
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.pid = self.process.pid

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.root / "run/firecracker.socket"))
        connection.request(method, path, body)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text else None

    def wait_until_ready(self):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                return self.ask("GET", "/")
            except (FileNotFoundError, ConnectionRefusedError):
                assert self.process.poll() in (None, 0), self.process.communicate()
                time.sleep(0.02)
        raise AssertionError("the API does not answer")

    def wait_for_number(self):
        """What the daemon leaves, once its caller has ended: the number file may still be on its way."""
        deadline = time.monotonic() + 30
        path = self.root / "hob-vmm.pid"
        while not (path.exists() and path.read_text()):
            assert time.monotonic() < deadline, "no number"
            time.sleep(0.02)
        return int(path.read_text())

    def status(self, task=None):
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    def end(self):
        os.close(self.leak)
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


@pytest.fixture
def jails(tmp_path):
    made = []

    def make(name="jail-1", options=(), monitor=()):
        made.append(Jail(tmp_path, name, options, monitor))
        return made[-1]
    yield make
    for jail in made:
        jail.end()


def test_the_monitor_has_a_root_a_user_and_filters_of_its_own(jails):
    jail = jails(options=["--resource-limit", "fsize=1048576", "--resource-limit", "no-file=100"])
    status, instance = jail.wait_until_ready()
    assert (status, instance["id"], instance["state"]) == (200, "jail-1", "Not started")
    process = jail.status()
    assert process["Uid"].split() == [str(UID)] * 4
    assert process["Gid"].split() == [str(GID)] * 4
    assert process["Groups"].strip() == ""
    assert all(int(process[name], 16) == 0 for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"))
    assert process["NoNewPrivs"] == "1"
    assert process["Seccomp"] == "2"
    assert os.stat(f"/proc/{jail.pid}/root").st_ino == os.stat(jail.root).st_ino
    mounts = pathlib.Path(f"/proc/{jail.pid}/mountinfo").read_text().splitlines()
    assert len(mounts) == 1 and " / / " in re.sub(r" /\S* / ", " / / ", mounts[0]), "its root, nothing else"
    assert pathlib.Path(f"/proc/{jail.pid}/environ").read_bytes() == b""
    names = {os.readlink(f"/proc/{jail.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{jail.pid}/fd") if int(fd) > 2}
    assert not any(name.startswith("/") for name in names - {"/dev/kvm"}), names
    limits = pathlib.Path(f"/proc/{jail.pid}/limits").read_text()
    assert re.search(r"Max file size +1048576 +1048576", limits)
    assert re.search(r"Max open files +100 +100", limits)
    for name, device in {"kvm": (10, 232), "net/tun": (10, 200), "urandom": (1, 9)}.items():
        node = os.stat(jail.root / "dev" / name)
        assert stat.S_ISCHR(node.st_mode) and (os.major(node.st_rdev), os.minor(node.st_rdev)) == device
        assert (node.st_uid, node.st_gid) == (UID, GID)
    program = os.stat(jail.root / "hob-vmm")
    assert program.st_uid == 0 and program.st_mode & 0o022 == 0, "its own program is not its to change"
    # Nothing of the host is there to be opened.
    status, answer = jail.ask("PUT", "/boot-source", json.dumps({"kernel_image_path": "/etc/hostname"}))
    assert status == 400 and "The kernel file cannot be opened" in answer["fault_message"]


def test_daemons_and_pid_namespaces_leave_their_number(jails):
    jail = jails(options=["--daemonize", "--new-pid-ns"])
    assert jail.process.wait(timeout=30) == 0
    assert jail.process.stdout.read() == jail.process.stderr.read() == ""
    jail.pid = jail.wait_for_number()
    jail.wait_until_ready()
    assert jail.status()["NSpid"].split() == [str(jail.pid), "1"]
    assert os.getsid(jail.pid) != os.getsid(0)
    assert {os.readlink(f"/proc/{jail.pid}/fd/{fd}") for fd in range(3)} == {"/dev/null"}


def test_it_joins_a_network_namespace(jails):
    name = f"hob-jail-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        jail = jails(options=["--netns", f"/run/netns/{name}"])
        jail.wait_until_ready()
        assert os.stat(f"/proc/{jail.pid}/ns/net").st_ino == os.stat(f"/run/netns/{name}").st_ino
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def cgroup_mount(version, controller=""):
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, folder, kind, options, *_ = line.split()
        if (version == 2 and kind == "cgroup2") or (version == 1 and kind == "cgroup" and controller in options.split(",")):
            return pathlib.Path(folder)
    return None


def remove_cgroups(*folders):
    """Innermost first; a cgroup is free a moment after its last process."""
    for folder in folders:
        deadline = time.monotonic() + 10
        while folder.exists() and time.monotonic() < deadline:
            try:
                folder.rmdir()
            except OSError:
                time.sleep(0.02)


def test_it_enters_cgroups_of_version_1(jails):
    memory = cgroup_mount(1, "memory")
    cpuset = cgroup_mount(1, "cpuset")
    if not memory or not cpuset:
        pytest.skip("no cgroups of version 1 here")
    jail = jails(options=["--cgroup", "memory.limit_in_bytes=268435456", "--cgroup", "cpuset.cpus=0", "--parent-cgroup", "hob-jailer-test"])
    jail.wait_until_ready()
    try:
        inside = memory / "hob-jailer-test/jail-1"
        assert (inside / "memory.limit_in_bytes").read_text() == "268435456\n"
        assert str(jail.pid) in (inside / "cgroup.procs").read_text().split()
        assert (cpuset / "hob-jailer-test/jail-1/cpuset.cpus").read_text() == "0\n"
        assert str(jail.pid) in (cpuset / "hob-jailer-test/jail-1/cgroup.procs").read_text().split()
    finally:
        os.kill(jail.pid, signal.SIGKILL)
        jail.process.wait()
        remove_cgroups(*(mount / name for mount in (memory, cpuset) for name in ("hob-jailer-test/jail-1", "hob-jailer-test")))


def test_without_values_it_enters_the_parent_of_version_2_if_it_is_there(jails):
    mount = cgroup_mount(2)
    if not mount:
        pytest.skip("no cgroups of version 2 here")
    parent = mount / "hob-jailer-test"
    parent.mkdir()
    jail = jails(options=["--cgroup-version", "2", "--parent-cgroup", "hob-jailer-test"])
    try:
        jail.wait_until_ready()
        assert str(jail.pid) in (parent / "cgroup.procs").read_text().split()
    finally:
        os.kill(jail.pid, signal.SIGKILL)
        jail.process.wait()
        remove_cgroups(parent)


@pytest.mark.parametrize("options, part", [
    (["--uid", "x"], "provided more than once"),
    (["--netns", "/no/such"], "opening /no/such"),
    (["--cgroup", "nothing.at.all=1"], "no cgroup of nothing is mounted"),
])
def test_what_cannot_be_done_is_said(jails, options, part):
    jail = jails(options=options)
    out, err = jail.process.communicate(timeout=30)
    assert jail.process.returncode == 1
    assert part in err, (out, err)


def test_filters_are_on_unless_turned_off(tmp_path):
    for option, mode in ([], "2"), (["--no-seccomp"], "0"):
        path = tmp_path / f"api{mode}.socket"
        process = subprocess.Popen([VMM, "--api-sock", path, *option])
        try:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                found = re.search(r"Seccomp:\t(\d)", pathlib.Path(f"/proc/{process.pid}/status").read_text()).group(1)
                if path.exists() and found == mode:
                    break
                time.sleep(0.02)
            assert found == mode
        finally:
            process.kill()
            process.wait()
    refused = subprocess.run([VMM, "--seccomp-filter", "/x"], capture_output=True, text=True)
    assert refused.returncode == 153 and "not built in hob-vmm" in refused.stderr
