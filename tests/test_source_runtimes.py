"""A real small application for each runtime that Debian can provide: built, served, asked.

Some of them each day, so that `make test` stays short and all have their turn in a week; all with HOB_TEST_ALL_SOURCES=1
(`make test-source`). Which they were is printed at the end.
"""
import datetime
import json
import os
import pathlib
import shutil

import pytest

from hob_instance import HOB, Hob

SAMPLES = pathlib.Path(HOB).parents[2] / "images" / "source"
FIRST_BUILD_SECONDS_MAX = 900  # Debian's base image and a compiler are made in it
ANSWERS = {
    "python-flask": "hello from flask\n",
    "static": "hello from static",
    "php-plain": "hello from php\n",
    "python-wheels": "hello from python\n",
    "java-maven": "hello from java\n",
    "ruby-rack": "hello from ruby\n",
    "cpp-cmake": "hello from c++\n",
    "static-vite": "<title>hello from vite</title>",
    "go-hello": "hello from go\n",
    "rust-hello": "hello from rust\n",
}
EACH_DAY = 2


def todays():
    names = list(ANSWERS)
    if os.environ.get("HOB_TEST_ALL_SOURCES"):
        return names
    first = datetime.date.today().timetuple().tm_yday * EACH_DAY
    return [names[(first + i) % len(names)] for i in range(EACH_DAY)]


@pytest.fixture(scope="module")
def runtimes_hob(build_state):
    instance = Hob()
    try:
        instance.up()
        yield instance
        instance.down()
        assert instance.remains() == []
    finally:
        instance.close()


@pytest.mark.parametrize("name", todays())
def test_a_sample_is_built_and_answers(runtimes_hob, sources_tried, tmp_path, name):
    folder = tmp_path / name
    shutil.copytree(SAMPLES / name, folder)
    runtimes_hob.run("deploy", str(folder), seconds=FIRST_BUILD_SECONDS_MAX)
    answer = runtimes_hob.get(runtimes_hob.host(name), "/")
    assert answer.status == 200
    assert ANSWERS[name] in answer.text
    if name == "static-vite":  # a path of the application's own; a file that is not there is none
        assert ANSWERS[name] in runtimes_hob.get(runtimes_hob.host(name), "/some/page").text
        assert runtimes_hob.get(runtimes_hob.host(name), "/assets/none.js").status == 404
    again = json.loads(runtimes_hob.run("build", str(folder), "-o", str(tmp_path / "image.tar"), "--json").stdout)
    assert again["Digest"].startswith("sha256:")
    runtimes_hob.run("rm", name)
    sources_tried.append(name)
