"""hob-vmm with real guests: the suite of tests/microvm in an emulated machine where KVM works.

The machine is QEMU's with AMD's virtualization emulated, so that Linux's own kvm_amd runs in it; what it boots, and what its
guests boot, is Debian's cloud kernel as the package has it. Emulation is slow: this takes about six minutes.
HOB_GUEST_TESTS=PATTERN runs those of its tests alone.
"""
import lzma
import os
import pathlib
import re
import shutil
import struct
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parent / "microvm"
BUILD = pathlib.Path(os.environ.get("HOB_BUILD", "build")).resolve()
TESTS = os.environ.get("HOB_GUEST_TESTS", "*")
SECONDS_MAX = 900
GUEST_MODULES = ["virtio_ring", "virtio", "virtio_mmio", "virtio_blk", "failover", "net_failover", "virtio_net", "virtio-rng",
                 "virtio_balloon", "libnvdimm", "nd_btt", "nd_pmem", "nd_virtio", "virtio_pmem"]
HOST_MODULES = ["irqbypass", "kvm", "kvm-amd", "tun"]


def kernel_package(folder, of="linux-image-cloud-amd64", name="package"):
    """The unpacked package that `of` depends on; fetched once for each build directory."""
    unpacked = folder / name
    if not unpacked.exists():
        depends = subprocess.run(["apt-cache", "depends", of], capture_output=True, text=True, check=True)
        package = re.search(r"Depends: (linux-image-\S+)", depends.stdout).group(1)
        subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True)
        fresh = folder / (unpacked.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        subprocess.run(["dpkg", "-x", next(folder.glob(f"{package}_*.deb")), fresh], check=True)
        fresh.rename(unpacked)
    return unpacked


def extract_vmlinux(bzimage, path):
    """The ELF file inside: the payload, whose place the setup header tells, is LZ4 or XZ in Debian's kernels."""
    image = bzimage.read_bytes()
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    packed = image[start:start + length - 4]  # the last word is the unpacked size
    if packed.startswith(b"\xfd7zXZ\0"):
        path.write_bytes(lzma.decompress(packed))
    else:
        path.with_suffix(".lz4").write_bytes(packed)
        subprocess.run(["lz4", "-d", "-q", "-f", path.with_suffix(".lz4"), path], check=True)
    assert path.read_bytes()[:4] == b"\x7fELF"


def archive(root, path):
    """An initial RAM disk of what is under `root`."""
    names = "\n".join(str(p.relative_to(root)) for p in sorted(root.rglob("*")))
    packed = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=names.encode(), cwd=root, capture_output=True, check=True)
    path.write_bytes(packed.stdout)


def make_root(root, init, package, modules):
    (root / "bin").mkdir(parents=True)
    (root / "modules").mkdir()
    shutil.copy("/bin/busybox", root / "bin/busybox")
    shutil.copy(init, root / "init")
    (root / "init").chmod(0o755)
    for module in modules:
        shutil.copy(next(package.rglob(f"{module}.ko")), root / "modules")


@pytest.mark.skipif(not (BUILD / "tests/vmm_guest_suite").exists(), reason="a sanitized build has no static programs")
def test_real_guests(tmp_path):
    folder = BUILD / "microvm"
    folder.mkdir(exist_ok=True)
    package = kernel_package(folder)
    vmlinux = tmp_path / "vmlinux"
    bzimage = next((package / "boot").glob("vmlinuz-*"))
    extract_vmlinux(bzimage, vmlinux)
    guest = tmp_path / "guest"
    make_root(guest, HERE / "guest_init.sh", package, GUEST_MODULES)
    host = tmp_path / "host"
    make_root(host, HERE / "host_init.sh", package, HOST_MODULES)
    (host / "files").mkdir()
    archive(guest, host / "files/initrd")
    shutil.copy(vmlinux, host / "files/vmlinux")
    shutil.copy(bzimage, host / "files/bzimage")
    # The cloud kernel has no driver for generation ids; this one reseeds its random numbers by them.
    generic = kernel_package(folder, "linux-image-amd64", "generic-package")
    extract_vmlinux(next((generic / "boot").glob("vmlinuz-*")), host / "files/vmlinux-generic")
    for program in "hob-vmm", "hob-jailer":
        shutil.copy(BUILD / "bin" / program, host / "files" / program)
    subprocess.run(["strip", "-o", host / "vmm_guest_suite", BUILD / "tests/vmm_guest_suite"], check=True)
    archive(host, tmp_path / "host.cpio")
    machine = subprocess.run(
        ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "EPYC-v1,+svm,-xsaves", "-m", "2560", "-nodefaults",
         "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", vmlinux, "-initrd", tmp_path / "host.cpio",
         "-append", f"console=ttyS0 nokaslr panic=-1 reboot=t quiet loglevel=3 hob.tests={TESTS}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=SECONDS_MAX)
    print(machine.stdout[-20000:])
    assert "suite ended with 0" in machine.stdout
    listed = subprocess.run([BUILD / "tests/vmm_guest_suite", "--gtest_list_tests"], capture_output=True, text=True, check=True)
    tests = re.findall(r"^  (\w+)$", listed.stdout, re.MULTILINE)
    assert TESTS != "*" or tests == re.findall(r"\[       OK \] \w+\.(\w+)", machine.stdout)
