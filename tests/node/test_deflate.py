# SPDX-License-Identifier: ISC
"""permessage-deflate (RFC 7692) over the wire: negotiation, both directions, bounds, fan-outs to
subscribers with and without it."""

import json
import os
import random

import pytest

from keepsock import Keepsock, wait_until
from wire import (BINARY, CLOSE, PING, PONG, TEXT, Http, WebSocket, close_payload, deflate, frame,
                  inflate, upgrade)

LIMIT = 65536
MIN_SIZE = 128


@pytest.fixture(scope="module")
def node():
    shared = Keepsock(websocket={"compression": True})
    try:
        yield shared.start()
    finally:
        shared.stop()
        shared.remove()


@pytest.fixture
def echo(node):
    with WebSocket(node.port, "/echo", deflate=True) as websocket:
        yield websocket


def text_of(size, seed=1):
    rng = random.Random(seed)
    words = [f'{{"id":{rng.randrange(10000)},"channel":"news:{rng.randrange(9)}"}}'
             for _ in range(size // 25 + 1)]
    return "".join(words).encode()[:size]


def send_deflated(websocket, payload, opcode=TEXT):
    websocket.send(opcode, deflate(payload), rsv=4)


# Negotiation

ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize("offer, answer", [
    ("permessage-deflate", ANSWER),
    ("permessage-deflate; client_max_window_bits", ANSWER),
    ("permessage-deflate; client_max_window_bits=9", ANSWER),
    ("permessage-deflate; server_max_window_bits=9", f"{ANSWER}; server_max_window_bits=9"),
    ("foo, permessage-deflate; unknown, permessage-deflate", ANSWER),
    ("permessage-deflate; unknown", None),
    ("permessage-deflate; server_max_window_bits=7", None),
    ("x-webkit-deflate-frame", None),
])
@pytest.mark.parametrize("path", ["/echo", "/connection/websocket"])
def test_offers_and_answers(node, path, offer, answer):
    with Http(node.port) as stream:
        response = upgrade(stream, path, {"Sec-WebSocket-Extensions": offer})
        assert response.status == 101
        assert response.header("Sec-WebSocket-Extensions") == answer


def test_it_is_off_by_default(start_node):
    node = start_node()
    with Http(node.port) as stream:
        response = upgrade(stream, "/echo", {"Sec-WebSocket-Extensions": "permessage-deflate"})
        assert response.header("Sec-WebSocket-Extensions") is None
        stream.send(frame(TEXT, deflate(b"x"), rsv=4))
        assert stream.take(4)[2:] == (1002).to_bytes(2, "big")


# Echo

@pytest.mark.parametrize("size", [0, 1, MIN_SIZE - 1, MIN_SIZE, 300, 5000, LIMIT])
def test_echo_of_every_size(echo, size):
    payload = text_of(size)
    for opcode in (TEXT, BINARY):
        send_deflated(echo, payload, opcode)
        assert echo.receive_message() == (opcode, payload)
        assert echo.compressed == (size >= MIN_SIZE)
        # Uncompressed ones are as good.
        echo.send(opcode, payload)
        assert echo.receive_message() == (opcode, payload)


def test_what_does_not_shrink_is_echoed_as_it_is(echo):
    payload = os.urandom(5000)
    send_deflated(echo, payload, BINARY)
    assert echo.receive_message() == (BINARY, payload)
    assert not echo.compressed


def test_examples_of_the_rfc(echo):
    for payload in (b"\xf2\x48\xcd\xc9\xc9\x07\x00", b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
                    b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
                    b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"):
        echo.send(TEXT, payload, rsv=4)
        assert echo.receive_message() == (TEXT, b"Hello")


def test_fragments_with_control_frames_between(echo):
    payload = text_of(3000)
    data = deflate(payload)
    echo.send(TEXT, data[:1], fin=False, rsv=4)
    for i in range(1, len(data), 97):
        echo.send(0, data[i:i + 97], fin=False)
        echo.send(PING, b"here?")
        assert echo.receive_frame() == (PONG, b"here?", True)
    echo.send(0, b"")
    assert echo.receive_message() == (TEXT, payload)


def test_bytewise(echo):
    payload = text_of(400)
    echo.stream.send_bytewise(frame(TEXT, deflate(payload), rsv=4))
    assert echo.receive_message() == (TEXT, payload)


def test_many_in_one_write(echo):
    payloads = [text_of(size, seed=size) for size in range(0, 2000, 37)]
    echo.send_raw(b"".join(frame(TEXT, deflate(p), rsv=4) if i % 2 else frame(TEXT, p)
                           for i, p in enumerate(payloads)))
    for payload in payloads:
        assert echo.receive_message() == (TEXT, payload)


@pytest.mark.parametrize("window_bits", range(9, 16))
def test_every_window(node, window_bits):
    """No message goes compressed that a peer with this window could not read."""
    with WebSocket(node.port, "/echo", deflate=True, window_bits=window_bits) as websocket:
        for size in (200, 1 << window_bits, (1 << window_bits) + 1, 60000):
            # The end is the beginning again: as far back as a reference can go.
            payload = text_of(size - 60, seed=size)
            payload += payload[:60]
            websocket.send(TEXT, payload)
            assert websocket.receive_message() == (TEXT, payload)
            assert websocket.compressed == (size <= 1 << window_bits or window_bits == 15)


# What is refused

@pytest.mark.parametrize("fault", [
    frame(TEXT, b"x", rsv=2), frame(TEXT, b"x", rsv=1), frame(TEXT, b"x", rsv=6),
    frame(PING, b"", rsv=4), frame(PONG, b"", rsv=4), frame(CLOSE, close_payload(1000), rsv=4),
    frame(0, b"x", rsv=4), frame(TEXT, b"\xaa", fin=False, rsv=4) + frame(0, b"\x00", rsv=4),
])
def test_misplaced_reserved_bits_are_1002(echo, fault):
    echo.send_raw(fault)
    echo.expect_failure(1002)


@pytest.mark.parametrize("payload", [b"\xff", b"Hello, world", deflate(b"Hello" * 50)[:-2],
                                     b"\xf2\x00\x11\x00\x00"])
@pytest.mark.parametrize("pieces", [1, 2])
def test_damaged_data_is_1007(echo, payload, pieces):
    if pieces == 1:
        echo.send(BINARY, payload, rsv=4)
    else:
        echo.send(BINARY, payload[:1], fin=False, rsv=4)
        echo.send(0, payload[1:])
    echo.expect_failure(1007)


def test_text_must_be_utf8_once_decompressed(echo):
    send_deflated(echo, "aé".encode() * 100)
    assert echo.receive_message()[1] == "aé".encode() * 100
    send_deflated(echo, b"caf\xe9" * 100)
    echo.expect_failure(1007)


def test_the_limit_is_on_the_message(echo):
    send_deflated(echo, b"a" * LIMIT)
    assert echo.receive_message() == (TEXT, b"a" * LIMIT)
    send_deflated(echo, b"a" * (LIMIT + 1))
    echo.expect_failure(1009)


def test_bombs_are_1009(node, make_client):
    bomb = deflate(bytes(50 << 20))
    assert len(bomb) < LIMIT
    before = node.metrics()["keepsock_inflate_refused_total"]
    with WebSocket(node.port, "/echo", deflate=True) as websocket:
        websocket.send(BINARY, bomb, rsv=4)
        websocket.expect_failure(1009)
    client = make_client(node, deflate=True)
    client.websocket.send(TEXT, bomb, rsv=4)
    client.expect_disconnect(1009)
    assert node.metrics()["keepsock_inflate_refused_total"] == before + 2


def test_a_payload_beyond_all_reason_is_1009_at_once(echo):
    echo.send(BINARY, b"x", rsv=4, declared=LIMIT + LIMIT // 8 + 65)
    echo.expect_failure(1009)


# The client protocol

def test_commands_and_replies(node, make_client, channel):
    client = make_client(node, deflate=True)
    assert client.result("subscribe", channel=channel)["recoverable"]
    data = {"text": "hello " * 100}
    client.result("publish", channel=channel, data=data)
    assert client.publication(channel)["data"] == data
    history = client.result("history", channel=channel, limit=10)
    assert client.websocket.compressed
    assert [p["data"] for p in history["publications"]] == [data]


def test_many_commands_in_one_message(node, make_client, channel):
    """Each waits for Redis, and the message is decompressed for all of them."""
    client = make_client(node, deflate=True)
    client.result("subscribe", channel=channel)
    commands = [client.command("publish", channel=channel, data=i) for i in range(200)]
    first = client.last_id - len(commands) + 1
    client.send(*commands)
    for number in range(first, client.last_id + 1):
        assert "error" not in client.reply(number)
    assert [client.publication(channel)["data"] for _ in commands] == list(range(200))


def test_damaged_commands_are_judged_in_their_turn(node, make_client, channel):
    client = make_client(node, deflate=True)
    command = client.command("publish", channel=channel, data=1).encode()
    client.websocket.send_raw(frame(TEXT, deflate(command), rsv=4) +
                              frame(TEXT, b"\xff\xff", rsv=4))
    assert "error" not in client.reply(client.last_id)
    client.expect_disconnect(1007)


def test_compressed_pongs_count(start_node, make_client):
    node = start_node(websocket={"compression": True},
                      client={"ping_interval": "1s", "pong_timeout": "300ms"})
    client = make_client(node, deflate=True)
    for _ in range(3):
        assert client.next_raw() == "{}"
        client.send("{}")
    # Whoever does not answer goes, so the three answers were heard.
    client.expect_disconnect(3012)


# Fan-outs

def test_a_broadcast_is_compressed_once(node, make_client, channel):
    clients = [make_client(node, deflate=i % 2 == 0) for i in range(10)]
    narrow = make_client(node, deflate=True, window_bits=9)
    for client in [*clients, narrow]:
        client.result("subscribe", channel=channel)
    before = node.metrics()
    data = {"text": text_of(2000).decode()}
    node.publish(channel, data)
    for i, client in enumerate(clients):
        assert client.publication(channel)["data"] == data
        assert client.websocket.compressed == (i % 2 == 0)
    # Its window is shorter than the message.
    assert narrow.publication(channel)["data"] == data
    assert not narrow.websocket.compressed
    after = wait_until(lambda: (m := node.metrics()) and m["keepsock_deflate_saved_bytes_total"] >
                       before["keepsock_deflate_saved_bytes_total"] and m, "it is counted")

    def difference(name):
        return after[f"keepsock_{name}"] - before[f"keepsock_{name}"]
    workers = len(node.workers())
    assert 1 <= difference("deflate_messages_total") <= workers
    size = len(json.dumps(data))
    assert size <= difference("deflate_input_bytes_total") <= (size + 200) * workers
    assert difference("deflate_saved_bytes_total") > 5 * 1000
    assert after["keepsock_deflate_connections"] >= 6


def test_nothing_is_compressed_that_nobody_takes(node, make_client, channel):
    client = make_client(node)
    client.result("subscribe", channel=channel)
    before = node.metrics()["keepsock_deflate_messages_total"]
    node.publish(channel, text_of(2000).decode())
    client.publication(channel)
    assert node.metrics()["keepsock_deflate_messages_total"] == before


def test_short_and_long_publications_in_one_batch(node, make_client, channel):
    publisher = make_client(node)
    plain, packed = make_client(node), make_client(node, deflate=True)
    for client in (plain, packed):
        client.result("subscribe", channel=channel)
    sizes = [1, 3000, 10, 200, 40000, 50, 1000] * 5
    data = [text_of(size, seed=i).decode() for i, size in enumerate(sizes)]
    commands = [publisher.command("publish", channel=channel, data=text) for text in data]
    for command in commands:
        publisher.send(command)
    for number in range(1, publisher.last_id + 1):
        assert number == 1 or "error" not in publisher.reply(number)
    for client in (plain, packed):
        assert [client.publication(channel)["data"] for _ in data] == data


def test_a_slow_reader_gets_what_the_others_got(node, make_client, channel):
    fast = make_client(node, deflate=True)
    slow = make_client(node, deflate=True, receive_buffer=4096)
    for client in (fast, slow):
        client.result("subscribe", channel=channel)
    data = [os.urandom(200).hex() * 20 for _ in range(100)]
    for text in data:
        node.publish(channel, text)
    for client in (fast, slow):
        assert [client.publication(channel)["data"] for _ in data] == data


def test_connections_are_counted(node, make_client):
    before = node.metrics()["keepsock_deflate_connections"]
    client = make_client(node, deflate=True)
    assert node.metrics()["keepsock_deflate_connections"] == before + 1
    client.cut()
    wait_until(lambda: node.metrics()["keepsock_deflate_connections"] == before, "it is gone")


def test_helpers_are_right():
    """The helpers of these tests would notice what they are here to notice."""
    text = text_of(5000)
    assert inflate(deflate(text)) == text
    long_way = text_of(2000) + os.urandom(600) + text_of(2000)
    with pytest.raises(Exception):
        inflate(deflate(long_way), window_bits=9)
