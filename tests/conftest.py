import os
import pathlib
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from hob_instance import HOB, Hob, is_sanitized  # noqa: E402


def pytest_collection_modifyitems(config, items):
    reason = None
    if os.geteuid() != 0:
        reason = "starts Hob, which needs root"
    elif not os.access(HOB, os.X_OK):
        reason = f"{HOB} is not built"
    if reason:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=reason))
    if is_sanitized():
        for item in items:
            if item.get_closest_marker("speed"):
                item.add_marker(pytest.mark.skip(reason="measures speed, which sanitizers change"))


def pytest_configure(config):
    config.addinivalue_line("markers", "speed: asserts how long something takes; skipped under sanitizers")


def take_reports(folder):
    """What sanitizers wrote since the last call, of any process."""
    texts = []
    for path in sorted(folder.iterdir()):
        texts.append(f"--- {path.name}\n{path.read_text(errors='replace')}")
        path.unlink()
    return "\n".join(texts)


@pytest.fixture(scope="session", autouse=True)
def report_folder():
    """Where programs built with sanitizers write what they find: daemons' stderr would hide it in a log, and a leak is
    found only when the daemon has long been told to end. Daemons are users of their own, and all write here."""
    if not is_sanitized():
        yield None
        return
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hob-reports-", dir="/tmp"))
    folder.chmod(0o1777)
    os.environ["ASAN_OPTIONS"] = f"log_path={folder}/report"
    yield folder
    reports = take_reports(folder)
    shutil.rmtree(folder)
    assert not reports, reports


@pytest.fixture(autouse=True)
def no_report(report_folder):
    """A test fails if a program of ours broke a rule meanwhile, even where nobody noticed."""
    yield
    if report_folder:
        reports = take_reports(report_folder)
        assert not reports, reports


@pytest.fixture(scope="session")
def build_state():
    """Where all instances of a run keep their base images; one that the caller names stays, to be fast by hand."""
    if "HOB_BUILD_STATE" in os.environ:
        yield os.environ["HOB_BUILD_STATE"]
        return
    folder = tempfile.mkdtemp(prefix="hob-t-build-", dir="/tmp")
    os.environ["HOB_BUILD_STATE"] = folder
    yield folder
    del os.environ["HOB_BUILD_STATE"]
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def sources_tried(request):
    """Samples of images/source that were built and answered; told at the end of the run."""
    request.config.sources_tried = []
    return request.config.sources_tried


def pytest_terminal_summary(terminalreporter, config):
    if tried := getattr(config, "sources_tried", []):
        terminalreporter.write_line(f"source samples tried: {', '.join(tried)} (all of them: make test-source)")


@pytest.fixture(scope="session")
def hob(build_state):
    """One instance for all tests that do not stop it. It must leave nothing behind. Its host builds where all do."""
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
