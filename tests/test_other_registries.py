"""Images of other registries: one image a deployment, whatever its tag does; TLS by the system's authorities; a login."""
import base64
import collections
import pathlib
import subprocess
import time

import pytest
from hob_instance import BUILD, ROOT, Hob, free_ports, wait_until

# Not of this machine by its name, so that it is spoken to with TLS; only the test's /etc/hosts knows it.
NAME = "registry.hob-test.example"
HOSTS = "/etc/hosts"
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


@pytest.fixture
def other(new_hob):
    """A registry that is not ours: another instance's, which wants a login."""
    instance = new_hob()
    instance.up()
    return instance


def password(hob):
    token = hob.boto("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    return base64.b64decode(token).decode().removeprefix("AWS:")


def push_version(other, folder, version, tag="app:live"):
    """The sample image with a version of its own, under a tag that may have meant another before."""
    archive = folder / f"{version}.oci.tar"
    subprocess.run([str(ROOT / "tools/make_oci_archive.py"), "--name", "app:1", "--entry-point", "/hello", "--user",
                    "10001:10001", "--env", f"VERSION={version}", str(archive), f"{BUILD}/images/programs/hello=/hello"],
                   check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", "--dest-creds", f"AWS:{password(other)}",
                    f"oci-archive:{archive}", f"docker://{other.registry}/{tag}"], check=True, timeout=60)


def versions(hob, host, requests=30):
    """What answers, request by request: the edge spreads connections over all tasks."""
    return collections.Counter(hob.get(host, "/env?VERSION").text.strip() for _ in range(requests))


def test_a_tag_that_moves_moves_no_task(other, new_hob, tmp_path):
    hob = new_hob("--memory-overcommit", "16", "--cpu-overcommit", "32")
    hob.up()
    hob.run("registry", "login", other.registry, "--username", "AWS", "--password-stdin", input=password(other) + "\n")
    push_version(other, tmp_path, "one")
    hob.run("deploy", f"{other.registry}/app:live", "--name", "tagged", "--health-path", "/healthz")
    host = hob.host("tagged")
    assert versions(hob, host, 3) == {"one": 3}

    push_version(other, tmp_path, "two")
    apprunner = hob.boto("apprunner")
    (service,) = apprunner.list_services()["ServiceSummaryList"]
    scaling = apprunner.create_auto_scaling_configuration(AutoScalingConfigurationName="three", MinSize=3, MaxSize=3)
    apprunner.update_service(
        ServiceArn=service["ServiceArn"],
        AutoScalingConfigurationArn=scaling["AutoScalingConfiguration"]["AutoScalingConfigurationArn"])
    hob.wait_status(apprunner, service["ServiceArn"], "RUNNING")
    wait_until("three tasks", 60, lambda: len(hob.task_processes().get("hello", [])) == 3)
    for _ in range(20):
        assert set(versions(hob, host)) == {"one"}
        time.sleep(0.05)

    # A pause is no new version; a deployment is.
    hob.run("pause", "tagged")
    hob.run("resume", "tagged")
    assert set(versions(hob, host)) == {"one"}
    apprunner.start_deployment(ServiceArn=service["ServiceArn"])
    hob.wait_status(apprunner, service["ServiceArn"], "RUNNING")
    wait_until("the new version alone", 60, lambda: set(versions(hob, host)) == {"two"})


class Seen:
    """A view of this machine with files of its own in place of some, for the processes started in it."""

    def __init__(self, folder):
        self.folder = folder
        self.holder = subprocess.Popen(["unshare", "-m", "--propagation", "slave", "sh", "-c", "echo; exec cat"],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.holder.stdout.readline()
        self.enter = ["nsenter", "-t", str(self.holder.pid), "-m"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.holder.stdin.close()
        self.holder.wait()

    def append(self, path, text):
        """The file as it is, and the text after it."""
        mine = self.folder / pathlib.Path(path).name
        mine.write_text(pathlib.Path(path).read_text() + text)
        mine.chmod(0o644)
        subprocess.run([*self.enter, "mount", "--bind", str(mine), path], check=True)


@pytest.fixture
def with_tls(other, tmp_path):
    """The other registry's address behind nginx with a certificate of an authority of the test's own; and the authority."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, cwd=tmp_path, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Hob test authority",
            "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={NAME}", "-keyout", "server.key", "-out", "server.csr")
    (tmp_path / "names").write_text(f"subjectAltName=DNS:{NAME}\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "names", "-out", "server.pem")
    (port,) = free_ports(1)
    (tmp_path / "nginx.conf").write_text(f"""
daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;
events {{}}
http {{
  access_log off; client_body_temp_path {tmp_path}/t1; proxy_temp_path {tmp_path}/t2; fastcgi_temp_path {tmp_path}/t3;
  uwsgi_temp_path {tmp_path}/t4; scgi_temp_path {tmp_path}/t5;
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {tmp_path}/server.pem; ssl_certificate_key {tmp_path}/server.key;
    location / {{ proxy_pass http://{other.registry}; }}
  }}
}}
""")
    nginx = subprocess.Popen(["/usr/sbin/nginx", "-c", str(tmp_path / "nginx.conf")], stderr=subprocess.DEVNULL)
    try:
        yield f"{NAME}:{port}", (tmp_path / "ca.pem").read_text()
    finally:
        nginx.terminate()
        nginx.wait()


def test_a_registry_with_tls_of_the_users_own_authority_and_a_login(other, with_tls, tmp_path):
    registry, authority = with_tls
    push_version(other, tmp_path, "one")
    folder = tmp_path / "seen"
    folder.mkdir()
    with Seen(folder) as seen:
        seen.append(HOSTS, f"\n127.0.0.1 {NAME}\n")
        hob = Hob(within=seen.enter)
        try:
            hob.up()
            done = hob.run("deploy", f"{registry}/app:live", "--name", "over-tls", check=False)
            assert done.returncode == 1 and "certificate" in done.stderr, done.stderr
            # As update-ca-certificates would leave it: no restart is needed.
            seen.append(AUTHORITIES, authority)
            done = hob.run("deploy", f"{registry}/app:live", "--name", "over-tls", check=False)
            assert done.returncode == 1 and "hob registry login" in done.stderr, done.stderr
            hob.run("registry", "login", registry, "--username", "AWS", "--password-stdin", input=password(other) + "\n")
            hob.run("deploy", f"{registry}/app:live", "--name", "over-tls", "--health-path", "/healthz")
            assert hob.get(hob.host("over-tls"), "/env?VERSION").text == "one\n"
        finally:
            hob.close()
