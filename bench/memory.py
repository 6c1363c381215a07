#!/usr/bin/python3
"""Resident memory of Hob's processes, idle and with services defined, beside podman's conmon for as many containers.

Proportional set size (PSS): what is shared is divided among those who share it. Neither counts what runs inside a
container. Podman keeps nothing but its conmons; beside them stand our monitors, which do the same, and all of ours. Root.
"""
import argparse
import os
import pathlib
import resource
import shutil
import socket
import subprocess
import sys

from deploy import PODMAN_LIMITS, podman_with_sample

ROOT = pathlib.Path(__file__).resolve().parent.parent


def pss_mib(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def measure(hob):
    status = hob.status()
    found = {"supervisor": pss_mib(status["pid"])}
    for role, state in status["roles"].items():
        found[role] = pss_mib(state["pid"])
    monitors = monitors_mib("hob-monitor", str(hob.data))
    found[f"hob-monitor x {len(monitors)}"] = sum(monitors)
    return found


def monitors_mib(program, naming):
    """Of each running `program` whose command line names that place."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            command = pathlib.Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="replace")
            if command.split("\0")[0].endswith(program) and naming in command:
                found.append(pss_mib(name))
        except OSError:
            continue
    return found


def measure_podman(build, containers):
    with podman_with_sample(build) as (podman, image):
        for _ in range(containers):
            subprocess.run([*podman, "run", "-d", "--network", "none", *PODMAN_LIMITS, image], check=True,
                           stdout=subprocess.DEVNULL)
        conmons = monitors_mib("conmon", podman[podman.index("--runroot") + 1])
        if len(conmons) != containers:
            sys.exit(f"memory: {containers} containers, {len(conmons)} conmons")
        return sum(conmons)


def crowd(port, connections):
    """So many clients at once, each answered once; all are gone when it returns."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * connections, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    clients = []
    for _ in range(connections):
        clients.append(socket.create_connection(("127.0.0.1", port), timeout=30))
    for client in clients:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: hob\r\n\r\n")
    for client in clients:
        client.recv(1024)
        client.close()


def show(what, found):
    parts = ", ".join(f"{name} {mib:.1f}" for name, mib in found.items())
    print(f"memory, {what}: {sum(found.values()):.1f} MiB ({parts})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--services", type=int, default=50)
    options = parser.parse_args()
    os.environ["HOB_BUILD"] = str(options.build.resolve())
    sys.path.insert(0, str(ROOT / "tests"))
    from hob_instance import Hob
    hob = Hob(["--cpu-overcommit", "100", "--memory-overcommit", "100"])
    try:
        hob.up()
        show("idle", measure(hob))
        for port, whose in ((hob.api_port, "control's"), (hob.http_port, "the edge's")):
            for _ in range(3):
                crowd(port, 3_000)
            show(f"3 times 3,000 clients of {whose} later", measure(hob))
        hob.deploy("memory-0", "--cpu", "0.25", "--memory", "0.5")
        image = next(iter(hob.boto("ecr").describe_images(repositoryName="memory-0")["imageDetails"]))
        reference = f"{hob.registry}/memory-0:{image['imageTags'][0]}"
        for number in range(1, options.services):
            hob.deploy(f"memory-{number}", "--cpu", "0.25", "--memory", "0.5", image=reference)
        ours = measure(hob)
        show(f"{options.services} services running", ours)
    finally:
        hob.close()
    if shutil.which("podman") is None:
        print("memory: no peer, podman is not installed")
        return
    theirs = measure_podman(options.build.resolve(), options.services)
    monitors = next(mib for name, mib in ours.items() if name.startswith("hob-monitor"))
    print(f"memory, podman's conmon x {options.services}: {theirs:.1f} MiB; our monitors {monitors:.1f} MiB, ratio "
          f"{theirs / monitors:.2f}; all of ours {sum(ours.values()):.1f} MiB, ratio {theirs / sum(ours.values()):.2f}")


if __name__ == "__main__":
    main()
