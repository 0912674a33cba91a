# SPDX-License-Identifier: ISC
"""What one connection sent and received, and what that means.

The load driver fills recordings, the judge reads them. A transcript understands the server's half
of a connection to the publish/subscribe protocol.
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
    """One connection as its client knows it."""

    def __init__(self, kind, serial, port=0):
        self.kind = kind          # "echo", "client" or "api"
        self.serial = serial      # names it in the publications it makes
        self.port = port
        self.slow = False         # does not read as fast as it could
        self.deflate = False      # permessage-deflate was agreed to
        self.sent = 0             # bytes the kernel took
        self.received = 0         # bytes
        self.ended = False
        self.leaving = False      # its end is its own doing
        self.gone = False         # its socket was closed without a word
        self.reset = False        # the kernel reported an error
        self.ends_with = None     # the close code that its last message has to be answered with
        self.close_code = None    # what the server closed it with
        self.client = None        # the id the server gave it
        self.published = {}       # number of the command or request: channel
        self.acknowledged = set() # numbers of the commands or requests that succeeded
        self.refused = {}         # number: code of those that were answered with an error

    def __str__(self):
        return f"{self.kind} {self.serial} (port {self.port})"


class Event:
    """Something whole that was sent. what: an opcode (data: the payload; for a client's message
    its list of commands), or "upgrade" or "request" (data: the channel a request publishes on)."""

    def __init__(self, what, data):
        self.what, self.data = what, data


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
        self.client = None        # the id in the reply to its connect
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
            self.client = reply["connect"]["client"]
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
