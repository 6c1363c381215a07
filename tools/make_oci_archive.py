#!/usr/bin/python3
"""Makes an OCI image archive (a tar of an OCI layout) of one layer from files, without a container tool.

The same input gives the same bytes, so the same digest: no times, no owners, names in order.

    make_oci_archive.py [--name hello:latest] [--entry-point /hello] OUT FILE=/path/in/image...
"""
import argparse
import gzip
import hashlib
import io
import json
import os
import pathlib
import tarfile

LAYOUT = json.dumps({"imageLayoutVersion": "1.0.0"}).encode()
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


def add(archive, name, data, mode=0o644):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = mode
    archive.addfile(info, io.BytesIO(data))


def add_directory(archive, name, mode=0o755):
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    info.mode = mode
    archive.addfile(info)


def make_layer(files):
    """The layer's tar: each file with its parent directories, executable as its source is, and a /tmp."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        parents = set()
        for _, target in files:
            parents.update(str(p) for p in pathlib.PurePosixPath(target.lstrip("/")).parents if str(p) != ".")
        for parent in sorted(parents):
            add_directory(archive, parent)
        for source, target in sorted(files, key=lambda pair: pair[1]):
            path = pathlib.Path(source)
            mode = 0o755 if os.access(path, os.X_OK) else 0o644
            add(archive, target.lstrip("/"), path.read_bytes(), mode)
        add_directory(archive, "tmp", 0o1777)
    return out.getvalue()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def descriptor(media_type, data, **more):
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


def make_archive(out, files, name, config):
    layer_tar = make_layer(files)
    layer = gzip.compress(layer_tar, compresslevel=9, mtime=0)
    image = canonical({
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest(layer_tar)]},
        # Tools that build upon an image count its layers here.
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "make_oci_archive.py"}],
    })
    manifest = canonical({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, image),
        "layers": [descriptor(LAYER_TYPE, layer)],
    })
    annotations = {"org.opencontainers.image.ref.name": name.rpartition(":")[2]} if name else {}
    index = canonical({
        "schemaVersion": 2,
        "manifests": [descriptor(MANIFEST_TYPE, manifest, annotations=annotations)],
    })
    temporary = pathlib.Path(str(out) + ".new")
    with tarfile.open(temporary, mode="w", format=tarfile.PAX_FORMAT) as archive:
        add_directory(archive, "blobs")
        add_directory(archive, "blobs/sha256")
        for blob in sorted([layer, image, manifest], key=digest):
            add(archive, "blobs/sha256/" + digest(blob).removeprefix("sha256:"), blob)
        add(archive, "index.json", index)
        add(archive, "oci-layout", LAYOUT)
    temporary.rename(out)
    return digest(manifest)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("files", nargs="+", metavar="FILE=/path/in/image")
    parser.add_argument("--name", default="")
    parser.add_argument("--entry-point", action="append", default=[])
    parser.add_argument("--command", action="append", default=[])
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--user", default="")
    parser.add_argument("--expose", action="append", default=[])
    options = parser.parse_args()
    config = {"Entrypoint": options.entry_point, "Cmd": options.command, "Env": options.env, "User": options.user}
    config = {key: value for key, value in config.items() if value}
    if options.expose:
        config["ExposedPorts"] = {f"{port}/tcp": {} for port in options.expose}
    files = [tuple(pair.split("=", 1)) for pair in options.files]
    print(make_archive(options.out, files, options.name, config))


if __name__ == "__main__":
    main()
