# SPDX-License-Identifier: ISC
"""Raw HTTP/1.1 and RFC 6455 clients on blocking sockets.

Nothing here corrects what a test sends: a test may send any bytes, cut anywhere, and sees what the
server really answered. Every socket has a timeout, so a silent server fails a test, never hangs it.
"""

import base64
import json
import os
import socket
import struct
import zlib

TIMEOUT = 15

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Closed(ConnectionError):
    """The server closed the connection."""


class Stream:
    """One TCP connection with a read buffer."""

    def __init__(self, port, host="127.0.0.1", receive_buffer=None):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def send_bytewise(self, data):
        for i in range(len(data)):
            self.socket.sendall(data[i:i + 1])

    def read_raw(self, timeout=TIMEOUT):
        """What the socket has, once; raises Closed at the end of the stream."""
        self.socket.settimeout(timeout)
        try:
            data = self.socket.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        if not data:
            raise Closed()
        return data

    def fill(self, timeout=TIMEOUT):
        """Reads once; raises Closed at the end of the stream."""
        self.buffer += self.read_raw(timeout)

    def take(self, count, timeout=TIMEOUT):
        while len(self.buffer) < count:
            self.fill(timeout)
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def take_until(self, mark, timeout=TIMEOUT):
        while mark not in self.buffer:
            self.fill(timeout)
        data, self.buffer = self.buffer.split(mark, 1)
        return data

    def expect_end(self):
        """The server must close, and say nothing more."""
        try:
            while not self.buffer:
                self.fill()
        except Closed:
            return
        raise AssertionError(f"more bytes instead of the end: {self.buffer[:200]!r}")


class Response:
    def __init__(self, version, status, headers, body):
        self.version, self.status, self.headers, self.body = version, status, headers, body

    def header(self, name):
        values = [v for n, v in self.headers if n.lower() == name.lower()]
        return ", ".join(values) if values else None

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:200]!r}>"


class Http(Stream):
    def send_request(self, method, path, headers=None, body=None, version="1.1"):
        head = {"Host": "keepsock.test"} | (headers or {})
        if body is not None and "Transfer-Encoding" not in head:
            head.setdefault("Content-Length", str(len(body)))
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        self.send(f"{method} {path} HTTP/{version}\r\n{lines}\r\n".encode() + (body or b""))

    def read_head(self):
        head = self.take_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, *_ = head[0].split(" ")
        assert version == "HTTP/1.1", head[0]
        headers = []
        for line in head[1:]:
            name, value = line.split(":", 1)
            headers.append((name, value.strip()))
        return Response(version, int(status), headers, b"")

    def read_response(self, head_only=False):
        response = self.read_head()
        while response.status == 100:
            response = self.read_head()
        if head_only or response.status in (101, 204, 304):
            return response
        if (response.header("Transfer-Encoding") or "").lower() == "chunked":
            response.body = self._read_chunks()
        elif response.header("Content-Length") is not None:
            response.body = self.take(int(response.header("Content-Length")))
        else:
            response.body = self.read_to_end()
        return response

    def _read_chunks(self):
        body = b""
        while size := int(self.take_until(b"\r\n").split(b";")[0], 16):
            body += self.take(size)
            assert self.take(2) == b"\r\n"
        self.take_until(b"\r\n")
        return body

    def read_to_end(self):
        try:
            while True:
                self.fill()
        except Closed:
            data, self.buffer = self.buffer, b""
            return data

    def request(self, method, path, headers=None, body=None, version="1.1"):
        self.send_request(method, path, headers, body, version)
        return self.read_response(head_only=method == "HEAD")


def http(port, method, path, headers=None, body=None):
    """One request on a connection of its own."""
    with Http(port) as connection:
        return connection.request(method, path, {"Connection": "close"} | (headers or {}), body)


def mask(payload, key):
    if not payload:
        return b""
    size = len(payload)
    stretched = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stretched, "big")).to_bytes(size, "big")


def frame(opcode, payload=b"", fin=True, rsv=0, masked=True, length_form=None, declared=None):
    """A frame as RFC 6455 5.2 draws it. length_form (7, 16, 64) forces a form that may not be
    minimal, declared puts another length in the header than the payload has."""
    size = len(payload) if declared is None else declared
    if length_form is None:
        length_form = 7 if size < 126 else 16 if size < 65536 else 64
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    high = 0x80 if masked else 0
    if length_form == 7:
        head = struct.pack("!BB", first, high | size)
    elif length_form == 16:
        head = struct.pack("!BBH", first, high | 126, size)
    else:
        head = struct.pack("!BBQ", first, high | 127, size)
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + mask(payload, key)


def deflate(payload, window_bits=15, level=9):
    """A message's payload compressed as RFC 7692 7.2.1 says."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -window_bits)
    data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    assert data.endswith(b"\0\0\xff\xff")
    return data[:-4]


def inflate(payload, window_bits=15):
    """The message of a compressed payload; anything behind it or missing of it is an error."""
    decompressor = zlib.decompressobj(-window_bits)
    # In small pieces, so that it has to look back into its window.
    data = b"".join(decompressor.decompress(payload[i:i + 1])
                    for i in range(len(payload)))
    data += decompressor.decompress(b"\0\0\xff\xff")
    assert not decompressor.unused_data and not decompressor.eof
    return data


def close_payload(code, reason=b""):
    return struct.pack("!H", code) + reason


class WebSocket:
    """An upgraded connection. The constructor fails unless the server answers 101.

    With deflate=True it offers permessage-deflate, which the server must accept: what is received
    is decompressed, `compressed` tells of the last frame whether it was. Sending compressed is up
    to the test: send(TEXT, deflate(...), rsv=4). A stream of the test's own may be given."""

    def __init__(self, port, path="/connection/websocket", headers=None, receive_buffer=None,
                 deflate=False, window_bits=15, stream=None):
        self.stream = stream or Http(port, receive_buffer=receive_buffer)
        self.deflate, self.window_bits, self.compressed = deflate, window_bits, False
        if deflate:
            offer = "permessage-deflate" if window_bits == 15 else \
                f"permessage-deflate; server_max_window_bits={window_bits}"
            headers = {"Sec-WebSocket-Extensions": offer} | (headers or {})
        self.response = upgrade(self.stream, path, headers)
        assert self.response.status == 101, self.response
        extensions = self.response.header("Sec-WebSocket-Extensions") or ""
        assert extensions.startswith("permessage-deflate; server_no_context_takeover") == deflate

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Cuts the connection without a close handshake."""
        self.stream.close()

    def send_raw(self, data):
        self.stream.send(data)

    def send(self, opcode, payload=b"", **options):
        self.stream.send(frame(opcode, payload, **options))

    def send_text(self, text):
        self.send(TEXT, text.encode() if isinstance(text, str) else text)

    def receive_frame(self, timeout=TIMEOUT):
        """(opcode, payload, fin) of the next frame; the server's frames are never masked."""
        first, second = self.stream.take(2, timeout)
        self.compressed = bool(first & 0x40)
        if self.compressed:
            # The server never fragments, and control frames are never compressed.
            assert self.deflate and first & 0x0F in (TEXT, BINARY) and first & 0x80, hex(first)
        assert first & 0x30 == 0, f"reserved bits set: {first:#x}"
        assert second & 0x80 == 0, "a server must not mask"
        size = second & 0x7F
        if size == 126:
            size, = struct.unpack("!H", self.stream.take(2, timeout))
            assert size >= 126, "length not minimal"
        elif size == 127:
            size, = struct.unpack("!Q", self.stream.take(8, timeout))
            assert size >= 65536, "length not minimal"
        payload = self.stream.take(size, timeout)
        if self.compressed:
            payload = inflate(payload, self.window_bits)
            assert size < len(payload), "compressed to no less"
        return first & 0x0F, payload, bool(first & 0x80)

    def receive_message(self, timeout=TIMEOUT):
        """(opcode, payload) of the next data message; control frames fail the test."""
        opcode, payload, fin = self.receive_frame(timeout)
        assert opcode in (TEXT, BINARY), (opcode, payload)
        while not fin:
            more, piece, fin = self.receive_frame(timeout)
            assert more == 0, more
            payload += piece
        return opcode, payload

    def receive_close(self, timeout=TIMEOUT):
        """(code, reason) of the close frame that must come next; (1005, b"") when it is empty."""
        opcode, payload, _ = self.receive_frame(timeout)
        assert opcode == CLOSE, (opcode, payload[:200])
        if not payload:
            return 1005, b""
        return struct.unpack("!H", payload[:2])[0], payload[2:]

    def expect_failure(self, code):
        """The server fails the connection with this code and ends it."""
        got, reason = self.receive_close()
        assert got == code, (got, reason)
        reason.decode()
        self.answer_close(code)

    def answer_close(self, code):
        try:
            self.send(CLOSE, close_payload(code))
        except OSError:
            pass
        self.stream.expect_end()
        self.close()


def upgrade(stream, path, headers=None, drop=()):
    """Sends an upgrade request (headers replace ours, drop leaves some out), returns the answer."""
    head = {
        "Host": f"127.0.0.1:{stream.socket.getpeername()[1]}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
    } | (headers or {})
    for name in drop:
        del head[name]
    stream.send_request("GET", path, head)
    return stream.read_response()
