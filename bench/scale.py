#!/usr/bin/python3
"""Hob's scaling beside Knative's formulas and App Runner's rule, on the same requests (bench/scale/scale_bench_main.cc).

Prints a table; leaves a picture of each trace in BUILD/scale: instances desired, ready and asleep, the queue, waits and cost.
With --docs DIRECTORY puts the tables into scaling.md there, and some of the pictures into pictures/.
usage: scale.py --build DIRECTORY [--docs DIRECTORY]
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys

SHOWN = ["step", "on-off", "flash-crowd", "drift"]

parser = argparse.ArgumentParser()
parser.add_argument("--build", required=True, type=pathlib.Path)
parser.add_argument("--docs", type=pathlib.Path)
arguments = parser.parse_args()
pictures = arguments.build / "scale"
pictures.mkdir(exist_ok=True)
done = subprocess.run([arguments.build / "bin" / "scale_bench", pictures])
if done.returncode != 0:
    sys.exit(done.returncode)
print(f"pictures: {pictures}/scale-*.svg")
if arguments.docs:
    page = arguments.docs / "scaling.md"
    text = page.read_text()
    for name in ("traces", "matches"):
        table = (pictures / f"{name}.md").read_text()
        begin, end = f"<!-- {name}: make scale-docs -->\n", f"<!-- end of {name} -->"
        text, found = re.subn(f"(?<={re.escape(begin)}).*?(?={end})", lambda _: table, text, flags=re.S)
        if found != 1:
            sys.exit(f"{page} has no place for {name}")
    page.write_text(text)
    (arguments.docs / "pictures").mkdir(exist_ok=True)
    for name in SHOWN:
        shutil.copy(pictures / f"scale-{name}.svg", arguments.docs / "pictures")
