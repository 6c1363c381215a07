"""Image in, URL out: what a person does first, with the CLI and a browser's stand-in."""
import json
import os
import subprocess

from hob_instance import HELLO, HOB, busybox_image


def test_deployed_image_answers_at_its_url(hob, service):
    service("hello-url", "--env", "HELLO_NAME=Ada")
    url = hob.url("hello-url")
    # curl resolves *.localhost to loopback by itself, as browsers do.
    done = subprocess.run(["curl", "-sS", "--fail", "--max-time", "10", url], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert "Hello from Ada" in done.stdout


def test_every_command_speaks_json(hob, service):
    service("hello-json")
    assert any(s["Name"] == "hello-json" and s["Status"] == "RUNNING" for s in hob.json("ps")["Services"])
    assert hob.json("env")["AWS_ENDPOINT_URL"] == hob.endpoint
    assert set(hob.json("status")["roles"]) == {"control", "edge", "host"}
    assert hob.json("open", "hello-json")["Url"].endswith(f".us-east-1.hob.localhost:{hob.http_port}")
    assert hob.json("doctor")["isolation"] == "container"
    failed = hob.run("logs", "no-such-service", "--json", check=False)
    assert failed.returncode == 1 and "message" in json.loads(failed.stdout)["error"]


def test_a_new_version_replaces_the_old(hob, service):
    host = service("hello-new", "--env", "VERSION=1")
    assert hob.get(host, "/env?VERSION").text == "1\n"
    service("hello-new", "--env", "VERSION=2")
    assert hob.get(host, "/env?VERSION").text == "2\n"


def test_pause_resume_rm(hob, service):
    host = service("hello-pause")
    hob.run("pause", "hello-pause")
    assert hob.get(host, "/healthz").status == 503
    hob.run("resume", "hello-pause")
    assert hob.get(host, "/healthz").status == 200
    hob.run("rm", "hello-pause")
    assert hob.get(host, "/healthz").status == 404
    assert all(s["Name"] != "hello-pause" for s in hob.json("ps")["Services"])


def test_describe_restart_and_recent_logs(hob, service):
    host = service("hello-known", "--env", "COLOUR=blue")
    said = hob.run("describe", "hello-known").stdout
    for words in ("hello-known", "RUNNING", "8080", "HTTP GET /healthz", "1 vCPU, 2 GB", "COLOUR=blue"):
        assert words in said, said
    assert hob.json("describe", "hello-known")["ServiceName"] == "hello-known"
    before = hob.task_processes()["hello"]
    done = hob.run("restart", "hello-known")
    assert "was deployed again" in done.stdout
    assert set(hob.task_processes()["hello"]) - set(before)
    # Off a terminal a phase is one line, however long it takes.
    lines = [line for line in done.stderr.splitlines() if line.startswith("restarting")]
    assert len(lines) == len(set(lines)), done.stderr
    hob.get(host, "/")
    assert "listening on port 8080" in hob.run("logs", "hello-known", "--since", "10m").stdout
    assert hob.run("logs", "hello-known", "--since", "soon", check=False).returncode == 1


def test_a_mistyped_command_is_met_with_the_one_that_was_meant(hob):
    done = hob.run("depoly", HELLO, check=False)
    assert done.returncode == 2 and "did you mean 'hob deploy'" in done.stderr, done.stderr


def test_logs_show_what_the_program_prints(hob, service):
    host = service("hello-logs")
    hob.get(host, "/")
    follower = subprocess.Popen([HOB, "logs", "-f", "hello-logs", "--data", str(hob.data)], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        lines = []
        while "GET /" not in "".join(lines):
            line = follower.stdout.readline()
            assert line, lines
            lines.append(line)
    finally:
        follower.kill()
        follower.wait()
    assert any("listening on port 8080" in line for line in lines)


def test_a_deployment_that_never_becomes_healthy_says_why_and_leaves_the_old_one(hob, service, tmp_path):
    host = service("hello-bad", "--env", "VERSION=1")
    for name, script, said in [
        ("exits", "echo the database is not there >&2; exit 3", "the database is not there"),
        ("elsewhere", "exec /bin/busybox nc -l -p 9999", "hob deploy --port 9999"),
    ]:
        done = hob.deploy("hello-bad", image=busybox_image(tmp_path, name, script), check=False)
        assert done.returncode == 1, name
        assert said in done.stderr, (name, done.stderr)
        assert hob.get(host, "/env?VERSION").text == "1\n"
        assert [s["Status"] for s in hob.json("ps")["Services"] if s["Name"] == "hello-bad"] == ["RUNNING"]
    done = hob.run("deploy", HELLO, "--name", "hello-bad", "--health-path", "/nowhere", check=False)
    assert done.returncode == 1 and "[Path: '/nowhere'] [Port: '8080'], 5 times in a row" in done.stderr, done.stderr
    assert "the answer was 404" in done.stderr and "hob deploy --health-path /" in done.stderr, done.stderr
    for command in ("ps", "status"):
        assert "hello-bad: the last deployment failed, the version before serves" in hob.run(command).stdout
    service("hello-bad", "--env", "VERSION=3")
    assert "the last deployment failed" not in hob.run("ps").stdout


def test_errors_say_what_to_do(hob, tmp_path):
    (tmp_path / "not-an-image.tar").write_bytes(b"\x1f\x8b" + b"\0" * 600)
    for arguments, said in [
        (["deploy", str(tmp_path / "not-an-image.tar")], "gunzip"),
        (["deploy", "./no-such-file.tar"], "there is no file"),
        (["deploy", "no-such-folder"], "hob deploy no-such-folder:latest"),
        (["deploy", "images/source/no-such"], "there is no file or folder"),
        (["deploy", f"{hob.registry}/no-such:1"], "Hob's registry has no image no-such:1"),
        (["logs", "no-such-service"], "there is no service"),
        (["deploy", HELLO, "--name", "hello-env", "--env", "NOVALUE"], "NAME=VALUE"),
        (["deploy", HELLO, "--name", "x"], "serviceName"),
    ]:
        done = hob.run(*arguments, check=False)
        assert done.returncode == 1, arguments
        assert said in done.stderr, (arguments, done.stderr)
    assert not [s for s in hob.json("ps")["Services"] if "no-such" in s["Name"]]


def test_unknown_host_is_404(hob):
    assert hob.get("nobody.us-east-1.hob.localhost").status == 404


def test_a_docker_archive_deploys(hob, service, tmp_path):
    archive = tmp_path / "image.tar"
    subprocess.run(["skopeo", "copy", "-q", f"oci-archive:{HELLO}", f"docker-archive:{archive}:team/hello:2"], check=True)
    host = service("hello-docker", image=str(archive))
    assert hob.get(host, "/healthz").text == "ok\n"


def test_an_image_of_podman_deploys(hob, service, tmp_path):
    # A storage of the test's own; hob finds it as podman does.
    configuration = tmp_path / "storage.conf"
    configuration.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/root"\nrunroot = "{tmp_path}/run"\n')
    environment = {"CONTAINERS_STORAGE_CONF": str(configuration)}
    subprocess.run(["skopeo", "copy", "-q", f"oci-archive:{HELLO}", "containers-storage:localhost/of-podman:1"],
                   check=True, env={**os.environ, **environment})
    done = hob.run("deploy", "localhost/of-podman:1", "--name", "hello-podman", environment=environment)
    assert "of-podman" in done.stderr
    assert hob.get(hob.host("hello-podman"), "/healthz").status == 200
    hob.run("rm", "hello-podman")


def test_an_oci_layout_deploys(hob, service, tmp_path):
    subprocess.run(["skopeo", "copy", "-q", f"oci-archive:{HELLO}", f"oci:{tmp_path}/layout:1"], check=True)
    host = service("hello-layout", image=f"{tmp_path}/layout")
    assert hob.get(host, "/healthz").text == "ok\n"


def test_events_tell_the_story(hob, service):
    service("hello-events")
    events = hob.run("logs", "hello-events", "--events").stdout
    assert "Successfully deployed" in events, events


def test_options_are_checked_before_an_image_is_pushed(hob):
    for option, why in ((("--strategy", "canary 10%"), "canary 10% 5m, 50% 5m"), (("--sleep-after", "soon"), "write 500ms"),
                        (("--cpu", "7"), "0.25"), (("--cpu", "0.25", "--memory", "12"), "12"),
                        (("--health-path", "nowhere"), "starts with '/'")):
        refused = hob.run("deploy", HELLO, "--name", "never-made", *option, check=False)
        assert refused.returncode == 1 and why in refused.stderr and "push" not in refused.stderr, refused.stderr
    assert hob.run("deploy", HELLO, "--name", "never-made", "--strategy", "", check=False).returncode == 2


def test_several_services_go_at_once_or_none_does(hob, service):
    service("gone-one")
    service("gone-two")
    assert "there is no service gone-three" in hob.run("rm", "gone-one", "gone-three", check=False).stderr
    assert {"gone-one", "gone-two"} <= {s["Name"] for s in hob.json("ps")["Services"]}
    done = hob.json("rm", "gone-one", "gone-two")
    assert [s["Name"] for s in done["Services"]] == ["gone-one", "gone-two"]
    assert not {"gone-one", "gone-two"} & {s["Name"] for s in hob.json("ps")["Services"]}


def test_help_is_a_command_too(hob):
    assert hob.run("help").stdout == hob.run("--help").stdout
    assert "--min-size" in hob.run("help", "scale").stdout and "CHAIN" not in hob.run("help", "scale").stdout
    unknown = hob.run("help", "sclae", check=False)
    assert unknown.returncode == 2 and "did you mean 'hob scale'" in unknown.stderr
