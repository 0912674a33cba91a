# SPDX-License-Identifier: ISC
"""Proxies that can cut what a client sends at a byte, so that the rest arrives when a test says so,
whatever program the client is."""

import selectors
import socket
import threading

from keepsock import wait_until

# RFC 8446 4.1.3: the random of a HelloRetryRequest.
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


class Cutter:
    """A listener of its own before a port of the node; all its connections are cut at once."""

    def __init__(self, target):
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ends = {}       # source -> destination
        self.clients = set()
        self.held = {}       # destination -> what waits
        self.cut_after = None
        self.greeting = b""  # the beginning of what the node said
        self.accepted = 0

    def cut(self, after):
        """Of the next bytes that a client sends only so many go on (or all but one, if they are
        fewer), and none of those behind them."""
        self.cut_after = after

    def is_cut(self):
        return bool(self.held)

    def release(self):
        self.cut_after = None
        for destination, data in self.held.items():
            destination.sendall(data)
        self.held = {}


class Cutters:
    """All of a test, moved by one thread."""

    def __init__(self):
        self.all = []
        self.lock = threading.RLock()
        self.selector = selectors.DefaultSelector()
        self.running = True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def add(self, target):
        with self.lock:
            cutter = Cutter(target)
            self.all.append(cutter)
            self.selector.register(cutter.listener, selectors.EVENT_READ, cutter)
            return cutter

    def cut(self, after):
        with self.lock:
            for cutter in self.all:
                cutter.cut(after)

    def release(self):
        with self.lock:
            for cutter in self.all:
                cutter.release()

    def close(self):
        self.running = False
        self.thread.join()
        for cutter in self.all:
            for end in [cutter.listener, *cutter.ends]:
                end.close()

    def _run(self):
        while self.running:
            for key, _ in self.selector.select(0.05):
                with self.lock:
                    self._serve(key.fileobj, key.data)

    def _serve(self, source, cutter):
        if source is cutter.listener:
            client = source.accept()[0]
            node = socket.create_connection(("127.0.0.1", cutter.target))
            cutter.clients.add(client)
            cutter.accepted += 1
            for end, other in ((client, node), (node, client)):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                cutter.ends[end] = other
                self.selector.register(end, selectors.EVENT_READ, cutter)
        elif source in cutter.ends:
            try:
                data = source.recv(65536)
                self._pass_on(cutter, source, data)
            except OSError:
                data = b""
            if not data:
                self._drop(cutter, source)

    @staticmethod
    def _pass_on(cutter, source, data):
        destination = cutter.ends[source]
        if source not in cutter.clients:
            cutter.greeting = (cutter.greeting + data)[:512]
        elif destination in cutter.held:
            cutter.held[destination] += data
            return
        elif cutter.cut_after is not None and data:
            after = min(cutter.cut_after, len(data) - 1)
            cutter.held[destination] = data[after:]
            data = data[:after]
        destination.sendall(data)

    def _drop(self, cutter, source):
        for end in (source, cutter.ends.pop(source)):
            cutter.ends.pop(end, None)
            cutter.held.pop(end, None)
            cutter.clients.discard(end)
            self.selector.unregister(end)
            end.close()


def unread(ports):
    """Bytes that the kernel has for whoever serves these ports of 127.0.0.1."""
    wanted = {f"0100007F:{port:04X}" for port in ports}
    total = 0
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in table:
            words = line.split()
            if words[1] in wanted and words[3] == "01":
                total += int(words[4].partition(":")[2], 16)
    return total


def wait_read(ports):
    wait_until(lambda: unread(ports) == 0, "all that arrived is read")
