# SPDX-License-Identifier: ISC
"""Judges every byte that one member of the crowd gets.

What a channel's publication n looks like is known beforehand, so are pongs and replies. Every
complaint is (rule, text). The rules:

  closed   the connection ends
  bytes    something else came than what had to come; a pong or a reply in another order
  places   publications of a channel come one after the other: none is lost, doubled or out of order
  missing  at the end not everything was answered, or a publication has not come
"""

import collections
import functools
import json

from wire import PONG, TEXT

HEAD_END = b"\r\n\r\n"
PUSH, PUB = b'{"push":{"channel":"', b'","pub":'


def data_of(channel, number):
    """The data of the publication with that number: its size differs from one to the next."""
    return f'{{"n":{number},"pad":"{f"{channel}.{number} " * (number * 7 % 23)}"}}'


@functools.lru_cache(maxsize=4096)
def pub_of(channel, number, positioned):
    """How a publication looks to subscribers, and the beginning of how the very first one does,
    which tells the epoch."""
    place = f',"offset":{number}' if positioned else ""
    text = f'{{"data":{data_of(channel, number)}{place}'.encode()
    return text + b"}}}", text + b',"epoch":"'


class MemberJudge:
    """channels: {name: whether it has positions}, in the order of the subscribe commands, which have
    the ids 2, 3, ...; the connect command has 1. Nothing has been published in channels without
    positions when it subscribes."""

    def __init__(self, name, channels):
        self.name, self.channels = name, channels
        self.buffer = bytearray()
        self.upgraded = False
        self.client = None
        self.places = {}          # channel: number of the last publication
        self.pongs = collections.deque()
        self.replies = collections.deque()
        self.pings = 0            # of the server, not yet answered
        self.complaints = []
        self.arrivals = []        # (channel, number), for who wants to know when they came

    def complain(self, rule, text):
        self.complaints.append((rule, f"{self.name}: {text}"))

    def feed(self, data):
        self.buffer += data
        if not self.upgraded:
            end = self.buffer.find(HEAD_END)
            if end < 0:
                return
            if not self.buffer.startswith(b"HTTP/1.1 101 "):
                self.complain("bytes", f"no upgrade: {bytes(self.buffer[:80])!r}")
            del self.buffer[:end + len(HEAD_END)]
            self.upgraded = True
        self._take_frames()

    def _take_frames(self):
        buffer, at = self.buffer, 0
        while len(buffer) - at >= 2:
            size, begin = buffer[at + 1], at + 2
            if size > 127:
                self.complain("bytes", f"no frame: {bytes(buffer[at:at + 20])!r}")
                at = len(buffer)
                break
            if size == 126:
                size, begin = int.from_bytes(buffer[at + 2:at + 4], "big"), at + 4
            elif size == 127:
                size, begin = int.from_bytes(buffer[at + 2:at + 10], "big"), at + 10
            if len(buffer) < begin + size or begin > len(buffer):
                break
            self._take(buffer[at], bytes(buffer[begin:begin + size]))
            at = begin + size
        del buffer[:at]

    def _take(self, first, payload):
        if first == 0x80 | TEXT:
            for line in payload.split(b"\n"):
                self._take_message(line)
        elif first == 0x80 | PONG:
            due = self.pongs.popleft() if self.pongs else None
            if payload != due:
                self.complain("bytes", f"pong {payload[:40]!r}, not {due!r}")
        else:
            self.complain("bytes", f"frame {first:#x} {payload[:80]!r}")

    def _take_message(self, line):
        if line.startswith(PUSH):
            self._take_push(line)
        elif line == b"{}":
            self.pings += 1
        elif len(self.places) < len(self.channels):
            self._take_first(line)
        else:
            due = self.replies.popleft() if self.replies else None
            if line != due:
                self.complain("bytes", f"{line[:200]!r}, not {due!r}")

    def _take_first(self, line):
        """The reply to connect or to one of the subscriptions."""
        try:
            reply = json.loads(line)
            if self.client is None:
                self.client = reply["connect"]["client"]
                return
            channel = list(self.channels)[reply["id"] - 2]
            offset = reply["subscribe"].get("offset", 0)
        except (ValueError, LookupError, TypeError):
            self.complain("bytes", f"{line[:200]!r} to connect or subscribe")
            return
        self.places[channel] = offset

    def _take_push(self, line):
        end = line.find(PUB)
        channel = line[len(PUSH):end].decode()
        if end < 0 or channel not in self.places:
            self.complain("bytes", f"{line[:200]!r}")
            return
        pub = line[end + len(PUB):]
        last = self.places[channel]
        number = last + 1
        whole, begin = pub_of(channel, number, self.channels[channel])
        if pub != whole and not (number == 1 and pub.startswith(begin)):
            found = self._number(pub)
            known = pub_of(channel, found, self.channels[channel])[0]
            rule = "places" if pub == known else "bytes"
            self.complain(rule, f"{channel}: {found} after {last}: {pub[:120]!r}")
            number = found
        self.places[channel] = number
        self.arrivals.append((channel, number))

    @staticmethod
    def _number(pub):
        """The number that the data tells, 0 if it tells none."""
        digits = pub[len(b'{"data":{"n":'):].split(b",", 1)[0]
        return int(digits) if digits.isdigit() else 0

    def is_subscribed(self):
        return len(self.places) == len(self.channels)

    def is_answered(self):
        return not self.pongs and not self.replies

    def has_all(self, tops):
        return all(place == tops[channel] for channel, place in self.places.items())

    def end(self):
        self.complain("closed", f"{len(self.buffer)} bytes of a frame are left: "
                      f"{bytes(self.buffer[:80])!r}")

    def judge_rest(self, tops):
        """Nothing more is to come."""
        if not self.is_answered():
            self.complain("missing", f"{len(self.pongs)} pongs, {len(self.replies)} replies")
        for channel, place in self.places.items():
            if place != tops[channel]:
                self.complain("missing", f"{channel}: {place} is the last, not {tops[channel]}")
        if self.buffer:
            self.complain("missing", f"half a frame: {bytes(self.buffer[:80])!r}")
