#!/usr/bin/python3
"""hob-vmm beside QEMU's machine "microvm", with the same kernel in an emulated machine where KVM works.

Times are virtual: the emulator counts a nanosecond for an instruction, so they come out the same whatever else this machine
does. They tell of work done, not of a real machine's seconds. Firecracker is in no package; what stands beside it is what
its specification promises on bare metal.

usage: microvm.py [--build DIRECTORY]
"""
import argparse
import os
import pathlib
import re
import selectors
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HERE = ROOT / "bench/microvm"
SILENT_SECONDS_MAX = 60  # -icount with nested guests stands still now and then: QEMU is ended, and started once more
TRIES = 4

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
BUILD = parser.parse_args().build.resolve()
os.environ["HOB_BUILD"] = str(BUILD)
sys.path.insert(0, str(ROOT / "tests"))
import test_microvm as images  # noqa: E402

# What it is, key, unit, our aim, what Firecracker's specification says.
ROWS = [
    ("program's start to API socket", "api_ready_ms", "ms", "0.8", "8 ms of CPU"),
    ("program's start to first KVM_RUN", "run_ms", "ms", "10", ""),
    ("program's start to the guest's userspace", "userspace_ms", "ms", "1290", "125 ms from InstanceStart"),
    ("exits before userspace, host's interrupts apart", "exits", "", "1200", ""),
    ("monitor's own memory (PSS)", "own_mib", "MiB", "2", "5 MiB"),
    ("idle guest: CPU of the monitor and the guest", "idle_cpu_percent", "%", "", ""),
    ("4 KiB reads past the guest's cache, one at a time", "read_iops", "/s", "", ""),
    ("1 MiB reads", "read_mb_per_s", "MB/s", "", "1 GiB/s"),
    ("pause, by the API", "pause_ms", "ms", "", ""),
    ("resume", "resume_ms", "ms", "", ""),
    ("snapshot of 128 MiB, full", "snapshot_create_ms", "ms", "", ""),
    ("snapshot's load to first KVM_RUN", "restore_run_ms", "ms", "5", ""),
    ("snapshot's load to the guest's first output", "restore_output_ms", "ms", "8", ""),
    ("monitor's own memory after a restore", "restore_own_mib", "MiB", "2", ""),
    ("program's size", "program_mib", "MiB", "2.5", ""),
]


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
    blocks = folder / "blocks"
    images.make_root(blocks, HERE / "block_init.sh", package, ["virtio_ring", "virtio", "virtio_mmio", "virtio_blk"])
    images.archive(blocks, files / "initrd-blocks")
    (files / "disk").write_bytes(os.urandom(1 << 20) * 32)
    images.archive(host, folder / "host.cpio")
    return vmlinux, folder / "host.cpio"


def run_machine(vmlinux, initrd, attempt):
    """What it printed, or None if its time stood still."""
    machine = subprocess.Popen(
        ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-icount", "shift=0,sleep=off", "-cpu", "EPYC-v1,+svm,-xsaves", "-m", "3072",
         "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", vmlinux, "-initrd", initrd,
         # Which instructions come where decides whether it stands still: another try has another command line.
         "-append", f"console=ttyS0 nokaslr panic=-1 reboot=t quiet loglevel=3 try={attempt}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    said = b""
    with selectors.DefaultSelector() as waiting:
        waiting.register(machine.stdout, selectors.EVENT_READ)
        heard = time.monotonic()
        try:
            while time.monotonic() - heard < SILENT_SECONDS_MAX:
                if not waiting.select(1):
                    continue
                piece = os.read(machine.stdout.fileno(), 4096)
                if not piece:
                    return said.decode(errors="replace")
                said += piece
                heard = time.monotonic()
        finally:
            machine.kill()
            machine.wait()
    print(said.decode(errors="replace")[-2000:], file=sys.stderr)
    return None


def measure():
    with tempfile.TemporaryDirectory(prefix="hob-bench-") as folder:
        vmlinux, initrd = make_images(pathlib.Path(folder))
        for attempt in range(TRIES):
            said = run_machine(vmlinux, initrd, attempt)
            if said and "bench ended with 0" in said:
                break
            if said:
                sys.exit(said[-4000:])
        else:
            sys.exit("the emulated machine stood still each time")
    figures = {(who, what): float(value) for who, what, value in re.findall(r"FIGURE (\S+) (\S+) (\S+)", said)}
    figures["hob-vmm", "program_mib"] = (BUILD / "bin/hob-vmm").stat().st_size / 2**20
    figures["qemu", "program_mib"] = pathlib.Path(shutil.which("qemu-system-x86_64")).stat().st_size / 2**20
    return figures


def main():
    figures = measure()
    print("| what, in virtual time | hob-vmm | QEMU microvm | ratio | aim | Firecracker's specification |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, key, unit, aim, promise in ROWS:
        ours, theirs = figures.get(("hob-vmm", key)), figures.get(("qemu", key))
        if ours is None:
            continue
        shown = [f"{value:.4g} {unit}".strip() if value is not None else "" for value in (ours, theirs)]
        ratio = f"{ours / theirs:.3g}" if theirs else ""
        print(f"| {name} | {shown[0]} | {shown[1]} | {ratio} | {aim} | {promise} |")


if __name__ == "__main__":
    main()
