# SPDX-License-Identifier: ISC
"""RFC 6455 over the wire, on /echo: the handshake, every frame rule, close codes, limits, origins."""

import socket
import struct

import pytest

from wire import (BINARY, CLOSE, PING, PONG, TEXT, Http, WebSocket, close_payload, frame, upgrade)

MESSAGE_LIMIT = 65536


@pytest.fixture
def echo(node):
    with WebSocket(node.port, "/echo") as websocket:
        yield websocket


# Handshake (RFC 6455 4.2)

def test_accept_key_of_the_rfc(node):
    with Http(node.port) as stream:
        response = upgrade(stream, "/echo", {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
        assert response.status == 101
        assert response.header("Sec-WebSocket-Accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert response.header("Upgrade").lower() == "websocket"
        assert "upgrade" in response.header("Connection").lower()
        assert response.header("Sec-WebSocket-Protocol") is None
        assert response.header("Sec-WebSocket-Extensions") is None


@pytest.mark.parametrize("headers", [{"Connection": "keep-alive, Upgrade"},
                                     {"Connection": "upgrade", "Upgrade": "WebSocket"},
                                     {"Upgrade": "h2c, websocket"},
                                     {"Sec-WebSocket-Extensions": "permessage-deflate"}])
def test_handshake_variants_are_accepted(node, headers):
    with Http(node.port) as stream:
        response = upgrade(stream, "/echo", headers)
        assert response.status == 101, response
        assert response.header("Sec-WebSocket-Extensions") is None


@pytest.mark.parametrize("headers", [{"Sec-WebSocket-Key": ""},
                                     {"Sec-WebSocket-Key": "c2hvcnQ="},
                                     {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ"},
                                     {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25j!Q=="},
                                     {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==AAAA"}])
def test_bad_key_is_400(node, headers):
    with Http(node.port) as stream:
        assert upgrade(stream, "/echo", headers).status == 400


def test_missing_key_is_400(node):
    with Http(node.port) as stream:
        assert upgrade(stream, "/echo", drop=["Sec-WebSocket-Key"]).status == 400


@pytest.mark.parametrize("version", ["8", "12", "14", "13, 8", "x", ""])
def test_other_version_is_426(node, version):
    with Http(node.port) as stream:
        response = upgrade(stream, "/echo", {"Sec-WebSocket-Version": version})
        assert response.status in (400, 426), response
        if response.status == 426:
            assert response.header("Sec-WebSocket-Version") == "13"


def test_version_8_learns_what_we_speak(node):
    with Http(node.port) as stream:
        response = upgrade(stream, "/echo", {"Sec-WebSocket-Version": "8"})
        assert response.status == 426 and response.header("Sec-WebSocket-Version") == "13"


@pytest.mark.parametrize("drop", [["Upgrade"], ["Connection"], ["Upgrade", "Connection"]])
@pytest.mark.parametrize("path", ["/echo", "/connection/websocket"])
def test_plain_get_is_no_upgrade(node, path, drop):
    with Http(node.port) as stream:
        assert upgrade(stream, path, drop=drop).status in (400, 426)


def test_post_cannot_upgrade(node):
    with Http(node.port) as stream:
        head = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        assert stream.request("POST", "/echo", head, b"").status == 405


def test_http_1_0_cannot_upgrade(node):
    with Http(node.port) as stream:
        head = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        assert stream.request("GET", "/echo", head, version="1.0").status in (400, 426)


def test_frames_right_behind_the_handshake(node):
    """The first frames may sit in the segment that carried the request."""
    with Http(node.port) as stream:
        head = ("GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
        stream.send(head.encode() + frame(TEXT, b"early"))
        assert stream.read_response().status == 101
        assert stream.take(7) == b"\x81\x05early"


def test_handshake_and_frames_in_single_bytes(node):
    with Http(node.port) as stream:
        head = ("GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
        stream.send_bytewise(head.encode() + frame(TEXT, b"slow") + frame(BINARY, b"x" * 200)
                             + frame(PING, b"p") + frame(CLOSE, close_payload(1000)))
        assert stream.read_response().status == 101
        assert stream.take(6) == b"\x81\x04slow"
        assert stream.take(4 + 200) == b"\x82\x7e\x00\xc8" + b"x" * 200
        assert stream.take(3) == b"\x8a\x01p"
        assert stream.take(4) == b"\x88\x02\x03\xe8"
        stream.expect_end()


def test_echo_can_be_switched_off(start_node):
    node = start_node(http={"echo": False})
    with Http(node.port) as stream:
        assert upgrade(stream, "/echo").status == 404


# Messages (5.2, 5.4, 5.6)

@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 1000, 65535, MESSAGE_LIMIT])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_echo_of_every_length_form(echo, opcode, size):
    payload = b"x" * size if opcode == TEXT else bytes(i & 255 for i in range(size))
    echo.send(opcode, payload)
    assert echo.receive_message() == (opcode, payload)


def test_many_messages_in_one_write(echo):
    texts = [str(i).encode() * (i % 40) for i in range(500)]
    echo.send_raw(b"".join(frame(TEXT, text) for text in texts))
    assert [echo.receive_message()[1] for _ in texts] == texts


def test_fragmented_message_with_control_frames_between(echo):
    """5.4: control frames may come between fragments and are answered at once."""
    echo.send(TEXT, b"one ", fin=False)
    echo.send(PING, b"between")
    assert echo.receive_frame()[:2] == (PONG, b"between")
    echo.send(0, b"", fin=False)
    echo.send(PONG, b"unasked")
    echo.send(0, b"two ", fin=False)
    echo.send(0, b"three")
    assert echo.receive_message() == (TEXT, b"one two three")


def test_message_in_many_fragments_up_to_the_limit(echo):
    pieces = [bytes([65 + i % 26]) * 64 for i in range(MESSAGE_LIMIT // 64)]
    data = frame(BINARY, pieces[0], fin=False)
    data += b"".join(frame(0, piece, fin=False) for piece in pieces[1:-1]) + frame(0, pieces[-1])
    echo.send_raw(data)
    assert echo.receive_message() == (BINARY, b"".join(pieces))


@pytest.mark.parametrize("payload", [b"", b"p", b"\x00\xff\x80", b"x" * 125])
def test_ping_is_answered_with_its_payload(echo, payload):
    echo.send(PING, payload)
    assert echo.receive_frame() == (PONG, payload, True)


def test_unasked_pong_is_ignored(echo):
    echo.send(PONG, b"nobody asked")
    echo.send(TEXT, b"on")
    assert echo.receive_message() == (TEXT, b"on")


# Violations: 1002 (5.2 - 5.5)

BREACHES = {
    "RSV1": frame(TEXT, b"x", rsv=4),
    "RSV2": frame(TEXT, b"x", rsv=2),
    "RSV3": frame(TEXT, b"x", rsv=1),
    "RSV on a control frame": frame(PING, b"x", rsv=4),
    "RSV on a continuation": frame(TEXT, b"x", fin=False) + frame(0, b"x", rsv=4),
    "unmasked text": frame(TEXT, b"x", masked=False),
    "unmasked ping": frame(PING, b"", masked=False),
    "continuation of nothing": frame(0, b"x"),
    "continuation after a whole message": frame(0, b"x", fin=False),
    "text inside a fragmented message": frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"),
    "binary inside a fragmented message": frame(TEXT, b"x", fin=False) + frame(BINARY, b"y"),
    "fragmented ping": frame(PING, b"x", fin=False),
    "fragmented pong": frame(PONG, b"x", fin=False),
    "fragmented close": frame(CLOSE, close_payload(1000), fin=False),
    "long ping": frame(PING, b"x" * 126),
    "long close": frame(CLOSE, close_payload(1000, b"x" * 124)),
    "control frame in 16-bit form": frame(PING, b"x", length_form=16),
    "16-bit form for 125": frame(TEXT, b"x" * 125, length_form=16),
    "64-bit form for 125": frame(TEXT, b"x" * 125, length_form=64),
    "64-bit form for 65535": frame(BINARY, b"x" * 65535, length_form=64),
    "top bit of a 64-bit length": frame(BINARY, b"", length_form=64, declared=1 << 63),
} | {f"opcode {n}": frame(n, b"") for n in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)}


@pytest.mark.parametrize("data", BREACHES.values(), ids=BREACHES.keys())
@pytest.mark.parametrize("path", ["/echo", "/connection/websocket"])
def test_breach_is_1002(node, path, data):
    with WebSocket(node.port, path) as websocket:
        websocket.send_raw(data)
        websocket.expect_failure(1002)


def test_breach_after_good_messages(echo):
    """What came before the breach is still answered."""
    echo.send_raw(frame(TEXT, b"good") + frame(PING, b"p") + frame(3, b"bad") + frame(TEXT, b"no"))
    assert echo.receive_message() == (TEXT, b"good")
    assert echo.receive_frame()[:2] == (PONG, b"p")
    echo.expect_failure(1002)


# Text must be UTF-8: 1007 (8.1)

NOT_UTF8 = {
    "lone continuation byte": b"\x80",
    "lead without continuation": b"\xc3(",
    "overlong slash": b"\xc0\xaf",
    "overlong two bytes": b"\xc1\xbf",
    "overlong three bytes": b"\xe0\x80\xaf",
    "overlong four bytes": b"\xf0\x80\x80\xaf",
    "first surrogate": b"\xed\xa0\x80",
    "last surrogate": b"\xed\xbf\xbf",
    "past U+10FFFF": b"\xf4\x90\x80\x80",
    "lead byte F5": b"\xf5\x80\x80\x80",
    "FE": b"\xfe", "FF": b"\xff",
    "after good text": "gut κόσμε".encode() + b"\xce",
    "ends inside two bytes": b"\xc3",
    "ends inside three bytes": b"\xe2\x82",
    "ends inside four bytes": b"\xf0\x9f\x98",
}
GOOD_UTF8 = "a ß € 😀 \u0000 \u007f \u0080 \u07ff \u0800 \ud7ff \ue000 \uffff \U00010000 \U0010ffff"


@pytest.mark.parametrize("payload", NOT_UTF8.values(), ids=NOT_UTF8.keys())
def test_text_that_is_not_utf8_is_1007(echo, payload):
    echo.send(TEXT, payload)
    echo.expect_failure(1007)


@pytest.mark.parametrize("payload", [b"\xff", b"ok \xed\xa0", b"\xc0"])
def test_bad_text_fails_before_the_message_is_complete(echo, payload):
    """The fragment after this one never comes: the bad byte itself must end it."""
    echo.send(TEXT, payload, fin=False)
    echo.expect_failure(1007)


def test_bad_text_fails_before_the_frame_is_complete(echo):
    echo.send_raw(frame(TEXT, b"ok \xff " + b"x" * 1000)[:50])
    echo.expect_failure(1007)


def test_characters_cut_between_fragments_and_writes(echo):
    payload = GOOD_UTF8.encode()
    for i in range(len(payload)):
        echo.send(TEXT if i == 0 else 0, payload[i:i + 1], fin=i == len(payload) - 1)
    assert echo.receive_message() == (TEXT, payload)


def test_binary_may_hold_anything(echo):
    payload = b"".join(NOT_UTF8.values())
    echo.send(BINARY, payload)
    assert echo.receive_message() == (BINARY, payload)


# Size: 1009

@pytest.mark.parametrize("path", ["/echo", "/connection/websocket"])
@pytest.mark.parametrize("size", [MESSAGE_LIMIT + 1, 1 << 32, (1 << 63) - 1])
def test_oversized_frame_is_1009_by_its_header(node, path, size):
    with WebSocket(node.port, path) as websocket:
        websocket.send(BINARY, b"", length_form=64, declared=size)
        websocket.expect_failure(1009)


def test_oversized_sum_of_fragments_is_1009(echo):
    echo.send(BINARY, b"x" * 40000, fin=False)
    echo.send(0, b"x" * 40000)
    echo.expect_failure(1009)


def test_limit_is_the_configured_one(start_node):
    node = start_node(websocket={"message_size_limit": 1024})
    with WebSocket(node.port, "/echo") as websocket:
        websocket.send(TEXT, b"x" * 1024)
        assert websocket.receive_message() == (TEXT, b"x" * 1024)
        websocket.send(TEXT, b"x" * 1025)
        websocket.expect_failure(1009)


# Closing (5.5.1, 7)

@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999,
                                  4000, 4999])
def test_close_is_answered_and_ends_the_connection(echo, code):
    echo.send(CLOSE, close_payload(code, b"bye"))
    assert echo.receive_close()[0] == code
    echo.stream.expect_end()


def test_empty_close(echo):
    echo.send(CLOSE)
    assert echo.receive_close()[0] in (1000, 1005)
    echo.stream.expect_end()


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000,
                                  65535])
def test_close_with_a_code_nobody_may_send_is_1002(echo, code):
    echo.send(CLOSE, close_payload(code))
    echo.expect_failure(1002)


def test_close_with_half_a_code_is_1002(echo):
    echo.send(CLOSE, b"\x03")
    echo.expect_failure(1002)


@pytest.mark.parametrize("reason", [b"\xff", b"ok \xc3", b"\xed\xa0\x80"])
def test_close_reason_must_be_utf8(echo, reason):
    echo.send(CLOSE, close_payload(1000, reason))
    echo.expect_failure(1007)


def test_nothing_after_a_close_is_read(echo):
    echo.send_raw(frame(TEXT, b"before") + frame(CLOSE, close_payload(1000)) + frame(TEXT, b"no")
                  + frame(3, b"breach"))
    assert echo.receive_message() == (TEXT, b"before")
    assert echo.receive_close()[0] == 1000
    echo.stream.expect_end()


def test_close_between_fragments(echo):
    echo.send(TEXT, b"never finished", fin=False)
    echo.send(CLOSE, close_payload(1001))
    assert echo.receive_close()[0] == 1001
    echo.stream.expect_end()


def test_messages_before_a_close_are_echoed(echo):
    echo.send_raw(b"".join(frame(TEXT, str(i).encode()) for i in range(100))
                  + frame(CLOSE, struct.pack("!H", 1000)))
    assert [echo.receive_message()[1] for _ in range(100)] == [str(i).encode() for i in range(100)]
    assert echo.receive_close()[0] == 1000


def test_a_client_that_never_answers_our_close_is_cut(start_node):
    node = start_node(client={"close_timeout": "1s"})
    with WebSocket(node.port, "/echo") as websocket:
        websocket.send(3)
        assert websocket.receive_close()[0] == 1002
        websocket.stream.expect_end()


def test_half_closed_connection_ends(echo):
    """The end of the client's stream without a close frame: RFC 6455 7.1.5, no answer is due."""
    echo.stream.socket.shutdown(socket.SHUT_WR)
    echo.stream.read_to_end()


# Origins: same-origin passes, others need the list

def origin_status(port, origin, path="/connection/websocket", host=None):
    with Http(port) as stream:
        headers = {} if origin is None else {"Origin": origin}
        return upgrade(stream, path, headers | ({"Host": host} if host else {})).status


def test_only_the_same_origin_by_default(node):
    assert origin_status(node.port, None) == 101
    assert origin_status(node.port, f"http://127.0.0.1:{node.port}") == 101
    assert origin_status(node.port, "https://chat.example.org", host="chat.example.org") == 101
    assert origin_status(node.port, "https://CHAT.example.org", host="chat.Example.org") == 101
    for other in ("https://evil.example", "null", "", f"http://127.0.0.1:{node.port + 1}",
                  "http://127.0.0.1", f"http://127.0.0.1:{node.port}.evil.example",
                  f"http://evil.example/http://127.0.0.1:{node.port}"):
        assert origin_status(node.port, other) == 403, other


def test_allowed_origins(start_node):
    node = start_node(websocket={"allowed_origins": ["https://*.example.org", "http://app?.test"]})
    for allowed in ("https://a.example.org", "https://A.Example.ORG", "http://app1.test"):
        assert origin_status(node.port, allowed) == 101, allowed
    for other in ("http://a.example.org", "https://example.org", "https://a.example.org.evil",
                  "http://app.test", "http://app12.test", "null"):
        assert origin_status(node.port, other) == 403, other


def test_any_origin(start_node):
    node = start_node(websocket={"allowed_origins": ["*"]})
    assert origin_status(node.port, "https://anywhere.example") == 101
