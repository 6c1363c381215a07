import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from hob_instance import HOB, Hob  # noqa: E402


def pytest_collection_modifyitems(config, items):
    reason = None
    if os.geteuid() != 0:
        reason = "starts Hob, which needs root"
    elif not os.access(HOB, os.X_OK):
        reason = f"{HOB} is not built"
    if reason:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def hob():
    """One instance for all tests that do not stop it. It must leave nothing behind."""
    instance = Hob()
    try:
        instance.up()
        yield instance
        instance.down()
        assert instance.remains() == []
    finally:
        instance.close()


@pytest.fixture
def new_hob():
    """Makes instances of a test's own, not started yet; each is taken down at its end."""
    made = []

    def make(*options):
        made.append(Hob(options))
        return made[-1]

    yield make
    for instance in made:
        instance.close()


@pytest.fixture
def service(hob):
    """Makes the sample service under a name of the test's own, and removes it."""
    names = []

    def deploy(name, *more, **options):
        names.append(name)
        hob.deploy(name, *more, **options)
        return hob.host(name)

    yield deploy
    for name in names:
        hob.run("rm", name, check=False)
