# SPDX-License-Identifier: ISC
"""Thousands of raw clients in a process of their own, and who publishes to them.

    python3 crowd.py '{"port": 8000, "key": "…", "seed": 1, "members": 2000, "rate": 40,
                       "channels": {"h0": true, "plain:0": false, …}, "authority": null}'

Each member subscribes to two channels, one with positions (true) and one without. Some connections
to the HTTP API publish `rate` publications a second, each channel by one of them, one after the
other. At random, members send pings, and publications of their own to the channel `mass`; many such
frames are cut at a random place, and the rest follows up to CUT_FOR seconds later. What comes back
is judged byte by byte. With the path of an authority's certificate all of this goes by TLS, half of
it by TLS 1.2, and it is records that are cut.

Tells on stdout, one JSON object a line: `ready`; `wrong` for every complaint; `gap` for the slowest
delivery since the last such line, when stdin says `gap`; and, when it says `enough`, `quiet` with
the number of the last publication in each channel and of each member. Ends with its stdin.
PYTHONPATH has to name tests/node.
"""

import base64
import collections
import heapq
import json
import os
import random
import select
import socket
import ssl
import sys
import time

from crowd_judge import MemberJudge, data_of
from tls_records import Records, both_contexts
from wire import PING, TEXT, frame

PUBLISHERS = 4
OPENING = 100             # connections that are under way at a time
CUT, CUT_FOR = 0.7, 1.5
ACTS_PER_SECOND = 100
IN_FLIGHT = 3
PATIENCE = 40
MOST_COMPLAINTS = 200


def tell(what, **facts):
    sys.stdout.write(json.dumps({"what": what, **facts}) + "\n")
    sys.stdout.flush()


class Line:
    """A non-blocking connection; what it sends may be held up in the middle."""

    def __init__(self, crowd):
        self.crowd = crowd
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", crowd.port))
        self.out = bytearray()
        self.tls = crowd.new_tls() if crowd.contexts else None
        self.held = False
        self.writing = True
        crowd.lines[self.socket.fileno()] = self
        crowd.epoll.register(self.socket, select.EPOLLIN | select.EPOLLOUT)

    def send(self, data):
        self.send_sealed(self.tls.seal(data) if self.tls else data)

    def send_sealed(self, data):
        self.out += data
        if not self.held:
            self.flush()

    def send_cut(self, data):
        """Some of it now, the rest later. Not while something is held already."""
        if self.tls:
            data = self.tls.seal(data)
        cut = self.crowd.rng.randrange(len(data) + 1)
        self.send_sealed(data[:cut])
        self.held = True
        self.crowd.later(self.crowd.rng.uniform(0, CUT_FOR), self.go_on, data[cut:])

    def go_on(self, rest):
        self.held = False
        self.out[0:0] = rest
        self.flush()

    def flush(self):
        if self.out:
            try:
                del self.out[:self.socket.send(self.out)]
            except BlockingIOError:
                pass
            except OSError:
                self.out.clear()      # reading will tell
        if bool(self.out) != self.writing:
            self.writing = bool(self.out)
            self.crowd.epoll.modify(self.socket, select.EPOLLIN |
                                    (select.EPOLLOUT if self.writing else 0))

    def on_event(self, mask):
        if mask & select.EPOLLOUT and not self.held:
            self.flush()
        if mask & ~select.EPOLLOUT:
            try:
                data = self.socket.recv(65536)
            except BlockingIOError:
                return
            except OSError as error:
                data = b""
                self.crowd.complain([("closed", f"{self}: {error}")])
            if data and self.tls:
                self.on_records(data)
            elif data:
                self.on_data(data)
            else:
                self.close()
                self.on_end()

    def on_records(self, data):
        try:
            plaintext = self.tls.open(data)
        except ssl.SSLError as error:
            self.crowd.complain([("bytes", f"{self}: {error}")])
            return
        if sealed := self.tls.rest():
            self.send_sealed(sealed)
        if plaintext:
            self.on_data(plaintext)

    def close(self):
        self.crowd.epoll.unregister(self.socket)
        del self.crowd.lines[self.socket.fileno()]
        self.socket.close()


class Member(Line):
    def __init__(self, crowd, number, channels):
        super().__init__(crowd)
        self.name = f"m{number}"
        self.judge = MemberJudge(self.name, channels)
        self.commands = 1 + len(channels)
        self.published = 0
        self.ready = False
        key = base64.b64encode(crowd.rng.randbytes(16)).decode()
        self.send((f"GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                   f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                   f"Sec-WebSocket-Version: 13\r\n\r\n").encode())
        commands = [{"id": 1, "connect": {}}] + [
            {"id": place, "subscribe": {"channel": channel}}
            for place, channel in enumerate(channels, 2)]
        self.send(frame(TEXT, "\n".join(map(json.dumps, commands)).encode()))

    def __str__(self):
        return self.name

    def on_data(self, data):
        judge = self.judge
        judge.feed(data)
        while judge.pings:
            judge.pings -= 1
            self.send(frame(TEXT, b"{}"))
        self.crowd.note_arrivals(judge.arrivals)
        if judge.complaints:
            self.crowd.complain(judge.complaints)
        if not self.ready and judge.is_subscribed():
            self.ready = True
            self.crowd.on_subscribed()

    def on_end(self):
        self.judge.end()
        self.crowd.complain(self.judge.complaints)
        self.crowd.members.remove(self)

    def act(self):
        """Sends something that has to be answered."""
        judge, rng = self.judge, self.crowd.rng
        if self.held or len(judge.pongs) + len(judge.replies) >= IN_FLIGHT:
            return
        if rng.random() < 0.5:
            payload = rng.randbytes(rng.randrange(126))
            judge.pongs.append(payload)
            data = frame(PING, payload)
        else:
            self.commands += 1
            self.published += 1
            judge.replies.append(b'{"id":%d,"publish":{}}' % self.commands)
            command = {"id": self.commands, "publish": {
                "channel": "mass", "data": {"by": self.name, "n": self.published}}}
            data = frame(TEXT, json.dumps(command).encode())
        if rng.random() < CUT:
            self.send_cut(data)
        else:
            self.send(data)


class Publisher(Line):
    """Publishes to its channels in turn, one publication at a time."""

    def __init__(self, crowd, channels):
        super().__init__(crowd)
        self.channels = collections.deque(channels)
        self.unread = b""
        self.under_way = None      # (channel, number)

    def __str__(self):
        return "a publisher"

    def publish(self):
        channel = self.channels[0]
        self.channels.rotate(-1)
        number = self.crowd.tops[channel] + 1
        self.under_way = (channel, number)
        self.crowd.sent_at[self.under_way] = time.monotonic()
        body = f'{{"channel":"{channel}","data":{data_of(channel, number)}}}'.encode()
        self.send((f"POST /api/publish HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                   f"X-API-Key: {self.crowd.key}\r\nContent-Type: application/json\r\n"
                   f"Content-Length: {len(body)}\r\n\r\n").encode() + body)

    def on_data(self, data):
        self.unread += data
        head, mark, body = self.unread.partition(b"\r\n\r\n")
        if not mark:
            return
        size = next(int(line.split(b":")[1]) for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:"))
        if len(body) < size:
            return
        self.unread = b""
        (channel, number), self.under_way = self.under_way or (None, 0), None
        expected = {"offset": number} if self.crowd.channels.get(channel) else {}
        if not head.startswith(b"HTTP/1.1 200 ") or len(body) > size or \
                {"offset": json.loads(body).get("result", {}).get("offset")} != \
                {"offset": expected.get("offset")}:
            self.crowd.complain([("bytes", f"{channel} {number} was answered by "
                                  f"{head[:40]!r} {body[:200]!r}")])
        if channel:
            self.crowd.tops[channel] = number

    def on_end(self):
        self.crowd.complain([("closed", f"a publisher, waiting for {self.under_way}")])
        self.crowd.publishers.remove(self)


class Crowd:
    def __init__(self, port, key, seed, members, rate, channels, authority=None):
        self.port, self.key, self.rate, self.channels = port, key, rate, channels
        self.contexts = collections.deque(both_contexts(authority) if authority else [])
        self.rng = random.Random(seed)
        self.epoll = select.epoll()
        self.lines = {}            # fd: line
        self.members, self.publishers = [], []
        self.wanted, self.subscribed = members, 0
        self.tops = dict.fromkeys(channels, 0)
        self.sent_at = {}          # (channel, number): when its request was sent
        self.gap = 0.0
        self.arrived = 0
        self.complaints = 0
        self.timers, self.timer = [], 0
        self.enough = False
        self.commands = b""

    # What members and publishers use

    def new_tls(self):
        self.contexts.rotate()
        return Records(self.contexts[0])

    def later(self, seconds, action, *arguments):
        self.timer += 1
        heapq.heappush(self.timers, (time.monotonic() + seconds, self.timer, action, arguments))

    def complain(self, complaints):
        for rule, text in complaints:
            self.complaints += 1
            if self.complaints <= MOST_COMPLAINTS:
                tell("wrong", rule=rule, text=text)
        complaints.clear()

    def note_arrivals(self, arrivals):
        now = time.monotonic()
        for place in arrivals:
            self.gap = max(self.gap, now - self.sent_at.get(place, now))
        self.arrived += len(arrivals)
        arrivals.clear()

    def on_subscribed(self):
        self.subscribed += 1
        if self.subscribed == self.wanted:
            tell("ready", members=self.subscribed)
            self.start_publishing()
        self.open()

    # The event loop

    def open(self):
        """Two channels each, so that all channels have about the same number of members."""
        positioned = [name for name, is_positioned in self.channels.items() if is_positioned]
        others = [name for name, is_positioned in self.channels.items() if not is_positioned]
        while len(self.members) < min(self.wanted, self.subscribed + OPENING):
            number = len(self.members)
            pair = (positioned[number % len(positioned)], others[number % len(others)])
            self.members.append(Member(self, number, {name: self.channels[name] for name in pair}))

    def start_publishing(self):
        names = list(self.channels)
        self.publishers = [Publisher(self, names[place::PUBLISHERS]) for place in range(PUBLISHERS)]
        for publisher in self.publishers:
            self.later(0, self.publish, publisher, time.monotonic())
        self.later(0, self.act)

    def publish(self, publisher, due):
        """Keeps the pace: what a pause held up is caught up with."""
        if self.enough or publisher not in self.publishers:
            return
        if not publisher.under_way:
            publisher.publish()
            due += PUBLISHERS / self.rate
        self.later(max(due - time.monotonic(), 0.002), self.publish, publisher, due)

    def act(self):
        if not self.enough and self.members:
            self.rng.choice(self.members).act()
            self.later(1 / ACTS_PER_SECOND, self.act)

    def run(self):
        os.set_blocking(0, False)
        self.epoll.register(0, select.EPOLLIN)
        self.open()
        while True:
            wait = self.timers[0][0] - time.monotonic() if self.timers else 1
            for fd, mask in self.epoll.poll(max(wait, 0)):
                if fd == 0:
                    if not self.on_command():
                        return
                elif fd in self.lines:
                    self.lines[fd].on_event(mask)
            while self.timers and self.timers[0][0] <= time.monotonic():
                _, _, action, arguments = heapq.heappop(self.timers)
                action(*arguments)

    def on_command(self):
        data = os.read(0, 1000)
        self.commands += data
        *lines, self.commands = self.commands.split(b"\n")
        for line in lines:
            if line == b"gap":
                tell("gap", seconds=self.gap)
                self.gap = 0.0
            else:
                self.enough = True
                self.settle(time.monotonic() + PATIENCE)
        return bool(data)

    # The end

    def settle(self, deadline):
        done = not any(p.under_way for p in self.publishers) and not any(
            m.held or m.out or not m.judge.is_answered() or not m.judge.has_all(self.tops)
            for m in self.members)
        if not done and time.monotonic() < deadline:
            self.later(0.05, self.settle, deadline)
            return
        for member in self.members:
            member.judge.judge_rest(self.tops)
            self.complain(member.judge.complaints)
        tell("quiet", tops=self.tops, arrived=self.arrived, complaints=self.complaints,
             clients=[m.judge.client for m in self.members],
             published={m.name: m.published for m in self.members if m.published})


if __name__ == "__main__":
    Crowd(**json.loads(sys.argv[1])).run()
