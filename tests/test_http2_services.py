"""Services whose program speaks HTTP/2: a real gRPC server (Debian's python3-grpcio) called by a real client, through deployments;
and from HTTP/1.1 to HTTP/2 and back under load, as what a program speaks belongs to a version."""
import pathlib
import shutil
import sys
import threading
import time

import pytest

from hob_instance import HELLO, ROOT
from images import Root, push
from load import Http2Load, Load

sys.path.append(str(ROOT / "src/edge/testdata"))
import grpc_peer  # noqa: E402

PORT = 8080
PYTHON = pathlib.Path("/usr/lib/python3.11")
NOT_NEEDED = shutil.ignore_patterns("test", "tests", "config-*", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "distutils")


def settings(hob, name):
    """A service's hob: tags."""
    client = hob.boto("apprunner")
    arn = next(each["ServiceArn"] for each in client.list_services()["ServiceSummaryList"] if each["ServiceName"] == name)
    tags = client.list_tags_for_resource(ResourceArn=arn)["Tags"]
    return {tag["Key"]: tag["Value"] for tag in tags if tag["Key"].startswith("hob:")}


@pytest.fixture
def deploy(hob):
    """hob deploy, with the TCP health check that a service of HTTP/2 has; what it made is removed."""
    made = set()

    def go(name, image, *options):
        made.add(name)
        hob.run("deploy", image, "--name", name, *options)
        return hob.host(name).split(":")[0]

    yield go
    for name in made:
        hob.run("rm", name, check=False)


def test_a_service_goes_from_http1_to_http2_and_back_under_load(hob, deploy):
    with Root() as root:
        root.copy("/usr/sbin/nghttpd", "usr/sbin/nghttpd")
        root.write("srv/healthz", "http2\n")
        root.libraries_of("usr/sbin/nghttpd")
        # As the first process it would not hear SIGTERM.
        start = f"trap 'kill $!; exit' TERM; /usr/sbin/nghttpd --no-tls -d /srv {PORT} & wait"
        spoken = push(hob, root, "http2/static", {"Cmd": ["/bin/busybox", "sh", "-c", start]})
    host = deploy("both-protocols", HELLO, "--idle-timeout", "50s")
    loads = [Load(hob.http_port, host, path="/healthz"), Load(hob.https_port, host, path="/healthz", tls=True),
             Http2Load(hob.https_port, host, path="/healthz")]

    def is_second():
        return hob.get(host, "/healthz").text == "http2\n"
    with loads[0], loads[1], loads[2]:
        assert not is_second()
        deploy("both-protocols", spoken, "--protocol", "http2", "--idle-timeout", "40s")
        assert is_second()
        hob.run("rollback", "both-protocols")
        assert not is_second()
        assert settings(hob, "both-protocols") == {"hob:idle-timeout": "50s"}
        hob.run("rollback", "both-protocols", "--to", "2")
        assert is_second()
        assert settings(hob, "both-protocols") == {"hob:idle-timeout": "40s", "hob:protocol": "http2"}
        # What it speaks is changed with the next deployment, not under a version that serves.
        client = hob.boto("apprunner")
        arn = next(each["ServiceArn"] for each in client.list_services()["ServiceSummaryList"]
                   if each["ServiceName"] == "both-protocols")
        client.tag_resource(ResourceArn=arn, Tags=[{"Key": "hob:protocol", "Value": "http1"}])
        loads[0].wait_for(200)
        deploy("both-protocols", HELLO)
        assert not is_second()
        for load in loads:
            assert load.answered > 0
    for load in loads:
        assert load.failed == [], (load.kind, load.answered, load.failed[:3])
    print(f"from HTTP/1.1 to HTTP/2 and back: {sum(load.answered for load in loads)} requests, none failed")


class Calls:
    """gRPC calls without an end, on a channel that is kept: short ones, and talks of a second."""

    def __init__(self, channel):
        self.made, self.failed, self._stop, self._channel = 0, [], threading.Event(), channel
        self._threads = [threading.Thread(target=self._run, args=(each,), daemon=True) for each in (self._echo, self._talk)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _run(self, call):
        while not self._stop.is_set():
            try:
                call()
                self.made += 1
            except Exception as error:  # pylint: disable=broad-except
                self.failed.append((time.time(), str(error)))

    def _echo(self):
        assert self._channel.unary_unary("/t/Echo")(b"word", timeout=20) == b"word"

    def _talk(self):
        def slowly():
            for i in range(20):
                yield str(i).encode()
                self._stop.wait(0.05)
        assert len([*self._channel.stream_stream("/t/Talk")(slowly(), timeout=20)]) == 20


def test_a_grpc_server_is_called_through_deployments(hob, deploy):
    with Root() as root:
        root.copy("/usr/bin/python3.11", "usr/bin/python3")
        shutil.copytree(PYTHON, root.path / PYTHON.relative_to("/"), ignore=NOT_NEEDED, symlinks=True)
        shutil.copytree("/usr/lib/python3/dist-packages/grpc", root.path / "usr/lib/python3/dist-packages/grpc")
        (root.path / PYTHON.relative_to("/") / "sitecustomize.py").unlink(missing_ok=True)
        root.copy(ROOT / "src/edge/testdata/grpc_peer.py", "srv/grpc_peer.py")
        modules = [str(path.relative_to(root.path)) for path in (root.path / "usr/lib").glob("python3*/**/*.so")]
        root.libraries_of("usr/bin/python3", *modules)
        image = push(hob, root, "grpc/peer", {"Cmd": ["/usr/bin/python3", "/srv/grpc_peer.py", "listen", str(PORT)]})
    host = deploy("grpc-peer", image, "--protocol", "http2")
    made = 0
    authority = (hob.data / "tls/authority.pem").read_bytes()
    for port, trusted in ((hob.http_port, None), (hob.https_port, authority)):
        with grpc_peer.channel_to(port, host, trusted) as channel:
            made += grpc_peer.check_calls(channel)
    with grpc_peer.channel_to(hob.http_port, host) as plain, grpc_peer.channel_to(hob.https_port, host, authority) as secure:
        with Calls(plain) as first, Calls(secure) as second:
            for version in ("2", "3"):
                deploy("grpc-peer", image, "--env", f"VERSION={version}")
            hob.run("rollback", "grpc-peer")
    for calls in (first, second):
        assert calls.failed == [], (calls.made, calls.failed[:3])
        assert calls.made > 0
    print(f"gRPC: {made} calls of each kind, {first.made + second.made} through deployments, none failed")
