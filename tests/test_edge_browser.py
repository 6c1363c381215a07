"""A browser (Debian's chromium) visits a site (Hypercorn) through the edge alone (the build's edge_bench), by every pair of
versions: pages, uploads, streams, server-sent events, WebSockets, by HTTP/2 those of RFC 8441 too. The checks are the page's
(edge_page.html)."""
import contextlib
import json
import pathlib
import subprocess
import sys
import time

import pytest

from test_edge_conformance import BUILD, HERE, HOST, free_port, running

VISIT_SECONDS_MAX = 120
LOG_SECONDS_MAX = 20

VISITS = {  # front, TLS, back, how many checks
    "HTTP/1.1": ("http/1.1", False, "1.1", 22),
    "HTTP/1.1 by TLS": ("http/1.1", True, "1.1", 22),
    "HTTP/2": ("h2", True, "1.1", 23),
    "HTTP/1.1 to HTTP/2": ("http/1.1", False, "2", 22),
    "HTTP/2 to HTTP/2": ("h2", True, "2", 24),
}


def make_certificate(folder):
    folder.mkdir()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", folder / "key.pem",
                    "-out", folder / "chain.pem"], check=True, capture_output=True)
    (folder / "site.pem").write_text((folder / "key.pem").read_text() + (folder / "chain.pem").read_text())
    (folder / "key.pem").unlink()
    (folder / "chain.pem").unlink()


@contextlib.contextmanager
def browser(folder, url, *options):
    with (folder / "chromium.log").open("w") as log:
        process = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--ignore-certificate-errors", f"--user-data-dir={folder / 'profile'}",
             *options, url], stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_for(what, seconds, sign, process=None):
    end = time.monotonic() + seconds
    while not (seen := sign()):
        assert (process is None or process.poll() is None) and time.monotonic() < end, f"{what} does not come"
        time.sleep(0.1)
    return seen


def visit(folder, front, tls, back):
    """What the page found out, and the edge's access log up to the page's report."""
    target, port, secure = free_port(), free_port(), free_port()
    make_certificate(folder / "certificates")
    report, log = folder / "report.json", folder / "access.log"
    environment = {"EDGE_BENCH_TLS": f"{secure} {folder / 'certificates'}", "EDGE_BENCH_ACCESS_LOG": str(log),
                   "EDGE_BENCH_PROTOCOL": "http2" if back == "2" else "http1"}
    url = f"{'https' if tls else 'http'}://{HOST}:{secure if tls else port}/page?front={front}&back={back}"
    options = ["--disable-http2"] if tls and front != "h2" else []
    with running(target, sys.executable, HERE / "edge_site.py", target, report):
        with running(port, BUILD / "bin/edge_bench", port, 1, "best", HOST, target, environment=environment):
            with browser(folder, url, *options) as process:
                wait_for("the page's report", VISIT_SECONDS_MAX, report.exists, process)
            wait_for("its line in the log", LOG_SECONDS_MAX, lambda: "/report" in log.read_text())
    return json.loads(report.read_text()), log.read_text()


@pytest.mark.parametrize("way", VISITS)
def test_a_browser_finds_all_well_by(way, tmp_path):
    front, tls, back, checks = VISITS[way]
    found, log = visit(tmp_path, front, tls, back)
    wrong = [each for each in found if not each[1]]
    assert not wrong, f"{wrong}\n{log}"
    assert len(found) == checks
    version = "HTTP/2" if front == "h2" else "HTTP/1.1"
    websockets = [line for line in log.splitlines() if " /ws " in line]
    assert websockets and all(f" /ws {version}\"" in line for line in websockets), log
