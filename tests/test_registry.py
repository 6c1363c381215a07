"""The registry by the OCI distribution specification: the real clients, and HTTP by hand."""
import json
import os
import pathlib
import uuid

import pytest
from hob_instance import HELLO, busybox_image
from registry_client import (DOCKER_LIST, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Client, Storage, digest_of, run,
                             signed_token, token)


@pytest.fixture(scope="module")
def credentials(hob):
    return token(hob)


@pytest.fixture
def client(hob, credentials):
    return Client(hob, credentials)


@pytest.fixture
def name():
    """A repository that no other test has."""
    return "t/" + uuid.uuid4().hex[:10]


@pytest.fixture
def skopeo(hob, credentials):
    def copy(source, to, *more, check=True):
        return run("skopeo", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false",
                   *(["--src-creds", credentials] if source.startswith("docker:") else []),
                   *(["--dest-creds", credentials] if to.startswith("docker:") else []), *more, source, to, check=check)
    return copy


# ---- skopeo, buildah, podman ----

@pytest.mark.parametrize("form, media_type", [("oci", OCI_MANIFEST), ("v2s2", DOCKER_MANIFEST)])
def test_skopeo_copies_both_ways(hob, client, credentials, skopeo, name, tmp_path, form, media_type):
    there = f"docker://{hob.registry}/{name}"
    skopeo(f"oci-archive:{HELLO}", f"{there}:1", "--format", form)
    answer = client.ask("GET", f"/v2/{name}/manifests/1")
    assert answer.headers["Content-Type"] == media_type
    assert answer.headers["Docker-Content-Digest"] == digest_of(answer.body)
    skopeo(f"{there}:1", f"dir:{tmp_path}/back")
    assert (tmp_path / "back/manifest.json").read_bytes() == answer.body
    for layer in answer.json()["layers"]:
        assert digest_of((tmp_path / "back" / layer["digest"][7:]).read_bytes()) == layer["digest"]
    login = ["--tls-verify=false", "--creds", credentials]
    shown = json.loads(run("skopeo", "inspect", *login, f"{there}:1").stdout)
    assert (shown["Digest"], shown["RepoTags"]) == (digest_of(answer.body), ["1"])
    skopeo(f"{there}:1", f"{there}-again:2")
    skopeo(f"{there}:1", f"{there}:2")
    assert json.loads(run("skopeo", "list-tags", *login, there).stdout)["Tags"] == ["1", "2"]
    run("skopeo", "delete", *login, f"{there}:1")  # by the digest, so with both tags
    assert json.loads(run("skopeo", "list-tags", *login, there).stdout)["Tags"] == []
    assert "manifest unknown" in run("skopeo", "inspect", *login, f"{there}:1", check=False).stderr.lower()
    run("skopeo", "inspect", *login, f"{there}-again:2")


@pytest.mark.parametrize("form, media_type", [("oci", OCI_INDEX), ("v2s2", DOCKER_LIST)])
def test_skopeo_copies_an_index_with_all_platforms(hob, client, skopeo, name, tmp_path, form, media_type):
    layout = tmp_path / "layout"
    manifests = []
    (layout / "blobs/sha256").mkdir(parents=True)

    def blob(data, kind):
        (layout / "blobs/sha256" / digest_of(data)[7:]).write_bytes(data)
        return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}

    for platform in ("amd64", "arm64", "s390x"):
        layer = b"\0" * 10240 + b""
        config = json.dumps({"architecture": platform, "os": "linux", "config": {},
                             "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]}}).encode()
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": blob(config, OCI_CONFIG),
                    "layers": [blob(layer, "application/vnd.oci.image.layer.v1.tar")]}
        manifests.append({**blob(json.dumps(manifest).encode(), OCI_MANIFEST), "platform": {"os": "linux", "architecture": platform}})
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).encode()
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [blob(index, OCI_INDEX)]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    there = f"docker://{hob.registry}/{name}:all"
    skopeo(f"oci:{layout}", there, "--all", *(["--format", form] if form != "oci" else []))
    answer = client.ask("GET", f"/v2/{name}/manifests/all")
    assert answer.headers["Content-Type"] == media_type
    assert [m["platform"]["architecture"] for m in answer.json()["manifests"]] == ["amd64", "arm64", "s390x"]
    for listed in answer.json()["manifests"]:
        assert client.ask("HEAD", f"/v2/{name}/manifests/{listed['digest']}").status == 200
    skopeo(there, f"dir:{tmp_path}/back", "--all")
    assert len(list((tmp_path / "back").glob("*.manifest.json"))) == 3
    # What an index lists stays as long as the index.
    one = answer.json()["manifests"][0]["digest"]
    assert client.ask("DELETE", f"/v2/{name}/manifests/{one}").status in (403, 409)
    assert client.ask("DELETE", f"/v2/{name}/manifests/{answer.headers['Docker-Content-Digest']}").status == 202
    assert client.ask("DELETE", f"/v2/{name}/manifests/{one}").status == 202


def test_buildah_pushes_and_podman_pushes_and_pulls(hob, credentials, name):
    login = ["--tls-verify=false", "--creds", credentials]
    with Storage() as storage:
        storage.build("made:1")
        storage.run("buildah", "push", *login, "made:1", f"docker://{hob.registry}/{name}/b:1")
        storage.run("buildah", "push", *login, "--format", "v2s2", "made:1", f"docker://{hob.registry}/{name}/b:docker")
        storage.run("podman", "push", *login, "made:1", f"docker://{hob.registry}/{name}/p:1")
        made = storage.run("podman", "image", "inspect", "--format", "{{.Id}}", "made:1").stdout
    for reference in ("b:1", "b:docker", "p:1"):
        with Storage() as storage:
            storage.run("podman", "pull", "--quiet", *login, f"{hob.registry}/{name}/{reference}")
            pulled = storage.run("podman", "image", "inspect", "--format", "{{.Id}}|{{.Config.Entrypoint}}", f"{hob.registry}/{name}/{reference}")
            image, entry_point = pulled.stdout.strip().split("|")
            assert entry_point == "[/bin/busybox]"
            assert image == made.strip()


# ---- uploads ----

def test_uploads_whole_in_one_chunked_and_in_pieces(client, name):
    data = os.urandom(3_000_000)
    answer = client.ask("POST", f"/v2/{name}/blobs/uploads/?digest={digest_of(data)}", data, Content_Type="application/octet-stream")
    assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, digest_of(data))
    assert client.ask("GET", answer.headers["Location"]).body == data

    data = os.urandom(2_000_000)
    location = client.start(name)
    pieces = [data[:700_000], data[700_000:]]
    answer = client.ask("PATCH", location, iter(pieces), Transfer_Encoding="chunked")
    assert (answer.status, answer.headers["Range"]) == (202, "0-1999999")
    assert client.finish(answer.headers["Location"], digest_of(data)).status == 201
    assert client.ask("GET", f"/v2/{name}/blobs/{digest_of(data)}").body == data

    data = os.urandom(1_000_001)
    location = client.start(name)
    for first in (0, 400_000):
        answer = client.ask("PATCH", location, data[first:first + 400_000], Content_Range=f"{first}-{first + 399_999}")
        assert answer.status == 202
        location = answer.headers["Location"]
    asked = client.ask("GET", location)
    assert (asked.status, asked.headers["Range"]) == (204, "0-799999")
    # The same piece again, or one that leaves a hole, changes nothing.
    for first in (400_000, 900_000):
        answer = client.ask("PATCH", location, b"x" * 10, Content_Range=f"{first}-{first + 9}")
        assert (answer.status, answer.headers["Range"]) == (416, "0-799999")
    assert client.finish(location, digest_of(data), data[800_000:]).status == 201
    assert client.ask("GET", f"/v2/{name}/blobs/{digest_of(data)}").body == data


def test_an_upload_goes_on_after_control_was_killed(new_hob):
    hob = new_hob()
    hob.up()
    client, name, data = Client(hob), "t/resumed", os.urandom(2_500_000)
    kept = client.push_blob(name, b"kept")
    location = client.start(name)
    answer = client.ask("PATCH", location, data[:1_500_000], Content_Range="0-1499999")
    assert answer.status == 202
    hob.kill("control")
    asked = client.ask("GET", answer.headers["Location"])
    assert (asked.status, asked.headers["Range"]) == (204, "0-1499999"), asked.body
    answer = client.ask("PATCH", asked.headers["Location"], data[1_500_000:], Content_Range="1500000-2499999")
    assert answer.status == 202
    hob.kill("control")
    assert client.finish(answer.headers["Location"], digest_of(data)).status == 201
    hob.kill("control")
    assert client.ask("GET", f"/v2/{name}/blobs/{digest_of(data)}").body == data
    assert client.ask("GET", f"/v2/{name}/blobs/{kept}").body == b"kept"


def test_what_was_sent_must_have_its_digest(client, name):
    wrong = digest_of(b"something else")
    answer = client.finish(client.start(name), wrong, b"data")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert client.ask("HEAD", f"/v2/{name}/blobs/{wrong}").status == 404
    assert client.ask("HEAD", f"/v2/{name}/blobs/{digest_of(b'data')}").status == 404
    answer = client.ask("POST", f"/v2/{name}/blobs/uploads/?digest={wrong}", b"data")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    for digest in ("sha256:short", "md5:" + "0" * 32, "", "sha256:" + "G" * 64):
        assert client.finish(client.start(name), digest, b"data").status == 400, digest
    location = client.start(name)
    assert client.ask("DELETE", location).status == 204
    answer = client.ask("GET", location)
    assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert client.ask("PATCH", f"/v2/{name}/blobs/uploads/../../../etc/passwd", b"x").status in (400, 404)


def test_mounts_from_another_repository(client, name):
    data = os.urandom(1000)
    digest = client.push_blob(f"{name}/from", data)
    path = f"/v2/{name}/to/blobs/uploads/?mount={digest}&from="
    answer = client.ask("POST", path + f"{name}/from", Content_Length="0")
    assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, digest)
    assert client.ask("GET", answer.headers["Location"]).body == data
    # From where it is not, it becomes an upload.
    assert client.ask("POST", path.replace("/to/", "/to2/") + f"{name}/nowhere", Content_Length="0").status == 202
    assert client.ask("HEAD", f"/v2/{name}/to2/blobs/{digest}").status == 404
    assert client.ask("DELETE", f"/v2/{name}/from/blobs/{digest}").status == 202
    assert client.ask("HEAD", f"/v2/{name}/from/blobs/{digest}").status == 404
    assert client.ask("GET", f"/v2/{name}/to/blobs/{digest}").body == data


# ---- reading ----

def test_blobs_ranges_and_head(client, name):
    data = os.urandom(100_000)
    path = f"/v2/{name}/blobs/{client.push_blob(name, data)}"
    head = client.ask("HEAD", path)
    assert (head.status, head.headers["Content-Length"], head.body) == (200, "100000", b"")
    assert head.headers["Docker-Content-Digest"] == digest_of(data)
    for text, first, end in (("0-0", 0, 1), ("5-9", 5, 10), ("99990-", 99990, 100_000), ("-10", 99990, 100_000), ("50000-200000", 50000, 100_000)):
        answer = client.ask("GET", path, Range="bytes=" + text)
        assert (answer.status, answer.body) == (206, data[first:end]), text
        assert answer.headers["Content-Range"] == f"bytes {first}-{end - 1}/100000"
    answer = client.ask("GET", path, Range="bytes=100000-")
    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */100000")
    assert client.ask("GET", path, Range="bytes=9-5").status in (200, 416)
    missing = client.ask("GET", f"/v2/{name}/blobs/{digest_of(b'?')}")
    assert (missing.status, missing.code) == (404, "BLOB_UNKNOWN")


def test_tags_and_repositories_come_in_pages(client, name):
    digest = client.push_image(name, "a", b"\0" * 1024)
    manifest = client.ask("GET", f"/v2/{name}/manifests/{digest}").body
    tags = sorted(["a", *(f"v{i:02}" for i in range(24))])
    for tag in tags[1:]:
        assert client.put(name, tag, manifest).status == 201
    assert client.ask("GET", f"/v2/{name}/tags/list").json() == {"name": name, "tags": tags}
    for path, key, wanted in ((f"/v2/{name}/tags/list", "tags", tags), ("/v2/_catalog", "repositories", [name])):
        seen, at = [], f"{path}?n=10"
        while at:
            answer = client.ask("GET", at)
            page = answer.json()[key]
            assert len(page) <= 10
            seen += page
            link = answer.headers["Link"]
            assert link is None or link.endswith('; rel="next"')
            at = link and link[1:link.index(">")]
        assert set(wanted) <= set(seen) and seen == sorted(set(seen))
    assert client.ask("GET", f"/v2/{name}/tags/list?n=3&last=v20").json()["tags"] == ["v21", "v22", "v23"]
    assert client.ask("GET", f"/v2/{name}/tags/list?n=x").status == 400
    assert client.ask("GET", "/v2/t/no-such/tags/list").code == "NAME_UNKNOWN"


def test_referrers(client, name):
    subject = client.push_image(name, "1", b"\0" * 1024)
    size = len(client.ask("GET", f"/v2/{name}/manifests/1").body)

    def attach(kind, text):
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind,
                    "config": client.descriptor(name, b"{}", "application/vnd.oci.empty.v1+json"),
                    "layers": [client.descriptor(name, text, "text/plain")], "annotations": {"of": kind},
                    "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": size}}
        data = json.dumps(manifest).encode()
        answer = client.put(name, digest_of(data), data)
        assert (answer.status, answer.headers["OCI-Subject"]) == (201, subject)
        return digest_of(data)

    assert client.ask("GET", f"/v2/{name}/referrers/{subject}").json()["manifests"] == []
    signature, bill = attach("text/signature", b"signed"), attach("text/bill", b"parts")
    answer = client.ask("GET", f"/v2/{name}/referrers/{subject}")
    assert answer.headers["Content-Type"] == OCI_INDEX
    assert {m["digest"]: (m["artifactType"], m["annotations"]) for m in answer.json()["manifests"]} == {
        signature: ("text/signature", {"of": "text/signature"}), bill: ("text/bill", {"of": "text/bill"})}
    answer = client.ask("GET", f"/v2/{name}/referrers/{subject}?artifactType=text/bill")
    assert [m["digest"] for m in answer.json()["manifests"]] == [bill]
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert client.ask("DELETE", f"/v2/{name}/manifests/{bill}").status == 202
    assert [m["digest"] for m in client.ask("GET", f"/v2/{name}/referrers/{subject}").json()["manifests"]] == [signature]
    assert client.ask("GET", f"/v2/{name}/referrers/{digest_of(b'nobody')}").json()["manifests"] == []


def test_deletes(client, name):
    digest = client.push_image(name, "1", b"\0" * 1024)
    layer = client.ask("GET", f"/v2/{name}/manifests/1").json()["layers"][0]["digest"]
    assert client.ask("DELETE", f"/v2/{name}/blobs/{layer}").status in (403, 405, 409), "an image needs it"
    assert client.ask("DELETE", f"/v2/{name}/manifests/1").status == 202  # the tag alone
    assert client.ask("GET", f"/v2/{name}/manifests/1").code == "MANIFEST_UNKNOWN"
    assert client.ask("GET", f"/v2/{name}/manifests/{digest}").status == 200
    assert client.ask("DELETE", f"/v2/{name}/manifests/{digest}").status == 202
    assert client.ask("GET", f"/v2/{name}/manifests/{digest}").status == 404
    assert client.ask("DELETE", f"/v2/{name}/manifests/{digest}").status == 404
    assert client.ask("DELETE", f"/v2/{name}/blobs/{layer}").status == 202
    assert client.ask("HEAD", f"/v2/{name}/blobs/{layer}").status == 404


@pytest.mark.parametrize("manifest, code", [
    (b"", "MANIFEST_INVALID"), (b"{", "MANIFEST_INVALID"), (b"[]", "MANIFEST_INVALID"), (b"\xff" * 100, "MANIFEST_INVALID"),
    (b'{"schemaVersion": 1}', "MANIFEST_INVALID"), (b"[" * 50_000, "MANIFEST_INVALID"),
    (json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
                 "config": {"mediaType": OCI_CONFIG, "digest": digest_of(b"none"), "size": 4}}).encode(), "MANIFEST_BLOB_UNKNOWN"),
    (json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
                 "config": {"mediaType": OCI_CONFIG, "digest": "sha256:../../etc", "size": 4}}).encode(), "MANIFEST_INVALID"),
], ids=lambda value: value[:20].decode(errors="replace") if isinstance(value, bytes) else value)
def test_manifests_that_are_refused(client, name, manifest, code):
    client.push_blob(name, b"so that the repository is there")
    answer = client.put(name, "bad", manifest)
    assert (400 <= answer.status < 500, answer.code) == (True, code), answer.body
    assert client.ask("GET", f"/v2/{name}/manifests/bad").status == 404


def test_a_manifest_that_is_too_large_or_misnamed(client, name):
    client.push_blob(name, b"x")
    answer = client.put(name, "large", b'{"a":"' + b"x" * 5_000_000 + b'"}')
    assert (answer.status, answer.code) == (413, "SIZE_INVALID")
    digest = client.push_image(name, "1", b"\0" * 1024)
    data = client.ask("GET", f"/v2/{name}/manifests/{digest}").body
    assert client.put(name, digest_of(b"other"), data).code == "DIGEST_INVALID"
    for repository in ("UPPER", "a//b", "-a", "a/../b", "x" * 300):
        assert client.ask("POST", f"/v2/{repository}/blobs/uploads/", Content_Length="0").status in (400, 404), repository


# ---- who may ----

def test_a_token_is_needed_and_must_be_good(hob, client, credentials, name):
    client.push_image(name, "1", b"\0" * 1024)
    for wrong in ("", "AWS:wrong", "AWS:" + credentials[4:-1] + "0x", credentials.replace("AWS:", "AWS:A"), signed_token(hob, lives=-1),
                  signed_token(hob, account="999999999999")):
        answer = Client(hob, wrong).ask("GET", f"/v2/{name}/manifests/1")
        assert (answer.status, answer.code) == (401, "UNAUTHORIZED"), wrong
        assert answer.headers["WWW-Authenticate"].startswith(f'Basic realm="http://{hob.registry}/"')
    assert b"has expired" in Client(hob, signed_token(hob, lives=-1)).ask("GET", "/v2/").body
    assert Client(hob, signed_token(hob)).ask("GET", "/v2/").status == 200
    done = run("skopeo", "inspect", "--tls-verify=false", "--creds", "AWS:wrong", f"docker://{hob.registry}/{name}:1", check=False)
    assert done.returncode != 0 and "not one of ours" in done.stderr or "unauthorized" in done.stderr.lower(), done.stderr


def test_a_token_to_pull_does_not_push(hob, client, name):
    digest = client.push_image(name, "1", b"\0" * 1024)
    reader = Client(hob, signed_token(hob, scope="pull"))
    assert reader.ask("GET", f"/v2/{name}/manifests/1").status == 200
    data = client.ask("GET", f"/v2/{name}/manifests/1").body
    for answer in (reader.ask("POST", f"/v2/{name}/blobs/uploads/", Content_Length="0"), reader.put(name, "2", data),
                   reader.ask("DELETE", f"/v2/{name}/manifests/{digest}")):
        assert (answer.status, answer.code) == (403, "DENIED")
    assert client.ask("GET", f"/v2/{name}/tags/list").json()["tags"] == ["1"]


def test_another_account_sees_nothing(hob, client, name):
    made = hob.json("account", "create", "reg-" + name[2:])
    keys = {"access_key": made["AccessKeyId"], "secret_key": made["SecretAccessKey"]}
    other = Client(hob, token(hob, **keys))
    digest = client.push_image(name, "1", b"\0" * 1024)
    layer = client.ask("GET", f"/v2/{name}/manifests/1").json()["layers"][0]["digest"]
    unfinished = client.start(name)
    assert other.ask("GET", "/v2/_catalog").json() == {"repositories": []}
    for path in ("manifests/1", f"manifests/{digest}", f"blobs/{layer}", "tags/list", f"referrers/{digest}"):
        answer = other.ask("GET", f"/v2/{name}/{path}")
        assert (answer.status, answer.code) == (404, "NAME_UNKNOWN"), path
    assert other.ask("PATCH", unfinished, b"x").status == 404
    assert other.ask("DELETE", f"/v2/{name}/manifests/{digest}").status == 404
    # Nor by a mount, nor by a manifest that names what another pushed.
    assert other.ask("POST", f"/v2/mine/blobs/uploads/?mount={layer}&from={name}", Content_Length="0").status == 202
    assert other.put("mine", "1", client.ask("GET", f"/v2/{name}/manifests/1").body).code == "MANIFEST_BLOB_UNKNOWN"
    # The same name is another repository.
    other.push_image(name, "1", b"\0" * 2048)
    assert client.ask("HEAD", f"/v2/{name}/manifests/1").headers["Docker-Content-Digest"] == digest
    ecr = hob.boto("ecr", **keys)
    assert sorted(r["repositoryName"] for r in ecr.describe_repositories()["repositories"]) == sorted(["mine", name])
    with pytest.raises(ecr.exceptions.RepositoryNotFoundException):
        ecr.describe_images(registryId="000000000001", repositoryName=name)


def test_a_registrys_long_name_is_for_its_own_account(hob, client, name):
    made = hob.json("account", "create", "long-" + name[2:])
    other = Client(hob, token(hob, access_key=made["AccessKeyId"], secret_key=made["SecretAccessKey"]))
    client.push_image(name, "1", b"\0" * 1024)
    host = f"000000000001.dkr.ecr.us-east-1.hob.localhost:{hob.api_port}"
    assert client.ask("GET", f"/v2/{name}/manifests/1", Host=host).status == 200
    answer = other.ask("GET", "/v2/", Host=host)
    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")


# ---- archives of others ----

def test_docker_archives_are_pushed(hob, skopeo, name, tmp_path):
    archive = busybox_image(tmp_path, "from-docker", "echo hi")
    run("skopeo", "copy", "--quiet", f"oci-archive:{archive}", f"docker-archive:{tmp_path}/d.tar:x:1")
    skopeo(f"docker-archive:{tmp_path}/d.tar", f"docker://{hob.registry}/{name}:1")
    skopeo(f"docker://{hob.registry}/{name}:1", f"oci-archive:{tmp_path}/back.tar")
    assert pathlib.Path(f"{tmp_path}/back.tar").stat().st_size > 100_000
