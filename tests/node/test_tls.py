# SPDX-License-Identifier: ISC
"""Connections over TLS: other people's clients, what bad input gets, and above all that a
connection outlives the worker that serves it, wherever that one dies."""

import concurrent.futures
import os
import shutil
import signal
import ssl
import subprocess
import threading

import pytest

from certificates import put
from client import Client
from keepsock import free_port, keepsockd, merge, wait_until
from takeovers import need_test_build, take_over
from tls_client import VERSIONS, TlsClient, TlsStream, TlsWebSocket, context, raw_socket
from tls_peers import SClient
from wire import BINARY, CLOSE, TEXT, Closed, close_payload, frame

SUITES = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
          "ECDHE-ECDSA-CHACHA20-POLY1305"]
REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def files(authority):
    return authority.issue("localhost", "localhost")


@pytest.fixture
def start_tls(make_node, authority, files):
    """A function that starts a node of one worker with a plain and a TLS listener."""
    def start(tls=None, **overrides):
        listener = merge({"certificates": [{"certificate": "a.pem", "key": "a.key"}]}, tls or {})
        node = make_node(**merge({
            "node": {"workers": 1},
            "listeners": [{"address": "127.0.0.1", "port": free_port()},
                          {"address": "127.0.0.1", "port": free_port(), "tls": listener}],
        }, overrides))
        put(node.directory, "a", *files)
        if "client_ca" in listener:
            shutil.copy(authority.path, node.directory / listener["client_ca"])
        node.tls_port = node.settings["listeners"][1]["port"]
        return node.start()
    return start


@pytest.fixture
def node(start_tls):
    return start_tls()


@pytest.fixture(params=VERSIONS)
def tls(request, authority):
    """The context of a client, for each version."""
    return context(authority, VERSIONS[request.param])


@pytest.fixture
def any_tls(authority):
    return context(authority)


@pytest.fixture
def enter(node):
    """A function that connects TLS clients; they are cut at the end."""
    clients = []

    def enter(tls, **options):
        clients.append(TlsClient(node.tls_port, tls, **options))
        return clients[-1]
    yield enter
    for client in clients:
        client.cut()


def metric(node, name):
    return node.metrics()[f"keepsock_{name}"]


def kill(node, slot=0):
    """Kills a worker whose keeper has everything; returns at once."""
    wait_until(node.are_protected, "the keepers have everything")
    victim = node.workers()[slot]
    os.kill(victim, signal.SIGKILL)
    return victim


def kill_and_wait(node, slot=0):
    victim = kill(node, slot)
    wait_until(lambda: node.workers().get(slot) not in (None, victim), "the next worker")
    wait_until(node.are_all_ready, "it is ready")


FOLLOWED = {"death": kill_and_wait, "takeover": take_over}


def arm(node, point, count=1, slot=0):
    need_test_build(node)
    run = node.ctl("debug", "crash-after", str(slot), point, str(count))
    assert run.returncode == 0, run.stderr


def echo(websocket, payload):
    websocket.send(BINARY, payload)
    assert websocket.receive_message() == (BINARY, payload)


# Serving

def test_requests_and_messages(node, tls):
    with TlsStream(node.tls_port, tls) as stream:
        for _ in range(3):
            stream.send(REQUEST)
            assert stream.read_response().status == 200
    with TlsWebSocket(node.tls_port, tls, "/echo") as websocket:
        for size in (0, 1, 125, 126, 16384, 16385, 60000):
            echo(websocket, os.urandom(size))
    wait_until(lambda: metric(node, "tls_connections") == 0, "both are gone")
    assert metric(node, "tls_handshakes_total") == 2
    assert metric(node, "tls_handshakes_open") == 0


def test_records_in_any_pieces(node, tls):
    with TlsWebSocket(node.tls_port, tls, "/echo") as websocket:
        payload = os.urandom(300)
        websocket.stream.send_bytewise(frame(BINARY, payload))
        assert websocket.receive_message() == (BINARY, payload)
        # Many records in one segment, one frame in many records.
        text = frame(BINARY, payload)
        records = b"".join(websocket.stream.seal(text[i:i + 7]) for i in range(0, len(text), 7))
        websocket.stream.send_raw(records)
        assert websocket.receive_message() == (BINARY, payload)


def test_input_behind_the_handshake_and_the_upgrade(node, any_tls):
    """Everything at once: the client's Finished, the request and the first frames."""
    stream = Handshake(node.tls_port, any_tls).stream
    while True:
        try:
            stream.tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            stream.receive()
    finished = stream.outgoing.read()
    stream.send_raw(finished + stream.seal(
        b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n" +
        frame(TEXT, b"early") + frame(TEXT, b"bird")))
    assert stream.read_response().status == 101
    assert stream.take(7) == b"\x81\x05early"
    assert stream.take(6) == b"\x81\x04bird"
    stream.close()


@pytest.mark.parametrize("suite", SUITES)
def test_suites_of_1_2(node, authority, suite):
    with TlsWebSocket(node.tls_port, context(authority, VERSIONS["1.2"], suite), "/echo") as ws:
        assert ws.stream.tls.cipher()[0] == suite
        echo(ws, b"a" * 5000)
        kill_and_wait(node)
        echo(ws, b"b" * 5000)


def test_resumption(node, any_tls):
    with TlsStream(node.tls_port, any_tls) as stream:
        stream.send(REQUEST)
        stream.read_response()
        session = stream.tls.session
    kill_and_wait(node)
    with TlsStream(node.tls_port, any_tls, session=session) as stream:
        assert stream.tls.session_reused
        stream.send(REQUEST)
        assert stream.read_response().status == 200
    assert metric(node, "tls_handshakes_resumed_total") == 1


def test_what_operators_see(start_tls, authority):
    node = start_tls({"client_ca": "ca.pem", "client_verify": "required"})
    certificate, key = authority.issue("anna", common_name="anna")
    put(node.directory, "anna", certificate, key)
    tls = context(authority)
    tls.load_cert_chain(node.directory / "anna.pem", node.directory / "anna.key")
    with TlsClient(node.tls_port, tls) as client:
        for _ in range(2):
            row = node.ctl_json("show", "connections")["rows"][0]
            assert row["tls"] == "TLSv1.3"
            shown = node.ctl_json("show", "connection", client.id)
            assert shown["tls"]["state"]["suite"].startswith("TLS_")
            assert shown["certificate"]["common_name"] == "anna"
            assert len(shown["certificate"]["fingerprint"]) == 64
            kill_and_wait(node)
    wait_until(lambda: metric(node, "tls_connections") == 0, "it is gone")
    with pytest.raises(ssl.SSLError):
        stream = TlsStream(node.tls_port, context(authority))
        stream.send(REQUEST)
        stream.read_response()
    assert metric(node, "tls_handshakes_failed_certificate_total") == 1


# The end

def test_close_notify_is_answered(node, tls):
    with TlsStream(node.tls_port, tls) as stream:
        stream.send(REQUEST)
        stream.read_response()
        assert stream.say_goodbye()
    with TlsClient(node.tls_port, tls) as client:
        assert client.websocket.stream.say_goodbye()
    assert metric(node, "tls_truncated_total") == 0


def test_the_server_says_close_notify(node, tls):
    with TlsWebSocket(node.tls_port, tls, "/echo") as websocket:
        websocket.send(CLOSE, close_payload(1000))
        assert websocket.receive_close() == (1000, b"")
        websocket.stream.expect_end()
    with TlsStream(node.tls_port, tls) as stream:
        stream.send_request("GET", "/health", {"Connection": "close"})
        assert stream.read_response().status == 200
        stream.expect_end()


def test_truncation_is_counted(node, tls):
    for _ in range(3):
        TlsClient(node.tls_port, tls).cut()
    wait_until(lambda: metric(node, "tls_truncated_total") == 3, "counted")


# Bad input

def record(kind, length, body=None, version=b"\x03\x03"):
    return bytes([kind]) + version + length.to_bytes(2, "big") + \
        (os.urandom(length) if body is None else body)


BAD_RECORDS = {
    "forged": (record(23, 40), "bad_record_mac", "forged"),
    "oversized": (record(23, 0x4900, b""), "record_overflow", "oversized"),
    "short": (record(23, 5), "bad_record_mac", "forged"),
}


@pytest.mark.parametrize("kind", BAD_RECORDS)
def test_bad_records_get_the_right_alert(node, tls, kind):
    bad, alert, counter = BAD_RECORDS[kind]
    with TlsClient(node.tls_port, tls) as client:
        client.websocket.stream.send_raw(bad)
        reason = client.websocket.stream.alert()
        assert alert in reason.lower(), reason
    assert metric(node, f"tls_records_{counter}_total") == 1
    wait_until(lambda: metric(node, "tls_connections") == 0, "it is gone")


def test_a_changed_byte_is_noticed(node, tls):
    with TlsWebSocket(node.tls_port, tls, "/echo") as websocket:
        echo(websocket, b"fine")
        sealed = bytearray(websocket.stream.seal(frame(TEXT, b"hello")))
        sealed[-1] ^= 1
        websocket.stream.send_raw(bytes(sealed))
        assert "bad_record_mac" in websocket.stream.alert().lower()
    assert metric(node, "tls_records_forged_total") == 1


def test_plain_http_is_told(node):
    with raw_socket(node.tls_port) as plain:
        plain.sendall(REQUEST)
        answer = b""
        while data := plain.recv(4096):
            answer += data
    assert answer.startswith(b"HTTP/1.1 400 ") and b"https://" in answer
    assert metric(node, "tls_handshakes_failed_plain_http_total") == 1
    assert f"event=tls_handshake_failed port={node.tls_port} reason=plain_http" in node.log()


def test_no_tls_at_all(node):
    with raw_socket(node.tls_port) as plain:
        plain.sendall(b"\0" * 64)
        assert plain.recv(4096) == b""
    assert metric(node, "tls_handshakes_failed_not_tls_total") == 1


def s_client(node, *words, lines="", wait=None):
    """What openssl s_client says about a connection."""
    run = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{node.tls_port}",
                          "-servername", "localhost", *words], input=lines, text=True,
                         capture_output=True, timeout=30, check=False)
    return run.stdout + run.stderr


def test_what_openssl_may_not_ask_for(node):
    assert "alert protocol version" in s_client(node, "-tls1_1", "-cipher", "ALL@SECLEVEL=0")
    assert "alert handshake failure" in s_client(node, "-tls1_2", "-cipher",
                                                 "ECDHE-ECDSA-AES128-SHA")
    assert metric(node, "tls_handshakes_failed_version_total") == 1
    assert metric(node, "tls_handshakes_failed_suite_total") == 1
    assert metric(node, "tls_handshakes_open") == 0


@pytest.fixture
def start_s_client(node, authority):
    clients = []

    def start(*words):
        clients.append(SClient(node.tls_port, authority, *words))
        return clients[-1]
    yield start
    for client in clients:
        client.end()


def test_renegotiation_is_refused(node, start_s_client):
    client = start_s_client("-tls1_2")
    client.write(REQUEST)
    client.wait(b"200 OK")
    client.write(b"R\n")
    client.wait(b"no renegotiation")
    assert metric(node, "tls_records_renegotiation_total") == 1


@pytest.mark.parametrize("followed", FOLLOWED)
@pytest.mark.parametrize("letter", ["k", "K"])
def test_key_updates_around_another_worker(node, start_s_client, letter, followed):
    """k: the client's keys change; K: ours have to as well."""
    client = start_s_client("-tls1_3")
    answers = 0
    for _ in range(2):
        for what in (letter.encode() + b"\n", b"", letter.encode() + b"\n"):
            if what:
                before = client.said.count(b"KEYUPDATE")
                client.write(what)
                client.wait(b"KEYUPDATE", before + 1)
            else:
                FOLLOWED[followed](node)
            answers += 1
            client.write(REQUEST)
            client.wait(b"200 OK", answers)
    assert metric(node, "tls_key_updates_received_total") == 4
    assert metric(node, "tls_key_updates_sent_total") == (4 if letter == "K" else 0)


# Handshakes

def test_a_slow_handshake_ends(start_tls, any_tls):
    node = start_tls({"handshake_timeout": "300ms"})
    with raw_socket(node.tls_port) as idle, raw_socket(node.tls_port) as slow:
        slow.sendall(b"\x16\x03\x01")
        assert idle.recv(1) == b"" and slow.recv(1) == b""
    assert metric(node, "tls_handshakes_timeout_total") == 2
    with TlsStream(node.tls_port, any_tls) as stream:
        stream.send(REQUEST)
        assert stream.read_response().status == 200


def test_more_handshakes_wait(start_tls, any_tls):
    node = start_tls({"handshake_limit": 3, "handshake_timeout": "1s"})
    crowd = [raw_socket(node.tls_port) for _ in range(8)]
    wait_until(lambda: metric(node, "tls_handshakes_open") == 3, "three are under way")
    with TlsStream(node.tls_port, any_tls) as stream:
        stream.send(REQUEST)
        assert stream.read_response().status == 200
    for idle in crowd:
        idle.close()
    wait_until(lambda: metric(node, "tls_handshakes_open") == 0, "all are gone")


def test_a_client_that_leaves_in_its_handshake(node):
    for _ in range(3):
        raw_socket(node.tls_port).close()
    wait_until(lambda: metric(node, "tls_handshakes_aborted_total") == 3, "counted")


class Handshake:
    """One that stops before the client's last flight, until finish()."""

    def __init__(self, port, tls):
        self.stream = TlsStream.__new__(TlsStream)
        super(TlsStream, self.stream).__init__(port)
        self.stream.incoming, self.stream.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.stream.tls = tls.wrap_bio(self.stream.incoming, self.stream.outgoing,
                                       server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            self.stream.tls.do_handshake()
        self.stream.flush()

    def finish(self, request=b""):
        """With what is to come along with the last flight."""
        self.stream.shake_hands(request)
        return self.stream


def handshakes_by_takeover(node):
    """[(inherited, dropped)] of each that was done, as they are shown by now."""
    rows = node.ctl_json("show", "takeovers")["rows"]
    return [(row["handshakes_inherited"], row["handshakes_dropped"]) for row in rows]


def test_handshakes_outlive_takeovers(node, tls):
    """The worker that was taken over from ends them, and the one that serves gets what they become:
    from the one before the one before, too."""
    need_test_build(node)
    handshake = Handshake(node.tls_port, tls)
    wait_until(lambda: metric(node, "tls_handshakes_open") == 1, "it is under way")
    for _ in range(2):
        assert take_over(node)["connections"] == 0
    stream = handshake.finish()
    stream.send(REQUEST)
    assert stream.read_response().status == 200
    assert metric(node, "tls_handshakes_total") == 1
    assert metric(node, "tls_handshakes_inherited_total") == 1
    assert handshakes_by_takeover(node) == [(0, 0), (1, 0)]
    assert take_over(node)["connections"] == 1
    stream.send(REQUEST)
    assert stream.read_response().status == 200
    stream.close()
    wait_until(lambda: node.log().count('event=lingered reason="all are over"') == 2,
               "both left")
    assert metric(node, "tls_handshakes_dropped_total") == 0
    assert handshakes_by_takeover(node) == [(0, 0), (1, 0), (0, 0)]


def test_handshakes_outlive_upgrades(node, tls):
    """Of what becomes of them after it the master that goes on tells, too."""
    handshake = Handshake(node.tls_port, tls)
    wait_until(lambda: metric(node, "tls_handshakes_open") == 1, "it is under way")
    node.ctl_json("upgrade", keepsockd())
    assert handshakes_by_takeover(node) == [(0, 0)]
    stream = handshake.finish()
    stream.send(REQUEST)
    assert stream.read_response().status == 200
    stream.close()
    assert handshakes_by_takeover(node) == [(1, 0)]


def test_what_comes_with_the_last_flight_of_an_inherited_handshake(node, authority):
    need_test_build(node)
    handshake = Handshake(node.tls_port, context(authority, VERSIONS["1.3"]))
    wait_until(lambda: metric(node, "tls_handshakes_open") == 1, "it is under way")
    take_over(node)
    stream = handshake.finish(REQUEST * 3)
    for _ in range(3):
        assert stream.read_response().status == 200
    stream.close()


@pytest.mark.parametrize("followed", FOLLOWED)
def test_handshakes_that_do_not_end_are_closed(start_tls, any_tls, followed):
    """One that takes longer than the old worker stays, or that died with it: its client hears so,
    and nothing of it is left."""
    node = start_tls(takeover={"linger": "200ms"})
    if followed == "takeover":
        need_test_build(node)
    handshake = Handshake(node.tls_port, any_tls)
    with raw_socket(node.tls_port) as silent:
        wait_until(lambda: metric(node, "tls_handshakes_open") == 2, "they are under way")
        FOLLOWED[followed](node)
        assert is_closed(silent)
    with pytest.raises(Closed):
        handshake.stream.receive()
        handshake.finish()
        handshake.stream.receive()
    handshake.stream.close()
    assert metric(node, "tls_handshakes_open") == 0
    with TlsStream(node.tls_port, any_tls) as stream:
        stream.send(REQUEST)
        assert stream.read_response().status == 200
    if followed == "takeover":
        wait_until(lambda: metric(node, "tls_handshakes_dropped_total") == 2, "they are counted")
        assert "handshakes dropped" in node.ctl("show", "events").stdout
        assert handshakes_by_takeover(node) == [(0, 2)]


def test_handshakes_that_time_out_after_takeovers_are_counted(start_tls, any_tls):
    """By the worker that serves, to which the ones before tell it, one by the other."""
    node = start_tls({"handshake_timeout": "2s"})
    need_test_build(node)
    handshakes = [Handshake(node.tls_port, any_tls)]
    wait_until(lambda: metric(node, "tls_handshakes_open") == 1, "it is under way")
    take_over(node)
    handshakes.append(Handshake(node.tls_port, any_tls))
    wait_until(lambda: metric(node, "tls_handshakes_open") == 1, "another one is under way")
    take_over(node)
    for handshake in handshakes:
        with pytest.raises(Closed):
            while True:
                handshake.stream.receive()
        handshake.stream.close()
    wait_until(lambda: metric(node, "tls_handshakes_timeout_total") == 2, "they are counted")
    assert metric(node, "tls_handshakes_dropped_total") == 0
    assert handshakes_by_takeover(node) == [(0, 0), (0, 0)]


def test_who_lingers_leaves_when_nobody_serves(start_tls, any_tls):
    """There would be nobody to give a connection to."""
    node = start_tls(takeover={"linger": "15s"})
    need_test_build(node)
    handshake = Handshake(node.tls_port, any_tls)
    wait_until(lambda: metric(node, "tls_handshakes_open") == 1, "it is under way")
    take_over(node)
    kill_and_wait(node)
    with pytest.raises(Closed):
        while True:
            handshake.stream.receive()
    handshake.stream.close()
    wait_until(lambda: 'event=lingered reason="nobody serves"' in node.log(), "it left")


def is_closed(connection):
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


# Another worker goes on

@pytest.mark.parametrize("followed", FOLLOWED)
def test_a_record_cut_in_half(node, tls, followed):
    with TlsWebSocket(node.tls_port, tls, "/echo") as websocket:
        for size in (10, 16000):
            payload = os.urandom(size)
            sealed = websocket.stream.seal(frame(BINARY, payload))
            websocket.stream.send_raw(sealed[:len(sealed) // 2])
            wait_until(lambda: node.ctl_json("show", "connections")["rows"], "it is there")
            FOLLOWED[followed](node)
            websocket.stream.send_raw(sealed[len(sealed) // 2:])
            assert websocket.receive_message() == (BINARY, payload)


@pytest.mark.parametrize("followed", FOLLOWED)
def test_a_frame_in_the_middle(node, tls, enter, followed):
    client = enter(tls)
    client.result("subscribe", channel="c")
    text = frame(TEXT, client.command("publish", channel="c", data="a" * 3000).encode())
    client.websocket.stream.send(text[:1000])
    FOLLOWED[followed](node)
    client.websocket.stream.send(text[1000:])
    assert client.publication("c")["data"] == "a" * 3000


READ_AND_WRITE = ["read-before", "read-after", "write-before", "write-after", "commit-before",
                  "commit-stored", "commit-half"]


@pytest.mark.parametrize("point", READ_AND_WRITE)
def test_echoes_while_workers_die(node, tls, point):
    with TlsWebSocket(node.tls_port, tls, "/echo") as websocket:
        for count in (1, 2, 3):
            wait_until(node.are_protected, "protected")
            before = node.workers()[0]
            arm(node, point, count)
            for number in range(40):
                echo(websocket, os.urandom(number * 97))
                if node.workers().get(0) != before:
                    break
            else:
                raise AssertionError(f"{point} was not reached")
            wait_until(node.are_all_ready, "the next one is ready")
        echo(websocket, b"after all")


FANOUT = ["fanout-begin", "fanout-send", "fanout-sent", "fanout-end", "commit-half",
          "commit-stored"]


@pytest.mark.parametrize("size", [20, 40000])
@pytest.mark.parametrize("point", FANOUT)
def test_fan_outs_to_plain_and_tls_while_workers_die(node, authority, enter, make_client, point,
                                                     size):
    """Whoever died in the middle: each gets each publication once, in order."""
    clients = []
    for number in range(9):
        version = (None, "1.2", "1.3")[number % 3]
        clients.append(enter(context(authority, VERSIONS[version])) if version
                       else make_client(node))
        clients[-1].result("subscribe", channel="c")
    number = 0
    for count in (1, 2, 5):
        wait_until(node.are_protected, "protected")
        before = node.workers()[0]
        arm(node, point, count)
        for _ in range(20):
            number += 1
            node.api("publish", channel="c", data=[number, "x" * size])
            for client in clients:
                assert client.publication("c")["data"][0] == number
            if node.workers().get(0) != before:
                break
        else:
            raise AssertionError(f"{point} was not reached")
        wait_until(node.are_all_ready, "the next one is ready")


def test_backlogs_of_slow_readers(node, authority, enter):
    """What a socket does not take waits sealed, and survives."""
    slow = enter(context(authority), receive_buffer=4096)
    slow.result("subscribe", channel="c")
    count = 0

    def queued():
        return node.ctl_json("show", "connections")["rows"][0]["queued_bytes"]

    # More than the socket may yet have room for, should the kernel make its buffer larger.
    for least in (400_000, 500_000):
        while queued() < least:
            node.publish("c", [count, "x" * 30000])
            count += 1
        kill_and_wait(node)
        assert queued() > 0
    for number in range(count):
        assert slow.publication("c")["data"][0] == number


def test_workers_die_under_load(node, authority, make_client, enter, rng):
    """Killed at any moment while TLS clients echo, publish and subscribe: nobody is closed, every
    byte and every publication comes once, in order."""
    stop = threading.Event()
    failures = []

    def guarded(work, *args):
        def run():
            try:
                work(*args)
            except BaseException as failure:      # noqa: B902 (told by the main thread)
                failures.append(repr(failure))
                stop.set()
        return threading.Thread(target=run)

    def echoes(version, seed):
        with TlsWebSocket(node.tls_port, context(authority, VERSIONS[version]), "/echo") as ws:
            while not stop.is_set():
                payloads = [os.urandom((seed * 7919 + i * 911) % 20000) for i in range(4)]
                for payload in payloads:
                    ws.send(BINARY, payload)
                for payload in payloads:
                    assert ws.receive_message() == (BINARY, payload)

    def publishes(version):
        with TlsClient(node.tls_port, context(authority, VERSIONS[version])) as client:
            channel = f"own-{version}"
            client.result("subscribe", channel=channel)
            number = 0
            while not stop.is_set():
                number += 1
                reply = client.call("publish", channel=channel, data=number)
                if "error" in reply:
                    assert reply["error"]["code"] == 100
                seen = client.publication(channel)["data"] if "error" not in reply else number
                assert seen == number, (seen, number)

    def listens(client, heard):
        expected = 0
        while expected < LAST:
            data = client.publication("all")["data"]
            assert data == expected + 1, (data, expected)
            expected = data
        heard.append(expected)

    LAST = 60
    listeners = [enter(context(authority, VERSIONS[v])) for v in ("1.2", "1.3", "1.3")] + \
        [make_client(node), make_client(node)]
    for client in listeners:
        client.result("subscribe", channel="all")
    heard = []
    workers = [guarded(echoes, "1.2", 1), guarded(echoes, "1.3", 2), guarded(publishes, "1.2"),
               guarded(publishes, "1.3")]
    ears = [guarded(listens, client, heard) for client in listeners]
    for thread in workers + ears:
        thread.start()
    publisher = Client(node.port)
    for number in range(1, LAST + 1):
        if stop.is_set():
            break
        publisher.result("publish", channel="all", data=number)
        if number % 12 == 0:
            kill(node)
            threading.Event().wait(rng.random() * 0.2)
    for thread in ears:
        thread.join(60)
    stop.set()
    for thread in workers:
        thread.join(60)
    publisher.cut()
    assert not failures, failures
    assert heard == [LAST] * len(listeners)
    assert metric(node, "worker_restarts_total") == LAST // 12
    assert metric(node, "takeover_connections_lost_total") == 0


def test_moves_between_workers(start_tls, authority):
    node = start_tls(node={"workers": 2})
    need_test_build(node)
    clients = [TlsClient(node.tls_port, context(authority, version))
               for version in VERSIONS.values() for _ in range(3)]
    for client in clients:
        client.result("subscribe", channel="c")
    for number in range(4):
        run = node.ctl("debug", "move", str(number % 2), str(1 - number % 2))
        assert run.returncode == 0, run.stderr
        wait_until(lambda: node.worker_rows()[number % 2]["connections"] == 0, "all are there")
        node.publish("c", number)
        for client in clients:
            assert client.publication("c")["data"] == number
            assert "error" not in client.call("publish", channel="other", data=1)
    for client in clients:
        client.cut()


# Other clients

NODE = """
const https = require('https'), crypto = require('crypto'), fs = require('fs');
const request = https.request({host: '127.0.0.1', port: %d, path: '/echo',
    servername: 'localhost', ca: fs.readFileSync('%s'), headers: {
    Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': 13,
    'Sec-WebSocket-Key': crypto.randomBytes(16).toString('base64')}});
request.on('upgrade', (response, socket) => {
    let rest = Buffer.alloc(0);
    socket.on('data', data => {
        rest = Buffer.concat([rest, data]);
        while (rest.length >= 2 && rest.length >= 2 + rest[1]) {
            console.log(rest.subarray(2, 2 + rest[1]).toString());
            rest = rest.subarray(2 + rest[1]);
        }
    });
    socket.on('close', () => { console.log('closed'); process.exit(0); });
    process.stdin.on('data', text => {
        const payload = Buffer.from(text.toString().trim());
        socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0]),
                                    payload]));
    });
    console.log('upgraded');
});
request.end();
"""


@pytest.mark.parametrize("followed", FOLLOWED)
def test_node_goes_on(node, authority, followed):
    if not shutil.which("node"):
        pytest.skip("there is no node")
    with subprocess.Popen(["node", "-e", NODE % (node.tls_port, authority.path)], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdout.readline() == "upgraded\n"
        for number in range(4):
            client.stdin.write(f"message {number}\n")
            client.stdin.flush()
            assert client.stdout.readline() == f"message {number}\n"
            FOLLOWED[followed](node)
        client.kill()


def test_curl_is_served(node, authority):
    if not shutil.which("curl"):
        pytest.skip("there is no curl")
    url = f"https://localhost:{node.tls_port}/health"
    run = subprocess.run(["curl", "-sS", "--cacert", str(authority.path), "--resolve",
                          f"localhost:{node.tls_port}:127.0.0.1", "-w", "%{http_code} ", url, url],
                         text=True, capture_output=True, timeout=30, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("200") == 2
    assert metric(node, "tls_handshakes_total") == 1


# Memory

def test_an_idle_connection_is_small(start_tls, authority):
    """Bytes of the arena for each subscribed connection, in pages of 64 KiB."""
    count, limit = 1200, 900
    node = start_tls()
    tls = context(authority)
    before = metric(node, "arena_bytes_used")
    clients = [TlsClient(node.tls_port, tls) for _ in range(count // 10)]
    for client in clients:
        client.result("subscribe", channel="c")
    wait_until(lambda: metric(node, "tls_connections") == len(clients), "counted")
    used = metric(node, "arena_bytes_used") - before
    # Each kind of record has pages of its own, so a few are only begun.
    assert used <= limit * len(clients) + 8 * 65536
    for client in clients:
        client.cut()
