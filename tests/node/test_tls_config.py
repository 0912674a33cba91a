# SPDX-License-Identifier: ISC
"""Certificates and the other files of TLS listeners: what is refused, what is replaced when, what
operators see. And what plain listeners do for TLS: redirects, and challenges of ACME clients."""

import os
import ssl
import subprocess

import pytest

import certificates
from certificates import Authority, put
from keepsock import Keepsock, free_port, keepsockd, merge, wait_until
from wire import Http, http

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca") / "ca")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("stranger") / "ca", "Another CA")


@pytest.fixture(scope="module")
def localhost(authority):
    """(certificate, key) for localhost"""
    return authority.issue("localhost", "localhost")


@pytest.fixture(scope="module")
def other(authority):
    return authority.issue("other", "other.example")


def listeners(tls=None, **plain):
    """A plain listener for the tests' questions, and one with TLS."""
    files = {"certificates": [{"certificate": "a.pem", "key": "a.key"}]}
    return [{"address": "127.0.0.1", "port": free_port(), **plain},
            {"address": "127.0.0.1", "port": free_port(), "tls": merge(files, tls or {})}]


@pytest.fixture
def make_tls_node(make_node, localhost):
    """A function that makes a node with a TLS listener for localhost, its files beside its
    configuration."""
    def make(tls=None, plain=None, **overrides):
        node = make_node(listeners=listeners(tls, **(plain or {})), **overrides)
        put(node.directory, "a", *localhost)
        node.tls_port = node.settings["listeners"][1]["port"]
        return node

    return make


def check(node):
    """keepsockd -t: (exit status, what it said)"""
    run = subprocess.run([keepsockd(), "-t", "-c", str(node.config)], text=True,
                         capture_output=True, timeout=20)
    return run.returncode, run.stdout + run.stderr


def line_of(node, text):
    return 1 + node.config.read_text()[:node.config.read_text().index(text)].count("\n")


# ---- settings that are refused ----

TLS = 'tls: { certificates = ( { certificate = "a.pem"; key = "a.key"; } ); %s };'
BAD_SETTINGS = {
    "no certificates": ("tls: { };", "tls needs certificates"),
    "an empty list": ("tls: { certificates = (); };", "must have 1 to 16 elements, not 0"),
    "no list": ('tls: { certificates = "a.pem"; };', "must be a list in parentheses"),
    "an element that is no group": ('tls: { certificates = ( "a.pem" ); };', "must be a group"),
    "no key": ('tls: { certificates = ( { certificate = "a.pem"; } ); };', "needs a key"),
    "no certificate": ('tls: { certificates = ( { key = "a.key"; } ); };', "needs a certificate"),
    "an unknown member": ('tls: { certificates = ( { certificate = "a.pem"; key = "a.key"; '
                          'password = "x"; } ); };', "unknown setting password"),
    "no group": ("tls = true;", "tls must be a group"),
    "unknown": (TLS % "ssl = 3;", "unknown setting ssl in listeners.tls"),
    "an old version": (TLS % 'min_version = "1.1";', "must be 1.2 or 1.3"),
    "versions the wrong way round": (TLS % 'min_version = "1.3"; max_version = "1.2";',
                                     "min_version must not be above max_version"),
    "verification by nobody": (TLS % 'client_verify = "required";', "needs client_ca"),
    "an authority for nothing": (TLS % 'client_ca = "ca.pem";', "client_ca needs client_verify"),
    "a revocation list for nothing": (TLS % 'client_crl = "crl.pem";',
                                      "client_crl needs client_ca"),
    "a word for verification": (TLS % 'client_verify = "maybe";',
                                "must be off, optional or required"),
    "a secret without tickets": (TLS % 'ticket_secret_file = "s"; ticket_lifetime = 0;',
                                 "needs a ticket_lifetime"),
    "tickets for a month": (TLS % 'ticket_lifetime = "30d";', "must be from 0 to 7d"),
    "subdomains without HSTS": (TLS % "hsts_subdomains = true;", "needs a hsts_max_age"),
    "a redirect to itself": ("https_redirect_port = 443; " + TLS % "", "remove one of them"),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_bad_settings_are_refused_with_their_line(make_node, name):
    text, message = BAD_SETTINGS[name]
    node = make_node()
    node.config.write_text(f"# the first line\nlisteners = ( {{ port = 9999;\n{text} }} );\n")
    status, said = check(node)
    assert status == 1
    assert message in said
    assert f"{node.config}:2: " in said or f"{node.config}:3: " in said, said


# ---- files that are refused ----

def write(node, name, text, mode=0o600):
    path = node.directory / name
    path.write_text(text)
    path.chmod(mode)


def spoil_missing(node, authority, other):
    (node.directory / "a.pem").unlink()
    return "a.pem: No such file or directory"


def spoil_no_pem(node, authority, other):
    write(node, "a.pem", "this is no certificate\n")
    return "there is no readable certificate (PEM) in"


def spoil_no_key(node, authority, other):
    write(node, "a.key", "this is no key\n")
    return "there is no readable private key (PEM) in"


def spoil_wrong_key(node, authority, other):
    write(node, "a.key", other[1])
    return "a.key is not the key of the first certificate in"


def spoil_cut_chain(node, authority, other):
    chain = (node.directory / "a.pem").read_text()
    write(node, "a.pem", chain + other[0][:300])
    return "a certificate after the first in"


def spoil_open_key(node, authority, other):
    (node.directory / "a.key").chmod(0o644)
    return "a.key: may be read by everybody"


def spoil_writable_certificate(node, authority, other):
    (node.directory / "a.pem").chmod(0o666)
    return "a.pem: may be written by others"


def spoil_directory(node, authority, other):
    (node.directory / "a.pem").unlink()
    (node.directory / "a.pem").mkdir()
    return "a.pem: is no regular file"


def spoil_encrypted(node, authority, other):
    certificates.run(node.directory, "ec", "-in", "a.key", "-aes256", "-passout", "pass:x", "-out",
                     "encrypted")
    write(node, "a.key", (node.directory / "encrypted").read_text())
    return "a.key is encrypted: a key without a password is needed"


def spoil_weak(node, authority, other):
    put(node.directory, "a", *authority.issue("weak", "localhost", key="weak"))
    return "a.pem can't be used: ee key too small"


def spoil_zeros(node, authority, other):
    (node.directory / "a.pem").write_bytes(b"\0" * 100)
    return "a.pem: is no text"


SPOILERS = [spoil_missing, spoil_no_pem, spoil_no_key, spoil_wrong_key, spoil_cut_chain,
            spoil_open_key, spoil_writable_certificate, spoil_directory, spoil_encrypted,
            spoil_weak, spoil_zeros]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_bad_files_are_refused_with_file_line_and_reason(make_tls_node, authority, other, spoil):
    node = make_tls_node()
    assert check(node)[0] == 0
    message = spoil(node, authority, other)
    status, said = check(node)
    assert status == 1
    assert f"{node.config}:{line_of(node, 'certificates')}: tls" in said
    assert message in said
    assert "PRIVATE KEY" not in said


BAD_OFFERS = {
    "a suite with CBC": ({"cipher_suites": ["AES128-SHA"]}, "AES128-SHA is no AEAD suite"),
    "a suite that is none": ({"cipher_suites": ["TLS_NONE"]}, "TLS_NONE is no AEAD suite"),
    "suites of one version": ({"cipher_suites": ["TLS_AES_128_GCM_SHA256"]},
                              "there is none of TLS 1.2, add one or change min_version"),
    "suites of the other": ({"cipher_suites": ["ECDHE-RSA-AES128-GCM-SHA256"]},
                            "there is none of TLS 1.3, add one or change max_version"),
    "a curve that is none": ({"curves": ["P-257"]}, "OpenSSL knows no group P-257"),
    "a curve twice": ({"curves": ["X25519", "X25519"]}, "is one in it twice"),
    "an authority that is none": ({"client_verify": "optional", "client_ca": "a.key"},
                                  "client_ca: there is no readable certificate"),
    "a revocation list that is none": ({"client_verify": "optional", "client_ca": "a.pem",
                                        "client_crl": "a.pem"},
                                       "client_crl: there is no readable revocation list"),
}


@pytest.mark.parametrize("name", BAD_OFFERS)
def test_what_openssl_can_not_offer_is_refused(make_tls_node, name):
    tls, message = BAD_OFFERS[name]
    node = make_tls_node(tls)
    os.chmod(node.directory / "a.key", 0o600)
    status, said = check(node)
    assert status == 1
    assert message in said and f"{node.config}:" in said


BAD_SECRETS = {
    "short": (SECRET[:31] + "\n", 0o600, "32 or more characters"),
    "empty": ("\n \n", 0o600, "holds no secret"),
    "too many": ((SECRET + "\n") * 5, 0o600, "more than 4"),
    "open": (SECRET + "\n", 0o640, "may be used by others"),
}


@pytest.mark.parametrize("name", BAD_SECRETS)
def test_bad_ticket_secrets_are_refused(make_tls_node, name):
    text, mode, message = BAD_SECRETS[name]
    node = make_tls_node({"ticket_secret_file": "tickets"})
    write(node, "tickets", text, mode)
    status, said = check(node)
    assert status == 1
    assert message in said
    assert SECRET not in said


def test_a_node_with_bad_files_does_not_start(make_tls_node, other):
    node = make_tls_node()
    write(node, "a.key", other[1])
    node.launch()
    assert node.wait() == 1
    assert "is not the key of" in node.log()
    assert "PRIVATE KEY" not in node.log()


# ---- what is in force ----

def rows(node):
    return node.ctl_json("show", "certificates")["rows"]


def serials(node):
    return [row["serial"] for row in rows(node)]


def test_show_certificates_metrics_and_log(make_tls_node, authority):
    node = make_tls_node()
    put(node.directory, "a", *authority.issue("shown", "localhost", "*.shown.example", ends=10.5))
    node.start()
    row, = rows(node)
    assert row["listener"] == f"127.0.0.1:{node.tls_port}"
    assert row["names"] == "localhost,*.shown.example"
    assert row["key"] == "EC prime256v1"
    assert row["issuer"] == "CN=Test CA"
    assert row["days_left"] == 10
    metrics = node.metrics()
    assert metrics["keepsock_tls_certificates"] == 1
    assert metrics["keepsock_tls_certificate_days_left"] == 10
    assert "level=warning" in next(line for line in node.log().splitlines()
                                   if "days_left=10" in line)
    assert "not_after" in node.ctl("show", "certificates").stdout


def test_nothing_is_served_in_the_clear(make_tls_node):
    node = make_tls_node().start()
    assert http(node.tls_port, "GET", "/health").status == 400
    assert node.metrics()["keepsock_tls_handshakes_failed_plain_http_total"] == 1


def test_an_expired_certificate_does_not_keep_a_node_down(make_tls_node, authority):
    node = make_tls_node()
    put(node.directory, "a", *authority.issue("expired", "localhost", starts=-9, ends=-1.5))
    node.start()
    assert rows(node)[0]["days_left"] == -2
    assert node.metrics()["keepsock_tls_certificate_days_left"] == 0
    assert "certificate_expired" in node.log()


def test_reload_by_command(make_tls_node, authority):
    node = make_tls_node().start()
    before = serials(node)
    put(node.directory, "a", *authority.issue("renewed", "localhost"))
    answer = node.ctl_json("reload-certificates")
    assert answer == {"certificates": 1, "workers": 2, "not_answering": []}
    assert serials(node) != before
    assert node.log().count("certificates_replaced") >= 2
    assert len(node.workers()) == 2


def test_changed_files_are_noticed(make_tls_node, authority):
    node = make_tls_node().start()
    before, workers = serials(node), node.workers()
    put(node.directory, "a", *authority.issue("noticed", "localhost"))
    wait_until(lambda: serials(node) != before, "the new certificate is in force")
    wait_until(lambda: node.log().count("certificates_replaced") >= 2, "in both workers")
    assert node.workers() == workers
    assert node.metrics()["keepsock_tls_certificate_reloads_total"] == 1


def test_a_bad_new_certificate_leaves_the_old_one(make_tls_node, authority, other):
    node = make_tls_node().start()
    before = serials(node)
    put(node.directory, "a", other[0], authority.issue("apart", "localhost")[1])
    wait_until(lambda: node.metrics()["keepsock_tls_certificate_errors_total"] == 1,
               "it is refused")
    assert serials(node) == before
    shown = node.ctl_json("show", "certificates")
    assert "is not the key of" in shown["error"]
    run = node.ctl("reload-certificates")
    assert run.returncode == 1
    assert "the old ones stay in force" in run.stderr and "is not the key of" in run.stderr
    put(node.directory, "a", *authority.issue("repaired", "localhost"))
    wait_until(lambda: serials(node) != before, "the next one is in force")
    assert node.ctl_json("show", "certificates")["error"] == ""
    assert "certificates refused" in node.ctl("show", "events").stdout


@pytest.mark.parametrize("starts, ends, words", [(-9, -1, "has expired at"),
                                                 (1, 9, "is not valid before")])
def test_a_new_certificate_out_of_its_time_is_refused(make_tls_node, authority, starts, ends,
                                                      words):
    node = make_tls_node().start()
    before = serials(node)
    put(node.directory, "a", *authority.issue("late", "localhost", starts=starts, ends=ends))
    run = node.ctl("reload-certificates")
    assert run.returncode == 1 and words in run.stderr
    assert serials(node) == before


def test_who_follows_a_dead_worker_or_master_has_the_new_ones(make_tls_node, authority):
    node = make_tls_node().start()
    put(node.directory, "a", *authority.issue("inherited", "localhost"))
    node.ctl_json("reload-certificates")
    wanted = serials(node)
    old = node.workers()
    os.kill(old[0], 9)
    wait_until(lambda: node.workers().get(0) not in (None, old[0]), "another worker")
    wait_until(node.are_all_ready, "it is ready")
    node.kill_master()
    node.launch()
    wait_until(lambda: node.ctl("status").returncode == 0, "another master")
    assert serials(node) == wanted
    put(node.directory, "a", *authority.issue("after", "localhost"))
    answer = node.ctl_json("reload-certificates")
    assert answer["workers"] == 2 and answer["not_answering"] == []
    assert serials(node) != wanted


def test_a_new_master_keeps_what_the_workers_have(make_tls_node, authority, other):
    node = make_tls_node().start()
    before = serials(node)
    node.kill_master()
    write(node, "a.key", other[1])
    node.launch()
    wait_until(lambda: node.ctl("status").returncode == 0, "another master")
    assert serials(node) == before
    assert "is not the key of" in node.ctl_json("show", "certificates")["error"]
    wait_until(node.are_protected, "its workers are adopted")
    os.kill(node.workers()[0], 9)
    wait_until(lambda: node.worker_rows()[0]["restarts"] == 1,
               "another worker")
    wait_until(node.are_all_ready, "it is ready")
    assert served(node, authority) in [int(serial, 16) for serial in before]
    put(node.directory, "a", *authority.issue("mended", "localhost"))
    wait_until(lambda: serials(node) != before, "good ones are taken")


def test_a_reload_of_the_configuration_takes_certificates_too(make_tls_node, authority, other):
    node = make_tls_node().start()
    put(node.directory, "b", *other)
    text = node.config.read_text()
    node.config.write_text(text.replace('{ certificate = "a.pem"; key = "a.key"; }',
                                        '{ certificate = "a.pem"; key = "a.key"; }, '
                                        '{ certificate = "b.pem"; key = "b.key"; }'))
    assert node.config.read_text() != text
    node.ctl_json("reload")
    assert [row["names"] for row in rows(node)] == ["localhost", "other.example"]
    write(node, "b.key", authority.issue("else", "else.example")[1])
    run = node.ctl("reload")
    assert run.returncode == 1 and f"{node.config}:" in run.stderr
    assert len(rows(node)) == 2


def test_keys_are_nowhere_to_be_read(make_tls_node, localhost):
    node = make_tls_node({"ticket_secret_file": "tickets"})
    write(node, "tickets", SECRET + "\n")
    node.start()
    body = "".join(localhost[1].splitlines()[1:-1])[:40]
    everywhere = node.log() + node.ctl("show", "config").stdout + node.ctl("show", "events").stdout
    for process in node.everybody():
        everywhere += process.title
        everywhere += open(f"/proc/{process.pid}/environ", errors="replace").read()
    assert body not in everywhere.replace("\n", "")
    assert SECRET not in everywhere
    assert "tickets" in node.ctl("show", "config").stdout


# ---- what clients see of it ----

def client_context(authority, version=ssl.TLSVersion.TLSv1_3):
    context = ssl.create_default_context(cafile=str(authority.path))
    context.minimum_version = context.maximum_version = version
    return context


class TlsHttp(Http):
    """HTTP by TLS; host is the name asked for and checked."""

    def __init__(self, port, context, host="localhost", session=None):
        super().__init__(port)
        self.socket = context.wrap_socket(self.socket, server_hostname=host, session=session)

    def serial(self):
        return int(self.socket.getpeercert()["serialNumber"], 16)

    def health(self):
        return self.request("GET", "/health").status


def served(node, authority, host="localhost"):
    """The serial of the certificate that a new connection gets."""
    with TlsHttp(node.tls_port, client_context(authority), host) as connection:
        assert connection.health() == 200
        return connection.serial()


def test_rotation_drops_no_connection(make_tls_node, authority):
    node = make_tls_node().start()
    context = client_context(authority)
    old = [TlsHttp(node.tls_port, context) for _ in range(8)]
    before = old[0].serial()
    assert all(connection.health() == 200 for connection in old)
    put(node.directory, "a", *authority.issue("rotated", "localhost"))
    node.ctl_json("reload-certificates")
    after = served(node, authority)
    assert after != before
    put(node.directory, "a", *authority.issue("rotated again", "localhost"))
    wait_until(lambda: served(node, authority) not in (before, after), "noticed by itself")
    for connection in old:
        assert connection.health() == 200
        assert connection.serial() == before
        connection.close()


def test_clients_get_the_certificate_of_the_name(make_tls_node, authority):
    node = make_tls_node({"certificates": [{"certificate": "a.pem", "key": "a.key"},
                                           {"certificate": "b.pem", "key": "b.key"}]})
    put(node.directory, "b", *authority.issue("named", "www.example", "*.sub.example"))
    node.start()
    named = served(node, authority, "www.example")
    assert served(node, authority, "x.sub.example") == named
    assert served(node, authority, "localhost") != named
    with pytest.raises(ssl.SSLCertVerificationError):
        served(node, authority, "nobody.example")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_resume_on_the_other_node_and_after_a_rotation(make_tls_node, authority, version):
    nodes = []
    for name in ("a", "b"):
        nodes.append(make_tls_node({"ticket_secret_file": "tickets"}, node={"name": name}))
        write(nodes[-1], "tickets", SECRET + "\n")
        nodes[-1].start()
    put(nodes[1].directory, "a", *authority.issue("of b", "localhost"))
    nodes[1].ctl_json("reload-certificates")
    context = client_context(authority, version)
    with TlsHttp(nodes[0].tls_port, context) as connection:
        assert connection.health() == 200
        assert not connection.socket.session_reused
        session = connection.socket.session

    def resumes(node):
        with TlsHttp(node.tls_port, context, session=session) as connection:
            assert connection.health() == 200
            return connection.socket.session_reused

    assert all(resumes(node) for node in nodes for _ in range(4))
    # Another secret in front: new tickets are made with it, old ones stay good.
    write(nodes[1], "tickets", SECRET[::-1] + "\n" + SECRET + "\n")
    nodes[1].ctl_json("reload-certificates")
    assert resumes(nodes[1])
    write(nodes[1], "tickets", SECRET[::-1] + "\n")
    nodes[1].ctl_json("reload-certificates")
    assert not resumes(nodes[1])


def with_client(authority, name):
    context = client_context(authority)
    context.load_cert_chain(authority.directory / f"{name}.pem", authority.directory / f"{name}.key")
    return context


def is_let_in(node, context):
    try:
        with TlsHttp(node.tls_port, context) as connection:
            return connection.health() == 200
    except (ssl.SSLError, ConnectionError):
        return False


def test_clients_certificates_and_their_revocation(make_tls_node, authority, stranger):
    node = make_tls_node({"client_verify": "required", "client_ca": "ca.pem",
                          "client_crl": "crl.pem"})
    write(node, "ca.pem", authority.path.read_text())
    write(node, "crl.pem", authority.revocations())
    node.start()
    authority.issue("alice")
    authority.issue("bob")
    stranger.issue("mallory")
    context = with_client(authority, "alice")
    assert is_let_in(node, context)
    assert is_let_in(node, with_client(authority, "bob"))
    assert not is_let_in(node, client_context(authority))
    foreign = client_context(authority)
    foreign.load_cert_chain(stranger.directory / "mallory.pem", stranger.directory / "mallory.key")
    assert not is_let_in(node, foreign)
    authority.revoke("alice")
    write(node, "crl.pem", authority.revocations())
    wait_until(lambda: not is_let_in(node, context), "the new list is in force")
    assert is_let_in(node, with_client(authority, "bob"))


def test_hsts(make_tls_node, authority):
    node = make_tls_node({"hsts_max_age": "365d", "hsts_subdomains": True}).start()
    with TlsHttp(node.tls_port, client_context(authority)) as connection:
        for path, status in (("/health", 200), ("/nothing", 404)):
            answer = connection.request("GET", path)
            assert answer.status == status
            assert (answer.header("Strict-Transport-Security")
                    == "max-age=31536000; includeSubDomains")
    # RFC 6797 §7.2: never without TLS.
    assert http(node.port, "GET", "/health").header("Strict-Transport-Security") is None


# ---- redirects ----

def test_redirect(make_node):
    redirects = [{}, {"https_redirect_port": 443}, {"https_redirect_port": 8443}]
    node = make_node(listeners=[{"address": "127.0.0.1", "port": free_port(), **more}
                                for more in redirects]).start()
    plain, standard, other_port = (entry["port"] for entry in node.settings["listeners"])

    def location(port, path, host="www.example", method="GET"):
        response = http(port, method, path, {"Host": host})
        assert response.status == 308, response
        return response.header("Location")

    assert location(standard, "/a%20b?c=d&e") == "https://www.example/a%20b?c=d&e"
    assert location(standard, "/", "www.example:8000") == "https://www.example/"
    assert location(standard, "/", "[::1]:8000") == "https://[::1]/"
    assert (location(other_port, "/api/info", "127.0.0.1:9", "POST")
            == "https://127.0.0.1:8443/api/info")
    assert location(standard, "/connection/websocket") == "https://www.example/connection/websocket"
    assert http(standard, "GET", "/", {"Host": "a b"}).status == 400
    assert http(standard, "GET", "/health").status == 200
    assert http(standard, "GET", "/ready").status == 200
    assert http(plain, "GET", "/metrics").status == 200


# ---- challenges of ACME ----

@pytest.fixture
def acme_node(make_node):
    node = make_node(http={"acme_webroot": "webroot"}, listeners=[
        {"address": "127.0.0.1", "port": free_port()},
        {"address": "127.0.0.1", "port": free_port(), "https_redirect_port": 443}])
    node.redirecting = node.settings["listeners"][1]["port"]
    node.challenges = node.directory / "webroot/.well-known/acme-challenge"
    node.challenges.mkdir(parents=True)
    return node.start()


def challenge(node, token, method="GET"):
    return http(node.redirecting, method, f"/.well-known/acme-challenge/{token}")


def test_challenges_are_served_and_not_redirected(acme_node):
    token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA"
    assert challenge(acme_node, token).status == 404
    (acme_node.challenges / token).write_text(token + ".digest")
    answer = challenge(acme_node, token)
    assert (answer.status, answer.body.decode()) == (200, token + ".digest")
    assert challenge(acme_node, token, "HEAD").status == 200
    assert challenge(acme_node, token, "POST").status == 405
    (acme_node.challenges / token).unlink()
    assert challenge(acme_node, token).status == 404


@pytest.mark.parametrize("token", ["", "..", "../../secret", "%2e%2e/secret", "a/b", "a.b", "%61",
                                   "x" * 129, "link", "directory"])
def test_nothing_else_is_given_out(acme_node, token):
    (acme_node.directory / "secret").write_text("secret")
    (acme_node.challenges / "a.b").write_text("secret")
    (acme_node.challenges / "a").write_text("secret")
    (acme_node.challenges / "link").symlink_to(acme_node.directory / "secret")
    (acme_node.challenges / "directory").mkdir()
    with Http(acme_node.redirecting) as connection:
        connection.send(f"GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: x\r\n\r\n"
                        .encode())
        answer = connection.read_response()
    assert answer.status == 404 and b"secret" not in answer.body


def test_a_challenge_that_is_too_long_is_not_given_out(acme_node):
    (acme_node.challenges / "long").write_bytes(b"x" * 5000)
    assert challenge(acme_node, "long").status == 500
