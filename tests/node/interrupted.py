# SPDX-License-Identifier: ISC
"""What is under way on connections when something happens to their worker: begun before, finished
afterwards, and answered as if nothing had happened. `happen` takes nothing."""

import os

from client import TEXT
from wire import BINARY, WebSocket, deflate, frame, inflate


def frames_are_cut(sockets, cut, happen):
    """sockets: (those whose frame is cut behind so many bytes, those by TLS whose record is)."""
    framewise, recordwise = sockets
    payload = bytes(range(256)) * 2
    whole = frame(BINARY, payload)
    records = [socket_.stream.seal(whole) for socket_ in recordwise]
    for socket_ in framewise:
        socket_.send_raw(whole[:cut])
    for socket_, record in zip(recordwise, records):
        socket_.stream.send_raw(record[:cut])
    happen()
    for socket_ in framewise:
        socket_.send_raw(whole[cut:])
    for socket_, record in zip(recordwise, records):
        socket_.stream.send_raw(record[cut:])
    for socket_ in [*framewise, *recordwise]:
        assert socket_.receive_frame() == (BINARY, payload, True)


def a_compressed_message_is_in_fragments(node, happen):
    text = b"a long message that compresses " * 100
    packed = deflate(text)
    with WebSocket(node.port, "/echo", deflate=True) as socket_:
        socket_.send(TEXT, packed[:20], fin=False, rsv=4)
        happen()
        socket_.send(0, packed[20:])
        opcode, payload, fin = socket_.receive_frame()
        assert (opcode, fin) == (TEXT, True)
        assert payload == text or inflate(payload) == text


def output_is_not_taken(sockets, happen):
    """They have small receive buffers: the server's socket is full, the rest waits in passports."""
    payload = os.urandom(60000)
    for socket_ in sockets:
        for _ in range(20):
            socket_.send(BINARY, payload)
    happen()
    for socket_ in sockets:
        for _ in range(20):
            assert socket_.receive_frame() == (BINARY, payload, True)
