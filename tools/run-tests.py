#!/usr/bin/python3
"""Runs every test of a build and sums them up: ctest's programs (GoogleTest, fuzz replays, checks), then pytest.

The last line is exactly "N passed, N failed, N skipped"; the exit status is 0 only if none failed. A GoogleTest
program counts with each of its tests. What is skipped is printed with its reason.

    run-tests.py --build build [--only ctest|pytest] [-k EXPRESSION]
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM_SECONDS_MAX = 600  # one test program; beyond: killed and failed
PYTEST_SECONDS_MAX = 3600


class Tally:
    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.skipped = []
        self.failures = []

    def fail(self, name, why):
        self.failed += 1
        self.failures.append(name)
        print(f"FAILED {name}\n{why}", flush=True)

    def skip(self, name, why):
        self.skipped.append((name, " ".join(why.split())))

    def add_junit(self, path, suite):
        """Counts each case of a JUnit file; None if there is no such file or it is broken."""
        try:
            tree = xml.parse(path)
        except (OSError, xml.ParseError):
            return None
        count = 0
        for case in tree.iter("testcase"):
            count += 1
            name = f"{suite}: {case.get('classname', '')}.{case.get('name', '')}"
            bad = [*case.findall("failure"), *case.findall("error")]
            skipped = case.find("skipped")
            if bad:
                self.fail(name, "\n".join((b.text or b.get("message") or "").strip() for b in bad))
            elif skipped is not None or case.get("status") == "notrun":
                if case.get("status") != "notrun":
                    self.skip(name, (skipped.get("message") or skipped.text or "no reason given"))
            else:
                self.passed += 1
        return count


def run_program(name, command, directory, tally):
    """One ctest entry. A GoogleTest program writes a JUnit file; anything else counts as one test."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        report = pathlib.Path(temporary) / "report.xml"
        environment = {**os.environ, "GTEST_OUTPUT": f"xml:{report}"}
        try:
            done = subprocess.run(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PROGRAM_SECONDS_MAX)
            output, status = done.stdout.decode(errors="replace"), done.returncode
        except subprocess.TimeoutExpired as timeout:
            output, status = (timeout.stdout or b"").decode(errors="replace"), f"longer than {PROGRAM_SECONDS_MAX} s"
        except OSError as error:
            output, status = str(error), "no start"
        before = tally.failed
        counted = tally.add_junit(report, name)
        if counted is None:
            if status == 0:
                tally.passed += 1
            else:
                tally.fail(name, f"{output[-6000:]}\nended with {status}")
        elif status != 0 and tally.failed == before:
            tally.fail(name, f"{output[-6000:]}\nended with {status}")
    print(f"{name}: {time.monotonic() - started:.1f} s", flush=True)


def run_ctest(build, tally):
    listing = subprocess.run(["ctest", "--show-only=json-v1"], cwd=build, stdout=subprocess.PIPE, check=True)
    for test in json.loads(listing.stdout)["tests"]:
        command = test.get("command")
        if not command:
            tally.fail(test["name"], "it was not built")
            continue
        properties = {p["name"]: p["value"] for p in test.get("properties", [])}
        run_program(test["name"], command, properties.get("WORKING_DIRECTORY", build), tally)


def run_pytest(build, expression, tally):
    if os.geteuid() != 0:
        tally.skip("tests/", "the end-to-end tests start Hob, which needs root")
        return
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        report = pathlib.Path(temporary) / "report.xml"
        command = ["/usr/bin/python3", "-m", "pytest", "-q", "-x" if expression else "-rN", "--tb=short",
                   "-p", "no:cacheprovider", f"--junitxml={report}", str(ROOT / "tests")]
        if expression:
            command += ["-k", expression]
        environment = {**os.environ, "HOB_BUILD": str(build), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            status = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL,
                                    timeout=PYTEST_SECONDS_MAX).returncode
        except subprocess.TimeoutExpired:
            status = f"longer than {PYTEST_SECONDS_MAX} s"
        before = tally.failed
        if tally.add_junit(report, "tests") is None or (status not in (0, 5) and tally.failed == before):
            tally.fail("tests/", f"pytest ended with {status}")
    print(f"tests/: {time.monotonic() - started:.1f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--only", choices=["ctest", "pytest"])
    parser.add_argument("-k", dest="expression", default="")
    options = parser.parse_args()
    build = pathlib.Path(options.build).resolve()
    tally = Tally()
    if options.only != "pytest":
        run_ctest(build, tally)
    if options.only != "ctest":
        run_pytest(build, options.expression, tally)
    for name, why in tally.skipped:
        print(f"skipped {name}: {why}")
    for name in tally.failures:
        print(f"failed {name}")
    print(f"{tally.passed} passed, {tally.failed} failed, {len(tally.skipped)} skipped")
    sys.exit(1 if tally.failed else 0)


if __name__ == "__main__":
    main()
