#!/usr/bin/python3
"""The edge beside Debian's HAProxy and nginx: small keep-alive answers, one worker each.

usage: bench_edge.py EDGE_BENCH [--rounds N] [--seconds S] [--io uring|epoll|best] [--rows h1,tls,h2]

Rows: h1, HTTP/1.1 over 64 connections (wrk); tls, the same over TLS 1.3 (wrk); h2, HTTP/2 over TLS 1.3, 8 connections of
32 streams (h2load).

Starts an nginx back end and the three proxies, drives each in turn for some rounds, and prints
the median of requests/s, the proxy process's CPU time for each request (the steadier figure on a busy machine: the
best of the rounds), and one line of ratios for each row. Stops all it started.
"""
import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HOST = "bench.local"


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"bench_edge: nothing listens on port {port}")


def make_certificate(directory):
    """An ECDSA certificate, as the edge's own authority makes them: certs/bench.pem has it and its key."""
    certificates = os.path.join(directory, "certs")
    os.mkdir(certificates)
    key, certificate = os.path.join(directory, "bench.key"), os.path.join(directory, "bench.crt")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", key, "-out", certificate],
                   check=True, stderr=subprocess.DEVNULL)
    path = os.path.join(certificates, "bench.pem")
    with open(path, "w") as out:
        for part in (certificate, key):
            with open(part) as text:
                out.write(text.read())
    os.chmod(path, 0o644)
    return path


def nginx_config(directory, name, port, location, extra="", secure=None):
    path = os.path.join(directory, name + ".conf")
    temporary = "".join(
        f"{kind}_temp_path {directory}/{name}-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    listen = ""
    if secure is not None:
        tls_port, certificate = secure
        listen = (f"listen 127.0.0.1:{tls_port} ssl http2 backlog=4096; ssl_certificate {certificate}; "
                  f"ssl_certificate_key {certificate}; ssl_protocols TLSv1.3; http2_max_concurrent_streams 128;")
    with open(path, "w") as out:
        out.write(f"""worker_processes 1; daemon off; pid {directory}/{name}.pid; error_log {directory}/{name}.log;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600; {temporary} {extra}
  server {{ listen 127.0.0.1:{port} backlog=4096; {listen} location / {{ {location} }} }} }}
""")
    return path


def haproxy_config(directory, port, backend, tls_port, certificate):
    path = os.path.join(directory, "haproxy.cfg")
    with open(path, "w") as out:
        out.write(f"""global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend f
  bind 127.0.0.1:{port}
  bind 127.0.0.1:{tls_port} ssl crt {certificate} alpn h2,http/1.1 ssl-min-ver TLSv1.3
  option forwardfor
  default_backend b
backend b
  server s 127.0.0.1:{backend}
""")
    return path


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as listed:
        return [int(word) for word in listed.read().split()]


def drive_wrk(url, seconds):
    """Requests done and requests/s."""
    done = subprocess.run(["wrk", "-t1", "-c64", f"-d{seconds}s", "-H", f"Host: {HOST}", url],
                          capture_output=True, text=True, timeout=seconds + 20).stdout
    if "Non-2xx" in done or "Socket errors" in done:
        sys.exit(f"bench_edge: {url} failed requests:\n{done}")
    return int(re.search(r"(\d+) requests in", done).group(1)), float(re.search(r"Requests/sec:\s+([\d.]+)", done).group(1))


def drive_h2load(url, seconds):
    done = subprocess.run(["h2load", "-t1", "-c8", "-m32", f"-D{seconds}", "-H", f":authority: {HOST}", url],
                          capture_output=True, text=True, timeout=seconds + 20).stdout
    counts = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed", done)
    if counts is None or counts.group(1) != counts.group(2) or int(counts.group(2)) == 0:
        sys.exit(f"bench_edge: {url} failed requests:\n{done}")
    return int(counts.group(2)), float(re.search(r"([\d.]+) req/s", done).group(1))


# By row: what it is, how it is driven, by TLS or not.
ROWS = {
    "h1": ("HTTP/1.1, 64 connections", drive_wrk, False),
    "tls": ("HTTP/1.1 by TLS 1.3, 64 connections", drive_wrk, True),
    "h2": ("HTTP/2 by TLS 1.3, 8 connections of 32 streams", drive_h2load, True),
}


def measure(row, proxies, secure, options):
    title, drive, by_tls = ROWS[row]
    rates = {name: [] for name, _, _ in proxies}
    costs = {name: [] for name, _, _ in proxies}

    def url(name, port):
        return f"https://127.0.0.1:{secure[name]}/" if by_tls else f"http://127.0.0.1:{port}/"

    for name, port, _ in proxies:
        drive(url(name, port), 1)
    for turn in range(options.rounds):
        # Each round begins with another one, so that none always follows the same.
        for name, port, pid in proxies[turn % 3:] + proxies[:turn % 3]:
            before = cpu_seconds(pid)
            requests, rate = drive(url(name, port), options.seconds)
            costs[name].append((cpu_seconds(pid) - before) / requests * 1e6)
            rates[name].append(rate)
    rate = {name: statistics.median(values) for name, values in rates.items()}
    cost = {name: min(values) for name, values in costs.items()}
    print(f"{row}: {title}")
    for name, _, _ in proxies:
        print(f"{name:8} {rate[name]:9.0f} requests/s (median of {options.rounds})   "
              f"{cost[name]:6.2f} us CPU a request (best; median {statistics.median(costs[name]):.2f})")
    best = "haproxy" if rate["haproxy"] > rate["nginx"] else "nginx"
    print(f"edge/{best}: {rate['edge'] / rate[best]:.2f} of its requests/s; CPU a request: "
          f"{cost['edge'] / cost['haproxy']:.2f} of haproxy's, {cost['edge'] / cost['nginx']:.2f} of nginx's", flush=True)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("edge_bench")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=int, default=3)
    arguments.add_argument("--io", default="best")
    arguments.add_argument("--rows", default=",".join(ROWS))
    options = arguments.parse_args()
    for program in ("nginx", "haproxy", "wrk", "h2load", "openssl"):
        if shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin") is None:
            sys.exit(f"bench_edge: {program} is not installed; try: apt-get install {program}")

    directory = tempfile.mkdtemp(prefix="hob-bench-edge-")
    os.chmod(directory, 0o755)
    backend, *ports = free_ports(7)
    (with_haproxy, with_nginx, with_edge), secure = ports[:3], dict(zip(("haproxy", "nginx", "edge"), ports[3:]))
    certificate = make_certificate(directory)
    started = []

    def start(*command, **environment):
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started.append(process)
        return process

    try:
        path = nginx_config(directory, "backend", backend, 'return 200 "hello";')
        start("/usr/sbin/nginx", "-c", path)
        path = nginx_config(
            directory, "proxy", with_nginx,
            "proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;"
            "proxy_set_header X-Forwarded-For $remote_addr;",
            f"upstream b {{ server 127.0.0.1:{backend}; keepalive 128; keepalive_requests 1000000000; }}",
            (secure["nginx"], certificate))
        nginx = start("/usr/sbin/nginx", "-c", path)
        haproxy = start("/usr/sbin/haproxy", "-db", "-f", haproxy_config(
            directory, with_haproxy, backend, secure["haproxy"], certificate))
        edge = start(options.edge_bench, str(with_edge), "1", options.io, HOST, str(backend),
                     EDGE_BENCH_TLS=f"{secure['edge']} {os.path.dirname(certificate)}")
        for port in (backend, with_haproxy, with_nginx, with_edge, *secure.values()):
            wait_for(port)
        time.sleep(0.3)
        proxies = [("edge", with_edge, edge.pid), ("haproxy", with_haproxy, haproxy.pid),
                   ("nginx", with_nginx, children(nginx.pid)[0])]
        for row in options.rows.split(","):
            measure(row, proxies, secure, options)
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
