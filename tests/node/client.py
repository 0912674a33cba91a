# SPDX-License-Identifier: ISC
"""A client of the publish/subscribe protocol that hides nothing: commands go out as the test wrote
them, every message from the server is kept as the raw text it came in.
"""

import collections
import json

from wire import BINARY, CLOSE, TEXT, TIMEOUT, WebSocket, close_payload
from wire import deflate as deflate_message


class Disconnected(Exception):
    def __init__(self, code, reason):
        super().__init__(f"disconnected with {code} {reason!r}")
        self.code, self.reason = code, reason


class Client:
    def __init__(self, port, connect=True, answer_pings=True, headers=None, receive_buffer=None,
                 path="/connection/websocket", deflate=False, window_bits=15, stream=None):
        """connect: the command's parameters, True = none, False = no connect command at all.
        With deflate=True permessage-deflate is used in both directions, for all it sends."""
        self.websocket = WebSocket(port, path, headers, receive_buffer, deflate, window_bits, stream)
        self.answer_pings = answer_pings
        self.raw = collections.deque()
        self.replies = {}
        self.pushes = collections.deque()
        self.last_id = 0
        self.id = None
        if connect or isinstance(connect, dict):
            self.connected = self.result("connect", **({} if connect is True else connect))
            self.id = self.connected["client"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut()

    def cut(self):
        """Ends the connection as a broken network would: no close handshake."""
        self.websocket.close()

    def leave(self):
        """Ends it as a well-behaved client does; returns the server's answer (Disconnected)."""
        self.websocket.send(CLOSE, close_payload(1000, b"bye"))
        return self.read_to_close()

    # Sending

    def next_id(self):
        self.last_id += 1
        return self.last_id

    def command(self, method, /, **parameters):
        """The text of a command with the next id."""
        return json.dumps({"id": self.next_id(), method: parameters})

    def send(self, *messages, opcode=TEXT):
        """Each message is text or an object; all go out in one frame, a newline between two."""
        texts = [m if isinstance(m, str) else json.dumps(m) for m in messages]
        payload = "\n".join(texts).encode()
        if self.websocket.deflate:
            self.websocket.send(opcode, deflate_message(payload), rsv=4)
        else:
            self.websocket.send(opcode, payload)

    # Receiving

    def next_raw(self, timeout=TIMEOUT):
        """The raw text of the next message of the server, pings included."""
        while not self.raw:
            opcode, payload, fin = self.websocket.receive_frame(timeout)
            if opcode == CLOSE:
                self._on_close(payload)
            assert opcode == TEXT and fin, (opcode, fin, payload[:200])
            assert payload, "an empty frame would make an SDK throw"
            lines = payload.decode().split("\n")
            if lines[-1] == "":
                lines.pop()
            assert all(lines), f"an empty line in {payload[:200]!r}"
            self.raw.extend(lines)
        return self.raw.popleft()

    def _on_close(self, payload):
        code = int.from_bytes(payload[:2], "big") if payload else 1005
        reason = payload[2:].decode()
        self.websocket.answer_close(code if code != 1005 else 1000)
        raise Disconnected(code, reason)

    def next_message(self, timeout=TIMEOUT):
        """The next message that is no ping, raw and parsed; a ping gets its pong."""
        while True:
            raw = self.next_raw(timeout)
            if raw != "{}":
                return raw, json.loads(raw)
            if self.answer_pings:
                self.send("{}")

    def reply(self, number, timeout=TIMEOUT):
        """The reply to command number; pushes that come before it are kept."""
        while number not in self.replies:
            raw, message = self.next_message(timeout)
            if "push" in message:
                self.pushes.append((raw, message["push"]))
            else:
                assert message["id"] not in self.replies, raw
                self.replies[message["id"]] = message
        return self.replies.pop(number)

    def call(self, method, /, **parameters):
        """Sends one command and returns its whole reply."""
        text = self.command(method, **parameters)
        number = self.last_id
        self.send(text)
        return self.reply(number)

    def result(self, method, /, **parameters):
        reply = self.call(method, **parameters)
        assert "error" not in reply, reply
        return reply[method]

    def error(self, method, /, **parameters):
        """Sends a command that must fail; returns the error's code."""
        error = self.call(method, **parameters)["error"]
        assert error["message"], error
        assert error.get("temporary", False) == (error["code"] in (100, 111, 113)), error
        return error["code"]

    def push_raw(self, timeout=TIMEOUT):
        """(raw text, push object) of the next push."""
        while not self.pushes:
            raw, message = self.next_message(timeout)
            if "push" in message:
                self.pushes.append((raw, message["push"]))
            else:
                self.replies[message["id"]] = message
        return self.pushes.popleft()

    def push(self, timeout=TIMEOUT):
        return self.push_raw(timeout)[1]

    def publication(self, channel, timeout=TIMEOUT):
        push = self.push(timeout)
        assert push["channel"] == channel and "pub" in push, push
        return push["pub"]

    def read_to_close(self):
        """Reads and drops everything up to the close frame; returns Disconnected."""
        try:
            while True:
                self.next_raw()
        except Disconnected as end:
            return end

    def expect_disconnect(self, code):
        """The server must close with this code and a reason that every SDK understands."""
        end = self.read_to_close()
        assert end.code == code, end
        assert_plain_reason(end.reason)

    def expect_quiet(self):
        """Nothing but the reply to this harmless command comes: what a test sent before it was
        swallowed without an effect on this client."""
        assert self.result("unsubscribe", channel="no-such-subscription") == {}
        assert not self.pushes, self.pushes


def assert_plain_reason(reason):
    """SDKs take a reason that parses as JSON, and an empty one, for something else."""
    assert 0 < len(reason.encode()) <= 123, reason
    try:
        json.loads(reason)
    except ValueError:
        return
    raise AssertionError(f"the reason {reason!r} is valid JSON")


__all__ = ["BINARY", "TEXT", "Client", "Disconnected", "assert_plain_reason"]
