"""An instance of Hob for tests: started with its own data and ports, spoken to, taken down, nothing left."""
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("HOB_BUILD", ROOT / "build"))
HOB = str(BUILD / "bin/hob")
HELLO = str(BUILD / "images/hello.oci.tar")
COMMAND_SECONDS_MAX = 180


def is_sanitized():
    """Whether the build's programs have AddressSanitizer and UBSan in them: then each is several times slower."""
    try:
        return "HOB_SANITIZE:BOOL=ON" in (BUILD / "CMakeCache.txt").read_text()
    except OSError:
        return False


def free_ports(count):
    """Ports that were free a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def wait_until(what, seconds, check, every=0.05):
    """Polls `check` until it gives something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(every)


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self):
        return self.body.decode(errors="replace")


class Hob:
    def __init__(self, options=(), within=()):
        """options: of `hob up`. within: a command that runs the commands after it, in a namespace of a test's own."""
        # Not pytest's tmp_path: sockets' paths are short, and daemons are users of their own.
        self.data = pathlib.Path(tempfile.mkdtemp(prefix="hob-t-", dir="/tmp"))
        self.data.chmod(0o711)
        self.api_port, self.http_port, self.https_port = free_ports(3)
        self.options = list(options)
        self.within = list(within)
        self.endpoint = f"http://127.0.0.1:{self.api_port}"
        self.registry = f"127.0.0.1:{self.api_port}"
        self.id = None
        self.program = HOB

    # ---- the CLI ----

    def run(self, *arguments, check=True, input=None, environment=None, seconds=COMMAND_SECONDS_MAX):
        done = subprocess.run([*self.within, self.program, *arguments, "--data", str(self.data)], input=input, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds,
                              env={**os.environ, **(environment or {})})
        if check and done.returncode != 0:
            raise AssertionError(f"hob {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}{self.logs_tail()}")
        return done

    def json(self, *arguments, **more):
        return json.loads(self.run(*arguments, "--json", **more).stdout)

    def up(self, check=True):
        done = self.run("up", "--detach", "--api-port", str(self.api_port), "--http-port", str(self.http_port),
                        "--https-port", str(self.https_port), *self.options, check=check)
        if done.returncode == 0:
            self.id = json.loads((self.data / "instance.json").read_text())["id"]
        return done

    def down(self, purge=False):
        return self.run("down", *(["--purge"] if purge else []))

    def status(self):
        return self.json("status")

    def pid_of(self, role):
        return self.status()["roles"][role]["pid"]

    def kill(self, role):
        """kill -9, and returns once the supervisor has started another that is ready."""
        before = self.pid_of(role)
        os.kill(before, signal.SIGKILL)
        self.wait_until_back(role, before)

    def wait_until_back(self, role, before):
        wait_until(f"another {role}", 30, lambda: self._is_back(role, before))

    def _is_back(self, role, before):
        state = self.status()["roles"][role]
        return state["ready"] and state["pid"] not in (before, -1)

    def kill_all(self):
        """Supervisor and daemons at once, as a power cut would; tasks run on."""
        status = self.status()
        pids = [status["pid"], *(role["pid"] for role in status["roles"].values())]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until("all daemons gone", 10, lambda: not any(alive(pid) for pid in pids))

    def logs_tail(self, lines=15):
        text = ""
        for path in sorted((self.data / "log").glob("*.log")):
            last = path.read_text(errors="replace").splitlines()[-lines:]
            text += f"\n--- {path.name}\n" + "\n".join(last)
        return text

    # ---- AWS's clients ----

    def environment(self):
        return {key: value for key, value in self.json("env").items()}

    def boto(self, service, **keys):
        import boto3
        from botocore.config import Config
        env = self.environment()
        return boto3.client(
            service, endpoint_url=self.endpoint, region_name="us-east-1",
            aws_access_key_id=keys.get("access_key", env["AWS_ACCESS_KEY_ID"]),
            aws_secret_access_key=keys.get("secret_key", env["AWS_SECRET_ACCESS_KEY"]),
            config=Config(parameter_validation=keys.get("parameter_validation", True), retries={"max_attempts": keys.get("attempts", 1), "mode": "standard"}, read_timeout=30))

    def aws(self, *arguments, check=True):
        """The stock CLI, as a shell with `hob env` would run it. Answers its JSON."""
        env = {**os.environ, **self.environment(), "AWS_PAGER": "", "HOME": str(self.data)}
        done = subprocess.run(["/usr/bin/aws", "--endpoint-url", self.endpoint, "--output", "json", *arguments],
                              env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=COMMAND_SECONDS_MAX)
        if not check:
            return done
        if done.returncode != 0:
            raise AssertionError(f"aws {' '.join(arguments)}: {done.stderr}{self.logs_tail()}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    # ---- services ----

    def deploy(self, name, *more, image=HELLO, check=True):
        return self.run("deploy", image, "--name", name, "--health-path", "/healthz", *more, check=check)

    def url(self, name):
        return next(s["Url"] for s in self.json("ps")["Services"] if s["Name"] == name)

    def host(self, name):
        return self.url(name).removeprefix("http://")

    def get(self, host, path="/", method="GET", body=None, headers=None, seconds=20):
        """One request to the edge for a host name, whatever the machine's resolver thinks of it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=seconds)
        try:
            connection.request(method, path, body=body, headers={"Host": host, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def wait_status(self, apprunner, arn, wanted, seconds=90):
        def settled():
            status = apprunner.describe_service(ServiceArn=arn)["Service"]["Status"]
            if status != wanted and status != "OPERATION_IN_PROGRESS":
                raise AssertionError(f"{arn} is {status}, wanted {wanted}{self.logs_tail()}")
            return status == wanted
        wait_until(f"{arn} {wanted}", seconds, settled, every=0.2)

    def task_processes(self):
        """The first process of each task: those whose cgroup is below this instance's, without hob-monitor and crun."""
        found = {}
        for pid in pids():
            try:
                cgroups = pathlib.Path(f"/proc/{pid}/cgroup").read_text()
                name = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
            except OSError:
                continue
            if f"/hob-{self.id}/" in cgroups and name not in ("hob-monitor", "crun"):
                found.setdefault(name, []).append(pid)
        return found

    # ---- what is left ----

    def remains(self):
        """What on this machine still belongs to the instance: nothing, after `hob down`."""
        left = []
        name = f"hob-{self.id}"
        for pid in pids():
            with contextlib.suppress(OSError):
                command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
                cgroups = pathlib.Path(f"/proc/{pid}/cgroup").read_text()
                if pid != os.getpid() and ("hobd" in command or "hob-monitor" in command) and str(self.data) in command:
                    left.append(f"process {pid} {command!r}")
                if f"/{name}" in cgroups:
                    left.append(f"process {pid} in a cgroup of {name}: {command!r}")
        for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
            if str(self.data) in line or name in line:
                left.append(f"mount {line}")
        for line in output("ip", "-o", "link").splitlines():
            if self.id in line:
                left.append(f"interface {line}")
        for line in output("nft", "list", "tables").splitlines():
            if self.id in line:
                left.append(f"nftables {line}")
        for path in pathlib.Path("/sys/fs/cgroup").glob(f"**/*{name}*"):
            left.append(f"cgroup {path}")
        for path in [pathlib.Path("/run") / name, *pathlib.Path("/run/netns").glob(f"*{self.id}*")]:
            if path.exists():
                left.append(f"file {path}")
        for line in output("losetup", "-a").splitlines():
            if str(self.data) in line:
                left.append(f"loop device {line}")
        return left

    def close(self):
        """Ends it whatever state it is in, and its data."""
        if (self.data / "instance.json").exists():
            self.run("down", "--purge", check=False)
        shutil.rmtree(self.data, ignore_errors=True)


def busybox_image(folder, name, script):
    """An OCI archive whose program is a shell script."""
    archive = pathlib.Path(folder) / f"{name}.oci.tar"
    subprocess.run([str(ROOT / "tools/make_oci_archive.py"), "--name", f"{name}:1", "--entry-point", "/bin/busybox",
                    "--entry-point", "sh", "--entry-point=-c", "--entry-point", script, str(archive),
                    "/bin/busybox=/bin/busybox"], check=True, stdout=subprocess.DEVNULL)
    return str(archive)


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout
