"""Prints every pattern of the services in models/services.json, compiled, with samples and what Python's re says of them."""
import json
import pathlib
import random
import re
import sys

ROOT = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(ROOT / "src/aws"))
import generate  # noqa: E402
from pattern_compiler import Program  # noqa: E402

SAMPLES = [
    "", "a", "A", "0", " ", "\n", "abc", "hello", "a_b-c", "-abc", "A B", "aws:x", "AWS:x", "é", "a/b", "a//b", "/a", "a/",
    "a.b_c--d", "a__b", "a._b", "000000000001", "00000000001", "256", "0.25 vCPU", "1 vCPU", "3 vCPU", "2 GB", "0.5 GB",
    "2048", "10240", "arn:aws:iam::000000000001:role/x", "arn:aws:iam::000000000001:role/service-role/x",
    "arn:aws:apprunner:us-east-1:000000000001:service/hello/0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "arn:aws:apprunner:us-east-1:000000000001:service/hello/" + "0" * 1011, "arn:aws:apprunner:us-east-1:1:service/a",
    "arn:aws:kms:us-east-1:000000000001:key/01234567-89ab-cdef-0123-456789abcdef",
    "01234567-89ab-4def-8123-456789abcdef", "sha256:0123456789abcdef", "127.0.0.1:4566/hello:1", "/aws/apprunner/x",
    "000000000001.dkr.ecr.us-east-1.hob.localhost:4566/hello@sha256:00", "*.example.com", "a" * 300, "x\x00y",
]


def near(text, rng):
    """`text` with one character changed, dropped or doubled."""
    at = rng.randrange(len(text))
    return rng.choice([text[:at] + text[at + 1:], text[:at] + text[at] + text[at:],
                       text[:at] + rng.choice("aZ0 _-./:@*é") + text[at + 1:]])


def python_says(pattern, text):
    # What the compiler does on purpose: \w and \d are ASCII, '.' takes line breaks, a property takes all beyond ASCII.
    source = re.sub(r"\\p\{(\w)\}", lambda m: {"L": r"A-Za-z\x80-\U0010FFFF", "N": r"0-9\x80-\U0010FFFF",
                                              "Z": r" \x80-\U0010FFFF"}[m.group(1)], pattern)
    return re.fullmatch(source, text, re.ASCII | re.DOTALL) is not None


def main():
    rng = random.Random(1)
    services = [generate.Service(n, e, ROOT / "models") for n, e in
                generate.load(ROOT / "models/services.json").items()]
    patterns = sorted({s.shapes[n]["pattern"] for s in services for n in s.read if "pattern" in s.shapes[n]})
    samples = SAMPLES + [near(text, rng) for text in SAMPLES if text for _ in range(3)]
    out = []
    for pattern in patterns:
        program = Program(pattern)
        out.append({"program": {"text": pattern, "forbidden_prefix": program.forbidden_prefix, "steps": program.steps,
                                "ranges": program.ranges},
                    # A repetition of more than 64 is unbounded here; the shape's length bounds it.
                    "samples": [[t, python_says(pattern, t)] for t in samples
                                if len(t) < 200 or not re.search(r"\{\d+,\d{3,}\}", pattern)]})
    print(json.dumps(out))


main()
