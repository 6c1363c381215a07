"""Bytes that are no request, at the API's and the edge's door: refused, and the next request is answered."""
import http.client
import socket

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from hob_instance import HELLO


def raw(port, data, seconds=5):
    """What comes back for bytes sent as they are."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        answer = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                answer += piece
        except OSError:
            pass  # refused while we were still sending
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


def test_a_header_that_is_too_large_is_refused(hob):
    data = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 300_000 + b"\r\n\r\n"
    for port in (hob.api_port, hob.http_port):
        answer = raw(port, data)
        assert answer == b"" or answer.split(b" ")[1] in (b"431", b"400"), answer[:200]
    assert hob.json("ps")["Services"] is not None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"ServiceName": 1}', b"\xff\xfe", b"[" * 100_000])
def test_malformed_json_is_refused(hob, body):
    env = hob.environment()
    request = AWSRequest("POST", hob.endpoint + "/", data=body, headers={
        "Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AppRunner.CreateService", "Host": hob.registry})
    SigV4Auth(Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]), "apprunner", "us-east-1").add_auth(request)
    connection = http.client.HTTPConnection("127.0.0.1", hob.api_port, timeout=10)
    try:
        connection.request("POST", "/", body=body, headers=dict(request.headers.items()))
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    assert answer.status == 400, (answer.status, text)
    assert b"__type" in text


def test_a_reference_to_nowhere_says_so(hob):
    for image, name in ((f"{hob.registry}/no-such-image:1", "no-such-image"), ("127.0.0.1:1/nothing:1", "nothing")):
        done = hob.run("deploy", image, "--name", "hello-nowhere", check=False)
        assert done.returncode == 1
        assert name in done.stderr, done.stderr
        hob.run("rm", "hello-nowhere", check=False)


def test_what_does_not_fit_says_what_would(new_hob):
    hob = new_hob("--cpu-overcommit", "0.1", "--memory-overcommit", "0.1")
    hob.up()
    done = hob.deploy("hello-large", "--cpu", "4", "--memory", "12", image=HELLO, check=False)
    assert done.returncode == 1
    assert "overcommit" in done.stderr, done.stderr
