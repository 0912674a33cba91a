# SPDX-License-Identifier: ISC
"""A proxy before Redis that can hold each direction of each connection back, so that a test
decides what overtakes what."""

import selectors
import socket
import threading


class Link:
    """One connection of the node; `asked` is all it has sent so far."""

    def __init__(self, node_side, redis_side):
        self.ends = {node_side: redis_side, redis_side: node_side}
        self.node_side, self.redis_side = node_side, redis_side
        self.asked = b""
        self.held = {}  # source -> bytes that came since it is held

    def move(self, source):
        """False at the end of the stream."""
        try:
            data = source.recv(65536)
        except OSError:
            return False
        if source is self.node_side:
            self.asked += data
        try:
            if source in self.held:
                self.held[source] += data
            elif data:
                self.ends[source].sendall(data)
        except OSError:
            return False
        return bool(data)


class RedisProxy:
    def __init__(self, port):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.links = []
        self.lock = threading.RLock()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.refusing = False
        self.deafening = None
        self.stalling = False
        self.running = True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while self.running:
            for key, _ in self.selector.select(0.05):
                with self.lock:
                    self._serve(key)

    def _serve(self, key):
        if key.fileobj is self.listener:
            node_side, _ = self.listener.accept()
            redis_side = None if self.refusing else self._connect()
            if not redis_side:
                node_side.close()
                return
            link = Link(node_side, redis_side)
            self.links.append(link)
            if self.stalling:
                self._hold(link)
            for end in link.ends:
                self.selector.register(end, selectors.EVENT_READ, link)
        elif key.data in self.links and not key.data.move(key.fileobj):
            self._drop(key.data)
        elif self.deafening and key.data in self.links and self.deafening in key.data.asked:
            key.data.held.setdefault(key.data.redis_side, b"")

    def _connect(self):
        try:
            return socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            return None

    def _drop(self, link):
        for end in link.ends:
            self.selector.unregister(end)
            end.close()
        self.links.remove(link)

    def refuse(self, refusing):
        """Whether connections are cut as soon as they are there; those that are, are cut now."""
        with self.lock:
            self.refusing = refusing
            for link in list(self.links) if refusing else []:
                self._drop(link)

    def stall(self, stalling):
        """Whether the network swallows everything: what is sent meanwhile arrives afterwards."""
        with self.lock:
            self.stalling = stalling
            for link in list(self.links):
                if stalling:
                    self._hold(link)
                else:
                    self.release(link)

    @staticmethod
    def _hold(link):
        for end in link.ends:
            link.held.setdefault(end, b"")

    def deafen(self, text):
        """Nothing more comes back on connections over which these bytes went; None: all is well,
        and connections that were deaf are cut."""
        with self.lock:
            self.deafening = text
            for link in list(self.links):
                if text and text in link.asked:
                    link.held.setdefault(link.redis_side, b"")
                elif not text and link.held:
                    self._drop(link)

    def close(self):
        self.running = False
        self.thread.join()
        for link in self.links:
            for end in link.ends:
                end.close()
        self.listener.close()

    def link_that_asked(self, text):
        """The connection over which these bytes went, None if none did."""
        with self.lock:
            return next((link for link in self.links if text in link.asked), None)

    def hold_requests(self, link):
        with self.lock:
            link.held.setdefault(link.node_side, b"")

    def hold_answers(self, link):
        with self.lock:
            link.held.setdefault(link.redis_side, b"")

    def held_answers(self, link):
        with self.lock:
            return link.held[link.redis_side]

    def release(self, link):
        with self.lock:
            for source, data in link.held.items():
                try:
                    link.ends[source].sendall(data)
                except OSError:
                    pass  # that end is gone; reading from it tells
            link.held.clear()
