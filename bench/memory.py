#!/usr/bin/python3
"""Resident memory of Hob's processes, idle and with services defined, beside podman's conmon for as many containers.

Proportional set size (PSS): what is shared is divided among those who share it. Root.
"""
import argparse
import os
import pathlib
import sys

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
    conmons = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            command = pathlib.Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="replace")
            if command.split("\0")[0].endswith("conmon") and str(hob.data) in command:
                conmons.append(pss_mib(name))
        except OSError:
            continue
    found[f"conmon x {len(conmons)}"] = sum(conmons)
    return found


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
        hob.deploy("memory-0", "--cpu", "0.25", "--memory", "0.5")
        image = next(iter(hob.boto("ecr").describe_images(repositoryName="memory-0")["imageDetails"]))
        reference = f"{hob.registry}/memory-0:{image['imageTags'][0]}"
        for number in range(1, options.services):
            hob.deploy(f"memory-{number}", "--cpu", "0.25", "--memory", "0.5", image=reference)
        show(f"{options.services} services running", measure(hob))
    finally:
        hob.close()


if __name__ == "__main__":
    main()
