# SPDX-License-Identifier: ISC
"""What a TLS listener has to refuse, asked for by openssl s_client and by hand: each with the right
alert, a counter of its own, and an end, while those who are connected are served."""

import os
import socket
import ssl
import struct
import time
from collections import namedtuple

import pytest

from certificates import Authority, put
from keepsock import Keepsock, free_port, merge, wait_until
from tls_client import TlsStream, TlsWebSocket, context, raw_socket
from tls_peers import SClientProcess
from wire import BINARY, TIMEOUT

REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
HANDSHAKE, ALERT, DATA = 22, 21, 23
ALERTS = {10: "unexpected_message", 20: "bad_record_mac", 22: "record_overflow",
          40: "handshake_failure", 42: "bad_certificate", 44: "certificate_revoked",
          45: "certificate_expired", 47: "illegal_parameter", 48: "unknown_ca",
          50: "decode_error", 70: "protocol_version", 80: "internal_error",
          109: "missing_extension", 116: "certificate_required",
          120: "no_application_protocol"}


# Nodes: few, as each test only wants counters of its own to move

@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca") / "ca")


def start(authority, tls, files=()):
    listener = merge({"certificates": [{"certificate": "a.pem", "key": "a.key"}]}, tls)
    node = Keepsock(**{
        "node": {"workers": 1},
        "listeners": [{"address": "127.0.0.1", "port": free_port()},
                      {"address": "127.0.0.1", "port": free_port(), "tls": listener}]})
    put(node.directory, "a", *authority.issue("localhost", "localhost"))
    for name, text in files:
        (node.directory / name).write_text(text)
    node.tls_port = node.settings["listeners"][1]["port"]
    return node.start()


def end(node):
    try:
        node.stop()
    finally:
        node.remove()


@pytest.fixture(scope="module")
def node(authority):
    running = start(authority, {})
    yield running
    end(running)


Member = namedtuple("Member", "certificate key")


@pytest.fixture(scope="module")
def people(authority, tmp_path_factory):
    """Certificates of clients: good, expired, not valid yet, revoked, of a stranger."""
    directory = tmp_path_factory.mktemp("people")
    stranger = Authority(directory / "stranger", "Stranger")
    issued = {
        "good": authority.issue("good"),
        "expired": authority.issue("expired", starts=-20, ends=-1),
        "early": authority.issue("early", starts=5, ends=20),
        "revoked": authority.issue("revoked"),
        "strange": stranger.issue("strange"),
    }
    authority.revoke("revoked")
    for name, (certificate, key) in issued.items():
        put(directory, name, certificate, key)
    return {name: Member(directory / f"{name}.pem", directory / f"{name}.key") for name in issued}


@pytest.fixture(scope="module")
def strict(authority, people):
    running = start(authority, {"client_ca": "ca.pem", "client_crl": "crl.pem",
                                "client_verify": "required"},
                    [("ca.pem", authority.path.read_text()), ("crl.pem", authority.revocations())])
    yield running
    end(running)


def metrics(node):
    """Those of TLS that are not zero."""
    return {name.removeprefix("keepsock_tls_"): value for name, value in node.metrics().items()
            if name.startswith("keepsock_tls_") and value}


class Counting:
    """Exactly these counters of refusals move, once each, and nothing stays behind."""

    SILENT = ("certificate", "connections", "handshakes_total", "handshakes_open", "handshakes_resumed",
              "key_updates", "truncated", "alerts_received")

    def __init__(self, node, *names, times=1):
        self.node, self.wanted = node, {name: times for name in names}

    def moved(self):
        now = metrics(self.node)
        return {name: value - self.before.get(name, 0) for name, value in now.items()
                if value != self.before.get(name, 0) and not name.startswith(self.SILENT)}

    def __enter__(self):
        self.before = metrics(self.node)

    def __exit__(self, failure, *_):
        if failure:
            return
        wait_until(lambda: self.moved() == self.wanted, lambda: f"{self.wanted}: {self.moved()}")
        wait_until(lambda: metrics(self.node).get("handshakes_open", 0) == 0, "none is under way")


# By hand

def extension(kind, body):
    return struct.pack(">HH", kind, len(body)) + body


def client_hello(version, suites, extensions=b""):
    """A ClientHello of SSL 3.0 to TLS 1.2, or with extensions of 1.3, in its record."""
    body = version + os.urandom(32) + b"\0" + struct.pack(">H", 2 * len(suites)) + \
        b"".join(struct.pack(">H", suite) for suite in suites) + b"\x01\0"
    if extensions:
        body += struct.pack(">H", len(extensions)) + extensions
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return record(HANDSHAKE, message, b"\x03\x01" if version != b"\x03\0" else b"\x03\0")


def record(kind, body, version=b"\x03\x03"):
    return bytes([kind]) + version + struct.pack(">H", len(body)) + body


def read_records(plain):
    """(type, body) of each record up to the end of the stream."""
    plain.settimeout(TIMEOUT)
    data = b""
    try:
        while more := plain.recv(65536):
            data += more
    except ConnectionResetError:
        pass
    while len(data) >= 5:
        length = struct.unpack(">H", data[3:5])[0]
        yield data[0], data[5:5 + length]
        data = data[5 + length:]


def answer_to(node, *pieces):
    """The alert that bytes in the clear are answered with, "" for none; it has to close."""
    with raw_socket(node.tls_port) as plain:
        for piece in pieces:
            plain.sendall(piece)
        plain.shutdown(socket.SHUT_WR)
        for kind, body in read_records(plain):
            if kind == ALERT and len(body) == 2:
                assert body[0] == 2, "fatal"
                return ALERTS.get(body[1], body[1])
    return ""


MODERN = [0xc02b, 0xc02c, 0xcca9]
CURVES = extension(10, b"\0\x04\0\x1d\0\x17") + extension(11, b"\x01\0") + \
    extension(13, b"\0\x08\x04\x03\x05\x03\x08\x04\x04\x01")


@pytest.mark.parametrize("version,alert", [("0300", "handshake_failure"),
                                           ("0301", "protocol_version"),
                                           ("0302", "protocol_version")])
def test_old_versions(node, version, alert):
    """SSL 3.0, which has no word for it, TLS 1.0 and 1.1."""
    with Counting(node, "handshakes_failed_version_total"):
        assert answer_to(node, client_hello(bytes.fromhex(version), MODERN + [0xc009, 0x2f],
                                            CURVES)) == alert


def test_a_hello_of_ssl_2(node):
    with Counting(node, "handshakes_failed_not_tls_total"):
        assert answer_to(node, b"\x80\x1f\x01\0\x02\0\x06\0\0\0\x10\x01\0\x80\x03\0\x80" +
                         os.urandom(16)) in ("", "protocol_version")


SUITES = {
    "cbc": [0xc009, 0xc00a, 0xc023, 0xc024, 0xc013, 0xc014, 0xc027, 0x2f, 0x35, 0x3c],
    "null": [0x0001, 0x0002, 0x003b, 0xc006, 0xc010],
    "anonymous": [0x0018, 0x001b, 0x0034, 0x003a, 0x006c, 0x00a6, 0x00a7, 0xc015, 0xc018],
    "export": [0x0003, 0x0006, 0x0008, 0x000b, 0x0014, 0x0017, 0x0062, 0x0064],
    "rc4": [0x0004, 0x0005, 0xc007, 0xc011],
    "3des": [0x000a, 0x0016, 0xc008, 0xc012],
    "static rsa": [0x009c, 0x009d, 0xc0a0],
}


@pytest.mark.parametrize("kind", SUITES)
def test_old_suites(node, kind):
    with Counting(node, "handshakes_failed_suite_total"):
        assert answer_to(node, client_hello(b"\x03\x03", SUITES[kind], CURVES)) == \
            "handshake_failure"


def test_a_fallback_is_noticed(node):
    """A client that could do better (RFC 7507) is not served with less, whoever made it ask."""
    answer = answer_to(node, client_hello(b"\x03\x03", MODERN + [0x5600], CURVES))
    assert answer == 86, "inappropriate_fallback"
    wait_until(lambda: metrics(node).get("handshakes_open", 0) == 0, "it is over")


BROKEN = {
    "truncated hello": (record(HANDSHAKE, client_hello(b"\x03\x03", MODERN)[5:30]), None),
    "hello longer than its record says": (record(HANDSHAKE, b"\x01\0\0\x04" + b"\x03\x03" * 2),
                                          "handshakes_failed_protocol_total"),
    "no hello": (record(HANDSHAKE, b"\x14\0\0\x0c" + bytes(12)),
                 "handshakes_failed_protocol_total"),
    "data at once": (record(DATA, b"GET / HTTP/1.1\r\n\r\n"), "handshakes_failed_protocol_total"),
    "an empty record": (record(HANDSHAKE, b"") * 40, "handshakes_failed_protocol_total"),
    "an oversized record": (b"\x16\x03\x01\x48\x01" + bytes(100),
                            "handshakes_failed_protocol_total"),
    "a hello without end": (record(HANDSHAKE, b"\x01\xff\xff\xff" + bytes(16000)) * 12,
                            "handshakes_failed_protocol_total"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_hellos(node, kind):
    sent, counter = BROKEN[kind]
    before = metrics(node)
    try:
        answer_to(node, sent)
    except (BrokenPipeError, ConnectionResetError, OSError):
        pass
    # Which of the reasons it is called is OpenSSL's to say; that there is one is not.
    wait_until(lambda: sum(value - before.get(name, 0) for name, value in metrics(node).items()
                           if name.startswith(("handshakes_failed", "handshakes_aborted"))) == 1,
               "counted once")
    wait_until(lambda: metrics(node).get("handshakes_open", 0) == 0, "it is over")


def with_early_data(hello):
    """The same ClientHello, which says that early data follows (RFC 8446 §4.2.10)."""
    message = bytearray(hello[5:])
    at = 4 + 2 + 32
    at += 1 + message[at]
    at += 2 + struct.unpack(">H", message[at:at + 2])[0]
    at += 1 + message[at]
    length = struct.unpack(">H", message[at:at + 2])[0] + 4
    message[at:at + 2] = struct.pack(">H", length)
    message += extension(42, b"")
    message[1:4] = (len(message) - 4).to_bytes(3, "big")
    return record(HANDSHAKE, bytes(message), b"\x03\x01")


def python_hello(authority):
    outgoing = ssl.MemoryBIO()
    tls = context(authority, ssl.TLSVersion.TLSv1_3).wrap_bio(ssl.MemoryBIO(), outgoing,
                                                            server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def test_early_data_is_not_looked_at(node, authority):
    """Whatever a client sends early, nothing of it is a request, and there is an end to it."""
    hello = with_early_data(python_hello(authority))
    before = metrics(node)
    for size in (len(REQUEST), 200_000):
        early = b"".join(record(DATA, os.urandom(min(16000, size))) for _ in range(size // 16000 + 1))
        try:
            answer_to(node, hello, early)
        except (BrokenPipeError, ConnectionResetError):
            pass
    wait_until(lambda: sum(value - before.get(name, 0) for name, value in metrics(node).items()
                           if name.startswith(("handshakes_failed", "handshakes_aborted"))) == 2,
               "both are counted")
    assert metrics(node).get("handshakes_total", 0) == before.get("handshakes_total", 0)


# By openssl

class SClient(SClientProcess):
    """Kept open, or run to its end by all()."""

    def __init__(self, node, *words):
        super().__init__(node.tls_port, *words)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
        self.process.stdin.close()
        self.reader.join()

    def all(self):
        """What it says until the server ends it."""
        with self:
            self.process.wait(30)
            self.reader.join()
        return self.said.decode(errors="replace")


REFUSED = {
    "TLS 1.0": (["-tls1", "-cipher", "ALL@SECLEVEL=0"], "alert protocol version", "version"),
    "TLS 1.1": (["-tls1_1", "-cipher", "ALL@SECLEVEL=0"], "alert protocol version", "version"),
    "CBC": (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384"],
            "alert handshake failure", "suite"),
    "NULL": (["-tls1_2", "-cipher", "NULL:eNULL@SECLEVEL=0"], "alert handshake failure", "suite"),
    "anonymous": (["-tls1_2", "-cipher", "aNULL@SECLEVEL=0"], "alert handshake failure", "suite"),
    "no curve": (["-tls1_3", "-groups", "ffdhe2048"], "alert handshake failure", "suite"),
    "another protocol": (["-alpn", "h2"], "alert no application protocol", "alpn"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_openssl_may_not_ask_for(node, kind):
    words, alert, counter = REFUSED[kind]
    with Counting(node, f"handshakes_failed_{counter}_total"):
        assert alert in SClient(node, *words).all()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_an_unknown_name_gets_the_first_certificate(node, authority, version):
    """Not an alert: a client that dials an address knows what it wants, and checks it."""
    with Counting(node), SClient(node, version, "-CAfile", str(authority.path), "-servername",
                                 "elsewhere.example") as client:
        client.wait(b"subject=CN = localhost")
        client.wait(b"Verify return code: 0")


def test_tickets_are_not_for_early_data(node):
    with SClient(node, "-tls1_3") as client:
        client.wait(b"Max Early Data: 0")


def test_a_flood_of_key_updates(node, authority):
    """Each costs what a handshake's last step costs: 32 at once, then one in a second."""
    with Counting(node, "records_key_update_flood_total"), \
            SClient(node, "-tls1_3", "-CAfile", str(authority.path)) as client:
        client.wait(b"Verify return code")
        for number in range(1, 200):
            try:
                client.write(b"k\n")
                with client.changed:
                    assert client.changed.wait_for(
                        lambda: client.said.count(b"KEYUPDATE") >= number or
                        client.process.poll() is not None, 20)
            except BrokenPipeError:
                pass
            if client.process.poll() is not None:
                break
        assert number > 32, client.said
        client.wait(b"unexpected message")


def test_renegotiation(node):
    with Counting(node, "records_renegotiation_total"), SClient(node, "-tls1_2") as client:
        client.write(REQUEST)
        client.wait(b"200 OK")
        client.write(b"R\n")
        client.wait(b"no renegotiation")


# Records behind the handshake

RECORDS = {
    "forged": (record(DATA, os.urandom(64)), "bad_record_mac", "forged"),
    "shorter than its tag": (record(DATA, os.urandom(3)), "bad_record_mac", "forged"),
    "longer than any": (b"\x17\x03\x03\x48\x01", "record_overflow", "oversized"),
    "of no kind": (record(99, os.urandom(64)), "unexpected_message", "unexpected"),
}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", RECORDS)
def test_records(node, authority, version, kind):
    bad, alert, counter = RECORDS[kind]
    with Counting(node, f"records_{counter}_total"), \
            TlsStream(node.tls_port, context(authority, version)) as stream:
        stream.send_raw(bad)
        assert alert in stream.alert().lower()


# Certificates of clients

BAD_PEOPLE = {"expired": "certificate_expired", "early": "bad_certificate",
              "revoked": "certificate_revoked", "strange": "unknown_ca"}


def visit(node, tls):
    """The alert that ends it, or the status of a request; in 1.3 it comes behind the handshake."""
    try:
        with TlsStream(node.tls_port, tls) as stream:
            stream.send(REQUEST)
            return stream.read_response().status
    except ssl.SSLError as error:
        return error.reason.lower()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("who", BAD_PEOPLE)
def test_bad_certificates_of_clients(strict, authority, people, version, who):
    tls = context(authority, version)
    tls.load_cert_chain(*people[who])
    with Counting(strict, "handshakes_failed_certificate_total"):
        assert BAD_PEOPLE[who] in visit(strict, tls)
    tls = context(authority, version)
    tls.load_cert_chain(*people["good"])
    assert visit(strict, tls) == 200


@pytest.mark.parametrize("version,alert", [(ssl.TLSVersion.TLSv1_2, "handshake_failure"),
                                           (ssl.TLSVersion.TLSv1_3, "certificate_required")])
def test_no_certificate_of_a_client(strict, authority, version, alert):
    with Counting(strict, "handshakes_failed_certificate_total"):
        assert alert in visit(strict, context(authority, version))


# Floods

@pytest.fixture
def limited(authority):
    running = start(authority, {"handshake_limit": 4, "handshake_timeout": "1s",
                                "handshake_rate": 6})
    yield running
    end(running)


def test_floods_hold_nobody_up(limited, authority):
    """Slow handshakes wait for each other; who is connected is served all the while."""
    tls = context(authority)
    with TlsWebSocket(limited.tls_port, tls, "/echo") as member:
        crowd = [raw_socket(limited.tls_port) for _ in range(12)]
        for number, slow in enumerate(crowd):
            # Some say nothing, some begin, some stop in the middle of their hello.
            slow.sendall(python_hello(authority)[:number % 3 * 20])
        seen = 0
        while metrics(limited).get("handshakes_timeout_total", 0) < len(crowd):
            member.send(BINARY, b"still here")
            assert member.receive_message() == (BINARY, b"still here")
            seen = max(seen, metrics(limited).get("handshakes_open", 0))
            assert seen <= 4
        assert seen > 0
        for slow in crowd:
            assert slow.recv(1) == b""
            slow.close()


def test_no_more_handshakes_in_a_second_than_allowed(limited, authority):
    """A full second's worth may come at once. What a slow machine adds only makes it longer."""
    tls = context(authority)
    begun = time.monotonic()
    with TlsWebSocket(limited.tls_port, tls, "/echo") as member:
        for _ in range(17):
            with TlsStream(limited.tls_port, tls) as stream:
                stream.send(REQUEST)
                assert stream.read_response().status == 200
            member.send(BINARY, b"still here")
            assert member.receive_message() == (BINARY, b"still here")
    # 18 handshakes: 6 at once, 12 at 6 a second.
    assert time.monotonic() - begun > 1.8
