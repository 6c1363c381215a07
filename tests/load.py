"""Bounded load on one host name: keep-alive connections in threads of their own, every answer counted.

    with Load(port, host, connections=4) as load:
        ...                       # do something to the service
    assert load.failed == []      # what was not answered 200, with when and why
"""
import http.client
import threading
import time

REQUESTS_MAX = 200_000  # of one Load, so that a forgotten one ends
PAUSE = 0.002           # between the requests of a connection: this is steady traffic, not a benchmark


class Load:
    def __init__(self, port, host, connections=4, path="/", requests_max=REQUESTS_MAX):
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

    def _run(self):
        connection = None
        while not self._stop.is_set():
            with self._lock:
                if self._left == 0:
                    return
                self._left -= 1
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
                connection.request("GET", self.path, headers={"Host": self.host})
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    self.failed.append((time.time(), answer.status, body[:200]))
                else:
                    self.answered += 1
                if answer.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.failed.append((time.time(), type(error).__name__, str(error)))
                connection = None
            time.sleep(PAUSE)
