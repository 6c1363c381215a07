#!/usr/bin/python3
"""Durable commits/s of 16 writers, beside SQLite used directly (bench/store/store_bench_main.cc).

usage: store.py --build DIRECTORY
"""
import argparse
import pathlib
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--build", required=True, type=pathlib.Path)
build = parser.parse_args().build
# In the build directory: a disk like the one Hob's data is on, not a file system in memory.
sys.exit(subprocess.run([build / "bin" / "store_bench", build]).returncode)
