"""Images that behave badly, and a machine in trouble: a clear error, and nothing else disturbed or left half-made."""
import contextlib
import hashlib
import os
import pathlib
import re
import socket
import subprocess
import time
import uuid

import pytest

from hob_instance import alive, output, wait_until
from images import Root, push, source

QUICK = {"Interval": 1, "Timeout": 1, "UnhealthyThreshold": 3}
PATIENT = {"Interval": 20, "Timeout": 1, "UnhealthyThreshold": 3}  # for what ends by itself, however busy the machine
SMALL = {"Cpu": "0.25 vCPU", "Memory": "0.5 GB"}
DOCKER_CAPABILITIES = 0xA80425FB  # the 14 of Docker's default set
LOG_BYTES_MAX = 3 * 8 * 1024 * 1024 + 1024 * 1024  # of one task, see src/sandbox/limits.h

# Runs its request's body as a shell script, and answers what that prints.
RUN = """#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n'
exec sh -s 2>&1
"""
# Serves, and then does as its first process what it is told to.
ON_COMMAND = """#!/bin/sh
httpd -p 8080 -h /www
while [ ! -e /tmp/go ]; do sleep 0.1; done
sleep 1 # the command itself is answered first
. /tmp/go
"""
STUBBORN = """#!/bin/sh
trap 'echo no, I stay' TERM
httpd -p 8080 -h /www
while true; do sleep 0.2; done
"""


def fresh(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def shell_image(hob):
    with Root() as root:
        root.write("www/index.html", "here\n")
        root.write("www/cgi-bin/run", RUN, mode=0o755)
        root.write("srv/on-command", ON_COMMAND, mode=0o755)
        root.write("srv/stubborn", STUBBORN, mode=0o755)
        root.write("srv/exits", "#!/bin/sh\necho the database is not there >&2\nexit 3\n", mode=0o755)
        image = push(hob, root, "bad/shell", {"Cmd": ["httpd", "-f", "-p", "8080", "-h", "/www"], "Env": ["PATH=/bin"]})
        no_user = push(hob, root, "bad/no-user", {"Cmd": ["httpd", "-f", "-p", "8080"], "Env": ["PATH=/bin"], "User": "ghost"})
    return {"shell": image, "no-user": no_user}


class Service:
    """A service of the shell image: what it runs is asked over HTTP."""

    def __init__(self, hob, image, name, start=None, health=QUICK):
        self.hob = hob
        self.client = hob.boto("apprunner")
        made = self.client.create_service(
            ServiceName=fresh(name), SourceConfiguration=source(image, 8080, start), InstanceConfiguration=SMALL,
            HealthCheckConfiguration=health)
        self.arn, self.operation = made["Service"]["ServiceArn"], made["OperationId"]
        self.name, self.host = made["Service"]["ServiceName"], made["Service"]["ServiceUrl"]

    def now(self):
        return self.client.describe_service(ServiceArn=self.arn)["Service"]

    def ended(self, seconds=180):
        wait_until(f"{self.name} settled", seconds, lambda: self.now()["Status"] != "OPERATION_IN_PROGRESS", every=0.2)
        return self.now()

    def running(self):
        assert self.ended()["Status"] == "RUNNING", self.logged("service") + self.hob.logs_tail()
        return self

    def logged(self, which):
        group = f"/aws/apprunner/{self.name}/{self.arn.rsplit('/', 1)[1]}/{which}"
        logs = self.hob.boto("logs")
        with contextlib.suppress(logs.exceptions.ResourceNotFoundException):
            return "\n".join(e["message"] for e in logs.filter_log_events(logGroupName=group)["events"])
        return ""

    def answers(self):
        return self.hob.get(self.host).text == "here\n"

    def ask(self, script, seconds=60):
        return self.hob.get(self.host, "/cgi-bin/run", method="POST", body=script.encode(), seconds=seconds)

    def sh(self, script, seconds=60):
        answer = self.ask(script, seconds)
        assert answer.status == 200, answer.text
        return answer.text

    def delete(self):
        return self.client.delete_service(ServiceArn=self.arn)["OperationId"]

    def operation_status(self, operation):
        return next(o["Status"] for o in self.client.list_operations(ServiceArn=self.arn)["OperationSummaryList"]
                    if o["Id"] == operation)

    def pids(self):
        """Its processes on the host; a test's services are told apart by a variable nobody else has."""
        mark = self.sh("hostname").strip()
        return [pid for pids in self.hob.task_processes().values() for pid in pids if host_name_of(pid) == mark]


def host_name_of(pid):
    return output("nsenter", "--target", str(pid), "--uts", "hostname").strip()


@pytest.fixture(scope="module")
def neighbour(hob, shell_image):
    """A well-behaved service beside the bad ones, which must go on answering."""
    service = Service(hob, shell_image["shell"], "neighbour").running()
    yield service
    assert service.answers()
    service.delete()


@pytest.fixture(scope="module")
def stubborn(hob, shell_image):
    """Made first and deleted at once, for it takes the whole stop timeout to end."""
    service = Service(hob, shell_image["shell"], "stubborn", "/srv/stubborn").running()
    service.processes = service.pids()
    assert service.processes
    return service, service.delete()


@pytest.fixture
def make(hob, shell_image, stubborn):
    made = []

    def go(name, start=None, image="shell", health=QUICK):
        made.append(Service(hob, shell_image[image], name, start, health))
        return made[-1]

    yield go
    for service in made:
        if service.ended()["Status"] != "DELETED":
            service.delete()


def test_images_that_do_not_start_fail_their_service_and_say_why(hob, make, neighbour):
    cases = [("exits", "/srv/exits", "shell", PATIENT, ["exit code 3", "the database is not there"]),
             ("elsewhere", "httpd -f -p 9999 -h /www", "shell", QUICK, ["listens on port 9999", "8080"]),
             ("loopback", "httpd -f -p 127.0.0.1:8080 -h /www", "shell", QUICK, ["127.0.0.1:8080", "listen on 0.0.0.0"]),
             ("no-program", "/no/such/program", "shell", PATIENT, ["CannotStartContainerError", "/no/such/program"]),
             ("no-user", None, "no-user", PATIENT, ["CannotStartContainerError", "ghost"]),
             ("too-big", "tail /dev/zero", "shell", PATIENT, ["OutOfMemoryError", "137"])]
    services = [make(name, start, image, health) for name, start, image, health, _ in cases]
    for service, (name, _, _, _, wanted) in zip(services, cases):
        assert service.ended()["Status"] == "CREATE_FAILED", name
        said = service.logged("service")
        for words in wanted:
            assert words in said, (name, said)
        assert service.operation_status(service.operation) == "FAILED", name
        assert hob.get(service.host).status in (404, 503), name
    assert neighbour.answers()
    wait_until("no process of theirs is left", 20,
               lambda: set(hob.task_processes()) <= {"httpd", "stubborn", "sleep", "busybox"})


def test_a_full_disk_is_its_own(make, neighbour):
    service = make("disk").running()
    said = service.sh("dd if=/dev/zero of=/big bs=1M count=5000 2>&1 | grep -o 'No space left on device'; df -m / | tail -1")
    assert said.startswith("No space left on device"), said
    assert neighbour.sh("dd if=/dev/zero of=/some bs=1M count=20 2>/dev/null && echo written; rm /some") == "written\n"
    assert service.answers()
    assert service.sh("rm /big; echo x > /small && cat /small") == "x\n"


def kernel_ended(hob):
    return (hob.data / "log/host.log").read_text().count('"out_of_memory":1')


def test_out_of_memory_restarts_what_was_healthy(hob, make, neighbour):
    service = make("memory", "/srv/on-command").running()
    ended_before = kernel_ended(hob)
    service.sh("echo exec tail /dev/zero > /tmp/new; mv /tmp/new /tmp/go")
    wait_until("the kernel ended it", 60, lambda: kernel_ended(hob) > ended_before)
    # What it wrote is gone with it, the command too.
    wait_until("it is back", 60, lambda: service.ask("ls /tmp").text == "")
    assert service.now()["Status"] == "RUNNING"
    assert neighbour.answers()


def test_a_fork_bomb_is_contained(hob, make, neighbour):
    service = make("forks", "/srv/on-command").running()
    service.sh("echo 'trap exit TERM; b() { b | b & }; b; while true; do sleep 1; done' > /tmp/new; mv /tmp/new /tmp/go")
    wait_until("it has forked all it may", 60, lambda: "can't fork" in service.logged("application"), every=0.3)
    for _ in range(5):
        assert neighbour.answers()
    started = time.monotonic()
    assert service.name in hob.run("ps").stdout
    assert time.monotonic() - started < 3
    deleted = service.delete()
    wait_until("the bomb is deleted", 60, lambda: service.operation_status(deleted) == "SUCCEEDED", every=0.3)


def test_endless_output_takes_bounded_disk_and_nobody_elses(hob, make, neighbour):
    service = make("noise", "/srv/on-command").running()
    service.sh("echo exec yes noise without an end > /tmp/new; mv /tmp/new /tmp/go")
    log = wait_until("a log was rotated", 60, lambda: next(hob.data.glob("host/**/log.1"), None))
    mark = fresh("mark")
    neighbour.sh(f"echo {mark} > /proc/1/fd/1")
    wait_until("the neighbour's line", 30, lambda: mark in neighbour.logged("application"), every=0.3)
    assert sum(path.stat().st_size for path in log.parent.iterdir()) < LOG_BYTES_MAX
    assert service.now()["Status"] == "RUNNING"


def test_a_container_has_dockers_rights_and_no_more(hob, neighbour):
    assert re.match(r"\s*0\s+[1-9]\d+\s+65536$", neighbour.sh("cat /proc/self/uid_map"))
    pid = neighbour.pids()[0]
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    assert int(re.search(r"^Uid:\t(\d+)", status, re.M)[1]) > 0xFFFF  # its root is nobody out here
    inside = dict(line.split(":\t", 1) for line in neighbour.sh("cat /proc/1/status").splitlines() if ":\t" in line)
    for kind in ("CapEff", "CapPrm", "CapBnd"):
        assert int(inside[kind], 16) == DOCKER_CAPABILITIES, (kind, inside[kind])
    assert (int(inside["CapInh"], 16), int(inside["CapAmb"], 16)) == (0, 0)
    assert inside["Seccomp"] == "2"
    for refused in ("unshare -U true", "unshare -n true", "unshare -m true", "mount -t tmpfs none /mnt", "mount -o remount,rw /sys",
                    "echo 1 > /proc/sys/kernel/panic", "echo c > /proc/sysrq-trigger", "chroot /proc/1/root sh -c 'mount -t proc p /tmp'",
                    "mknod /tmp/disk b 254 0 && cat /tmp/disk", "swapoff -a /x", "dmesg", "hostname other",
                    "cat /proc/kcore | head -c 1 | grep -q .", "ls /sys/firmware/* 2>/dev/null | grep -q .",
                    "nsenter -t 1 -n -U true", "for f in $(find /sys/fs/cgroup -name '*limit_in_bytes' -o -name '*.max' -o -name tasks -o -name cgroup.procs); do echo 1 > $f && exit; done; false", "reboot -f", "insmod /tmp/x.ko", "ip link add d0 type dummy"):
        said = neighbour.sh(f"mkdir -p /mnt; ({refused}) 2>&1 && echo ALLOWED")
        assert "ALLOWED" not in said, (refused, said)
    # It sees its own processes and its own files only.
    assert neighbour.sh("ls -d /proc/[0-9]* | wc -l").strip() in ("3", "4", "5")
    assert str(pid) not in neighbour.sh("ls /proc")


def test_a_container_reaches_neither_the_machine_nor_its_neighbours(hob, make, neighbour):
    service = make("lonely").running()
    other = neighbour.sh("ip -4 -o addr show scope global | grep -o 'inet [0-9.]*' | head -1").split()[1]
    route = service.sh("ip route").split()
    gateway = route[route.index("via") + 1]
    machine = {address.split("/")[0] for address in re.findall(r"inet (\S+)", output("ip", "-4", "-o", "addr"))}
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        tried = [f"{other} 8080"] + [f"{address} {p}" for address in {gateway, "127.0.0.1", "198.18.0.2", *machine}
                                     for p in (port, hob.api_port, hob.http_port)]
        reached = service.sh("\n".join(f"nc -w 1 {where} </dev/null >/dev/null 2>&1 && echo {where}" for where in tried))
    assert reached == ""
    assert service.sh("nc -w 1 127.0.0.1 8080 </dev/null >/dev/null 2>&1 && echo itself") == "itself\n"  # the way of asking works


def test_what_ignores_sigterm_is_killed_after_the_stop_timeout(hob, stubborn):
    service, deleted = stubborn
    wait_until("its deletion", 90, lambda: service.operation_status(deleted) == "SUCCEEDED", every=0.5)
    assert service.now()["Status"] == "DELETED"
    assert "no, I stay" in service.logged("application")
    assert not any(alive(pid) for pid in service.processes)


# ---- the machine ----

@pytest.fixture
def small_disk(new_hob):
    """An instance whose data is on a file system of its own, of 600 MB."""
    hob = new_hob()
    disk = pathlib.Path(f"{hob.data}.disk")
    with open(disk, "wb") as file:
        file.truncate(600 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(disk)], check=True)
    subprocess.run(["mount", "-o", "loop", str(disk), str(hob.data)], check=True)
    hob.data.chmod(0o711)
    try:
        yield hob
    finally:
        hob.run("down", check=False)
        subprocess.run(["umount", str(hob.data)], check=False)
        disk.unlink()


def fill(path):
    """Writes a file until nothing more fits."""
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1024 * 1024, 4096):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass
        os.fsync(file.fileno())


def test_a_full_data_disk_is_said_and_what_runs_goes_on(small_disk):
    hob = small_disk
    hob.up()
    hob.deploy("hello-full")
    host = hob.host("hello-full")
    client = hob.boto("apprunner")
    image = client.describe_service(ServiceArn=client.list_services()["ServiceSummaryList"][0]["ServiceArn"])[
        "Service"]["SourceConfiguration"]["ImageRepository"]["ImageIdentifier"]
    fill(hob.data / "filler")

    def refused():
        with contextlib.suppress(client.exceptions.ClientError):
            client.create_service(ServiceName=fresh("more"), SourceConfiguration=source(image, 8080))
            return None
        try:
            client.create_service(ServiceName=fresh("more"), SourceConfiguration=source(image, 8080))
        except client.exceptions.ClientError as error:
            return error
        return None
    error = wait_until("the full disk is noticed", 30, refused, every=0)
    assert error.response["Error"]["Code"] == "InternalServiceErrorException"
    assert "disk" in str(error) or "space" in str(error), error
    for _ in range(20):
        assert hob.get(host).status == 200
    assert [s["Status"] for s in hob.json("ps")["Services"] if s["Name"] == "hello-full"] == ["RUNNING"]
    (hob.data / "filler").unlink()
    made = client.create_service(ServiceName=fresh("after"), SourceConfiguration=source(image, 8080))["Service"]
    hob.wait_status(client, made["ServiceArn"], "RUNNING")
    assert hob.get(host).status == 200


def test_a_corrupt_store_is_named_and_left_as_it_is(new_hob):
    hob = new_hob()
    hob.up()
    hob.down()
    store = next(path for path in (hob.data / "control").rglob("*") if path.is_file() and path.read_bytes()[:15] == b"SQLite format 3")
    for spoil in (lambda old: b"\0" * 4096 + old[4096:], lambda old: old[:100] + os.urandom(len(old) - 100)):
        intact = store.read_bytes()
        store.write_bytes(spoil(intact))
        before = hashlib.sha256(store.read_bytes()).hexdigest()
        done = hob.up(check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 1, said
        assert str(store) in said, said
        assert "backup" in said or "--purge" in said, said
        assert hashlib.sha256(store.read_bytes()).hexdigest() == before
        store.write_bytes(intact)
    hob.up()
    assert hob.json("ps")["Services"] == []


def test_doctor_says_how_each_thing_is_and_how_to_mend_it(new_hob):
    hob = new_hob()
    done = hob.run("doctor", check=False)
    rows = dict(re.findall(r"^(?:ok|warn|fail)\s+(\S.*?)\s{2,}(.+)$", done.stdout, re.M))
    for check in ("user", "kernel", "cgroups", "packages", "disk", "name resolution", "KVM"):
        assert rows.get(check), (check, done.stdout)
    assert any(name.startswith("port ") for name in rows)
    for line, after in zip(done.stdout.splitlines(), [*done.stdout.splitlines()[1:], ""]):
        if line.startswith(("warn", "fail")):
            assert after.strip().startswith("->"), line
    assert isinstance(hob.json("doctor", check=False), (dict, list))
