"""A second host in another zone: an agent with a VPC router of its own on this machine, linked to an instance's control and router."""
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import tempfile

from hob_instance import BUILD, alive, pids, wait_until

HOBD = str(pathlib.Path(BUILD) / "bin/hobd")
SUBNETS = {"b": "198.18.16.0/20", "c": "198.18.32.0/20"}  # network/subnets.h
# Of the link between the two routers: inside the VPC, in no zone's subnet.
HERE, THERE = "198.18.240.1", "198.18.240.2"


class ZoneHost:
    def __init__(self, hob, letter="b"):
        self.hob, self.letter = hob, letter
        self.id = secrets.token_hex(3)
        self.data = pathlib.Path(tempfile.mkdtemp(prefix="hob-t-zone-", dir="/tmp"))
        for folder in ("host", "run"):
            (self.data / folder).mkdir(mode=0o700)
        self.agent = None
        self.start()
        self._connect()

    def _command(self, *more):
        return [HOBD, "--role", "host", "--data", str(self.data), "--instance", self.id, "--region", "us-east-1", *more]

    def start(self):
        """The agent; returns when it is linked."""
        reading, writing = os.pipe()
        log = open(self.data / "host.log", "ab")
        self.agent = subprocess.Popen(self._command("--zone", f"us-east-1{self.letter}", "--link", str(self.hob.data / "run/control.sock"),
                                                    "--ready-fd", str(writing)), pass_fds=(writing,), stderr=log)
        log.close()
        os.close(writing)
        with os.fdopen(reading) as words:
            said = []
            while "ready\n" not in said:
                said.append(words.readline())
                assert said[-1], (self.data / "host.log").read_text()

    def _connect(self):
        here, there = self.hob.data / "run/netns/vpc", self.data / "run/netns/vpc"

        def run(where, *command):
            subprocess.run(["nsenter", f"--net={where}", *command], check=True)

        run(here, "ip", "link", "add", "zone0", "type", "veth", "peer", "name", "zone0", "netns", str(there))
        for where, address in ((here, HERE), (there, THERE)):
            run(where, "ip", "address", "add", f"{address}/30", "dev", "zone0")
            run(where, "ip", "link", "set", "zone0", "up")
        run(here, "ip", "route", "add", SUBNETS[self.letter], "via", THERE, "src", HERE)
        for way in ("iifname", "oifname"):
            run(there, "nft", "insert", "rule", "inet", "hob", "forward", way, "zone0", "accept")

    def tasks(self):
        return tasks_of(self.id)

    def kill(self):
        self.agent.send_signal(signal.SIGKILL)
        self.agent.wait()

    def close(self):
        self.agent.terminate()
        self.agent.wait()
        subprocess.run(self._command("--tear-down"), check=True)
        shutil.rmtree(self.data)


def tasks_of(instance):
    """The first processes of an instance's tasks."""
    found = []
    for pid in pids():
        try:
            cgroups = pathlib.Path(f"/proc/{pid}/cgroup").read_text()
            name = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue
        if f"/hob-{instance}/" in cgroups and name == "hello":
            found.append(pid)
    return found


def kill_all_of(processes):
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    wait_until("all gone", 10, lambda: not any(alive(pid) for pid in processes))
