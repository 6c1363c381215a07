"""Services by TLS, through everything: the local authority, `hob trust`, and the edge's certificates."""
import json
import os
import pathlib
import stat
import subprocess

import pytest

from hob_instance import wait_until

SYSTEM_AUTHORITIES = pathlib.Path("/usr/local/share/ca-certificates")


def curl(url, port, *options):
    host = url.split("//")[1].split("/")[0].split(":")[0]
    return subprocess.run(["curl", "-sS", "--max-time", "60", "--resolve", f"{host}:{port}:127.0.0.1", *options,
                           f"https://{host}:{port}/"], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.fixture
def secured(hob, service):
    service("tls-hello")
    return hob, f"https://{hob.host('tls-hello')}"


def test_a_service_answers_tls_with_a_certificate_of_the_local_authority(secured):
    hob, url = secured
    authority = hob.data / "tls" / "authority.pem"
    answer = curl(url, hob.https_port, "--cacert", str(authority))
    assert answer.returncode == 0 and "hello" in answer.stdout.lower(), answer.stdout
    # Nobody else's word is enough, and nothing else listens there.
    assert "SSL certificate problem" in curl(url, hob.https_port).stdout
    environment = json.loads(hob.run("env", "--json").stdout)
    assert environment["HOB_CA_FILE"] == str(authority)


def test_the_authoritys_key_is_roots_alone_and_its_certificate_is_bound_to_hobs_names(hob):
    key = (hob.data / "tls" / "authority.key").stat()
    assert key.st_uid == 0 and stat.S_IMODE(key.st_mode) == 0o600
    leaf = (hob.data / "certificates" / "local.pem").stat()
    assert leaf.st_uid == 64902 and stat.S_IMODE(leaf.st_mode) == 0o400
    shown = subprocess.run(["openssl", "x509", "-in", hob.data / "tls" / "authority.pem", "-noout", "-text"],
                           text=True, check=True, stdout=subprocess.PIPE).stdout
    assert "Permitted:" in shown and "DNS:hob.localhost" in shown and "CA:TRUE" in shown


def test_the_edge_comes_back_with_its_certificate(secured):
    hob, url = secured
    hob.kill("edge")
    authority = str(hob.data / "tls" / "authority.pem")
    wait_until("answers again", 60, lambda: curl(url, hob.https_port, "--cacert", authority).returncode == 0)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("replace", ["kill -9", "upgrade"])
def test_sessions_are_resumed_with_the_next_edge(secured, tmp_path, version, replace):
    hob, url = secured
    host = url.split("//")[1].split(":")[0]

    def connect(*options):
        return subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{hob.https_port}", "-servername", host, version,
                               "-ign_eof", *options], input=f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60).stdout

    session = tmp_path / "session"
    assert "New, TLS" in connect("-sess_out", session)
    if replace == "upgrade":
        hob.run("upgrade", "--drain-timeout", "1")
    else:
        hob.kill("edge")
    seen = connect("-sess_in", session)
    assert "Reused, TLS" in seen and "200 OK" in seen, seen
    keys = (hob.data / "edge" / "ticket-keys.json").stat()
    assert keys.st_uid == 64902 and stat.S_IMODE(keys.st_mode) == 0o600


def test_trust_is_given_and_taken_back(secured):
    hob, url = secured
    installed = SYSTEM_AUTHORITIES / f"hob-{hob.id}.crt"
    try:
        told = hob.json("trust")
        assert told == {"File": str(installed), "Trusted": True} and installed.exists()
        assert curl(url, hob.https_port).returncode == 0
    finally:
        hob.run("trust", "--remove")
    assert not installed.exists()
    assert curl(url, hob.https_port).returncode == 60
    assert not os.path.lexists(f"/etc/ssl/certs/hob-{hob.id}.pem")
