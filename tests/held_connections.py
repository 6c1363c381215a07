"""Connections that last: a tunnel as a WebSocket makes it, and a stream of events; and a small image that serves both."""
import socket
import threading
import time

from hob_instance import busybox_image

# Any request with "Upgrade" gets what it sends back, line by line; /events an event ten times a second; /version the value of
# $VERSION; all else "ok".
SERVER = r"""trap 'exit 0' TERM
/bin/busybox nc -ll -p 8080 -e /bin/busybox sh -c '
upgrade=
read -r method path rest
while read -r line; do
  line=${line%"$(printf "\r")"}
  case "$line" in "") break ;; [Uu]pgrade:*) upgrade=1 ;; esac
done
if [ -n "$upgrade" ]; then
  printf "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
  while read -r line; do printf "%s\n" "$line"; done
elif [ "$path" = /events ]; then
  printf "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
  i=0
  while printf "data: $i\n\n"; do i=$((i+1)); /bin/busybox usleep 100000; done
elif [ "$path" = /version ]; then
  printf "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%s\n" "$VERSION"
else printf "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"
fi' &
wait"""


def long_lived_image(folder, name="long-lived"):
    """Its tasks end at once on SIGTERM, with their connections."""
    return busybox_image(folder, name, SERVER)


class Tunnel:
    """A WebSocket's bytes: each word sent comes back."""

    def __init__(self, port, host):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=15)
        self._socket.sendall(f"GET /socket HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
        self._reader = self._socket.makefile("rb")
        self.status = self._reader.readline()
        assert b" 101 " in self.status, self.status
        while self._reader.readline() not in (b"\r\n", b""):
            pass

    def echo(self, word):
        """Raises OSError, or answers something else, once it is broken."""
        self._socket.sendall(word.encode() + b"\n")
        return self._reader.readline().decode().rstrip("\n")

    def alive(self):
        try:
            return self.echo("still there") == "still there"
        except OSError:
            return False

    def close(self):
        self._reader.close()
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Events:
    """Reads a stream of events in a thread of its own: which was the last, and whether and when it ended."""

    def __init__(self, port, host):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=15)
        self._socket.sendall(f"GET /events HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n".encode())
        self.count = 0
        self.gaps = []   # where an event was missing
        self.ended = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            for line in self._socket.makefile("rb"):
                if not line.startswith(b"data: "):
                    continue
                number = int(line[6:])
                if number != self.count:
                    self.gaps.append((self.count, number))
                self.count = number + 1
            self.ended = (time.time(), "end")
        except (OSError, ValueError) as error:
            self.ended = (time.time(), str(error))

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=10)
        self._socket.close()
