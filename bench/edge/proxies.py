"""A target and three proxies before it, one worker each: the edge, Debian's HAProxy and nginx, in the same role. And what
only copies, as the least that a proxy can cost."""
import contextlib
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import deploy  # noqa: E402

HOST = "bench.local"
NAMES = ("edge", "haproxy", "nginx")
DESCRIPTORS = min(32_768, resource.getrlimit(resource.RLIMIT_NOFILE)[1])  # each process may open; 10,000 are clients
CLIENTS = 10_500  # of each proxy at once
PATIENCE_SECONDS = 10


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def enter_network_of_our_own():
    """The machine's packet filters cost the same in each, but they cost; and clients find ports enough here."""
    if os.geteuid() != 0:
        return
    deploy.enter_network_of_our_own()
    with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as ports:
        ports.write("10000 65535")


def run_before_others():
    """Before the machine's other programs, for the seconds that a measurement takes: else it is they who are measured."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def allow_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def wait_for(port):
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
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


def nginx_config(directory, port, tls_port, target, certificate):
    path = os.path.join(directory, "nginx.conf")
    temporary = "".join(
        f"{kind}_temp_path {directory}/nginx-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    with open(path, "w") as out:
        out.write(f"""worker_processes 1; worker_rlimit_nofile {DESCRIPTORS}; daemon off;
pid {directory}/nginx.pid; error_log {directory}/nginx.log;
events {{ worker_connections {CLIENTS}; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600; {temporary}
  upstream b {{ server 127.0.0.1:{target}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    listen 127.0.0.1:{tls_port} ssl http2 backlog=4096;
    ssl_certificate {certificate}; ssl_certificate_key {certificate}; ssl_protocols TLSv1.3; http2_max_concurrent_streams 128;
    location / {{
      proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
    }}
  }}
}}
""")
    return path


def haproxy_config(directory, port, tls_port, target, certificate):
    path = os.path.join(directory, "haproxy.cfg")
    with open(path, "w") as out:
        out.write(f"""global
  nbthread 1
  no strict-limits
  maxconn {CLIENTS}
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
  server s 127.0.0.1:{target}
""")
    return path


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as listed:
        return [int(word) for word in listed.read().split()]


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid):
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        return int(re.search(r"^Pss:\s+(\d+) kB", rollup.read(), re.MULTILINE).group(1)) * 1024


class Proxies:
    """Running: ports[name], tls_ports[name] and pids[name] of each of `names`; ports and pids of "copy", too, and of
    "direct", a target in the proxies' place."""

    def __init__(self, edge_bench, edge_load, io, edges=()):
        """`edges`: more builds of the edge to be set beside it, as (name, edge_bench)."""
        for program in ("nginx", "haproxy", "h2load", "openssl"):
            if shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin") is None:
                sys.exit(f"bench_edge: {program} is not installed; try: apt-get install {program}")
        self.edge_load = edge_load
        self.names = (*NAMES, *(name for name, _ in edges))
        cores = sorted(os.sched_getaffinity(0))
        # The proxies have a core for themselves, the load and the target the others.
        self.proxy_cores = set(cores[:1])
        self.load_cores = set(cores[1:]) or self.proxy_cores
        self.directory = tempfile.mkdtemp(prefix="hob-bench-edge-")
        os.chmod(self.directory, 0o755)
        self.started = []
        spoken = (*self.names, "copy", "direct")
        ports = free_ports(1 + len(spoken) + len(self.names))
        self.target_port = ports[0]
        self.ports = dict(zip(spoken, ports[1:]))
        self.tls_ports = dict(zip(self.names, ports[1 + len(spoken):]))
        try:
            self.start(edge_bench, io, edges)
        except BaseException:
            self.close()
            raise

    def spawn(self, cores, *command, **environment):
        def prepare():
            os.sched_setaffinity(0, cores)
            allow_descriptors()
            run_before_others()

        process = subprocess.Popen([str(word) for word in command], env={**os.environ, **environment}, preexec_fn=prepare,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.started.append(process)
        return process

    def start(self, edge_bench, io, edges):
        certificate = make_certificate(self.directory)
        self.target_pid = self.spawn(self.load_cores, self.edge_load, "target", self.target_port).pid
        common = {"target": self.target_port, "certificate": certificate}
        nginx = self.spawn(self.proxy_cores, "/usr/sbin/nginx", "-c",
                           nginx_config(self.directory, self.ports["nginx"], self.tls_ports["nginx"], **common))
        haproxy = self.spawn(self.proxy_cores, "/usr/sbin/haproxy", "-db", "-f",
                             haproxy_config(self.directory, self.ports["haproxy"], self.tls_ports["haproxy"], **common))
        copy = self.spawn(self.proxy_cores, self.edge_load, "copy", self.ports["copy"], self.target_port)
        direct = self.spawn(self.proxy_cores, self.edge_load, "target", self.ports["direct"])
        self.pids = {"haproxy": haproxy.pid, "copy": copy.pid, "direct": direct.pid}
        for name, binary in (("edge", edge_bench), *edges):
            edge = self.spawn(self.proxy_cores, binary, self.ports[name], 1, io, HOST, self.target_port,
                              EDGE_BENCH_TLS=f"{self.tls_ports[name]} {os.path.dirname(certificate)}")
            self.pids[name] = edge.pid
        # The target first: what copies connects to it for each connection of its own.
        for port in (self.target_port, *self.ports.values(), *self.tls_ports.values()):
            wait_for(port)
        self.pids["nginx"] = children(nginx.pid)[0]

    def close(self):
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def load_cpu_seconds(self):
        """Of the target, and of all clients that have ended."""
        clients = resource.getrusage(resource.RUSAGE_CHILDREN)
        return cpu_seconds(self.target_pid) + clients.ru_utime + clients.ru_stime

    def run_load(self, command, seconds):
        """The output of a client that runs for `seconds`."""
        def prepare():
            os.sched_setaffinity(0, self.load_cores)
            run_before_others()

        return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=seconds + 20,
                              preexec_fn=prepare, check=False).stdout
