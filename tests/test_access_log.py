"""The access log: a line for each request, from whichever edge answered it."""
import stat

from hob_instance import wait_until


def lines_about(hob, path):
    return [line for line in (hob.data / "log/access.log").read_text().splitlines() if f" {path} HTTP/1.1" in line]


def test_a_request_has_its_line(hob, service):
    host = service("logged")
    assert hob.get(host, "/logged-first?a=b", headers={"User-Agent": "test \"agent\""}).status in (200, 404)
    line = wait_until("its line", 30, lambda: lines_about(hob, "/logged-first?a=b"))[0]
    assert f' 127.0.0.1 "GET {host} /logged-first?a=b HTTP/1.1" "test _agent_" Root=1-' in line, line
    assert len(line.split('" ')[-1].split()) == 7, line  # trace, service, status, bytes, bytes, seconds, tries
    log = hob.data / "log/access.log"
    assert log.stat().st_uid == 0 and stat.S_IMODE(log.stat().st_mode) == 0o640


def test_the_next_edge_goes_on_with_the_same_log(hob, service):
    host = service("logged")
    hob.get(host, "/logged-before")
    wait_until("its line", 30, lambda: lines_about(hob, "/logged-before"))
    hob.kill("edge")
    wait_until("answers again", 60, lambda: hob.get(host, "/logged-after").status < 500)
    wait_until("its line", 30, lambda: lines_about(hob, "/logged-after"))
    assert len(lines_about(hob, "/logged-before")) == 1
