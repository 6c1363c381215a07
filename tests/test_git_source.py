"""A git repository's address in, URL out: branches, tags, commits, folders of a repository; and repositories that are
not there, not ours, or made to be more than a source."""
import json
import os
import pathlib
import shutil
import subprocess

import pytest

from git_server import GitServer, commit, git
from hob_instance import HOB, Hob

SAMPLES = pathlib.Path(HOB).parents[2] / "images" / "source"
FIRST_BUILD_SECONDS_MAX = 900  # Debian's base image is made in it


@pytest.fixture(scope="module")
def git_hob(build_state):
    instance = Hob()
    try:
        instance.up()
        yield instance
        instance.down()
        assert instance.remains() == []
    finally:
        instance.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A repository with an Express application in a folder of it, and a server that has it."""
    root = tmp_path_factory.mktemp("git")
    folder = root / "shop.git"
    shutil.copytree(SAMPLES / "node-express", folder / "web")
    git(root, "init", "--quiet", "--initial-branch=main", "shop.git")
    commit(folder, "first")
    server = GitServer(root)
    yield folder, f"{server.url}/shop.git"
    server.close()


def says(shop_folder, text):
    server = shop_folder / "web" / "server.js"
    lines = server.read_text().splitlines(keepends=True)
    server.write_text("".join(f"app.get('/version', (request, response) => response.type('text').send('{text}'));\n"
                              if "'/version'" in line else line for line in lines))


def services(git_hob):
    return [line.split()[0] for line in git_hob.run("ps").stdout.splitlines()]


def fetch_folders():
    return {each for each in os.listdir("/tmp") if each.startswith("hob-git-")}


def test_a_branch_becomes_a_service(git_hob, shop):
    folder, url = shop
    first = git_hob.run("deploy", f"{url}#main", "--source-directory", "web", "--name", "shop",
                        seconds=FIRST_BUILD_SECONDS_MAX)
    assert f"fetching {url} at main" in first.stderr
    assert f"commit {git(folder, 'rev-parse', 'main')}" in first.stderr
    assert git_hob.get(git_hob.host("shop"), "/").text == "hello from express\n"


def test_a_commit_goes_live_and_an_earlier_one_can_be_named(git_hob, shop):
    folder, url = shop
    first = git(folder, "rev-parse", "main")
    git(folder, "tag", "v1")
    says(folder, "two")
    commit(folder, "second")
    for reference, answer in (("", "two"), ("#v1", "1\n"), ("#main", "two"), (f"#{first}", "1\n")):
        git_hob.run("deploy", url + reference, "--source-directory", "/web/", "--name", "shop")
        assert git_hob.get(git_hob.host("shop"), "/version").text == answer, reference
    git_hob.run("rollback", "shop")
    assert git_hob.get(git_hob.host("shop"), "/version").text == "two"


def test_an_image_says_which_commit_it_is_made_from(git_hob, shop, tmp_path):
    folder, url = shop
    archive = tmp_path / "shop.tar"
    git_hob.run("build", url, "--source-directory", "web", "-o", str(archive))
    shown = subprocess.run(["skopeo", "inspect", "--config", f"oci-archive:{archive}"], check=True, capture_output=True)
    labels = json.loads(shown.stdout)["config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == git(folder, "rev-parse", "main")
    assert labels["org.opencontainers.image.source"] == url


@pytest.mark.parametrize("named, directory, why", [
    ("{url}#nowhere", "web", "there is no branch, tag or commit nowhere"),
    ("{url}#" + "1" * 40, "web", "there is no branch, tag or commit 1111"),
    ("{url}#--upload-pack=id", "web", "names no branch, tag or commit"),
    ("{url}", "nowhere", "there is no folder nowhere in it"),
    ("{url}", "../web", "without '..'"),
    ("{base}/nothing.git", "", "there is no repository"),
    ("http://127.0.0.1:9/a.git", "", "127.0.0.1"),
    ("ssh://git@127.0.0.1/a.git", "", "by https:// and http:// alone"),
    (".", "web", "--source-directory is for a repository's address"),
])
def test_what_cannot_be_fetched_is_said_and_leaves_nothing(git_hob, shop, named, directory, why):
    _, url = shop
    before = services(git_hob)
    folders = fetch_folders()
    refused = git_hob.run("deploy", named.format(url=url, base=url.rsplit("/", 1)[0]), "--name", "other-shop",
                          *(["--source-directory", directory] if directory else []), check=False)
    assert refused.returncode == 1
    assert why in refused.stderr
    assert services(git_hob) == before
    assert fetch_folders() <= folders


def test_a_private_repository_takes_a_token_which_nobody_sees(git_hob, shop):
    folder, _ = shop
    server = GitServer(folder.parent, login="reader:s3cret-token")
    try:
        address = f"{server.url}/shop.git"
        refused = git_hob.run("build", address, "-o", "/dev/null", check=False)
        assert refused.returncode == 1
        assert "HOB_GIT_TOKEN" in refused.stderr
        built = git_hob.run("build", address, "--source-directory", "web", "-o", str(folder.parent / "private.tar"),
                            environment={**os.environ, "HOB_GIT_USER": "reader", "HOB_GIT_TOKEN": "s3cret-token"})
        assert "s3cret-token" not in built.stdout + built.stderr
        assert b"s3cret-token" not in (folder.parent / "private.tar").read_bytes()
    finally:
        server.close()


def test_a_repository_cannot_lead_out_of_itself(git_hob, tmp_path):
    folder = tmp_path / "evil.git"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "evil.git")
    (folder / "app").symlink_to("/etc")
    (folder / ".gitattributes").write_text("* filter=run\n")
    (folder / ".gitconfig").write_text('[filter "run"]\n\tsmudge = touch /tmp/hob-was-run\n[core]\n\tsshCommand = id\n')
    (folder / ".gitmodules").write_text('[submodule "x"]\n\tpath = x\n\turl = ext::sh -c "touch /tmp/hob-was-run"\n')
    commit(folder, "evil")
    server = GitServer(tmp_path)
    try:
        refused = git_hob.run("build", f"{server.url}/evil.git", "--source-directory", "app", "-o", "/dev/null",
                              check=False)
        assert refused.returncode == 1
        assert "there is no folder app in it" in refused.stderr
        assert "its submodules are left out" in refused.stderr
        assert not os.path.exists("/tmp/hob-was-run")
    finally:
        server.close()


def test_a_repository_larger_than_a_source_may_be_is_refused_before_it_is_unpacked(git_hob, tmp_path):
    folder = tmp_path / "huge.git"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "huge.git")
    with open(folder / "zeros", "wb") as zeros:
        zeros.truncate(513 << 20)
    commit(folder, "huge")
    server = GitServer(tmp_path)
    try:
        refused = git_hob.run("build", f"{server.url}/huge.git", "-o", "/dev/null", check=False)
        assert refused.returncode == 1
        assert "holds more than a source may" in refused.stderr
    finally:
        server.close()
