#!/usr/bin/python3
"""The edge beside Debian's HAProxy and nginx in the same role, one worker each, on a core of its own.

usage: bench_edge.py EDGE_BENCH [--rounds N] [--seconds S] [--io uring|epoll|best] [--rows h1,64k,…] [--beside NAME=EDGE_BENCH]

Rows: h1, HTTP/1.1, small answers over 64 kept-alive connections (wrk); 64k, answers of 64 KiB (wrk); new, a connection
for each request (wrk); tls, as h1 by TLS 1.3 (wrk); h2, HTTP/2 by TLS 1.3, 8 connections of 32 streams (h2load);
latency, what is added to a request at half of the faster peer's rate in h1, by a client of constant rate (edge_load);
idle and idle-tls, the memory of each of many idle kept-alive connections.

The proxies take turns in each round, and another begins each. Printed are the median of requests/s, the CPU time of the
proxy's process for a request (the steadier figure on a busy machine), and for each row its ratio to the better peer.
`--beside` sets another build of the edge among them, to see what a change does.
"""
import argparse
import pathlib
import re
import socket
import ssl
import statistics
import sys

from proxies import HOST, Proxies, allow_descriptors, cpu_seconds, memory_bytes

PEERS = ("haproxy", "nginx")
IDLE = 10_000
IDLE_BY_TLS = 2_000
LATENCY_CONNECTIONS = 64


def drive_wrk(proxies, url, seconds, *fields):
    """Requests done and requests/s."""
    headers = [word for field in (f"Host: {HOST}", *fields) for word in ("-H", field)]
    done = proxies.run_load(["wrk", "-t1", "-c64", f"-d{seconds}s", *headers, url], seconds)
    if "Non-2xx" in done or re.search(r"Socket errors: .*(connect|write|timeout) [1-9]", done):
        sys.exit(f"bench_edge: {url} failed requests:\n{done}")
    return int(re.search(r"(\d+) requests in", done).group(1)), float(re.search(r"Requests/sec:\s+([\d.]+)", done).group(1))


def drive_h2load(proxies, url, seconds):
    done = proxies.run_load(["h2load", "-t1", "-c8", "-m32", f"-D{seconds}", "-H", f":authority: {HOST}", url], seconds)
    counts = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed", done)
    if counts is None or counts.group(1) != counts.group(2) or int(counts.group(2)) == 0:
        sys.exit(f"bench_edge: {url} failed requests:\n{done}")
    return int(counts.group(2)), float(re.search(r"([\d.]+) req/s", done).group(1))


def drive_new(proxies, url, seconds):
    return drive_wrk(proxies, url, seconds, "Connection: close")


# By row: what it is, how it is driven, by TLS or not, bytes of an answer, the least ratio of requests/s aimed at.
ROWS = {
    "h1": ("HTTP/1.1, 64 connections", drive_wrk, False, 5, 1.3),
    "64k": ("HTTP/1.1, 64 connections, answers of 64 KiB", drive_wrk, False, 65_536, 1.0),
    "new": ("HTTP/1.1, a connection for each request", drive_new, False, 5, 1.0),
    "tls": ("HTTP/1.1 by TLS 1.3, 64 connections", drive_wrk, True, 5, 1.0),
    "h2": ("HTTP/2 by TLS 1.3, 8 connections of 32 streams", drive_h2load, True, 5, 1.0),
}
CPU_AIM = 0.9  # of HAProxy's, a request


def turns(proxies, rounds):
    """Each proxy once in each round, never one always after the same other."""
    for turn in range(rounds):
        first = turn % len(proxies.names)
        yield from proxies.names[first:] + proxies.names[:first]


def measure(row, proxies, options):
    title, drive, by_tls, answer_bytes, aim = ROWS[row]
    rates = {name: [] for name in proxies.names}
    costs = {name: [] for name in proxies.names}

    def url(name):
        port = (proxies.tls_ports if by_tls else proxies.ports)[name]
        return f"{'https' if by_tls else 'http'}://127.0.0.1:{port}/{answer_bytes}"

    for name in proxies.names:
        drive(proxies, url(name), 1)
    for name in turns(proxies, options.rounds):
        before = cpu_seconds(proxies.pids[name])
        requests, rate = drive(proxies, url(name), options.seconds)
        costs[name].append((cpu_seconds(proxies.pids[name]) - before) / requests * 1e6)
        rates[name].append(rate)
    rate = {name: statistics.median(values) for name, values in rates.items()}
    cost = {name: statistics.median(values) for name, values in costs.items()}
    print(f"{row}: {title}")
    for name in proxies.names:
        print(f"  {name:8} {rate[name]:9.0f} requests/s   {cost[name]:7.2f} us CPU a request (best {min(costs[name]):.2f})")
    best = max(PEERS, key=rate.get)
    print(f"  edge: {rate['edge'] / rate[best]:.2f} of {best}'s requests/s (aim {aim}); CPU a request "
          f"{cost['edge'] / cost['haproxy']:.2f} of haproxy's (aim {CPU_AIM}), {cost['edge'] / cost['nginx']:.2f} of nginx's",
          flush=True)
    return rate


def measure_latency(proxies, peak, options):
    """Added to the target's own latency, at half of what the faster peer can do."""
    best = max(PEERS, key=peak.get)
    per_second = int(peak[best] / 2)
    found = {name: [] for name in (*proxies.names, "direct")}

    def ask(name):
        port = proxies.ports.get(name, proxies.target_port)
        done = proxies.run_load([proxies.edge_load, "rate", port, HOST, "/5", per_second, LATENCY_CONNECTIONS, options.seconds],
                                options.seconds)
        count, failed, p50, _, p99, _ = (float(word) for word in done.split())
        if failed or not count:
            sys.exit(f"bench_edge: latency of {name}: {done}")
        found[name].append((p50, p99))

    for turn in range(options.rounds):
        ask("direct")
        first = turn % len(proxies.names)
        for name in proxies.names[first:] + proxies.names[:first]:
            ask(name)
    p50, p99 = ({name: statistics.median(values[i] for values in all_values) for name, all_values in found.items()}
                for i in (0, 1))
    print(f"latency: added at {per_second} requests/s, half of {best}'s most, {LATENCY_CONNECTIONS} connections")
    added = {name: (p50[name] - p50["direct"], p99[name] - p99["direct"]) for name in proxies.names}
    for name in proxies.names:
        print(f"  {name:8} p50 {added[name][0]:8.0f} us   p99 {added[name][1]:8.0f} us")
    fastest = [min(added[name][i] for name in PEERS) for i in (0, 1)]
    print(f"  edge: p50 {added['edge'][0] / fastest[0]:.2f}, p99 {added['edge'][1] / fastest[1]:.2f} of the better peer's (aim 1.0); "
          f"direct: p50 {p50['direct']:.0f} us, p99 {p99['direct']:.0f} us", flush=True)


def open_idle(port, by_tls):
    """A connection that has had one answer."""
    connection = socket.create_connection(("127.0.0.1", port), 10)
    if by_tls:
        connection = by_tls.wrap_socket(connection, server_hostname=HOST)
    connection.sendall(f"GET /5 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"xxxxx"):
        more = connection.recv(4096)
        if not more:
            sys.exit(f"bench_edge: idle: port {port} closed after {answer}")
        answer += more
    return connection


def measure_idle(row, proxies, count, by_tls):
    """Bytes of the proxy's process for each connection, beyond what it had after a hundred of them."""
    cost = {}
    for name in proxies.names:
        port = (proxies.tls_ports if by_tls else proxies.ports)[name]
        connections = [open_idle(port, by_tls) for _ in range(100)]
        before = memory_bytes(proxies.pids[name])
        connections += [open_idle(port, by_tls) for _ in range(count)]
        cost[name] = (memory_bytes(proxies.pids[name]) - before) / count
        for connection in connections:
            connection.close()
    print(f"{row}: bytes for each of {count} idle kept-alive connections{', TLS 1.3' if by_tls else ''}")
    print("  " + "   ".join(f"{name} {cost[name]:.0f}" for name in proxies.names))
    best = min(PEERS, key=cost.get)
    print(f"  edge: {cost['edge'] / cost[best]:.2f} of {best}'s (aim 1.0)", flush=True)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("edge_bench", type=pathlib.Path)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=int, default=2)
    arguments.add_argument("--io", default="best")
    arguments.add_argument("--rows", default=",".join((*ROWS, "latency", "idle", "idle-tls")))
    arguments.add_argument("--beside", action="append", default=[])
    options = arguments.parse_args()
    wanted = options.rows.split(",")
    edge_load = options.edge_bench.with_name("edge_load")
    by_tls = ssl.create_default_context()
    by_tls.check_hostname = False
    by_tls.verify_mode = ssl.CERT_NONE
    allow_descriptors()
    proxies = Proxies(options.edge_bench, edge_load, options.io, [tuple(beside.split("=", 1)) for beside in options.beside])
    try:
        # Memory first: before load has left each with what it once needed.
        if "idle" in wanted:
            measure_idle("idle", proxies, IDLE, None)
        if "idle-tls" in wanted:
            measure_idle("idle-tls", proxies, IDLE_BY_TLS, by_tls)
        peak = {}
        for row in ROWS:
            if row in wanted:
                peak[row] = measure(row, proxies, options)
        if "latency" in wanted:
            measure_latency(proxies, peak.get("h1") or measure("h1", proxies, options), options)
    finally:
        proxies.stop()


if __name__ == "__main__":
    main()
