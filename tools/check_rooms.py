#!/usr/bin/python3
"""Checks that includes go one way: a room uses only the rooms its hob_room line names, all of them declared above it.

Also: every room has a README.md, every header one #pragma once, and no file holds a path of somebody's machine.
Run from anywhere; prints each breach as file:line and exits 1 if there is one.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MACHINE_PATHS = re.compile(r"/(?:work|root|farm)/")


def rooms_from_cmake(text):
    """Room name -> rooms it may use, in order of declaration."""
    rooms = {}
    for name, rest in re.findall(r"^hob_room\((\w+)([^)]*)\)", text, re.M):
        uses = re.search(r"USES ((?:[a-z_]+\s*)+)", rest)
        rooms[name] = uses.group(1).split() if uses else []
    return rooms


def breaches():
    rooms = rooms_from_cmake((ROOT / "CMakeLists.txt").read_text())
    order = list(rooms)
    for room, uses in rooms.items():
        for used in uses:
            if used not in order or order.index(used) >= order.index(room):
                yield f"CMakeLists.txt: room {room} uses {used}, which does not stand above it"
        folder = ROOT / "src" / room
        if not any(folder.rglob("*.cc")):
            continue
        if not (folder / "README.md").exists():
            yield f"src/{room}: has no README.md that says what it is for"
        for path in sorted([*folder.rglob("*.h"), *folder.rglob("*.cc")]):
            name = path.relative_to(ROOT)
            text = path.read_text()
            if path.suffix == ".h" and text.count("#pragma once") != 1:
                yield f"{name}: needs exactly one #pragma once"
            for number, line in enumerate(text.splitlines(), 1):
                if MACHINE_PATHS.search(line):
                    yield f"{name}:{number}: a path of a machine"
                include = re.match(r'#include "([a-z_]+)/', line)
                if include and include.group(1) in rooms and include.group(1) not in [room, *uses]:
                    yield f"{name}:{number}: room {room} may not include {include.group(1)}"


def main():
    found = list(breaches())
    for breach in found:
        print(breach)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
