# SPDX-License-Identifier: ISC
"""Thousands of idle clients that behave like the JavaScript SDK at its default settings, in a process
of their own; tests/bench/failover uses it.

    python3 failover_crowd.py '{"address": "10.9.0.100", "port": 8000, "members": 5000}'

Each is subscribed with recovery to the channel `crowd`, answers pings, and when its connection ends
comes back after the SDK's pause: 0.5 s and a random part of 0.5 s, doubled for each attempt. Tells on
stdout, one JSON object a line: `ready` when all are subscribed first, and `back` when all have lost their
connections once and are subscribed again: when each was, when its handshake was answered, and what
was not in order. Ends with its stdin.
"""

import heapq
import json
import random
import select
import socket
import sys
import time

LOOK_EVERY = 0.5
OPENING = 200       # connections that are under way at a time, in the beginning
MIN_DELAY, MAX_DELAY = 0.5, 20.0
# The server's ping interval and the SDK's patience with it; its patience with an answer.
NO_PING, NO_ANSWER = 35.0, 5.0
CONNECT = (b"GET /connection/websocket HTTP/1.1\r\nHost: keepsock.test\r\nUpgrade: websocket\r\n"
           b"Connection: Upgrade\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
           b"Sec-WebSocket-Version: 13\r\n\r\n")


def text(payload):
    """A masked frame; the mask of zeros leaves the payload as it is."""
    size = len(payload)
    head = bytes([0x81, 0x80 | size]) if size < 126 else \
        bytes([0x81, 0xFE]) + size.to_bytes(2, "big")
    return head + bytes(4) + payload


class Member:
    def __init__(self, crowd):
        self.crowd = crowd
        self.socket, self.unread, self.open = None, b"", False
        self.attempts = 0
        self.position = None        # (epoch, offset) of what it has
        self.back_at, self.subscribed = 0.0, False
        self.opened_at = self.heard_at = 0.0
        self.lost_at = 0.0

    def connect(self):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(self.crowd.place)
        self.unread, self.open = b"", False
        self.crowd.by_fd[self.socket.fileno()] = self
        self.crowd.epoll.register(self.socket, select.EPOLLIN | select.EPOLLOUT)

    def on_event(self, mask):
        try:
            if mask & select.EPOLLOUT:
                self.socket.send(CONNECT)
                self.crowd.epoll.modify(self.socket, select.EPOLLIN)
            if mask & ~select.EPOLLOUT:
                data = self.socket.recv(65536)
                if not data:
                    raise ConnectionError
                self.on_data(data)
        except BlockingIOError:
            pass
        except OSError:
            self.lose()

    def lose(self):
        if self.subscribed:
            self.lost_at = time.time()
            self.subscribed = False
        self.open = False
        self.crowd.epoll.unregister(self.socket)
        del self.crowd.by_fd[self.socket.fileno()]
        self.socket.close()
        delay = MIN_DELAY + random.uniform(0, min(MAX_DELAY, MIN_DELAY * 2 ** self.attempts))
        self.attempts += 1
        self.crowd.later(min(delay, MAX_DELAY), self.connect)

    def on_data(self, data):
        self.heard_at = time.monotonic()
        self.unread += data
        if not self.open:
            head, mark, rest = self.unread.partition(b"\r\n\r\n")
            if not mark:
                return
            if b" 101 " not in head[:20]:
                self.crowd.refusals += 1
                raise ConnectionError
            self.open, self.unread = True, rest
            self.opened_at = time.time()
            self.socket.send(text(b'{"id":1,"connect":{}}'))
        while len(self.unread) >= 2:
            size, start = self.unread[1] & 127, 2
            if size == 126:
                size, start = int.from_bytes(self.unread[2:4], "big"), 4
            if len(self.unread) < start + size:
                return
            payload, opcode = self.unread[start:start + size], self.unread[0] & 15
            self.unread = self.unread[start + size:]
            if opcode == 8:
                raise ConnectionError
            if opcode == 1:
                for line in payload.split(b"\n"):
                    self.on_message(line)

    def on_message(self, line):
        message = json.loads(line)
        if not message:
            self.socket.send(text(b"{}"))
        elif "error" in message:
            raise ConnectionError
        elif "connect" in message:
            subscribe = {"channel": "crowd", "recoverable": True, "positioned": True}
            if self.position:
                subscribe |= {"recover": True, "epoch": self.position[0],
                              "offset": self.position[1]}
            self.socket.send(text(json.dumps({"id": 2, "subscribe": subscribe}).encode()))
        elif "subscribe" in message:
            self.on_subscribed(message["subscribe"])
        elif "push" in message:
            self.on_publication(message["push"]["pub"])

    def on_subscribed(self, result):
        if not self.position:
            self.position = (result["epoch"], result.get("offset", 0))
        elif not result.get("recovered") or result["epoch"] != self.position[0]:
            self.crowd.complaints.append(f"not recovered: {self.position} {result}")
        for publication in result.get("publications", []):
            self.on_publication(publication)
        self.subscribed, self.attempts = True, 0
        self.back_at = time.time()
        self.crowd.on_subscribed()

    def on_publication(self, publication):
        epoch, offset = self.position
        if publication["offset"] != offset + 1:
            self.crowd.complaints.append(f"{publication} after {offset}")
        self.position = (epoch, publication["offset"])


class Crowd:
    def __init__(self, address, port, members):
        self.place = (address, port)
        self.epoll = select.epoll()
        self.by_fd, self.timers, self.number = {}, [], 0
        self.members, self.wanted, self.arrived = [], members, 0
        self.complaints, self.refusals, self.silent, self.unanswered = [], 0, 0, 0

    def later(self, seconds, action):
        self.number += 1
        heapq.heappush(self.timers, (time.monotonic() + seconds, self.number, action))

    def on_subscribed(self):
        self.arrived += 1
        if self.arrived == self.wanted:
            self.tell("ready")
            self.look()
        self.open()

    def open(self):
        while len(self.members) < min(self.wanted, self.arrived + OPENING):
            self.members.append(Member(self))
            self.members[-1].connect()

    @staticmethod
    def tell(what, **facts):
        sys.stdout.write(json.dumps({"what": what, **facts}) + "\n")
        sys.stdout.flush()

    def look(self):
        """A publication may come a moment after all are back."""
        for member in self.members:
            silent = time.monotonic() - member.heard_at if member.open else 0
            if silent > (NO_PING if member.subscribed else NO_ANSWER):
                self.silent += member.subscribed
                self.unanswered += not member.subscribed
                member.lose()
        if not all(m.lost_at and m.subscribed for m in self.members):
            self.later(LOOK_EVERY, self.look)
            return
        self.later(LOOK_EVERY, self.tell_back)

    def tell_back(self):
        self.tell("back", back=[m.back_at for m in self.members],
                  opened=[m.opened_at for m in self.members],
                  offsets=sorted({m.position[1] for m in self.members}),
                  refusals=self.refusals, silent=self.silent, unanswered=self.unanswered,
                  complaints=self.complaints[:10])

    def run(self):
        self.epoll.register(0, select.EPOLLIN)
        self.open()
        while True:
            wait = self.timers[0][0] - time.monotonic() if self.timers else 1
            for fd, mask in self.epoll.poll(max(wait, 0)):
                if fd in self.by_fd:
                    self.by_fd[fd].on_event(mask)
                elif fd == 0:
                    return
            while self.timers and self.timers[0][0] <= time.monotonic():
                heapq.heappop(self.timers)[2]()


if __name__ == "__main__":
    Crowd(**json.loads(sys.argv[1])).run()
