# SPDX-License-Identifier: ISC
"""What one connection sent and received, and what that means.

The load driver fills recordings, the judge reads them beside the arena of the worker that died. A
transcript understands the server's half of a connection to the publish/subscribe protocol.
"""

import collections
import json
import struct
import zlib

from wire import BINARY, CLOSE, PING, PONG, TEXT, inflate

HEAD_END = b"\r\n\r\n"
# As the node under test compresses.
MIN_SIZE, LEVEL, MEMORY_LEVEL = 128, 1, 6


class Recording:
    """One connection as its client knows it. Offsets count bytes of the stream."""

    def __init__(self, kind, serial, port=0, opened_at=0):
        self.kind = kind          # "echo", "client" or "api"
        self.serial = serial      # names it in the publications it makes
        self.port = port
        self.opened_at = opened_at  # CLOCK_BOOTTIME ms
        self.deflate = False      # permessage-deflate was agreed to
        self.sent = 0             # bytes the kernel took
        self.planned = 0          # bytes made
        self.events = []          # Event of each whole thing sent, in the order of their ends
        self.received = bytearray()
        self.ended = False
        self.leaving = False      # its end is its own doing
        self.gone = False         # its socket was closed without a word
        self.reset = False        # the kernel reported an error: bytes on their way may be lost
        self.acknowledged = set() # numbers of the commands or requests that succeeded
        self.refused = set()      # numbers of those that were answered with an error
        self.consumed = None      # commands or requests consumed when its worker died

    def plan(self, what, data, size):
        """Notes an event whose last byte is `size` bytes further on."""
        self.planned += size
        self.events.append(Event(self.planned, what, data))

    def events_within(self, offset):
        for event in self.events:
            if event.end > offset:
                return
            yield event

    def commands_within(self, offset):
        """The commands of all messages that end by offset; None stands for an unreadable one."""
        return [command for event in self.events_within(offset) if event.what == TEXT
                for command in event.data]


class Event:
    """what: an opcode (data: the payload; for a client's message its list of commands), or
    "upgrade" or "request" (data: what a request publishes)."""

    def __init__(self, end, what, data):
        self.end, self.what, self.data = end, what, data


def packed(payload):
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -15, MEMORY_LEVEL)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def server_frame(opcode, payload, deflate=False):
    first = 0x80 | opcode
    if deflate and opcode in (TEXT, BINARY) and len(payload) >= MIN_SIZE:
        shorter = packed(payload)
        if len(shorter) < len(payload):
            first, payload = first | 0x40, shorter
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def echo_of(event, deflate=False):
    """The bytes by which /echo answers an event."""
    return server_frame(PONG if event.what == PING else event.what, event.data, deflate)


def mark(data):
    """What is kept of a publication's data: who made it, its number, and a checksum."""
    return data["by"], data["n"], zlib.crc32(data["pad"].encode())


def body_of_stream(stream):
    """What follows the head of the upgrade's response; None as long as that is not whole."""
    end = stream.find(HEAD_END)
    return None if end < 0 else stream[end + len(HEAD_END):]


Response = collections.namedtuple("Response", "status body end")


def responses(stream):
    """Each whole response; end is its offset in the stream."""
    found, at = [], 0
    while (end := stream.find(HEAD_END, at)) >= 0:
        head = bytes(stream[at:end]).decode("latin-1").split("\r\n")
        size = next((int(line.split(":")[1]) for line in head
                     if line.lower().startswith("content-length:")), 0)
        at = end + len(HEAD_END) + size
        if at > len(stream):
            break
        found.append(Response(int(head[0].split(" ")[1]), bytes(stream[at - size:at]), at))
    return found


class Transcript:
    """Follows what a server sends to a client of the protocol. `commands` is the list of commands
    sent, which may grow; complaints collects what no server may do."""

    def __init__(self, commands):
        self.commands = commands
        self.buffer = bytearray()
        self.upgraded = False
        self.close_code = None
        self.replies = []         # ids, in order
        self.errors = {}          # number of the command: error code
        self.positions = {}       # channel: offset of the last publication, or where it began
        self.epochs = {}
        self.publications = []    # (channel, offset, mark)
        self.pings = []           # payloads
        self.lost = []            # channels taken away by the server
        self.complaints = []

    def feed(self, data):
        """Takes bytes of the stream; yields the messages that became whole, parsed."""
        self.buffer += data
        if not self.upgraded:
            if HEAD_END not in self.buffer:
                return
            if not self.buffer.startswith(b"HTTP/1.1 101 "):
                self.complaints.append(("replies", f"no upgrade: {bytes(self.buffer[:60])!r}"))
            del self.buffer[:self.buffer.index(HEAD_END) + len(HEAD_END)]
            self.upgraded = True
        for opcode, payload in self._frames():
            if opcode == CLOSE:
                self.close_code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                continue
            if opcode == PING:
                self.pings.append(payload)
            if opcode != TEXT:
                continue
            for line in payload.split(b"\n"):
                message = json.loads(line)
                self._take(message)
                yield message

    def read(self, data):
        """feed() for whoever wants no messages."""
        for _ in self.feed(data):
            pass
        return self

    def _frames(self):
        at, buffer = 0, self.buffer
        while len(buffer) - at >= 2:
            size, header = buffer[at + 1] & 0x7f, 2
            if size >= 126:
                header = 4 if size == 126 else 10
                if len(buffer) - at < header:
                    break
                size = int.from_bytes(buffer[at + 2:at + header], "big")
            if len(buffer) - at < header + size:
                break
            opcode, payload = buffer[at] & 0x0f, bytes(buffer[at + header:at + header + size])
            if buffer[at] & 0x40:
                payload = inflate(payload)
            at += header + size
            yield opcode, payload
        del buffer[:at]

    def _take(self, message):
        if "push" in message:
            self._take_push(message["push"])
        else:
            self._take_reply(message)

    def _take_reply(self, reply):
        number = len(self.replies)
        self.replies.append(reply["id"])
        if number >= len(self.commands):
            self.complaints.append(("replies", f"reply {reply['id']} to no command"))
            return
        command = self.commands[number]
        if command is None or command["id"] != reply["id"]:
            self.complaints.append(("order", f"reply {reply['id']} to {command}"))
        elif "error" in reply:
            self.errors[number + 1] = reply["error"]["code"]
        elif "connect" in reply:
            for channel, result in reply["connect"].get("subs", {}).items():
                self._take_subscription(channel, result)
        elif "subscribe" in reply:
            self._take_subscription(command["subscribe"]["channel"], reply["subscribe"])
        elif "unsubscribe" in reply:
            self.positions.pop(command["unsubscribe"]["channel"], None)

    def _take_subscription(self, channel, result):
        self.positions[channel] = result.get("offset", 0)
        self.epochs[channel] = result["epoch"]
        for publication in result.get("publications", ()):
            self._take_publication(channel, publication)

    def _take_push(self, push):
        if "pub" in push:
            self._take_publication(push["channel"], push["pub"])
        elif "unsubscribe" in push:
            self.positions.pop(push["channel"], None)
            self.lost.append(push["channel"])

    def _take_publication(self, channel, publication):
        if channel not in self.positions:
            self.complaints.append(("offsets", f"a publication of {channel} for no subscriber"))
            return
        expected, offset = self.positions[channel] + 1, publication["offset"]
        if offset != expected:
            self.complaints.append(("offsets", f"{channel}: {offset} instead of {expected}"))
        self.positions[channel] = offset
        self.publications.append((channel, offset, mark(publication["data"])))
