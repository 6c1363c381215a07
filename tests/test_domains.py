"""Custom domains, through everything: AWS's clients, the DNS, an ACME server that others wrote (Pebble), the edge."""
import base64
import contextlib
import json
import os
import subprocess
import urllib.request

import pytest

from hob_instance import free_ports, wait_until

WITHIN = 60


def curl(hob, host, *options, path="/"):
    return subprocess.run(["curl", "-sS", "--max-time", "30", "--resolve", f"{host}:{hob.https_port}:127.0.0.1",
                           *options, f"https://{host}:{hob.https_port}{path}"],
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def arn_of(hob, name):
    services = hob.boto("apprunner").list_services()["ServiceSummaryList"]
    return next(s["ServiceArn"] for s in services if s["ServiceName"] == name)


def domain_of(client, arn, name):
    answer = client.describe_custom_domains(ServiceArn=arn)
    return next((d for d in answer["CustomDomains"] if d["DomainName"] == name), None)


def status_of(client, arn, name):
    domain = domain_of(client, arn, name)
    return domain and domain["Status"]


class Authority:
    """Pebble and its DNS server, on free ports, until the end of the test."""

    def __init__(self, folder, http_port, https_port, external=None):
        """external: {key id: MAC key}; then it takes only accounts that are bound to one of these."""
        self.folder = folder
        self.acme, self.management, self.dns, self.dns_management = free_ports(4)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", folder / "key.pem", "-out", folder / "ca.pem", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost", "-days", "1"], check=True, capture_output=True)
        (folder / "pebble.json").write_text(json.dumps({"pebble": {
            "listenAddress": f"127.0.0.1:{self.acme}", "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(folder / "ca.pem"), "privateKey": str(folder / "key.pem"),
            "httpPort": http_port, "tlsPort": https_port,
            **({"externalAccountBindingRequired": True, "externalAccountMACKeys": external} if external else {})}}))
        self.programs = [
            subprocess.Popen(["pebble-challtestsrv", "-dns01", f"127.0.0.1:{self.dns}", "-http01", "", "-https01", "",
                              "-tlsalpn01", "", "-management", f"127.0.0.1:{self.dns_management}",
                              "-defaultIPv4", "", "-defaultIPv6", ""],
                             stdout=(folder / "dns.log").open("w"), stderr=subprocess.STDOUT)]
        self.start()
        self.acme_options = ["--acme-directory", f"https://localhost:{self.acme}/dir",
                             "--acme-contact", "admin@example.com", "--acme-ca-file", str(folder / "ca.pem")]
        self.resolver_options = ["--resolver", f"127.0.0.1:{self.dns}"]
        wait_until("the DNS answers", WITHIN, lambda: self.has("nothing.example"))
        # A try that finds nobody is made again after two minutes.
        wait_until("the authority answers", WITHIN, lambda: subprocess.run(
            ["curl", "-sk", "-o", "/dev/null", f"https://localhost:{self.acme}/dir"]).returncode == 0)

    def start(self):
        self.programs.append(subprocess.Popen(
            ["pebble", "-config", self.folder / "pebble.json", "-strict", "-dnsserver", f"127.0.0.1:{self.dns}"],
            env={**os.environ, "PEBBLE_VA_NOSLEEP": "1"},
            stdout=(self.folder / "pebble.log").open("a"), stderr=subprocess.STDOUT))

    def has(self, host, address="127.0.0.1"):
        with contextlib.suppress(OSError):
            return self.ask("add-a", {"host": f"{host}.", "addresses": [address]})

    def ask(self, what, body):
        url = f"http://127.0.0.1:{self.dns_management}/{what}"
        with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=10) as answer:
            return answer.status == 200

    def root(self):
        path = self.folder / "root.pem"
        subprocess.run(["curl", "-sSk", "-o", path, f"https://localhost:{self.management}/roots/0"], check=True)
        return str(path)

    def close(self):
        for program in self.programs:
            program.kill()
            program.wait()


@pytest.fixture
def with_authority(new_hob, tmp_path):
    made = []

    def make(*options, acme=True, external=None):
        hob = new_hob()
        authority = Authority(tmp_path, hob.http_port, hob.https_port, external)
        made.append(authority)
        hob.options += [*(authority.acme_options if acme else []), *authority.resolver_options, *options]
        hob.up()
        return hob, authority

    yield make
    for authority in made:
        authority.close()


def test_a_domain_is_associated_as_app_runner_does_it(hob, service):
    service("domain-a")
    client = hob.boto("apprunner")
    arn = arn_of(hob, "domain-a")
    made = hob.aws("apprunner", "associate-custom-domain", "--service-arn", arn, "--domain-name", "Shop.test")
    assert made["CustomDomain"] == {"DomainName": "shop.test", "EnableWWWSubdomain": True, "Status": "creating"}
    assert made["DNSTarget"] == hob.host("domain-a").split(":")[0] and made["VpcDNSTargets"] == []
    wait_until("active", WITHIN, lambda: status_of(client, arn, "shop.test") == "active")
    records = domain_of(client, arn, "shop.test")["CertificateValidationRecords"]
    assert len(records) == 3 and {r["Type"] for r in records} == {"CNAME"}
    assert records[0]["Name"].endswith(".shop.test.") and records[1]["Name"].endswith(".www.shop.test.")
    # Its certificate is of an authority of its own, which comes with it.
    shown = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{hob.https_port}", "-servername",
                            "www.shop.test", "-showcerts"], input="", text=True, stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL).stdout
    assert "Hob authority of shop.test" in shown
    for host in ("shop.test", "www.shop.test"):
        assert curl(hob, host, "-k").returncode == 0
        assert hob.get(host).status == 200
    assert hob.get("a.shop.test").status == 404
    # It is taken, whoever asks.
    service("domain-b")
    for name in ("shop.test", "www.shop.test"):
        with pytest.raises(client.exceptions.InvalidRequestException):
            client.associate_custom_domain(ServiceArn=arn_of(hob, "domain-b"), DomainName=name)
    for bad in ("shop", "-a.test", "a..test", "1.2.3.4", "x.us-east-1.hob.localhost"):
        with pytest.raises(client.exceptions.InvalidRequestException):
            client.associate_custom_domain(ServiceArn=arn, DomainName=bad)
    for name in ("b.test", "c.test", "d.test", "*.e.test"):
        client.associate_custom_domain(ServiceArn=arn, DomainName=name, EnableWWWSubdomain=False)
    with pytest.raises(client.exceptions.InvalidRequestException):
        client.associate_custom_domain(ServiceArn=arn, DomainName="f.test")
    first = client.describe_custom_domains(ServiceArn=arn, MaxResults=2)
    rest = client.describe_custom_domains(ServiceArn=arn, MaxResults=5, NextToken=first["NextToken"])
    assert len(first["CustomDomains"]) == 2 and len(rest["CustomDomains"]) == 3 and "NextToken" not in rest
    wait_until("the wildcard leads there", WITHIN, lambda: hob.get("any.e.test").status == 200)
    gone = hob.aws("apprunner", "disassociate-custom-domain", "--service-arn", arn, "--domain-name", "shop.test")
    assert gone["CustomDomain"]["Status"] == "deleting"
    wait_until("gone", WITHIN, lambda: status_of(client, arn, "shop.test") is None)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.disassociate_custom_domain(ServiceArn=arn, DomainName="shop.test")
    wait_until("not routed", WITHIN, lambda: hob.get("shop.test").status == 404)
    # With its service goes the rest: the names are free again.
    hob.run("rm", "domain-a")
    arn = arn_of(hob, "domain-b")
    wait_until("free", WITHIN, lambda: try_associate(client, arn, "b.test"))


def try_associate(client, arn, name):
    with contextlib.suppress(client.exceptions.InvalidRequestException):
        return client.associate_custom_domain(ServiceArn=arn, DomainName=name)


@pytest.mark.parametrize("challenge", ["http-01", "tls-alpn-01"])
def test_an_acme_authority_vouches_for_a_domain(with_authority, challenge):
    hob, authority = with_authority("--acme-challenge", challenge)
    hob.deploy("shop")
    client = hob.boto("apprunner")
    arn = arn_of(hob, "shop")
    client.associate_custom_domain(ServiceArn=arn, DomainName="shop.example", EnableWWWSubdomain=False)
    wait_until("pending", WITHIN,
               lambda: status_of(client, arn, "shop.example") == "pending_certificate_dns_validation")
    assert hob.get("shop.example").status == 404
    # Control dies while it waits, and goes on.
    hob.kill("control")
    authority.has("shop.example")
    wait_until("active", WITHIN, lambda: status_of(client, arn, "shop.example") == "active")
    seen = curl(hob, "shop.example", "--cacert", authority.root())
    assert seen.returncode == 0 and "hello" in seen.stdout.lower(), seen.stdout
    # The edge keeps it, control alive or dead.
    hob.kill("edge")
    wait_until("answers again", WITHIN,
               lambda: curl(hob, "shop.example", "--cacert", authority.root()).returncode == 0)
    for name in ("edge/certificates.json", "control/store.db"):
        assert (hob.data / name).stat().st_mode & 0o077 == 0 or (hob.data / name).parent.stat().st_mode & 0o077 == 0
    logs = "".join(p.read_text(errors="replace") for p in (hob.data / "log").glob("*.log"))
    assert "PRIVATE KEY" not in logs


def test_an_authority_that_wants_an_account_made_before(with_authority, tmp_path):
    mac_key = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
    (tmp_path / "mac.key").write_text(mac_key + "\n")
    hob, authority = with_authority(external={"kid-7": mac_key})
    hob.deploy("shop")
    authority.has("shop.example")
    hob.run("domain", "add", "shop", "shop.example", "--no-www", "--no-wait")
    wait_until("refused", WITHIN, lambda: "external account binding" in hob.run("domain", "ls").stdout)
    hob.run("domain", "rm", "shop", "shop.example")
    hob.run("down")
    refused = hob.run("up", "--detach", "--acme-eab-kid", "kid-7", check=False)
    assert refused.returncode == 1 and "go together" in refused.stderr + refused.stdout
    hob.options += ["--acme-eab-kid", "kid-7", "--acme-eab-key-file", str(tmp_path / "mac.key")]
    hob.up()
    (tmp_path / "mac.key").unlink()
    assert (hob.data / "control" / "acme-eab.key").stat().st_mode & 0o777 == 0o400
    added = hob.run("domain", "add", "shop", "shop.example", "--no-www")
    assert "shop.example leads to shop" in added.stdout
    assert mac_key not in (hob.data / "instance.json").read_text()


def test_the_alias_in_the_dns_is_proof_enough(with_authority):
    hob, authority = with_authority(acme=False)
    hob.deploy("shop")
    client = hob.boto("apprunner")
    arn = arn_of(hob, "shop")
    client.associate_custom_domain(ServiceArn=arn, DomainName="shop.example")
    wait_until("pending", WITHIN,
               lambda: status_of(client, arn, "shop.example") == "pending_certificate_dns_validation")
    record = domain_of(client, arn, "shop.example")["CertificateValidationRecords"][0]
    assert record["Status"] == "PENDING_VALIDATION"
    authority.ask("set-cname", {"host": record["Name"], "target": record["Value"]})
    wait_until("active", WITHIN, lambda: status_of(client, arn, "shop.example") == "active")
    assert domain_of(client, arn, "shop.example")["CertificateValidationRecords"][0]["Status"] == "SUCCESS"


class Issuer:
    """An authority of a test's own, as a company has one, by openssl."""

    def __init__(self, folder, name="Company CA"):
        self.folder = folder
        self.root = folder / "company-ca.pem"
        self.key = folder / "company-ca.key"
        self.serial = 0
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key,
                     "-out", self.root, "-subj", f"/CN={name}", "-days", "30")

    def openssl(self, *arguments):
        return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, text=True, cwd=self.folder)

    def issue(self, *names, days=10, extensions=()):
        """The chain's path and the key's."""
        self.serial += 1
        stem = self.folder / f"leaf-{self.serial}"
        key, request, leaf, chain = (stem.with_suffix(s) for s in (".key", ".csr", ".crt", ".pem"))
        settings = stem.with_suffix(".cnf")
        settings.write_text("\n".join(["subjectAltName=" + ",".join(f"DNS:{n}" for n in names), *extensions]))
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request,
                     "-subj", f"/CN={names[0]}")
        self.openssl("x509", "-req", "-in", request, "-CA", self.root, "-CAkey", self.key, "-set_serial", 1000 + self.serial,
                     "-days", days, "-extfile", settings, "-out", leaf)
        chain.write_text(leaf.read_text() + self.root.read_text())
        return str(chain), str(key)


class Responder:
    """An authority's OCSP responder, by openssl, that knows what it was told."""

    def __init__(self, issuer):
        self.issuer = issuer
        self.port, = free_ports(1)
        self.index = issuer.folder / "index.txt"
        self.program = None
        self.extensions = [f"authorityInfoAccess=OCSP;URI:http://127.0.0.1:{self.port}/"]

    def say(self, **states):
        """serial=V or R; it answers nothing until it was told something."""
        self.close()
        lines = []
        for serial, state in states.items():
            revoked = "260101000000Z" if state == "R" else ""
            lines.append(f"{state}\t460101000000Z\t{revoked}\t{serial.removeprefix('s').upper()}\tunknown\t/CN={serial}\n")
        self.index.write_text("".join(lines))
        self.program = subprocess.Popen(
            ["openssl", "ocsp", "-port", str(self.port), "-index", self.index, "-CA", self.issuer.root, "-rsigner",
             self.issuer.root, "-rkey", self.issuer.key, "-ndays", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def close(self):
        if self.program:
            self.program.kill()
            self.program.wait()


def stapled(hob, host, root, *options):
    """What a client is told of the certificate's status: "good", or "" for nothing; it verifies all of it."""
    seen = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{hob.https_port}", "-servername", host, "-status",
                           "-CAfile", root, *options], input="", text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT).stdout
    found = [line.split(":", 1)[1].strip() for line in seen.splitlines() if "Cert Status:" in line]
    return found[0] if found else ""


def shown_serial(hob, host):
    """The serial number of the certificate that a new connection is shown, and its issuer."""
    shown = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{hob.https_port}", "-servername", host],
                           input="", text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    facts = subprocess.run(["openssl", "x509", "-noout", "-serial", "-issuer"], input=shown, text=True, capture_output=True).stdout
    serial, issuer = (facts.splitlines() + ["", ""])[:2]
    return serial.removeprefix("serial="), issuer.removeprefix("issuer=")


def test_a_certificate_from_files_is_shown_before_any_other(hob, service, tmp_path):
    service("filed")
    issuer = Issuer(tmp_path)
    chain, key = issuer.issue("filed.test", "www.filed.test")
    other, other_key = issuer.issue("other.test")
    for bad, why in (((chain, other_key), "the key is not the first certificate's"),
                     ((str(issuer.root), key), "the key is not the first certificate's"),
                     ((key, key), "there is no certificate in it"), ((chain, chain), "there is no private key in it"),
                     (issuer.issue("old.test", days=-1), "has expired"), ((str(tmp_path / "none"), key), "reading the chain")):
        refused = hob.run("certificate", "add", *bad, check=False)
        assert refused.returncode == 1 and why in refused.stderr, refused.stderr
    backwards = tmp_path / "backwards.pem"
    backwards.write_text(issuer.root.read_text() + open(chain).read())
    assert "certificate 2" in hob.run("certificate", "add", str(backwards), str(issuer.key), check=False).stderr

    added = hob.run("domain", "add", "filed", "filed.test")
    assert "filed.test leads to filed" in added.stdout and "need no proof" in added.stdout, added.stdout
    assert "Hob authority" in shown_serial(hob, "filed.test")[1]
    hob.run("certificate", "add", chain, key)
    wait_until("shown", WITHIN, lambda: shown_serial(hob, "filed.test")[0] == "03E9")
    for host in ("filed.test", "www.filed.test"):
        seen = curl(hob, host, "--cacert", str(issuer.root))
        assert seen.returncode == 0, seen.stdout
    # Its successor takes its place, and no connection sees anything else meanwhile.
    successor = issuer.issue("filed.test", "www.filed.test")
    hob.run("certificate", "add", *successor)
    seen = set()
    wait_until("replaced", WITHIN, lambda: seen.add(shown_serial(hob, "filed.test")) or any("03EC" in s for s, _ in seen))
    assert {issuer for _, issuer in seen} == {"CN = Company CA"}, seen
    lines = hob.json("certificate", "ls")["Certificates"]
    assert [(c["Source"], sorted(c["ShownFor"])) for c in lines if c["Name"] == "filed.test"] == [
        ("file", ["filed.test", "www.filed.test"]), ("own authority", [])]
    assert "warning: certificate filed.test ends on" in hob.run("certificate", "ls").stdout  # within ten days
    assert "certificate filed.test ends on" in hob.run("doctor").stdout
    assert "warning: certificate filed.test" in hob.run("status").stdout
    # Control and edge die: it is kept.
    hob.kill("edge")
    wait_until("back", WITHIN, lambda: shown_serial(hob, "filed.test")[0] == "03EC")
    # Taken away: the domain's own one is back, without a moment of another.
    hob.run("certificate", "rm", "filed.test")
    seen = set()
    wait_until("its own", WITHIN, lambda: seen.add(shown_serial(hob, "filed.test")[1]) or any("Hob" in i for i in seen))
    assert seen <= {"CN = Company CA", "CN = Hob authority of filed.test"}, seen
    wait_until("forgotten", WITHIN, lambda: not any(c["Source"] == "file" for c in hob.json("certificate", "ls")["Certificates"]))
    assert "No certificate filed.test" in hob.run("certificate", "rm", "filed.test", check=False).stderr
    assert "filed.test, www." in hob.run("domain", "ls").stdout
    hob.run("domain", "rm", "filed", "filed.test")
    assert hob.json("domain", "ls", "filed")["Domains"] == []


def test_a_wildcard_beside_acme_wants_a_certificate_from_files(with_authority, tmp_path):
    hob, authority = with_authority()
    hob.deploy("shop")
    added = hob.run("domain", "add", "shop", "*.shop.example", "--no-wait")
    name, value = next(line.split()[::2] for line in added.stdout.splitlines() if " CNAME " in line)
    authority.ask("set-cname", {"host": name, "target": value})
    wait_until("it says what to do", WITHIN, lambda: "hob certificate add" in hob.run("domain", "ls", "shop").stdout)
    issuer = Issuer(tmp_path)
    hob.run("certificate", "add", *issuer.issue("*.shop.example"), "--name", "wildcard")
    wait_until("active", WITHIN, lambda: hob.json("domain", "ls")["Domains"][0]["Status"] == "active")
    assert curl(hob, "any.shop.example", "--cacert", str(issuer.root)).returncode == 0
    assert hob.json("domain", "ls")["Domains"][0]["Reason"] == ""


def test_a_certificate_has_nobody_asked_in_the_operators_networks(hob, service, tmp_path):
    service("curious")
    issuer = Issuer(tmp_path)
    responder = Responder(issuer)
    try:
        responder.say(s03e9="V")
        hob.run("certificate", "add", *issuer.issue("curious.test", extensions=responder.extensions), "--name", "curious")
        hob.run("domain", "add", "curious", "curious.test", "--no-www")
        wait_until("said", WITHIN, lambda: "OCSP responder gives no answer" in hob.run("certificate", "ls").stdout)
        assert stapled(hob, "curious.test", issuer.root) == ""
        assert str(responder.port) not in hob.run("certificate", "ls").stdout
    finally:
        responder.close()
        hob.run("certificate", "rm", "curious")


def test_what_an_authority_says_of_a_certificate_is_stapled(new_hob, tmp_path):
    hob = new_hob("--ocsp-responders", "any")
    hob.up()
    hob.deploy("stapled")
    issuer = Issuer(tmp_path)
    responder = Responder(issuer)
    try:
        responder.say(s03e9="V", s03eb="V")
        hob.run("certificate", "add", *issuer.issue("stapled.test", extensions=responder.extensions), "--name", "stapled")
        hob.run("domain", "add", "stapled", "stapled.test", "--no-www")
        wait_until("stapled", WITHIN, lambda: stapled(hob, "stapled.test", issuer.root) == "good")
        for version in ("-tls1_2", "-tls1_3"):
            assert stapled(hob, "stapled.test", issuer.root, version) == "good"
        # The edge keeps it, without control too; one that names no responder has none.
        hob.kill("edge")
        wait_until("again", WITHIN, lambda: stapled(hob, "stapled.test", issuer.root) == "good")
        hob.run("certificate", "add", *issuer.issue("stapled.test"), "--name", "stapled")
        wait_until("none", WITHIN, lambda: shown_serial(hob, "stapled.test")[0] == "03EA")
        assert stapled(hob, "stapled.test", issuer.root) == ""
        # One that clients shall not accept without is never shown without: the one before it serves until then.
        responder.close()
        must = issuer.issue("stapled.test", extensions=[*responder.extensions, "tlsfeature=status_request"])
        hob.run("certificate", "add", *must, "--name", "stapled")
        assert shown_serial(hob, "stapled.test")[0] == "03EA"
        responder.say(s03e9="V", s03eb="V")
        seen = []
        wait_until("with its staple", WITHIN, lambda: seen.append(shown_serial(hob, "stapled.test")[0]) or seen[-1] == "03EB")
        assert stapled(hob, "stapled.test", issuer.root) == "good" and set(seen) <= {"03EA", "03EB"}
        # Revoked: nobody is told that it is good, and its owner is told.
        responder.say(s03e9="V", s03eb="V", s03ec="R")
        hob.run("certificate", "add", *issuer.issue("stapled.test", extensions=responder.extensions), "--name", "stapled")
        wait_until("said", WITHIN, lambda: "is revoked" in hob.run("doctor").stdout)
        assert stapled(hob, "stapled.test", issuer.root) == ""
    finally:
        responder.close()
