#!/usr/bin/python3
"""Hob's scaling beside Knative's formulas and App Runner's rule, on the same requests (bench/scale/scale_bench_main.cc).

Prints a table; leaves a picture of each trace in BUILD/scale: instances desired, ready and asleep, and the queue.
usage: scale.py --build DIRECTORY
"""
import argparse
import pathlib
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--build", required=True, type=pathlib.Path)
build = parser.parse_args().build
pictures = build / "scale"
pictures.mkdir(exist_ok=True)
done = subprocess.run([build / "bin" / "scale_bench", pictures])
if done.returncode == 0:
    print(f"pictures: {pictures}/scale-*.svg")
sys.exit(done.returncode)
