"""The registry as clients meet it: raw HTTP, and skopeo, buildah and podman with storage of their own."""
import base64
import hashlib
import hmac
import http.client
import json
import pathlib
import shutil
import sqlite3
import subprocess
import tempfile
import time

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
SECONDS_MAX = 120


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def token(hob, **keys):
    """What `docker login` would be given: "AWS:PASSWORD"."""
    data = hob.boto("ecr", **keys).get_authorization_token()["authorizationData"][0]
    return base64.b64decode(data["authorizationToken"]).decode()


def signed_token(hob, account="000000000001", scope="push", lives=3600):
    """A token of any scope and age, signed with the instance's own secret, out of a copy of its store."""
    with tempfile.TemporaryDirectory(prefix="hob-t-store-") as folder:
        for path in (hob.data / "control").glob("store.db*"):
            shutil.copy(path, folder)
        database = sqlite3.connect(f"{folder}/store.db")
        value = database.execute("SELECT value FROM record WHERE key = '/identity/secrets/registry'").fetchone()[0]
        database.close()
    secret = next(v for v in json.loads(value).values() if isinstance(v, str) and len(v) == 64)
    text = f"1 {account} {scope} {int((time.time() + lives) * 1000)} arn:aws:iam::{account}:root"
    payload = base64.b64encode(text.encode()).decode()
    return f"AWS:{payload}.{hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()}"


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The first error's code, as the specification lists them."""
        return self.json()["errors"][0]["code"]


class Client:
    """HTTP requests to the registry, with a token."""

    def __init__(self, hob, credentials=None):
        self.port = hob.api_port
        self.credentials = token(hob) if credentials is None else credentials

    def ask(self, method, path, body=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.credentials:
            headers["Authorization"] = "Basic " + base64.b64encode(self.credentials.encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body=body, headers=headers, encode_chunked=headers.get("Transfer-Encoding") == "chunked")
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def start(self, repository):
        """Where an upload that has just begun goes on."""
        answer = self.ask("POST", f"/v2/{repository}/blobs/uploads/", Content_Length="0")
        assert answer.status == 202, answer.body
        return answer.headers["Location"]

    def finish(self, location, digest, body=None):
        return self.ask("PUT", location + ("&" if "?" in location else "?") + "digest=" + digest, body)

    def push_blob(self, repository, data):
        answer = self.finish(self.start(repository), digest_of(data), data)
        assert answer.status == 201, answer.body
        return digest_of(data)

    def put(self, repository, reference, manifest, media_type=OCI_MANIFEST):
        data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        return self.ask("PUT", f"/v2/{repository}/manifests/{reference}", data, Content_Type=media_type)

    def push_image(self, repository, tag, layer, config=None, diff_id=None, **more):
        """One layer (a tar) and a config; answers the manifest's digest."""
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": config or {},
                             "rootfs": {"type": "layers", "diff_ids": [diff_id or digest_of(layer)]}}).encode()
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": self.descriptor(repository, config, OCI_CONFIG),
                    "layers": [self.descriptor(repository, layer, OCI_LAYER)], **more}
        answer = self.put(repository, tag, manifest)
        assert answer.status == 201, answer.body
        return answer.headers["Docker-Content-Digest"]

    def descriptor(self, repository, data, media_type):
        return {"mediaType": media_type, "digest": self.push_blob(repository, data), "size": len(data)}


class Storage:
    """buildah's and podman's images in a directory of their own, nothing of the machine's touched."""

    def __init__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="hob-t-storage-"))
        self.options = ["--root", str(self.path / "root"), "--runroot", str(self.path / "run"), "--storage-driver", "vfs"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def run(self, program, *arguments):
        return run(program, *self.options, *arguments)

    def build(self, name):
        """An image with nothing but busybox, from scratch."""
        self.run("buildah", "from", "--name", "work", "scratch")
        self.run("buildah", "copy", "work", "/bin/busybox", "/bin/busybox")
        self.run("buildah", "config", "--entrypoint", '["/bin/busybox"]', "work")
        self.run("buildah", "commit", "--rm", "work", name)


def run(*command, check=True, **more):
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=SECONDS_MAX, **more)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done
