#!/usr/bin/python3
"""Task start, assigned to process running, beside bare `crun run` of the same bundle (bench/task_start).

usage: task_start.py --build DIRECTORY
"""
import argparse
import pathlib
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--build", required=True, type=pathlib.Path)
binary = next(iter(sorted(parser.parse_args().build.glob("**/task_start_bench"))), None)
if binary is None:
    sys.exit("no task_start_bench in the build directory: make bench builds it")
sys.exit(subprocess.run([binary, "30"], check=False).returncode)
