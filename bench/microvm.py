#!/usr/bin/python3
"""hob-vmm beside QEMU's machine "microvm", with the same kernel in an emulated machine where KVM works.

Times are virtual: the emulator counts a nanosecond for an instruction, so they come out the same whatever else this machine
does. They tell of work done, not of a real machine's seconds. Firecracker is in no package: what stands beside is what an
unoptimised build of it took in such a machine.

Each group of figures has an emulated machine of its own, bounded in time: one that fails or stands still is said to, and
costs its own rows alone.

usage: microvm.py [--build DIRECTORY] [--runs N] [GROUP...]
"""
import argparse
import collections
import os
import pathlib
import re
import selectors
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HERE = ROOT / "bench/microvm"
# -icount with nested guests stands still now and then: QEMU is ended, and the group's machine started once more.
SILENT_SECONDS_MAX = 30
GROUP_SECONDS_MAX = 360
TRIES = 5
GROUPS = ["boot", "api", "favored", "devices", "qemu-boot", "qemu-devices"]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
parser.add_argument("--runs", type=int, default=1, help="how often; figures are the medians")
parser.add_argument("groups", nargs="*", metavar="GROUP", help=" ".join(GROUPS))
ARGUMENTS = parser.parse_args()
BUILD = ARGUMENTS.build.resolve()
os.environ["HOB_BUILD"] = str(BUILD)
sys.path.insert(0, str(ROOT / "tests"))
import test_microvm as images  # noqa: E402

PEER_MODULES = ["virtio_ring", "virtio", "virtio_mmio", "virtio_blk", "failover", "net_failover", "virtio_net", "vsock",
                "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"]
# What it is, key, unit, our aim, Firecracker's figure: an unoptimised build of 1.17 in such a machine.
ROWS = [
    ("program's start to API socket", "api_ready_ms", "ms", "0.8", "2.3"),
    ("CPU until then", "api_ready_cpu_ms", "ms", "0.8", "2.3"),
    ("memory then (PSS)", "api_ready_mib", "MiB", "1.5", "3.9"),
    ("program's start to first KVM_RUN", "run_ms", "ms", "10", "38"),
    ("program's start to the guest's userspace", "userspace_ms", "ms", "1290", "1329"),
    ("exits before userspace, host's interrupts apart", "exits", "", "1200", "1592"),
    ("of them port I/O", "port_exits", "", "42", "42"),
    ("MMIO", "mmio_exits", "", "", ""),
    ("faults on the guest's memory", "fault_exits", "", "", ""),
    ("monitor's own memory (PSS)", "own_mib", "MiB", "2", "4.25"),
    ("with disk, network, vsock, balloon, entropy", "own_most_mib", "MiB", "2.5", "4.8"),
    ("idle guest: CPU of the monitor and the guest", "idle_cpu_percent", "%", "", ""),
    ("4 KiB reads past the guest's cache, one at a time", "read_iops", "/s", "18200", "18200"),
    ("CPU a read, monitor and guest", "read_cpu_us", "us", "", ""),
    ("4 KiB writes", "write_iops", "/s", "17100", "17100"),
    ("CPU a write", "write_cpu_us", "us", "", ""),
    ("1 MiB reads", "read_mb_per_s", "MB/s", "83", "83"),
    ("1 MiB writes", "write_mb_per_s", "MB/s", "341", "341"),
    ("network, guest to host", "net_out_mb_per_s", "MB/s", "292", "292"),
    ("network, host to guest", "net_in_mb_per_s", "MB/s", "404", "404"),
    ("network, round trip", "net_round_trip_us", "us", "94", "94"),
    ("vsock, guest to host", "vsock_out_mb_per_s", "MB/s", "290", "290"),
    ("vsock, host to guest", "vsock_in_mb_per_s", "MB/s", "195", "195"),
    ("vsock, round trip", "vsock_round_trip_us", "us", "", ""),
    ("pause, by the API", "pause_ms", "ms", "0.17", "0.17"),
    ("resume", "resume_ms", "ms", "0.25", "0.25"),
    ("snapshot of 128 MiB, full", "snapshot_create_ms", "ms", "", ""),
    ("snapshot's load: program's start to first KVM_RUN", "restore_run_ms", "ms", "5", "13.0"),
    ("to the guest's first output", "restore_output_ms", "ms", "8", "17.5"),
    ("request to load it to first KVM_RUN", "load_run_ms", "ms", "", ""),
    ("monitor's own memory after a restore", "restore_own_mib", "MiB", "2", ""),
    ("program's size", "program_mib", "MiB", "2.5", "3"),
]
# And where the host's control groups are mounted with favordynmods.
FAVORED = {"run_ms", "userspace_ms", "restore_run_ms", "restore_output_ms", "load_run_ms"}


def copy_qemu(folder):
    """The emulator's peer with its libraries and loader, to run from anywhere."""
    folder.mkdir(parents=True)
    program = shutil.which("qemu-system-x86_64")
    shutil.copy(program, folder)
    libraries = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for path in re.findall(r"(/\S+) \(0x", libraries):
        name = "ld.so" if "ld-linux" in path else pathlib.Path(path).name
        shutil.copy(path, folder / name)
    for firmware in "bios-microvm.bin", "pvh.bin", "linuxboot_dma.bin":
        found = [path / firmware for path in (pathlib.Path("/usr/share/qemu"), pathlib.Path("/usr/share/seabios")) if (path / firmware).exists()]
        shutil.copy(found[0], folder)


def make_images(folder):
    """What the emulated machine boots: the kernel and an initial RAM disk with all that is measured."""
    package = BUILD / "microvm"
    package.mkdir(exist_ok=True)
    package = images.kernel_package(package)
    vmlinux = folder / "vmlinux"
    images.extract_vmlinux(next((package / "boot").glob("vmlinuz-*")), vmlinux)
    host = folder / "host"
    images.make_root(host, HERE / "host_init.sh", package, images.HOST_MODULES)
    files = host / "files"
    copy_qemu(files / "qemu")
    shutil.copy(vmlinux, files / "vmlinux")
    shutil.copy(BUILD / "bin/hob-vmm", files)
    shutil.copy(BUILD / "bench/vmm_bench", host)
    guest = folder / "guest"
    (guest / "dev").mkdir(parents=True)
    shutil.copy(BUILD / "bench/vmm_bench_guest", guest / "init")
    subprocess.run(["mknod", guest / "dev/ttyS0", "c", "4", "64"], check=True)
    images.archive(guest, files / "initrd")
    peer = folder / "peer"
    images.make_root(peer, BUILD / "bench/vmm_bench_peer", package, PEER_MODULES)
    subprocess.run(["strip", peer / "init"], check=True)
    (peer / "bin/busybox").unlink()
    images.archive(peer, files / "initrd-peer")
    (files / "disk").write_bytes(os.urandom(1 << 20) * 32)
    images.archive(host, folder / "host.cpio")
    return vmlinux, folder / "host.cpio"


def run_machine(vmlinux, initrd, group, attempt):
    """What it printed; and why that is not all, or None."""
    machine = subprocess.Popen(
        ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-icount", "shift=0,sleep=off", "-cpu", "EPYC-v1,+svm,-xsaves", "-m", "3072",
         "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", vmlinux, "-initrd", initrd,
         # Which instructions come where decides whether it stands still: another try has another command line.
         "-append", f"console=ttyS0 nokaslr panic=-1 reboot=t quiet loglevel=3 hob.group={group} try={attempt}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    said = b""
    began = heard = time.monotonic()
    with selectors.DefaultSelector() as waiting:
        waiting.register(machine.stdout, selectors.EVENT_READ)
        try:
            while True:
                now = time.monotonic()
                if now - heard > SILENT_SECONDS_MAX or now - began > GROUP_SECONDS_MAX:
                    stood = "virtual time stood still" if now - heard > SILENT_SECONDS_MAX else f"not done after {GROUP_SECONDS_MAX} s"
                    return said.decode(errors="replace"), stood
                if not waiting.select(1):
                    continue
                piece = os.read(machine.stdout.fileno(), 4096)
                if not piece:
                    text = said.decode(errors="replace")
                    return text, None if "bench ended with 0" in text else "it failed"
                said += piece
                heard = time.monotonic()
        finally:
            machine.kill()
            machine.wait()


def run_group(vmlinux, initrd, group):
    for attempt in range(TRIES):
        began = time.monotonic()
        said, trouble = run_machine(vmlinux, initrd, group, attempt)
        print(f"{group}: {trouble or 'done'} after {time.monotonic() - began:.0f} s", file=sys.stderr)
        if not trouble:
            return said
        lines = [line for line in said.splitlines() if line.strip() != "ALIVE"]
        print("\n".join(lines[-20:]), file=sys.stderr)
        if trouble == "it failed":
            break
    return said


def measure(groups, runs):
    figures = collections.defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="hob-bench-") as folder:
        vmlinux, initrd = make_images(pathlib.Path(folder))
        for group in groups * runs:
            for who, what, value in re.findall(r"FIGURE (\S+) (\S+) (\S+)", run_group(vmlinux, initrd, group)):
                figures[who, what].append(float(value))
    medians = {key: statistics.median(values) for key, values in figures.items()}
    medians["hob-vmm", "program_mib"] = (BUILD / "bin/hob-vmm").stat().st_size / 2**20
    medians["qemu", "program_mib"] = pathlib.Path(shutil.which("qemu-system-x86_64")).stat().st_size / 2**20
    return medians


def main():
    groups = ARGUMENTS.groups or GROUPS
    if unknown := set(groups) - set(GROUPS):
        sys.exit(f"no group {' '.join(unknown)}; there are {' '.join(GROUPS)}")
    figures = measure(groups, ARGUMENTS.runs)
    print("| what, in virtual time | hob-vmm | QEMU microvm | ratio | aim | Firecracker |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, key, unit, aim, firecracker in ROWS:
        ours, theirs = figures.get(("hob-vmm", key)), figures.get(("qemu", key))
        if ours is None and theirs is None and ("favored", key) not in figures:
            continue
        shown = [f"{value:.4g} {unit}".strip() if value is not None else "" for value in (ours, theirs)]
        ratio = f"{ours / theirs:.3g}" if ours is not None and theirs else ""
        print(f"| {name} | {shown[0]} | {shown[1]} | {ratio} | {aim} | {firecracker} |")
        if key in FAVORED and ("favored", key) in figures:
            print(f"| with favordynmods | {figures['favored', key]:.4g} {unit} | | | {aim} | |")


if __name__ == "__main__":
    main()
