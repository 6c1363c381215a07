"""Tasks in microVMs: the suite that every sandbox driver passes, in an emulated machine where KVM works.

The machine boots Debian's cloud kernel with the suite's program, what it needs, and a kernel and RAM disk as `hob kernel
install` makes them. Emulation is slow, so it runs a part of the suite that touches everything once; HOB_MICROVM_TASKS="*"
names another, in gtest's words.
"""
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from test_microvm import BUILD, archive, extract_vmlinux, kernel_package

HERE = pathlib.Path(__file__).resolve().parent / "microvm"
SECONDS_MAX = 1500
PROGRAMS = ["mkfs.erofs", "mkfs.ext4", "nft", "ip", "ps", "pgrep", "grep", "ls", "find", "losetup"]
PARTS = ["ServesHttpToTheVpc", "TellsHowATaskEnded", "RunsAsTheImageSays", "GivesTheEnvironmentTheFilesAndTheDirectory",
         "ConfinesAsDockerDoes", "SignalsReachTheTask", "OutlivesItsAgent", "FillsItsMemory", "AFrozenTaskOutlivesItsAgent"]
MODULES = ["arch/x86/kvm", "virt", "fs/overlayfs", "drivers/net/tun.ko", "drivers/net/veth.ko", "net/netfilter", "net/ipv4/netfilter",
           "net/ipv6/netfilter", "lib/libcrc32c.ko", "drivers/block/loop.ko", "net/bridge", "net/802", "net/llc", "net/sched",
           "drivers/net/tap.ko", "drivers/virtio", "drivers/block/virtio_blk.ko"]


def copy_with_libraries(program, root, target):
    (root / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(program, root / target)
    listed = subprocess.run(["ldd", program], capture_output=True, text=True)
    for library in re.findall(r"(/\S+) \(0x", listed.stdout):
        place = root / library.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            shutil.copy(library, place)


def make_disks(files, folder):
    """An image of busybox alone, and an empty disk, for the suite of hob-guest itself."""
    image = folder / "image"
    (image / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", image / "bin/busybox")
    for name in ("sh", "id", "cat", "echo", "sleep", "hostname", "date", "stty", "test", "touch", "rm", "true"):
        (image / "bin" / name).symlink_to("busybox")
    subprocess.run(["mkfs.erofs", files / "image", image], check=True, capture_output=True)
    with (files / "scratch").open("wb") as scratch:
        scratch.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", files / "scratch"], check=True)


def make_host(root, package, folder):
    """The emulated machine's files: suite, programs, modules, and the kernel of its microVMs."""
    (root / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    names = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in names:
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    for name in PROGRAMS:
        (root / "bin" / name).unlink(missing_ok=True)
        copy_with_libraries(shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin"), root, f"bin/{name}")
    for name in ("hob-vmm", "hob-vm-run", "hob-monitor"):
        shutil.copy(BUILD / "bin" / name, root / "bin" / name)
    for name in ("sandbox_test", "guest_suite"):
        copy_with_libraries(BUILD / "tests" / name, root, f"tests/{name}")
        subprocess.run(["strip", root / "tests" / name], check=True)
    shutil.copy(HERE / "tasks_init.sh", root / "init")
    (root / "init").chmod(0o755)
    (root / "usr").mkdir(exist_ok=True)
    for name in ("bin", "sbin"):
        (root / "usr" / name).symlink_to("/bin")
    (root / "sbin").symlink_to("/bin")
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    modules = next((package / "lib/modules").iterdir())
    for part in MODULES:
        source = modules / "kernel" / part
        target = root / "lib/modules" / modules.name / "kernel" / part
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    for name in ("modules.builtin", "modules.order"):
        shutil.copy(modules / name, root / "lib/modules" / modules.name)
    subprocess.run(["busybox", "depmod", "-b", root, modules.name], check=True, capture_output=True)
    (root / "files").mkdir()
    data = folder / "data"
    installed = subprocess.run([BUILD / "bin/hob", "--data", data, "kernel", "install", "--package",
                                next((BUILD / "microvm").glob("linux-image-*.deb"))], capture_output=True, text=True)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    for name in ("vmlinuz", "initrd"):
        shutil.copy(data / "kernel" / name, root / "files" / name)
    make_disks(root / "files", folder)


def machine_command(folder, names):
    """The emulated machine, with a disk of its own: files in memory would count as their writer's."""
    disk = folder / "host.disk"
    with disk.open("wb") as file:
        file.truncate(4 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True)
    return ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "EPYC-v1,+svm,-xsaves", "-m", "2560", "-nodefaults",
            "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", folder / "vmlinux", "-initrd", folder / "host.cpio",
            "-drive", f"file={disk},format=raw,if=none,id=disk,cache=unsafe", "-device", "virtio-blk-pci,drive=disk",
            "-append", f"console=ttyS0 nokaslr panic=-1 reboot=t quiet loglevel=3 hob.filter={names}"]


@pytest.mark.skipif(not (BUILD / "tests/vmm_guest_suite").exists(), reason="a sanitized build has no static programs")
def test_tasks_in_microvms(tmp_path):
    folder = BUILD / "microvm"
    folder.mkdir(exist_ok=True)
    package = kernel_package(folder)
    vmlinux = tmp_path / "vmlinux"
    extract_vmlinux(next((package / "boot").glob("vmlinuz-*")), vmlinux)
    root = tmp_path / "host"
    make_host(root, package, tmp_path)
    archive(root, tmp_path / "host.cpio")
    wanted = os.environ.get("HOB_MICROVM_TASKS")
    names = ":".join(f"Sandbox/*.{name}/Microvm" for name in ([wanted] if wanted else PARTS))
    machine = subprocess.run(machine_command(tmp_path, names), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                             errors="replace", timeout=SECONDS_MAX)
    print(machine.stdout[-20000:])
    assert machine.stdout.count("suite ended with 0") == 2
    assert len(re.findall(r"\[       OK \] Guest\.", machine.stdout)) == 4
    assert (BUILD / "bin/hob-guest").stat().st_size < 1536 << 10
    assert len(re.findall(r"\[       OK \] Sandbox/", machine.stdout)) >= (1 if wanted else len(PARTS))
