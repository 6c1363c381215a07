"""What people, programs and disks do wrong: a clear error, and nothing else disturbed or left half-made."""
import os
import socket

import pytest
from hob_instance import HELLO, busybox_image, wait_until


def raw(port, data, seconds=5):
    """What comes back for bytes sent as they are."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except OSError:
            pass
        return answer


@pytest.mark.parametrize("data", [
    b"GARBAGE\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
], ids=lambda data: data[:40].decode(errors="replace").replace("\r\n", "|"))
def test_malformed_http_is_400_at_both_doors(hob, data):
    for port in (hob.api_port, hob.http_port):
        answer = raw(port, data)
        assert answer.split(b" ")[1] in (b"400", b"505"), (port, answer[:200])


def test_a_header_that_is_too_large_is_431(hob):
    data = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 300_000 + b"\r\n\r\n"
    for port in (hob.api_port, hob.http_port):
        answer = raw(port, data)
        assert answer == b"" or answer.split(b" ")[1] in (b"431", b"400"), answer[:200]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"ServiceName": 1}', b"\xff\xfe", b"[" * 100_000])
def test_malformed_json_is_refused(hob, body):
    import http.client
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
    env = hob.environment()
    request = AWSRequest("POST", hob.endpoint + "/", data=body, headers={
        "Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AppRunner.CreateService", "Host": hob.registry})
    SigV4Auth(Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]), "apprunner", "us-east-1").add_auth(request)
    connection = http.client.HTTPConnection("127.0.0.1", hob.api_port, timeout=10)
    connection.request("POST", "/", body=body, headers=dict(request.headers.items()))
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 400, (answer.status, text)
    assert b"__type" in text


@pytest.mark.parametrize("name, script, more", [
    ("eats-memory", "a=x; while :; do a=$a$a; done", ["--memory", "0.5"]),
    ("eats-processes", "while :; do sleep 1000 & done", []),
    ("never-listens", "sleep 1000", []),
])
def test_an_image_that_misbehaves_fails_alone(hob, service, tmp_path, name, script, more):
    neighbour = service("good-" + name)
    done = hob.run("deploy", busybox_image(tmp_path, name, script), "--name", "bad-" + name, *more, check=False)
    try:
        assert done.returncode == 1, done.stderr
        assert hob.get(neighbour, "/healthz").status == 200
        assert next(s["Status"] for s in hob.json("ps")["Services"] if s["Name"] == "bad-" + name) == "CREATE_FAILED"
    finally:
        hob.run("rm", "bad-" + name, check=False)
    wait_until("its processes gone", 60, lambda: not {"sleep", "busybox"} & set(hob.task_processes()))


def test_an_image_that_fills_its_disk_fills_only_its_own(hob, service, tmp_path):
    free_before = os.statvfs("/tmp").f_bavail * os.statvfs("/tmp").f_frsize
    script = ("dd if=/dev/zero of=/fill bs=1M; echo full: $?; cd /; mkdir -p /www; echo ok >/tmp/healthz; "
              "exec /bin/busybox httpd -f -p 8080 -h /tmp")
    name = "fills-disk"
    try:
        done = hob.run("deploy", busybox_image(tmp_path, name, script), "--name", name, check=False)
        neighbour = service("good-" + name)
        assert hob.get(neighbour, "/healthz").status == 200
        used = free_before - os.statvfs("/tmp").f_bavail * os.statvfs("/tmp").f_frsize
        assert used < 4e9, f"{used / 1e9:.1f} GB gone; {done.stderr}"
    finally:
        hob.run("rm", name, check=False)


def test_a_task_that_ignores_sigterm_is_killed(hob, tmp_path):
    script = "trap '' TERM; /bin/busybox httpd -f -p 8080 -h / & while :; do sleep 1; done"
    name = "ignores-sigterm"
    hob.run("deploy", busybox_image(tmp_path, name, script), "--name", name)
    hob.run("rm", name, seconds=120)
    wait_until("its processes gone", 90, lambda: "busybox" not in hob.task_processes())


def test_a_corrupt_store_is_named_and_left_alone(new_hob):
    hob = new_hob()
    hob.up()
    hob.deploy("hello-corrupt")
    host = hob.host("hello-corrupt")
    hob.down()
    path = hob.data / "control" / "store.db"
    for extra in ("store.db-wal", "store.db-shm"):
        assert not (hob.data / "control" / extra).exists() or (hob.data / "control" / extra).stat().st_size == 0
    good = path.read_bytes()
    bad = b"this is not a database" + good[22:]
    path.write_bytes(bad)
    done = hob.up(check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "store.db" in said, said
    assert path.read_bytes() == bad
    assert hob.json("doctor")["ok"]
    hob.id = __import__("json").loads((hob.data / "instance.json").read_text())["id"]
    path.write_bytes(good)
    hob.up()
    wait_until("the service again", 60, lambda: hob.get(host, "/healthz").status == 200)


def test_a_reference_to_nowhere_says_so(hob):
    for image in (f"{hob.registry}/no-such-image:1", "127.0.0.1:1/nothing:1"):
        done = hob.run("deploy", image, "--name", "hello-nowhere", check=False)
        assert done.returncode == 1
        assert "nothing" in done.stderr or "no-such-image" in done.stderr, done.stderr
        hob.run("rm", "hello-nowhere", check=False)


def test_what_does_not_fit_says_what_would(new_hob):
    hob = new_hob("--cpu-overcommit", "0.1", "--memory-overcommit", "0.1")
    hob.up()
    done = hob.deploy("hello-large", "--cpu", "4", "--memory", "12", image=HELLO, check=False)
    assert done.returncode == 1
    assert "vCPU" in done.stderr or "memory" in done.stderr.lower(), done.stderr
