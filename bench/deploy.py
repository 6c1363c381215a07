#!/usr/bin/python3
"""hob deploy of an image that is already here, to the first byte served, beside podman run of the same image.

Both start the sample image with a network of its own; the clock runs from the command's start to the first byte of
an answer. The image is in the registry and on the host before (in podman's storage, for podman). Root.
"""
import argparse
import contextlib
import ctypes
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ANSWER_SECONDS_MAX = 30
# What root may set on a machine whose root lacks CAP_SYS_RESOURCE, too.
PODMAN_LIMITS = ["--ulimit", "nofile=20000:20000", "--ulimit", "nproc=1000:1000"]


def first_byte(port, host):
    """Asks again and again until somebody answers 200; seconds are the caller's to count."""
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    request = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(request)
                if connection.recv(4096).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            pass
        time.sleep(0.002)
    raise AssertionError(f"no answer on port {port} within {ANSWER_SECONDS_MAX} s")


def bench_hob(build, rounds):
    os.environ["HOB_BUILD"] = str(build)
    sys.path.insert(0, str(ROOT / "tests"))
    from hob_instance import Hob
    hob = Hob()
    times = []
    try:
        hob.up()
        hob.deploy("warm-up")
        image = next(iter(hob.boto("ecr").describe_images(repositoryName="warm-up")["imageDetails"]))
        reference = f"{hob.registry}/warm-up:{image['imageTags'][0]}"
        for round_number in range(rounds):
            name = f"bench-{round_number}"
            started = time.monotonic()
            # --no-wait: the first byte is asked for by ourselves, as for podman.
            hob.run("deploy", reference, "--name", name, "--port", "8080", "--no-wait")
            first_byte(hob.http_port, hob.host(name))
            times.append(time.monotonic() - started)
            # Not counted: the operation ends a moment after the first answer, and only then may be followed by another.
            arn = next(s["Arn"] for s in hob.json("ps")["Services"] if s["Name"] == name)
            hob.wait_status(hob.boto("apprunner"), arn, "RUNNING")
            hob.run("rm", name)
    finally:
        hob.close()
    return times


def enter_network_of_our_own():
    """Podman's rules for published ports outlive it, and would catch other programs' ports: they stay in here."""
    CLONE_NEWNET = 0x40000000
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        sys.exit("deploy: no network namespace to be had")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@contextlib.contextmanager
def podman_with_sample(build):
    """Podman with a storage of its own that holds the sample image: the command to run it by, and the image's name."""
    work = pathlib.Path(tempfile.mkdtemp(prefix="hob-bench-podman-"))
    # crun refuses a hybrid host while the version 2 tree is mounted: a mount namespace without it, for podman too.
    tree = pathlib.Path("/sys/fs/cgroup/unified")
    # One for all commands: podman binds its network namespaces in it.
    holder = subprocess.Popen(["unshare", "-m", "sh", "-c",
                               (f"umount {tree} && " if tree.is_dir() else "") + "echo there && exec sleep 3600"],
                              stdout=subprocess.PIPE, text=True)
    holder.stdout.readline()
    podman = ["nsenter", "-m", "-t", str(holder.pid), "podman", "--root", str(work / "root"),
              "--runroot", str(work / "run"), "--cgroup-manager=cgroupfs"]
    try:
        loaded = subprocess.run([*podman, "load", "-q", "-i", str(build / "images/hello.oci.tar")], check=True,
                                text=True, stdout=subprocess.PIPE).stdout
        yield podman, loaded.split("Loaded image")[-1].split(":", 1)[1].strip()
    finally:
        subprocess.run([*podman, "rm", "-af", "-t", "0"], check=False, stdout=subprocess.DEVNULL)
        subprocess.run([*podman, "rmi", "-af"], check=False, stdout=subprocess.DEVNULL)
        holder.kill()
        holder.wait()
        shutil.rmtree(work, ignore_errors=True)


def bench_podman(build, rounds):
    enter_network_of_our_own()
    times = []
    with podman_with_sample(build) as (podman, image):
        for _ in range(rounds + 1):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            started = time.monotonic()
            done = subprocess.run([*podman, "run", "-d", *PODMAN_LIMITS, "-p", f"127.0.0.1:{port}:8080", image],
                                  check=True, text=True, stdout=subprocess.PIPE)
            first_byte(port, "hello")
            times.append(time.monotonic() - started)
            subprocess.run([*podman, "rm", "-f", "-t", "0", done.stdout.strip()], check=True,
                           stdout=subprocess.DEVNULL)
    return times[1:]  # the first makes networks and caches


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    build = options.build.resolve()
    if shutil.which("podman") is None:
        print("deploy: skipped, podman is not installed")
        return
    ours = statistics.median(bench_hob(build, options.rounds))
    theirs = statistics.median(bench_podman(build, options.rounds))
    print(f"deploy, image here, to the first byte: hob {ours * 1000:.0f} ms, podman run {theirs * 1000:.0f} ms, "
          f"ratio {theirs / ours:.2f} (at least 1)")


if __name__ == "__main__":
    main()
