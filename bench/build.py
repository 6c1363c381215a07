#!/usr/bin/python3
"""From source to image: hob-build beside buildah bud of a well-written Dockerfile, for the same samples.

Both build on the same layers (Debian and the runtime, imported once), with package caches that are equally warm, in
turn within one run: a first build (its dependencies are nobody's yet), a build after a changed line, a build of nothing
new, and the image's size (layers compressed by zstd for both). Then `hob deploy` of a changed line, to the new version's
first answer. A round before the counted ones warms both. Root; Debian's archive and npm's registry once.
"""
import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "images/source"
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
COMMAND_SECONDS_MAX = 1800
ANSWER_SECONDS_MAX = 60
# What is measured, and the most that ours may take of theirs.
AIMS = {"first": 1.0, "change": 0.5, "nothing": 0.05, "size": 1.0}
WHAT = {"first": "first build", "change": "one line changed", "nothing": "nothing changed", "size": "size of the image"}


class Sample:
    """`describe` makes a source whose dependencies nobody has installed yet, `change` changes a line of its program.

    `base`: the layers of our image that buildah's stands on; `dockerfile`: over them, `base` and `build_base`."""

    def __init__(self, name, dockerfile, describe, change):
        self.name = name
        self.dockerfile = dockerfile
        self.describe = describe
        self.change = change


def edited(file, old, new):
    text = file.read_text()
    assert old in text, f"{file} has no {old}"
    file.write_text(text.replace(old, new, 1))


NODE = Sample(
    "node-express",
    """FROM localhost/base
ENV NODE_ENV=production
WORKDIR /app
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm NODE_EXTRA_CA_CERTS=/run/authorities.crt npm ci --omit=dev --no-audit --no-fund
COPY . .
ENV PORT=8080
EXPOSE 8080
CMD ["node", "server.js"]
""",
    lambda folder, mark: edited(folder / "package.json", '"private"', f'"description": "{mark}", "private"'),
    lambda folder, mark: edited(folder / "server.js", "\n", f"  // {mark}\n"))
PYTHON = Sample(
    "python-wheels",
    """FROM localhost/base
WORKDIR /app
COPY requirements.txt ./
COPY vendor vendor
RUN --mount=type=cache,target=/root/.cache python3 -m venv --system-site-packages .venv && \\
    .venv/bin/pip install -q --no-index --find-links vendor -r requirements.txt
COPY . .
ENV PATH=/app/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONUNBUFFERED=1 PORT=8080
EXPOSE 8080
CMD ["python3", "main.py"]
""",
    lambda folder, mark: edited(folder / "requirements.txt", "\n", f"  # {mark}\n"),
    lambda folder, mark: edited(folder / "main.py", "\n", f"  # {mark}\n"))


def command(argv, **options):
    done = subprocess.run([str(word) for word in argv], check=False, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=COMMAND_SECONDS_MAX, **options)
    if done.returncode != 0:
        sys.exit(f"build: {' '.join(map(str, argv))} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def timed(action):
    started = time.monotonic()
    action()
    return time.monotonic() - started


def manifest_of(layout):
    found = json.loads((layout / "index.json").read_text())
    while "manifests" in found:
        found = blob(layout, found["manifests"][0]["digest"])
    return found


def blob(layout, digest):
    return json.loads((layout / "blobs/sha256" / digest.split(":")[1]).read_text())


class Ours:
    def __init__(self, build, work, state):
        self.build, self.work, self.state = build, work, state
        self.layout = work
        self.built = 0

    def __call__(self, folder):
        self.built += 1
        self.layout = self.work / f"ours-{self.built}"
        command([self.build / "bin/hob-build", "--source", folder, "--output", self.layout, "--state", self.state,
                 "--runtimes", ROOT / "runtimes", "--cache", "bench"])

    def size(self):
        return sum(layer["size"] for layer in manifest_of(self.layout)["layers"])


class Theirs:
    """buildah with a storage of its own. Its steps run by crun, in namespaces, as ours do."""

    def __init__(self, work):
        self.work = work
        # crun refuses a hybrid host while the version 2 tree is mounted: a mount namespace without it.
        tree = pathlib.Path("/sys/fs/cgroup/unified")
        self.holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", (f"umount {tree} && " if tree.is_dir() else "") + "echo there && exec sleep 36000"],
            stdout=subprocess.PIPE, text=True)
        self.holder.stdout.readline()
        self.buildah = ["nsenter", "-m", "-t", self.holder.pid, "buildah", "--root", work / "root", "--runroot", work / "run"]
        (work / "tmp").mkdir()
        self.environment = os.environ | {"TMPDIR": str(work / "tmp")}  # its cache mounts are there

    def import_base(self, layout, title):
        """The layers below the source of our image, as localhost/base."""
        base = self.work / "base"
        manifest = manifest_of(layout)
        config = blob(layout, manifest["config"]["digest"])
        count = sum(1 for entry in config["history"] if entry["created_by"] in ("Debian 12", title))
        config["history"] = config["history"][:count]
        config["rootfs"]["diff_ids"] = config["rootfs"]["diff_ids"][:count]
        config["config"] = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}
        shutil.copytree(layout, base)
        manifest["layers"] = manifest["layers"][:count]
        manifest["config"] = self.put(base, config)
        descriptor = self.put(base, manifest) | {"mediaType": manifest["mediaType"]}
        (base / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}))
        command([*self.buildah, "pull", "-q", f"oci:{base}"], env=self.environment)
        image = json.loads(command([*self.buildah, "images", "--json"], env=self.environment))[0]["id"]
        command([*self.buildah, "tag", image, "localhost/base:latest"], env=self.environment)

    @staticmethod
    def put(layout, value):
        text = json.dumps(value).encode()
        digest = hashlib.sha256(text).hexdigest()
        (layout / "blobs/sha256" / digest).write_bytes(text)
        kind = "application/vnd.oci.image.config.v1+json"
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(text)}

    def __call__(self, folder):
        command([*self.buildah, "bud", "-q", "--pull-never", "--isolation", "oci", "--network", "host", "--layers",
                 "--timestamp", "315532800", "-v", f"{AUTHORITIES}:/run/authorities.crt:ro",
                 "-f", self.work / "Dockerfile", "-t", "localhost/made", folder], env=self.environment)

    def size(self):
        layout = self.work / "pushed"
        command([*self.buildah, "push", "-q", "--compression-format", "zstd", "localhost/made", f"oci:{layout}:made"],
                env=self.environment)
        size = sum(layer["size"] for layer in manifest_of(layout)["layers"])
        shutil.rmtree(layout)
        return size

    def close(self):
        for words in (["rm", "-a"], ["rmi", "-a", "-f"]):
            subprocess.run([str(word) for word in [*self.buildah, *words]], check=False, env=self.environment,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.holder.kill()
        self.holder.wait()


def compare(build, state, sample, rounds):
    """{"first": (ours, theirs), …}: medians, seconds and bytes."""
    times = {what: ([], []) for what in ("first", "change", "nothing")}
    with contextlib.ExitStack() as stack:
        work = pathlib.Path(tempfile.mkdtemp(prefix="hob-bench-build-"))
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        ours = Ours(build, work, state)
        ours(SAMPLES / sample.name)
        theirs = Theirs(work)
        stack.callback(theirs.close)
        image = blob(ours.layout, manifest_of(ours.layout)["config"]["digest"])
        theirs.import_base(ours.layout, image["history"][1]["created_by"])
        (work / "Dockerfile").write_text(sample.dockerfile)
        for number in range(rounds + 1):
            folder = work / f"source-{number}"
            shutil.copytree(SAMPLES / sample.name, folder)
            mark = f"{time.time_ns()}"
            for what, prepare in (("first", sample.describe), ("change", sample.change), ("nothing", None)):
                if prepare:
                    prepare(folder, mark)
                for side, one in enumerate((ours, theirs)):
                    seconds = timed(lambda: one(folder))
                    if number > 0:
                        times[what][side].append(seconds)
        sizes = (ours.size(), theirs.size())
    return {what: tuple(map(statistics.median, both)) for what, both in times.items()} | {"size": sizes}


def deploy(build, state, rounds):
    """Seconds from `hob deploy` of a changed line to the new version's first answer."""
    os.environ["HOB_BUILD"] = str(build)
    os.environ["HOB_BUILD_STATE"] = str(state)
    sys.path.insert(0, str(ROOT / "tests"))
    from hob_instance import Hob
    hob = Hob()
    times = []
    with tempfile.TemporaryDirectory(prefix="hob-bench-deploy-") as work:
        folder = pathlib.Path(work) / "node-app"
        shutil.copytree(SAMPLES / "node-express", folder)
        server = folder / "server.js"
        before = server.read_text()
        try:
            hob.up()
            hob.run("deploy", str(folder), seconds=COMMAND_SECONDS_MAX)
            host = hob.host("node-app")
            for number in range(rounds):
                wanted = f"{number + 2}\n"
                server.write_text(before.replace("send('1\\n')", f"send('{number + 2}\\n')"))
                started = time.monotonic()
                running = subprocess.Popen([str(build / "bin/hob"), "deploy", str(folder), "--data", str(hob.data)],
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                while time.monotonic() - started < ANSWER_SECONDS_MAX:
                    if hob.get(host, "/version").text == wanted:
                        break
                    time.sleep(0.01)
                else:
                    sys.exit("build: the new version does not answer")
                times.append(time.monotonic() - started)
                running.wait(timeout=ANSWER_SECONDS_MAX)
        finally:
            hob.close()
    return statistics.median(times)


def shown(what, value):
    return f"{value / 1e6:.1f} MB" if what == "size" else f"{value:.2f} s"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["node-express", "python-wheels", "deploy"])
    parser.add_argument("--state", type=pathlib.Path, help="where base images are and stay; else they are made and removed")
    options = parser.parse_args()
    if shutil.which("buildah") is None:
        print("build: skipped, buildah is not installed")
        return
    build = options.build.resolve()
    state = options.state or pathlib.Path(tempfile.mkdtemp(prefix="hob-bench-state-"))
    try:
        for sample in (NODE, PYTHON):
            if options.only not in (None, sample.name):
                continue
            for what, (ours, theirs) in compare(build, state, sample, options.rounds).items():
                print(f"build {sample.name}, {WHAT[what]}: hob {shown(what, ours)}, buildah {shown(what, theirs)}, "
                      f"ratio {ours / theirs:.2f} (at most {AIMS[what]:g})", flush=True)
        if options.only in (None, "deploy"):
            print(f"deploy node-express, a changed line to its first answer: {deploy(build, state, options.rounds):.2f} s "
                  "(at most 10)")
    finally:
        if not options.state:
            shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    main()
