"""Tasks in microVMs, in an emulated machine where KVM works: the suite that every sandbox driver passes, and the whole way
from `hob kernel install` to a service whose URL answers.

The machine boots Debian's cloud kernel. Emulation is slow, so of the suite it runs a part that touches everything once, and
the test of the rest is skipped; `make test-microvm` runs all. HOB_MICROVM_TASKS names tests in gtest's words, "*" for all.
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
         "ConfinesAsDockerDoes", "SignalsReachTheTask", "OutlivesItsAgent", "FillsItsMemory", "AFrozenTaskOutlivesItsAgent",
         "AMachineHasWhatItNeedsAndNothingElse", "ACommandIsExecutedInAMachineThatRuns", "AMachineThatSleptKnowsWhatTimeItIs"]
MODULES = ["arch/x86/kvm", "virt", "fs/overlayfs", "drivers/net/tun.ko", "drivers/net/veth.ko", "net/netfilter", "net/ipv4/netfilter",
           "net/ipv6/netfilter", "lib/libcrc32c.ko", "drivers/block/loop.ko", "net/bridge", "net/802", "net/llc", "net/sched",
           "drivers/net/tap.ko", "drivers/virtio", "drivers/block/virtio_blk.ko"]
WANTED = os.environ.get("HOB_MICROVM_TASKS")
needs_static_programs = pytest.mark.skipif(not (BUILD / "tests/vmm_guest_suite").exists(),
                                           reason="a sanitized build has no static programs")


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


def make_host(root, package, script, programs):
    """The emulated machine's files: busybox, programs, modules, and the script of what it is for."""
    (root / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    names = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in names:
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    for name in programs:
        (root / "bin" / name).unlink(missing_ok=True)
        copy_with_libraries(shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin"), root, f"bin/{name}")
    for name in ("hob-vmm", "hob-jailer", "hob-vm-run", "hob-monitor"):
        shutil.copy(BUILD / "bin" / name, root / "bin" / name)
    shutil.copy(HERE / "kvm_host_init.sh", root / "init")
    (root / "init").chmod(0o755)
    shutil.copy(HERE / script, root / "test.sh")
    (root / "usr").mkdir(exist_ok=True)
    for name in ("bin", "sbin"):
        (root / "usr" / name).symlink_to("/bin")
    (root / "sbin").symlink_to("/bin")
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "etc/resolv.conf").write_text("")
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


def make_suite_host(root, package, folder):
    """With the suites, and the kernel of its microVMs as `hob kernel install` makes it here."""
    make_host(root, package, "tasks_test.sh", PROGRAMS)
    for name in ("sandbox_test", "guest_suite"):
        copy_with_libraries(BUILD / "tests" / name, root, f"tests/{name}")
        subprocess.run(["strip", root / "tests" / name], check=True)
    (root / "files").mkdir()
    data = folder / "data"
    installed = subprocess.run([BUILD / "bin/hob", "--data", data, "kernel", "install", "--package",
                                next((BUILD / "microvm").glob("linux-image-*.deb"))], capture_output=True, text=True)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    for name in ("vmlinuz", "initrd"):
        shutil.copy(data / "kernel" / name, root / "files" / name)
    make_disks(root / "files", folder)


def machine_command(folder, files=None, arguments="", memory_mib=2560):
    """The emulated machine, with a disk of its own: files in memory would count as their writer's."""
    disk = folder / "host.disk"
    with disk.open("wb") as file:
        file.truncate(4 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-F", *(["-d", files] if files else []), disk], check=True)
    return ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "EPYC-v1,+svm,-xsaves", "-m", str(memory_mib),
            "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", folder / "vmlinux",
            "-initrd", folder / "host.cpio", "-drive", f"file={disk},format=raw,if=none,id=disk,cache=unsafe",
            "-device", "virtio-blk-pci,drive=disk",
            "-append", f"console=ttyS0 nokaslr panic=-1 reboot=t quiet loglevel=3 {arguments}"]


def run_machine(command):
    """What it said until it ended."""
    try:
        said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS_MAX).stdout
    except subprocess.TimeoutExpired as stuck:
        said = stuck.stdout or b""
    text = said.decode(errors="replace")
    print(text[-20000:])
    return text


@pytest.fixture
def package(tmp_path):
    """Debian's cloud kernel unpacked; its `vmlinux` is in tmp_path."""
    folder = BUILD / "microvm"
    folder.mkdir(exist_ok=True)
    unpacked = kernel_package(folder)
    extract_vmlinux(next((unpacked / "boot").glob("vmlinuz-*")), tmp_path / "vmlinux")
    return unpacked


def run_suites(package, tmp_path, names):
    root = tmp_path / "host"
    make_suite_host(root, package, tmp_path)
    archive(root, tmp_path / "host.cpio")
    patterns = ":".join(f"Sandbox/*.{name}/Microvm" for name in names)
    said = run_machine(machine_command(tmp_path, arguments=f"hob.filter={patterns} hob.patience={SECONDS_MAX - 60}"))
    assert said.count("suite ended with 0") == 2
    assert len(re.findall(r"\[       OK \] Guest\.", said)) == 4
    assert len(re.findall(r"\[       OK \] Sandbox/", said)) >= len(names)


@needs_static_programs
def test_tasks_in_microvms(package, tmp_path):
    run_suites(package, tmp_path, PARTS)
    assert (BUILD / "bin/hob-guest").stat().st_size < 1536 << 10


@needs_static_programs
@pytest.mark.skipif(not WANTED, reason="takes about ten minutes; make test-microvm runs it")
def test_all_tasks_in_microvms(package, tmp_path):
    run_suites(package, tmp_path, [WANTED])


def pack_kernel(package, deb):
    """Debian's package once more, without compression, which would take the emulated machine a minute."""
    tree = deb.parent / "deb"
    shutil.copytree(package, tree, symlinks=True)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text("Package: linux-image-cloud\nVersion: 1\nArchitecture: amd64\nMaintainer: a test\nDescription: a kernel\n")
    subprocess.run(["dpkg-deb", "-Znone", "--root-owner-group", "--build", tree, deb], check=True, capture_output=True)
    shutil.rmtree(tree)


@needs_static_programs
def test_from_a_kernel_to_a_service_in_a_microvm(package, tmp_path):
    root = tmp_path / "host"
    make_host(root, package, "deploy_test.sh", PROGRAMS + ["crun", "curl", "dpkg-deb", "tar"])
    for name in ("hob", "hobd", "hob-guest"):
        copy_with_libraries(BUILD / "bin" / name, root, f"bin/{name}")
        subprocess.run(["strip", root / "bin" / name], check=True)
    archive(root, tmp_path / "host.cpio")
    files = tmp_path / "disk/files"
    files.mkdir(parents=True)
    pack_kernel(package, files / "linux.deb")
    shutil.copy(BUILD / "images/hello.oci.tar", files)
    said = run_machine(machine_command(tmp_path, files=tmp_path / "disk", memory_mib=4096))
    for step in ("kernel", "doctor", "up", "deploy", "ps", "down"):
        assert f"== {step} ended with 0" in said
    assert re.findall(r"Tasks would run in: (\w+)", said) == ["container", "microvm"]
    assert re.search(r"tasks run in containers all the same: there is no mkfs.erofs: apt-get install erofs-utils", said)
    assert re.search(r"== refused: .*--isolation microvm: there is no mkfs.erofs: apt-get install erofs-utils", said)
    assert len(re.findall(r"== http://\S+ answers ok\s+200", said)) == 2, "awake, and asleep"
    assert re.search(r"^hello +RUNNING +0 +1 ", said, re.MULTILINE), "it slept"
    assert re.findall(r"== microVMs: (\d+)", said) == ["1", "0"]
    assert re.search(r"== exec: cannot listen on port 8080: Address already in use\s+1", said), "in its network, as it ended"
