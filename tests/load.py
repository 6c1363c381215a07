"""Bounded load on one host name: clients in threads of their own, every answer counted.

    with Load(port, host, connections=4) as load:
        ...                       # do something to the service
    assert load.failed == []      # what was not answered 200, with when and why
"""
import http.client
import re
import ssl
import subprocess
import threading
import time

REQUESTS_MAX = 200_000  # of one Load, so that a forgotten one ends
PAUSE = 0.002           # between the requests of a connection: this is steady traffic, not a benchmark


class Load:
    def __init__(self, port, host, connections=4, path="/", requests_max=REQUESTS_MAX, tls=False, keep_alive=True):
        """keep_alive False: a connection for each request. tls: its certificate is not looked at."""
        self.tls, self.keep_alive, self.connections = tls, keep_alive, connections
        self.kind = ("TLS, " if tls else "") + ("kept connections" if keep_alive else "a connection each")
        self.took = []  # seconds, of those answered
        self.port, self.host, self.path = port, host, path
        self.failed = []
        self.answered = 0
        self._left = requests_max
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(connections)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def wait_for(self, more, within=30):
        """Until `more` further requests were answered."""
        goal = self.answered + more
        deadline = time.monotonic() + within
        while self.answered < goal and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self.answered >= goal, f"{self.answered} of {goal} requests answered; failed: {self.failed[:5]}"

    def _connect(self):
        if not self.tls:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return _NamedConnection("127.0.0.1", self.port, self.host, context)

    def _run(self):
        connection = None
        while not self._stop.is_set():
            with self._lock:
                if self._left == 0:
                    return
                self._left -= 1
            try:
                began = time.monotonic()
                if connection is None:
                    connection = self._connect()
                connection.request("GET", self.path, headers={"Host": self.host})
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    self.failed.append((time.time(), answer.status, body[:200]))
                else:
                    self.answered += 1
                    self.took.append(time.monotonic() - began)
                if answer.will_close or not self.keep_alive:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.failed.append((time.time(), type(error).__name__, str(error)))
                connection = None
            time.sleep(PAUSE)


class _NamedConnection(http.client.HTTPSConnection):
    """TLS to an address, asking for a name."""

    def __init__(self, address, port, name, context):
        super().__init__(address, port, timeout=15, context=context)
        self._name = name.split(":")[0]

    def connect(self):
        http.client.HTTPConnection.connect(self)
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._name)


class Http2Load:
    """curl, HTTP/2 by TLS: ten requests to a connection, again and again."""
    STREAMS = 10
    kind = "HTTP/2"
    connections = 1

    def __init__(self, port, host, path="/"):
        name = host.split(":")[0]
        self._command = ["curl", "-sSk", "--http2", "-m", "15", "-o", "/dev/null", "-w", "%{http_code} %{http_version}\n",
                         "--resolve", f"{name}:{port}:127.0.0.1", *[f"https://{name}:{port}{path}"] * self.STREAMS]
        # Each of them needs its own -o.
        self._command[5:5] = ["-o", "/dev/null"] * (self.STREAMS - 1)
        self.failed = []
        self.answered = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(timeout=30)

    def _run(self):
        while not self._stop.is_set():
            done = subprocess.run(self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            answers = done.stdout.splitlines()
            self.answered += answers.count("200 2")
            errors = iter(re.findall(r"curl: \((\d+)\)", done.stderr))  # of those without an answer, in their order
            for answer in answers:
                status = int(answer.split()[0])
                if answer != "200 2":
                    self.failed.append((time.time(), status or f"curl's error {next(errors, done.returncode)}", done.stderr))
            if len(answers) != self.STREAMS:
                self.failed.append((time.time(), f"curl's end {done.returncode}", done.stderr))
