"""The edge alone (the build's edge_bench) before a site (Hypercorn; nghttpd): curl, nghttp and h2load with their options.

Each table's length is what src/edge/README.md says of the tool."""
import contextlib
import json
import re
import subprocess
import sys
import time

import pytest

from test_edge_browser import make_certificate
from test_edge_conformance import BUILD, HERE, HOST, PATIENCE_SECONDS, free_port, running

SECONDS_MAX = 30


class Site:
    def __init__(self, folder, http, https):
        self.folder, self.plain, self.secure = folder, f"http://{HOST}:{http}", f"https://{HOST}:{https}"
        self.http, self.https = http, https

    def fill(self, word):
        return (word.replace("PLAIN", self.plain).replace("SECURE", self.secure).replace("FOLDER", str(self.folder))
                .replace("HTTP_PORT", str(self.http)))

    def run(self, *command, stdin=b""):
        return subprocess.run([self.fill(word) for word in command], capture_output=True, input=stdin, timeout=2 * SECONDS_MAX,
                              check=False)

    def curl(self, options, stdin=b""):
        certificate = ["--cacert", "FOLDER/certificates/site.pem"]
        return self.run("curl", "-sS", "--noproxy", "*", "--max-time", str(SECONDS_MAX), *certificate, *options, stdin=stdin)


@contextlib.contextmanager
def edge_before(target, folder, back):
    port, secure = free_port(), free_port()
    make_certificate(folder / "certificates")
    (folder / "three").write_bytes(b"x" * 3_000_000)
    (folder / "some").write_bytes(b"some")
    environment = {"EDGE_BENCH_TLS": f"{secure} {folder / 'certificates'}", "EDGE_BENCH_PROTOCOL": back}
    with running(port, BUILD / "bin/edge_bench", port, 1, "best", HOST, target, environment=environment):
        site = Site(folder, port, secure)
        end = time.monotonic() + PATIENCE_SECONDS
        # Until then the edge itself says that there is no such service.
        while b"no such page" not in (seen := site.curl(["PLAIN/5"]).stdout) and seen != b"xxxxx":
            assert time.monotonic() < end, "the edge has no routes"
        yield site


@pytest.fixture(scope="module", params=["http1", "http2"])
def site(request, tmp_path_factory):
    folder, target = tmp_path_factory.mktemp(request.param), free_port()
    with running(target, sys.executable, HERE / "edge_site.py", target, folder / "report"):
        with edge_before(target, folder, request.param) as made:
            yield made


@pytest.fixture
def quick_site(tmp_path):
    """nghttpd, which takes hundreds of streams at a time: /5 has five bytes."""
    target = free_port()
    (tmp_path / "5").write_bytes(b"xxxxx")
    with running(target, "nghttpd", "--no-tls", "-a", "127.0.0.1", "-d", tmp_path, target):
        with edge_before(target, tmp_path, "http2") as made:
            yield made


CODE = ["-o", "/dev/null", "-w", "%{http_code}"]
VERSION = ["-o", "/dev/null", "-w", "%{http_code} %{http_version}"]
CONNECTS = ["-w", "%{num_connects} "]


def told(field):
    """What the site was told in a field, as JSON."""
    return lambda done: json.loads(done.stdout)["headers"].get(field)


def exits(status):
    return lambda done: done.returncode == status


def cookies(done):
    return done.stdout.startswith(b"c=3") and set(done.stdout[3:].split(b"; ")) == {b"a=1", b"b=2", b"c=3"}


def sizes(done):
    return len(done.stdout)


# What is asked, and the output or what is made of it.
CURL = {
    "--http1.0": (["--http1.0", *CODE, "PLAIN/info"], "200"),
    "--http1.0, twice": (["--http1.0", *CONNECTS, "PLAIN/length", "PLAIN/length"], "01 01 "),
    "--http1.0, kept": (["--http1.0", "-H", "Connection: keep-alive", *CONNECTS, "PLAIN/length", "PLAIN/length"], "01 00 "),
    "--http1.1": (["--http1.1", *VERSION, "PLAIN/info"], "200 1.1"),
    "--http2 asks for an upgrade": (["--http2", *VERSION, "PLAIN/info"], "200 1.1"),
    "--http2-prior-knowledge": (["--http2-prior-knowledge", *VERSION, "PLAIN/info"], "200 2"),
    "TLS: h2 by ALPN": ([*VERSION, "SECURE/info"], "200 2"),
    "TLS --http1.1": (["--http1.1", *VERSION, "SECURE/info"], "200 1.1"),
    "TLS --http2": (["--http2", *VERSION, "SECURE/info"], "200 2"),
    "TLS --no-alpn": (["--no-alpn", *VERSION, "SECURE/info"], "200 1.1"),
    "--tlsv1.2 --tls-max 1.2": (["--tlsv1.2", "--tls-max", "1.2", *VERSION, "SECURE/info"], "200 2"),
    "--tlsv1.3": (["--tlsv1.3", *VERSION, "SECURE/info"], "200 2"),
    "--tls-max 1.1": (["--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", "SECURE/info"], exits(35)),
    "--ciphers without forward secrecy": (["--tls-max", "1.2", "--ciphers", "AES128-GCM-SHA256", "SECURE/info"], exits(35)),
    "--ciphers with CBC": (["--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES128-SHA", "SECURE/info"], exits(35)),
    "--ciphers ChaCha20": (["--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305", *CODE, "SECURE/info"], "200"),
    "--tls13-ciphers": (["--tls13-ciphers", "TLS_AES_256_GCM_SHA384", *CODE, "SECURE/info"], "200"),
    "--curves X25519": (["--curves", "X25519", *CODE, "SECURE/info"], "200"),
    "--curves P-256": (["--curves", "prime256v1", *CODE, "SECURE/info"], "200"),
    "--cert-status without a staple": (["--cert-status", "SECURE/info"], exits(91)),
    "--cacert of another": (["--capath", "/nonexistent", "--cacert", "/dev/null", "SECURE/info"], exits(77)),
    "-k": (["-k", *CODE, "SECURE/info"], "200"),
    "-I": (["-I", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", "PLAIN/bytes?count=1000"], "200 0"),
    "-I by HTTP/2": (["-I", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", "SECURE/bytes?count=1000"], "200 0"),
    "-X DELETE": (["-X", "DELETE", "PLAIN/info"], lambda done: json.loads(done.stdout)["method"] == "DELETE"),
    "-X PATCH -d": (["-X", "PATCH", "-d", "abc", "PLAIN/length"], "3"),
    "-X OPTIONS": (["-X", "OPTIONS", "PLAIN/info"], lambda done: json.loads(done.stdout)["method"] == "OPTIONS"),
    "-X with a method of its own": (["-X", "PROPFIND", "PLAIN/info"], lambda done: json.loads(done.stdout)["method"] == "PROPFIND"),
    "-X CONNECT": (["-X", "CONNECT", "--request-target", "example.com:443", *CODE, "PLAIN/"], "405"),
    "-d": (["-d", "a=1&b=2", "PLAIN/length"], "7"),
    "--data-binary": (["--data-binary", "@FOLDER/three", "PLAIN/length"], "3000000"),
    "--data-binary by HTTP/2": (["--data-binary", "@FOLDER/three", "SECURE/length"], "3000000"),
    "--json": (["--json", "{}", "PLAIN/length"], "2"),
    "-F": (["-F", "file=@FOLDER/some", "SECURE/length"], lambda done: int(done.stdout) > 100),
    "-G -d": (["-G", "-d", "count=7", "PLAIN/bytes"], lambda done: sizes(done) == 7),
    "-T a file": (["-T", "FOLDER/some", "PLAIN/length"], "4"),
    "-T - chunked": (["--http1.1", "-T", "-", "PLAIN/length"], "70000"),
    "-T - by HTTP/1.1 and TLS": (["--http1.1", "-T", "-", "SECURE/length"], "70000"),
    "-T - by HTTP/2": (["-T", "-", "SECURE/length"], "70000"),
    "-T . as it comes": (["--http1.1", "-T", ".", "PLAIN/length"], "70000"),
    "Expect: 100-continue": (["--http1.1", "--expect100-timeout", "1", "-H", "Expect: 100-continue", "-d", "abc", "PLAIN/length"],
                             "3"),
    "Expect: something else": (["--http1.1", "-H", "Expect: more", *CODE, "PLAIN/info"], lambda done: done.stdout[:1] in b"24"),
    "Transfer-Encoding: chunked": (["--http1.1", "-H", "Transfer-Encoding: chunked", "-d", "abc", "PLAIN/length"], "3"),
    "chunked with a length": (["--http1.1", "-H", "Transfer-Encoding: chunked", "-H", "Content-Length: 3", "-d", "abc", *CODE,
                               "PLAIN/length"], "400"),
    "two lengths": (["--http1.1", "-H", "Content-Length: 3", "-H", "content-length : 4", "-d", "abc", *CODE, "PLAIN/length"], "400"),
    "--compressed": (["--compressed", "PLAIN/zipped"], lambda done: sizes(done) == 100_000),
    "--tr-encoding": (["--http1.1", "--tr-encoding", *CODE, "PLAIN/info"], "200"),
    "-r": (["-r", "2-5", "PLAIN/part"], "2345"),
    "-r by HTTP/2": (["-r", "0-3", "SECURE/part"], "0123"),
    "-L": (["-L", "-w", " %{num_redirects}", "-o", "/dev/null", "PLAIN/redirect"], " 1"),
    "-L by HTTP/2": (["-L", "-w", " %{num_redirects}", "-o", "/dev/null", "SECURE/redirect"], " 1"),
    "-c and -b": (["-b", "c=3", "-c", "FOLDER/jar", "PLAIN/cookie", "PLAIN/cookie"], cookies),
    "-c and -b by HTTP/2": (["-b", "c=3", "-c", "FOLDER/jar2", "SECURE/cookie", "SECURE/cookie"], cookies),
    "If-None-Match": (["-H", 'If-None-Match: "x"', *CODE, "PLAIN/etag"], "304"),
    "--etag-save": (["--etag-save", "FOLDER/etag", *CODE, "SECURE/etag"], "200"),
    "-z": (["-z", "2030-01-01", *CODE, "PLAIN/info"], "200"),
    "-A": (["-A", "someone/1", "PLAIN/info"], lambda done: told("user-agent")(done) == "someone/1"),
    "-e": (["-e", "http://a/", "PLAIN/info"], lambda done: told("referer")(done) == "http://a/"),
    "-u": (["-u", "a:b", "PLAIN/info"], lambda done: told("authorization")(done) == "Basic YTpi"),
    "--oauth2-bearer": (["--oauth2-bearer", "t", "SECURE/info"], lambda done: told("authorization")(done) == "Bearer t"),
    "-H": (["-H", "X-Mine: yes", "SECURE/info"], lambda done: told("x-mine")(done) == "yes"),
    "-H of nothing": (["-H", "X-Mine;", "PLAIN/info"], lambda done: told("x-mine")(done) == ""),
    "-H Connection names another": (["--http1.1", "-H", "Connection: x-mine", "-H", "X-Mine: yes", "PLAIN/info"],
                                    lambda done: told("x-mine")(done) is None),
    "-H X-Forwarded-For": (["-H", "X-Forwarded-For: 1.2.3.4", "PLAIN/info"], lambda done: "127.0.0.1" in told("x-forwarded-for")(done)),
    "a field of 70,000 bytes": (["-H", "X-Big: " + "x" * 70_000, *CODE, "PLAIN/info"], "431"),
    "a field of 8,000 bytes": (["--http1.1", "-H", "X-Big: " + "x" * 8_000, *CODE, "PLAIN/length"], "200"),
    "a path of 20,000 bytes": ([*CODE, "PLAIN/" + "x" * 20_000], "414"),
    "130 fields": ([word for i in range(130) for word in ("-H", f"X-{i}: 1")] + [*CODE, "PLAIN/info"], "431"),
    "Host: of nobody": (["-H", "Host: nobody.local", *CODE, "PLAIN/info"], "404"),
    "Host: of nobody, by TLS": (["-H", "Host: nobody.local", *CODE, "SECURE/info"], "421"),
    "no Host": (["--http1.1", "-H", "Host:", *CODE, "PLAIN/info"], "400"),
    "--resolve": (["--resolve", "nobody.local:HTTP_PORT:127.0.0.1", *CODE, "http://nobody.local:HTTP_PORT/"], "404"),
    "--connect-to": (["--connect-to", f"{HOST}:80:127.0.0.1:HTTP_PORT", *CODE, f"http://{HOST}/info"], "200"),
    "--haproxy-protocol": (["--haproxy-protocol", *CODE, "PLAIN/info"], "400"),
    "--http0.9": (["--http0.9", *CODE, "PLAIN/info"], "200"),
    "--path-as-is": (["--path-as-is", *CODE, "PLAIN/../info"], "404"),
    "--request-target, absolute": (["--request-target", "PLAIN/info", *CODE, "PLAIN/length"], "200"),
    "--request-target *": (["-X", "OPTIONS", "--request-target", "*", *CODE, "PLAIN/"], lambda done: done.stdout in (b"200", b"404")),
    "--request-target * for GET": (["--request-target", "*", *CODE, "PLAIN/"], "400"),
    "--request-target without a slash": (["--request-target", "info", *CODE, "PLAIN/"], "400"),
    "-x": (["--noproxy", "", "-x", "PLAIN", *CODE, f"http://{HOST}/info"], "200"),
    "-x -p": (["--noproxy", "", "-x", "PLAIN", "-p", f"http://{HOST}/info"], exits(56)),
    "several URLs, one connection": ([*CONNECTS, "PLAIN/length", "PLAIN/length", "PLAIN/length"], "01 00 00 "),
    "--next": ([*CONNECTS, "PLAIN/length", "--next", *CONNECTS, "-d", "abc", "PLAIN/length"], "01 30 "),
    "--next by HTTP/2": ([*CONNECTS, "--cacert", "FOLDER/certificates/site.pem", "SECURE/length", "--next", *CONNECTS, "--cacert",
                          "FOLDER/certificates/site.pem", "-sS", "-d", "abc", "SECURE/length"], "01 30 "),
    "Connection: close": (["-H", "Connection: close", *CONNECTS, "PLAIN/length", "PLAIN/length"], "01 01 "),
    "-Z, fifty at once": (["-Z", "--parallel-max", "50", *["SECURE/length"] * 50], "0" * 50),
    "-Z by HTTP/1.1": (["-Z", "--http1.1", "--parallel-max", "20", *["PLAIN/length"] * 20], "0" * 20),
    "-f": (["-f", "PLAIN/nothing"], exits(22)),
    "--fail-with-body": (["--fail-with-body", "PLAIN/nothing"], lambda done: done.returncode == 22 and done.stdout == b"no such page"),
    "--limit-rate": (["--limit-rate", "1M", "-o", "/dev/null", "-w", "%{size_download}", "SECURE/bytes?count=300000"], "300000"),
    "--ignore-content-length": (["--http1.1", "-H", "Connection: close", "--ignore-content-length", "PLAIN/bytes?count=5000"],
                                lambda done: sizes(done) == 5000),
    "--raw": (["--http1.1", "--raw", "PLAIN/bytes?count=5000"], lambda done: sizes(done) == 5000),
    "--max-filesize": (["--max-filesize", "10", "PLAIN/bytes?count=5000"], exits(63)),
    "--no-keepalive --no-sessionid": (["--no-keepalive", "--no-sessionid", *CODE, "SECURE/info"], "200"),
    "--tcp-nodelay --tcp-fastopen": (["--tcp-nodelay", "--tcp-fastopen", *CODE, "PLAIN/info"], "200"),
    "TE: trailers": (["-H", "TE: trailers", *CODE, "SECURE/info"], "200"),
    "5 MB": (["-o", "/dev/null", "-w", "%{size_download}", "SECURE/bytes?count=5000000"], "5000000"),
}


def holds(wanted, done):
    return done.stdout.decode() == wanted and done.returncode == 0 if isinstance(wanted, str) else wanted(done)


def test_curls_options(site):
    wrong = []
    for name, (options, wanted) in CURL.items():
        done = site.curl(options, stdin=b"y" * 70_000)
        if not holds(wanted, done):
            wrong.append((name, done.returncode, done.stdout[:200], done.stderr[:200]))
    assert not wrong, wrong
    print(f"curl: {len(CURL)} ways to ask")
    assert len(CURL) == 98


NGHTTP = {
    "one": [],
    "ten": ["-m", "10"],
    "a window of 64": ["-w", "6", "-W", "6"],
    "a window of 1 GiB": ["-w", "30", "-W", "30"],
    "a table of 0 bytes": ["-c", "0"],
    "a table of 64 KiB": ["-c", "65536"],
    "a priority": ["-p", "200"],
    "without dependencies": ["--no-dep"],
    "no push": ["--no-push"],
    "at most one stream": ["-M", "1"],
    "padding": ["-b", "200"],
    "a body": ["-d", "FOLDER/some"],
    "a body and trailers": ["-d", "FOLDER/some", "--trailer", "x-sum: 1"],
    "3 MB": ["-d", "FOLDER/three"],
    "expect": ["-d", "FOLDER/some", "--expect-continue"],
    "a field": ["-H", "x-mine: yes"],
    "an upgrade of HTTP/1.1 that is not granted": ["-u"],
}


def test_nghttps_options(site):
    wrong = []
    for name, options in NGHTTP.items():
        asked = int(options[1]) if options[:1] == ["-m"] else 1
        for url in ("PLAIN/length", "SECURE/length"):
            if "-u" in options and url.startswith("SECURE"):
                continue
            done = site.run("nghttp", "-v", "-n", "-t", str(SECONDS_MAX), *options, url)
            seen = re.sub(rb"\x1b\[[\d;]*m", b"", done.stdout + done.stderr)
            refused = "-u" in options and b"HTTP Upgrade failed" in seen
            if not refused and (seen.count(b":status: 200") != asked or b"GOAWAY" in seen.split(b"send GOAWAY")[0]):
                wrong.append((name, url, done.returncode, seen[-2000:]))
    assert not wrong, wrong
    print(f"nghttp: {len(NGHTTP)} ways to ask")
    assert len(NGHTTP) == 17


H2LOAD = {
    "a hundred streams": ["-n", "2000", "-c", "4", "-m", "100"],
    "by TLS": ["-n", "2000", "-c", "4", "-m", "32", "SECURE"],
    "two threads": ["-n", "1000", "-c", "8", "-t", "2", "-m", "10"],
    "HTTP/1.1": ["-n", "1000", "-c", "8", "--h1"],
    "HTTP/1.1 by TLS": ["-n", "500", "-c", "4", "--h1", "SECURE"],
    "HTTP/1.1, pipelined": ["-n", "500", "-c", "4", "-m", "8", "--h1"],
    "small windows": ["-n", "500", "-c", "2", "-m", "10", "-w", "10", "-W", "10"],
    "a table of 0 bytes": ["-n", "500", "-c", "2", "-m", "10", "--header-table-size=0", "--encoder-header-table-size=0"],
    "bodies": ["-n", "500", "-c", "2", "-m", "10", "-d", "FOLDER/some"],
}


def test_h2loads_options(quick_site):
    wrong, requests = [], 0
    for name, options in H2LOAD.items():
        base = "SECURE" if "SECURE" in options else "PLAIN"
        done = quick_site.run("h2load", *[word for word in options if word != "SECURE"], f"{base}/5")
        requests += int(options[1])
        if f"{options[1]} succeeded, 0 failed" not in done.stdout.decode():
            wrong.append((name, done.stdout[-600:], done.stderr[-300:]))
    assert not wrong, wrong
    print(f"h2load: {requests} requests in {len(H2LOAD)} ways")
    assert requests == 8_500
