"""Makes small OCI images with nothing but tarfile and json, and pushes them with skopeo."""
import base64
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import tarfile
import tempfile

from hob_instance import BUILD

LIBRARIES = "usr/lib/x86_64-linux-gnu"
PACKAGES = BUILD / "tests/debs"  # what was downloaded once is kept
PASSWD = """\
root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
postgres:x:101:104:PostgreSQL:/var/lib/postgresql:/bin/sh
redis:x:102:105::/var/lib/redis:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
GROUP = "root:x:0:\nadm:x:4:\ntty:x:5:\nwww-data:x:33:\npostgres:x:104:\nredis:x:105:\nnogroup:x:65534:\n"


class Root:
    """The root file system of an image to be: busybox as the shell, and Debian's accounts and directories."""

    def __init__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="hob-t-image-"))
        self.owners = {}  # path in the image: (uid, gid)
        for folder in ("bin", "etc", "root", "run/lock", "sbin", "tmp", "usr/bin", "usr/sbin", "usr/lib", "var/log", "var/lib"):
            (self.path / folder).mkdir(parents=True)
        (self.path / "tmp").chmod(0o1777)
        self.write("etc/passwd", PASSWD)
        self.write("etc/group", GROUP)
        # A distribution's bin, sbin and lib are links into usr; here only what packages bring needs lib and lib64.
        for name, to in (("lib", "usr/lib"), ("lib64", "usr/lib64"), ("var/run", "/run"), ("var/lock", "/run/lock")):
            self.link(name, to)
        self.copy("/bin/busybox", "bin/busybox")
        for applet in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
            (self.path / "bin" / applet).symlink_to("busybox") if applet != "busybox" else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def write(self, name, text, mode=0o644):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def copy(self, source, name):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, path)

    def link(self, name, to):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(to)

    def folder(self, name, owner=(0, 0), mode=0o755):
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        self.owners[name] = owner

    def package(self, name):
        """Unpacks a Debian package as its registry has it, without the scripts that its installation would run."""
        subprocess.run(["dpkg", "-x", deb(name), str(self.path)], check=True)

    def libraries_of(self, *programs):
        """Adds the shared libraries the programs load, each from this machine or from a package it lacks."""
        for _ in range(2):
            found, missing = self._loaded_by(programs)
            if not missing:
                break
            # Of packages that are installed they come from the machine, so only libraries are fetched, and no compiler.
            for name in self._packages_missing_for():
                self.package(name)
        assert not missing, f"no package has {missing}"
        for library, source in found.items():
            if not source.startswith(str(self.path)):
                self.copy(source, f"{LIBRARIES}/{library}")
        self.copy("/lib64/ld-linux-x86-64.so.2", "usr/lib64/ld-linux-x86-64.so.2")
        # Loaded by the C library when a thread ends.
        self.copy(f"/{LIBRARIES}/libgcc_s.so.1".replace("/usr/", "/"), f"{LIBRARIES}/libgcc_s.so.1")

    wanted = ()  # the packages whose dependencies count

    def _packages_missing_for(self):
        simulated = subprocess.run(["apt-get", "install", "-s", "--no-install-recommends", *self.wanted],
                                   capture_output=True, text=True, check=True).stdout
        return [name for name in re.findall(r"^Inst (lib\S+) \(", simulated, re.M) if not name.startswith("libllvm")]

    def _loaded_by(self, programs):
        found, missing = {}, set()
        for program in programs:
            listed = subprocess.run(["ldd", str(self.path / program)], capture_output=True, text=True, check=True,
                                    env={"LD_LIBRARY_PATH": str(self.path / LIBRARIES), "PATH": "/usr/bin:/bin"}).stdout
            for library, source in re.findall(r"^\s+(\S+) => (/\S+)", listed, re.M):
                found[library] = source
            missing |= set(re.findall(r"^\s+(\S+) => not found", listed, re.M))
        return found, missing

    def tar(self, path):
        def owned(entry):
            entry.uid, entry.gid = self.owners.get(entry.name, (0, 0))
            entry.uname = entry.gname = ""
            return entry
        with tarfile.open(path, "w") as archive:
            for child in sorted(self.path.iterdir()):
                archive.add(child, arcname=child.name, filter=owned)


def deb(name):
    """The path of a package's file, downloaded unless it was before."""
    PACKAGES.mkdir(parents=True, exist_ok=True)
    have = sorted(PACKAGES.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime)
    if not have:
        # Root downloads as itself, where the directory is closed to apt's own user.
        subprocess.run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", name], cwd=PACKAGES, check=True, timeout=120)
        have = list(PACKAGES.glob(f"{name}_*.deb"))
    return str(have[-1])


def write_layout(folder, layer, config):
    """An OCI image layout in `folder`: one layer (a tar file, moved there) and the `config` of its image."""
    folder = pathlib.Path(folder)
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(content, media_type):
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    with open(layer, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    shutil.move(layer, blobs / digest)
    layers = [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": f"sha256:{digest}",
               "size": (blobs / digest).stat().st_size}]
    of_image = {"architecture": "amd64", "os": "linux", "config": config,
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": layers,
                "config": blob(json.dumps(of_image).encode(), "application/vnd.oci.image.config.v1+json")}
    index = {"schemaVersion": 2, "manifests": [blob(json.dumps(manifest).encode(), manifest["mediaType"])]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def push(hob, root, name, config):
    """Makes an image of a Root and a config, and pushes it to the instance's registry; answers its reference."""
    reference = f"{hob.registry}/{name}:1"
    token = hob.boto("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    with tempfile.TemporaryDirectory(prefix="hob-t-oci-") as folder:
        layer = pathlib.Path(folder) / "layer.tar"
        root.tar(layer)
        write_layout(pathlib.Path(folder) / "layout", layer, config)
        subprocess.run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--dest-creds", base64.b64decode(token).decode(),
                        f"oci:{folder}/layout", f"docker://{reference}"], check=True, timeout=120, capture_output=True)
    return reference


def source(image, port, start=None, variables=None):
    """App Runner's SourceConfiguration of an image."""
    configuration = {"Port": str(port)}
    if start:
        configuration["StartCommand"] = start
    if variables:
        configuration["RuntimeEnvironmentVariables"] = variables
    return {"ImageRepository": {"ImageIdentifier": image, "ImageRepositoryType": "ECR", "ImageConfiguration": configuration},
            "AutoDeploymentsEnabled": False}
