"""Stock servers as Debian packages them, each as an App Runner service: they change user, bind port 80, write under /var."""
import shutil
import uuid

import pytest

from hob_instance import wait_until
from images import Root, push, source

QUICK = {"Interval": 1, "Timeout": 1, "UnhealthyThreshold": 20}


@pytest.fixture
def run(hob):
    """Runs a root file system as a service until it is RUNNING; answers its description."""
    client, made = hob.boto("apprunner"), []

    def go(root, name, port, command, **config):
        image = push(hob, root, f"stock/{name}", {"Cmd": command, "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], **config})
        service = client.create_service(ServiceName=f"{name}-{uuid.uuid4().hex[:8]}", SourceConfiguration=source(image, port),
                                        HealthCheckConfiguration=QUICK)["Service"]
        made.append(service["ServiceArn"])

        def ended():
            now = client.describe_service(ServiceArn=service["ServiceArn"])["Service"]
            return now if now["Status"] != "OPERATION_IN_PROGRESS" else None
        service = wait_until(f"{name} up or failed", 90, ended, every=0.2)
        assert service["Status"] == "RUNNING", logged(hob, service, "service") + logged(hob, service, "application")
        return service

    yield go
    for arn in made:
        client.delete_service(ServiceArn=arn)


def logged(hob, service, which):
    """The lines of a service's log group; none, as long as nothing was logged to make it."""
    group, logs = f"/aws/apprunner/{service['ServiceName']}/{service['ServiceId']}/{which}", hob.boto("logs")
    try:
        return "\n".join(event["message"] for event in logs.filter_log_events(logGroupName=group)["events"])
    except logs.exceptions.ResourceNotFoundException:
        return ""


def users_of(hob, program):
    """The user ids of a program's processes as its container has them: the host's, less where the task's range begins."""
    users = []
    for pid in hob.task_processes().get(program, []):
        with open(f"/proc/{pid}/uid_map", encoding="ascii") as file:
            inside, outside, _ = map(int, file.read().split())
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            uid = next(int(line.split()[1]) for line in file if line.startswith("Uid:"))
        assert inside == 0 and outside > 0
        users.append(uid - outside)
    return sorted(users)


def test_nginx(hob, run):
    with Root() as root:
        root.wanted = ("nginx",)
        for package in ("nginx-common", "nginx"):
            root.package(package)
        # What its post-installation script does.
        root.link("etc/nginx/sites-enabled/default", "/etc/nginx/sites-available/default")
        root.write("var/www/html/index.nginx-debian.html", "Welcome to nginx!\n")
        root.libraries_of("usr/sbin/nginx")
        service = run(root, "nginx", 80, ["nginx", "-g", "daemon off;"], StopSignal="SIGQUIT")
    answer = hob.get(service["ServiceUrl"])
    assert (answer.status, answer.text) == (200, "Welcome to nginx!\n")
    assert answer.headers["Server"].startswith("nginx/")
    assert hob.get(service["ServiceUrl"], "/nothing").status == 404
    users = users_of(hob, "nginx")
    assert users[0] == 0 and set(users[1:]) == {33}, users


def test_apache(hob, run):
    with Root() as root:
        root.wanted = ("apache2-bin",)
        for package in ("apache2", "apache2-bin", "apache2-data"):
            root.package(package)
        for module in ("mpm_event", "authz_core", "dir", "mime"):  # as a2enmod
            for path in (root.path / "etc/apache2/mods-available").glob(f"{module}.*"):
                root.link(f"etc/apache2/mods-enabled/{path.name}", f"../mods-available/{path.name}")
        root.link("etc/apache2/sites-enabled/000-default.conf", "../sites-available/000-default.conf")
        root.write("etc/mime.types", "text/html html\n")
        root.write("var/www/html/index.html", "It works!\n")
        root.folder("var/log/apache2", owner=(0, 4), mode=0o750)
        for program in ("bin/sh", "bin/mktemp"):  # apache2ctl wants what busybox's cannot do
            (root.path / program).unlink()
            root.copy(f"/{program}", program)
        root.libraries_of("usr/sbin/apache2", "bin/sh", "bin/mktemp")
        service = run(root, "apache", 80, ["apache2ctl", "-D", "FOREGROUND"], StopSignal="SIGWINCH")
    answer = hob.get(service["ServiceUrl"])
    assert (answer.status, answer.text) == (200, "It works!\n")
    assert answer.headers["Server"].startswith("Apache/")
    users = users_of(hob, "apache2")
    assert users[0] == 0 and set(users[1:]) == {33}, users


def test_redis(hob, run):
    with Root() as root:
        root.wanted = ("redis-server",)
        for package in ("redis-tools", "redis-server"):
            root.package(package)
        root.folder("var/lib/redis", owner=(102, 105), mode=0o750)
        root.folder("var/log/redis", owner=(102, 105), mode=0o750)
        root.folder("etc/redis", owner=(102, 105))
        root.owners["etc/redis/redis.conf"] = (102, 105)
        root.libraries_of("usr/bin/redis-check-rdb")
        service = run(root, "redis", 6379, ["redis-server", "/etc/redis/redis.conf", "--bind", "0.0.0.0", "--daemonize", "no",
                                            "--supervised", "no", "--logfile", "", "--save", "1 1"], User="redis")
    wait_until("redis ready", 10, lambda: "Ready to accept connections" in logged(hob, service, "application"))
    assert users_of(hob, "redis-server") == [102]


def test_postgres(hob, run):
    with Root() as root:
        root.wanted = ("postgresql-15",)
        root.package("postgresql-15")
        binaries = "usr/lib/postgresql/15/bin"
        root.folder("var/lib/postgresql", owner=(101, 104))
        root.folder("run/postgresql", owner=(101, 104), mode=0o2775)
        root.libraries_of(f"{binaries}/postgres", f"{binaries}/initdb")
        shutil.rmtree(root.path / "usr/lib/postgresql/15/lib/bitcode")  # for its compiler, which is a package of its own
        start = (f"set -e; cd /var/lib/postgresql; /{binaries}/initdb -D data --no-locale -E UTF8 >/dev/null;"
                 f" exec /{binaries}/postgres -D data -c listen_addresses='*' -c jit=off")
        service = run(root, "postgres", 5432, ["sh", "-c", start], User="postgres")
    wait_until("postgres ready", 10, lambda: "ready to accept connections" in logged(hob, service, "application"))
    assert set(users_of(hob, "postgres")) == {101}
