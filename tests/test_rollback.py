"""The way back: revisions, roll-backs and operations that are cancelled, under load."""
import re
import threading

from hob_instance import busybox_image, wait_until
from load import Load


def test_a_rollback_brings_image_and_configuration_back_and_loses_no_request(hob, service, tmp_path):
    host = service("hello-back", "--env", "VERSION=1")
    hob.deploy("hello-back", "--env", "VERSION=2", "--env", "NEW=yes")
    with Load(hob.http_port, host, path="/healthz") as load:
        done = hob.run("rollback", "hello-back")
        assert "runs revision 1 again" in done.stdout
        assert hob.get(host, "/env?VERSION").text == "1\n"
        hob.run("rollback", "hello-back", "--to", "2")
        assert hob.get(host, "/env?VERSION").text == "2\n"
    assert load.failed == []
    revisions = hob.json("revisions", "hello-back")["Revisions"]
    assert [r["Serves"] for r in revisions] == [False, True]
    told = hob.run("deploys", "hello-back").stdout
    assert told.count("ROLL_BACK ") == 2 and told.count("UPDATE_SERVICE") == 1, told
    assert re.fullmatch("sha256:[0-9a-f]{64}", revisions[0]["Digest"])
    refused = hob.run("rollback", "hello-back", "--to", "9", check=False)
    assert refused.returncode == 1 and "has no revision 9" in refused.stderr


def test_a_deployment_is_cancelled_while_it_waits_for_its_health(hob, service, tmp_path):
    host = service("hello-cancel", "--env", "VERSION=1")
    silent = busybox_image(tmp_path, "silent", "trap exit TERM; while true; do /bin/busybox sleep 1; done")
    outcome = {}

    def deploy():
        outcome["done"] = hob.deploy("hello-cancel", "--env", "VERSION=2", image=silent, check=False)

    deploying = threading.Thread(target=deploy)
    deploying.start()
    wait_until("its task runs", 60, lambda: "busybox" in hob.task_processes())
    cancelled = hob.run("cancel", "hello-cancel")
    assert "cancelled" in cancelled.stdout
    deploying.join()
    assert outcome["done"].returncode == 1 and "cancelled" in outcome["done"].stderr
    assert hob.get(host, "/env?VERSION").text == "1\n"
    assert [s["Status"] for s in hob.json("ps")["Services"] if s["Name"] == "hello-cancel"] == ["RUNNING"]
    assert "CANCELLED" in hob.run("deploys", "hello-cancel").stdout
    events = hob.run("logs", "hello-cancel", "--events").stdout
    assert "was cancelled" in events and "failed" not in events, events
    nothing = hob.run("cancel", "hello-cancel", check=False)
    assert nothing.returncode == 1 and "no operation in progress" in nothing.stderr
