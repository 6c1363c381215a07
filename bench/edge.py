#!/usr/bin/python3
"""The edge beside HAProxy and nginx, speed, latency and memory, and held requests beside podman: bench/edge/bench_edge.py
with the build's binary, and the options of that: --rows h1,new runs single rows."""
import argparse
import pathlib
import subprocess
import sys

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
options, more = parser.parse_known_args()
here = pathlib.Path(__file__).resolve().parent
binary = next(iter(sorted(options.build.glob("**/edge_bench"))), None)
if binary is None:
    sys.exit(f"no edge_bench in {options.build}: make bench builds it")
sys.exit(subprocess.run([sys.executable, here / "edge/bench_edge.py", binary, *more], check=False).returncode)
