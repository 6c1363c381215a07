#!/usr/bin/python3
"""The edge beside Debian's HAProxy and nginx in the same role, one worker each, on a core of its own.

usage: bench_edge.py EDGE_BENCH [--rounds N] [--seconds S] [--io uring|epoll|best] [--rows h1,64k,…] [--beside NAME=EDGE_BENCH]

Rows: h1, HTTP/1.1, small answers over 64 kept-alive connections; 64k, answers of 64 KiB; new, a connection for each
request; tls, as h1 by TLS 1.3; h2, HTTP/2 by TLS 1.3, 8 connections of 32 streams (h2load; the others by edge_load, which
costs its core less than wrk, so that the proxy is the limit); latency, what is added to a request at half of the faster
peer's rate in h1, by a client of constant rate, to what a target in the proxies' place answers it in; idle and idle-tls, the
memory of each of many idle kept-alive connections; asleep and stopped, a request that is held until its task runs, beside
podman (bench_wake.py).

h1 and latency have a line for `copy`, too, which sends on what it receives and looks at nothing (edge_load_main.cc): what the
kernel costs whoever stands between, and so the least that can be aimed at.

Latency has its worth only while client and target have time to spare, for requests that come one by one cost them several
times what they cost in h1. Two things are done for it. The rate is lowered until their core is idle for a third of the time
(to 8,000 requests/s on two virtual cores beside other work): at 36,000 requests/s it never was, the kernel stopped both for the
5 % of each second that real-time programs must leave to others, and the p99 of every proxy was 36 ms. And the target that
answers without a proxy (`direct`) has the proxies' core, so that the way to it is the way to a proxy: on the client's core, where
it was before, it was `direct` that had a p99 of 35 ms, and what the proxies added was less than nothing.

The proxies take turns in each round, and another begins each. All run before the machine's other programs (real time) in a
network of their own, where that is allowed. Last comes the table: medians (of latencies the
best round), ratios to the better peer, and what is aimed at.
`--beside` sets another build of the edge among them, to see what a change does.
"""
import argparse
import contextlib
import json
import pathlib
import re
import socket
import ssl
import statistics
import subprocess
import sys

from proxies import HOST, Proxies, allow_descriptors, cpu_seconds, enter_network_of_our_own, memory_bytes

PEERS = ("haproxy", "nginx")
IDLE = 10_000
IDLE_BY_TLS = 5_000
CONNECTIONS = 64
WAKE_SECONDS_MAX = 300
LOAD_SHARE_MAX = 0.67  # of the core that client and target have, while latency is measured


def load(*words):
    """A driver: asks on each of the connections, again as soon as it is answered. Gives requests done, and requests/s."""
    def drive(proxies, port, path, seconds):
        done = proxies.run_load([proxies.edge_load, "load", port, HOST, path, CONNECTIONS, seconds, *words], seconds).split()
        if len(done) != 2:
            sys.exit(f"bench_edge: port {port} failed requests for {path}")
        return int(done[0]), int(done[0]) / int(done[1]) * 1e6
    return drive


def drive_h2load(proxies, port, path, seconds):
    done = proxies.run_load(["h2load", "-t1", "-c8", "-m32", f"-D{seconds}", "-H", f":authority: {HOST}",
                             f"https://127.0.0.1:{port}{path}"], seconds)
    counts = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed", done)
    if counts is None or counts.group(1) != counts.group(2) or int(counts.group(2)) == 0:
        sys.exit(f"bench_edge: port {port} failed requests:\n{done}")
    return int(counts.group(2)), float(re.search(r"([\d.]+) req/s", done).group(1))


# By row: what it is, how it is driven, by TLS or not, bytes of an answer, the least ratio of requests/s aimed at, and the
# most CPU time a request, of HAProxy's (None: no aim).
ROWS = {
    "h1": ("HTTP/1.1, 64 connections", load(), False, 5, 1.3, 0.9),
    "64k": ("HTTP/1.1, 64 connections, answers of 64 KiB", load(), False, 65_536, 1.0, None),
    "new": ("HTTP/1.1, a connection for each request", load("anew"), False, 5, 1.0, None),
    "tls": ("HTTP/1.1 by TLS 1.3, 64 connections", load("tls"), True, 5, 1.0, 0.9),
    "h2": ("HTTP/2 by TLS 1.3, 8 connections of 32 streams", drive_h2load, True, 5, 1.0, 0.9),
}
OTHER_ROWS = ("latency", "idle", "idle-tls", "asleep", "stopped")


class Table:
    """What was measured, a line each: ours, the peer's, the ratio, and whether it is what is aimed at."""

    def __init__(self):
        self.lines = []

    def add(self, row, what, ours, theirs, peer, aim, at_least):
        ratio = ours / theirs if theirs else float("inf")
        good = aim is None or (ratio >= aim if at_least else ratio <= aim)
        wanted = "" if aim is None else f"{'>=' if at_least else '<='} {aim}"
        self.lines.append((row, what, f"{ours:.4g}", f"{theirs:.4g} {peer}", f"{ratio:.2f}", wanted, "" if good else "not met"))

    def print(self):
        lines = [("row", "what", "edge", "beside", "ratio", "aim", ""), *self.lines]
        widths = [max(len(line[i]) for line in lines) for i in range(7)]
        print()
        for line in lines:
            print("  ".join(word.ljust(width) for word, width in zip(line, widths)).rstrip())


def names_of(row, proxies):
    return (*proxies.names, "copy") if row in ("h1", "latency") else proxies.names


def turns(names, rounds):
    """Each once in each round, never one always after the same other."""
    for turn in range(rounds):
        first = turn % len(names)
        yield from names[first:] + names[:first]


def measure(row, proxies, table, options):
    title, drive, by_tls, answer_bytes, aim, cpu_aim = ROWS[row]
    ports = proxies.tls_ports if by_tls else proxies.ports
    names = names_of(row, proxies)
    rates = {name: [] for name in names}
    costs = {name: [] for name in names}
    for name in names:
        drive(proxies, ports[name], f"/{answer_bytes}", 1)
    for name in turns(names, options.rounds):
        before = cpu_seconds(proxies.pids[name])
        requests, rate = drive(proxies, ports[name], f"/{answer_bytes}", options.seconds)
        costs[name].append((cpu_seconds(proxies.pids[name]) - before) / requests * 1e6)
        rates[name].append(rate)
    rate = {name: statistics.median(values) for name, values in rates.items()}
    cost = {name: statistics.median(values) for name, values in costs.items()}
    print(f"{row}: {title}")
    for name in names:
        print(f"  {name:8} {rate[name]:9.0f} requests/s   {cost[name]:7.2f} us CPU a request (best {min(costs[name]):.2f})",
              flush=True)
    best = max(PEERS, key=rate.get)
    table.add(row, "requests/s", rate["edge"], rate[best], best, aim, at_least=True)
    table.add(row, "us CPU a request", cost["edge"], cost["haproxy"], "haproxy", cpu_aim, at_least=False)
    if "copy" in names:
        table.add(row, "us CPU a request", cost["edge"], cost["copy"], "copy", None, at_least=False)
    return rate


def rate_with_time_to_spare(proxies, ask, per_second):
    """As much of `per_second` as client and target can do on their core at their ease."""
    cores = min(len(proxies.load_cores), 2)
    while per_second > 1_000:
        before = proxies.load_cpu_seconds()
        ask("copy", per_second, 1)
        if proxies.load_cpu_seconds() - before <= LOAD_SHARE_MAX * cores:
            break
        per_second = int(per_second * 0.9)
    return per_second


def measure_latency(proxies, peak, table, options):
    """Added to the target's own latency, at half of what the faster peer can do."""

    def ask(name, per_second, seconds):
        return proxies.run_load([proxies.edge_load, "rate", proxies.ports[name], HOST, "/5", per_second, CONNECTIONS, seconds],
                                seconds)

    best = max(PEERS, key=peak.get)
    half = int(peak[best] / 2)
    per_second = rate_with_time_to_spare(proxies, ask, half)
    names = names_of("latency", proxies)
    found = {name: [] for name in (*names, "direct")}
    for name in turns((*names, "direct"), options.rounds):
        done = ask(name, per_second, options.seconds)
        count, failed, p50, _, p99, _ = (float(word) for word in done.split())
        if failed or not count:
            sys.exit(f"bench_edge: latency of {name}: {done}")
        found[name].append((p50, p99))
    # The best round: whatever else the machine does can only add.
    p50, p99 = ({name: min(values[i] for values in all_values) for name, all_values in found.items()}
                for i in (0, 1))
    print(f"latency: added at {per_second} requests/s (half of {best}'s most: {half}), {CONNECTIONS} connections; "
          f"direct: p50 {p50['direct']:.0f} us, p99 {p99['direct']:.0f} us")
    for what, percentile in (("us added, p50", p50), ("us added, p99", p99)):
        added = {name: percentile[name] - percentile["direct"] for name in names}
        print("  " + what + "   " + "   ".join(f"{name} {added[name]:.0f}" for name in names), flush=True)
        fastest = min(PEERS, key=added.get)
        if added[fastest] <= 0 or added["edge"] <= 0:
            print("  another program had the core while `direct` was measured: that says nothing")
            continue
        table.add("latency", what, added["edge"], added[fastest], fastest, 1.0, at_least=False)


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


def measure_idle(row, proxies, table, count, by_tls):
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
    print("  " + "   ".join(f"{name} {cost[name]:.0f}" for name in proxies.names), flush=True)
    best = min(PEERS, key=cost.get)
    table.add(row, "bytes a connection", cost["edge"], cost[best], best, 1.0, at_least=False)


def measure_wakes(rows, table, options):
    """Hob as it is, in another process: this one's network is its own."""
    script = pathlib.Path(__file__).with_name("bench_wake.py")
    done = subprocess.run([sys.executable, script, "--build", options.edge_bench.resolve().parent.parent, "--rows", ",".join(rows)],
                          stdout=subprocess.PIPE, text=True, timeout=WAKE_SECONDS_MAX, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            table.add(**json.loads(line))
        else:
            print(line, flush=True)
    if done.returncode != 0:
        sys.exit(f"bench_edge: {script.name} failed")


def measure_proxies(wanted, table, options):
    by_tls = ssl.create_default_context()
    by_tls.check_hostname = False
    by_tls.verify_mode = ssl.CERT_NONE
    enter_network_of_our_own()
    allow_descriptors()

    def proxies():
        return Proxies(options.edge_bench, options.edge_bench.with_name("edge_load"), options.io,
                       [tuple(beside.split("=", 1)) for beside in options.beside])

    # Memory with proxies of its own: what has been freed is used again, and not seen.
    for row, count, tls in (("idle", IDLE, None), ("idle-tls", IDLE_BY_TLS, by_tls)):
        if row in wanted:
            with contextlib.closing(proxies()) as fresh:
                measure_idle(row, fresh, table, count, tls)
    if set(wanted) & {*ROWS, "latency"}:
        with contextlib.closing(proxies()) as running:
            peak = {row: measure(row, running, table, options) for row in ROWS if row in wanted}
            if "latency" in wanted:
                measure_latency(running, peak.get("h1") or measure("h1", running, table, options), table, options)


def main():
    rows = (*ROWS, *OTHER_ROWS)
    arguments = argparse.ArgumentParser()
    arguments.add_argument("edge_bench", type=pathlib.Path)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=int, default=2)
    arguments.add_argument("--io", default="best")
    arguments.add_argument("--rows", default=",".join(rows))
    arguments.add_argument("--beside", action="append", default=[])
    options = arguments.parse_args()
    wanted = options.rows.split(",")
    if unknown := set(wanted) - set(rows):
        sys.exit(f"bench_edge: no row {', '.join(sorted(unknown))}; there are {', '.join(rows)}")
    table = Table()
    if wakes := [row for row in ("asleep", "stopped") if row in wanted]:
        measure_wakes(wakes, table, options)
    if set(wanted) - {"asleep", "stopped"}:
        measure_proxies(wanted, table, options)
    table.print()


if __name__ == "__main__":
    main()
