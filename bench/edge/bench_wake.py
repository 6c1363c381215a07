#!/usr/bin/python3
"""A request that is held until its task runs, to the first byte of its answer, beside podman with the same image.

usage: bench_wake.py --build DIRECTORY [--rows asleep,stopped]

asleep: the task is frozen; beside it an awake one, and `podman unpause` with a request after it. stopped: there is no task;
beside it `podman run` with requests until one is answered. Medians. Root. A line of JSON for each line of the table.
"""
import argparse
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))
sys.path.insert(0, str(ROOT / "tests"))
import deploy  # noqa: E402

ASLEEP_ROUNDS = 9
STOPPED_ROUNDS = 5
ASLEEP_MS_MORE_MAX = 5


def line(row, what, ours, theirs, peer, aim):
    print(json.dumps({"row": row, "what": what, "ours": ours, "theirs": theirs, "peer": peer, "aim": aim, "at_least": False}),
          flush=True)


def milliseconds(work):
    started = time.monotonic()
    work()
    return (time.monotonic() - started) * 1e3


def capacity(hob, name):
    return next(service for service in hob.json("ps")["Services"] if service["Name"] == name)


def stopped(hob, name):
    of = capacity(hob, name)
    return of["Desired"] == 0 and of["Awake"] + of["Asleep"] + of["Starting"] == 0


def bench_hob(rows):
    """By row: milliseconds of each round; `awake` with asleep's."""
    from hob_instance import Hob, wait_until
    hob = Hob()
    times = {"asleep": [], "awake": [], "stopped": []}
    try:
        hob.up()
        if "asleep" in rows:
            hob.deploy("bench-asleep", "--sleep-after", "1s")
            host = hob.host("bench-asleep")
            for _ in range(ASLEEP_ROUNDS):
                wait_until("it sleeps", 60, lambda: capacity(hob, "bench-asleep")["Asleep"] == 1, every=0.2)
                times["asleep"].append(milliseconds(lambda: deploy.first_byte(hob.http_port, host)))
                times["awake"].append(milliseconds(lambda: deploy.first_byte(hob.http_port, host)))
        if "stopped" in rows:
            hob.deploy("bench-stopped", "--min-size", "0", "--stop-after", "2s")
            host = hob.host("bench-stopped")
            for _ in range(STOPPED_ROUNDS):
                wait_until("it is stopped", 90, lambda: stopped(hob, "bench-stopped"), every=0.2)
                times["stopped"].append(milliseconds(lambda: deploy.first_byte(hob.http_port, host)))
    finally:
        hob.close()
    return times


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def bench_podman(build, rows):
    deploy.enter_network_of_our_own()
    times = {"asleep": [], "stopped": []}
    with deploy.podman_with_sample(build) as (podman, image):
        def run(port):
            return subprocess.run([*podman, "run", "-d", *deploy.PODMAN_LIMITS, "-p", f"127.0.0.1:{port}:8080", image],
                                  check=True, text=True, stdout=subprocess.PIPE).stdout.strip()

        def quietly(*words):
            subprocess.run([*podman, *words], check=True, stdout=subprocess.DEVNULL)

        port = free_port()
        name = run(port)  # the first makes networks and caches
        deploy.first_byte(port, "hello")
        for _ in range(ASLEEP_ROUNDS if "asleep" in rows else 0):
            quietly("pause", name)
            times["asleep"].append(milliseconds(lambda: (quietly("unpause", name), deploy.first_byte(port, "hello"))))
        quietly("rm", "-f", "-t", "0", name)
        for _ in range(STOPPED_ROUNDS if "stopped" in rows else 0):
            port = free_port()
            names = []
            times["stopped"].append(milliseconds(lambda: (names.append(run(port)), deploy.first_byte(port, "hello"))))
            quietly("rm", "-f", "-t", "0", *names)
    return times


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--build", type=pathlib.Path, required=True)
    arguments.add_argument("--rows", default="asleep,stopped")
    options = arguments.parse_args()
    rows = options.rows.split(",")
    build = options.build.resolve()
    os.environ["HOB_BUILD"] = str(build)
    if os.geteuid() != 0 or shutil.which("podman") is None:
        print(f"{options.rows}: skipped, these want root and podman")
        return
    ours = bench_hob(rows)
    theirs = bench_podman(build, rows)
    for name, all_ours in ours.items():
        if all_ours:
            print(f"{name}: {' '.join(f'{value:.1f}' for value in all_ours)} ms"
                  + (f"; podman {' '.join(f'{value:.0f}' for value in theirs[name])} ms" if name in theirs else ""))
    middle = {name: statistics.median(values) for name, values in ours.items() if values}
    if "asleep" in rows:
        line("asleep", "ms more than awake", middle["asleep"] - middle["awake"], ASLEEP_MS_MORE_MAX, "ms allowed", 1.0)
        line("asleep", "ms to the first byte", middle["asleep"], statistics.median(theirs["asleep"]), "podman unpause", 1.0)
    if "stopped" in rows:
        line("stopped", "ms to the first byte", middle["stopped"], statistics.median(theirs["stopped"]), "podman run", 1.0)


if __name__ == "__main__":
    main()
