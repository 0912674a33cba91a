# SPDX-License-Identifier: ISC
"""The clients of wire.py and client.py over TLS.

The records are made in memory, so that a test decides when which of their bytes go out: seal()
gives them, and send_raw() on the socket below sends any piece of them.
"""

import itertools
import socket
import ssl

from certificates import put
from client import Client
from keepsock import free_port
from wire import TIMEOUT, Closed, Http, WebSocket


VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def serve_tls(node, authority):
    """Adds a listener to a node that has not been started, which gets tls_port; returns it."""
    node.tls_port = free_port()
    put(node.directory, "tls", *authority.issue("tls", "localhost"))
    node.change_settings({"listeners": [*node.settings["listeners"], {
        "address": "127.0.0.1", "port": node.tls_port,
        "tls": {"certificates": [{"certificate": "tls.pem", "key": "tls.key"}]}}]})
    return node


def in_turn(make_client, authority):
    """What makes clients of each kind in turn, plain and by TLS of both versions, if the node has
    it."""
    kinds = itertools.cycle([None, *(context(authority, v) for v in VERSIONS.values())])
    return lambda node, **options: make_client(node, next(kinds) if node.tls_port else None,
                                               **options)


def context(authority, version=None, suites=None, **options):
    made = ssl.create_default_context(cafile=str(authority.path))
    if version:
        made.minimum_version = made.maximum_version = version
    if suites:
        made.set_ciphers(suites)
    for name, value in options.items():
        setattr(made, name, value)
    return made


class TlsStream(Http):
    """One TLS connection with a read buffer; sends and receives plaintext as its base does."""

    def __init__(self, port, tls, host="127.0.0.1", name="localhost", receive_buffer=None,
                 session=None):
        super().__init__(port, host, receive_buffer)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = tls.wrap_bio(self.incoming, self.outgoing, server_hostname=name,
                                session=session)
        self.shake_hands()

    def shake_hands(self, data=b""):
        """With data that goes out along with the last flight."""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
                self.receive()
            except ssl.SSLError:
                self.flush()
                raise
        if data:
            self.tls.write(data)
        self.flush()

    def flush(self):
        if data := self.outgoing.read():
            self.send_raw(data)

    def receive(self, timeout=TIMEOUT):
        self.incoming.write(self.read_raw(timeout))

    def seal(self, data):
        """The records of data, which are to be sent before anything else is sealed."""
        self.tls.write(data)
        return self.outgoing.read()

    def send(self, data):
        self.send_raw(self.seal(data))

    def send_raw(self, data):
        self.socket.sendall(data)

    def send_bytewise(self, data):
        for byte in self.seal(data):
            self.send_raw(bytes([byte]))

    def fill(self, timeout=TIMEOUT):
        """Reads once; raises Closed at the end of the stream, which must be a close_notify."""
        while True:
            try:
                data = self.tls.read(65536)
                # A KeyUpdate that was asked for.
                self.flush()
                if not data:
                    raise Closed()
                self.buffer += data
                return
            except ssl.SSLWantReadError:
                self.flush()
                self.receive(timeout)
            except ssl.SSLZeroReturnError:
                raise Closed() from None

    def alert(self, timeout=TIMEOUT):
        """The words for the alert that must come, and then the end."""
        try:
            while True:
                self.fill(timeout)
        except ssl.SSLError as error:
            return error.reason

    def say_goodbye(self):
        """close_notify, and what the server answers: True for its own."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.flush()
        try:
            while True:
                try:
                    self.receive()
                except Closed:
                    return False
                try:
                    self.tls.unwrap()
                    return True
                except ssl.SSLWantReadError:
                    pass
        except OSError:
            return False


class TlsWebSocket(WebSocket):
    """An upgraded TLS connection."""

    def __init__(self, port, tls, path="/connection/websocket", receive_buffer=None, **options):
        super().__init__(port, path, stream=TlsStream(port, tls, receive_buffer=receive_buffer), **options)


class TlsClient(Client):
    def __init__(self, port, tls, receive_buffer=None, **options):
        super().__init__(port, stream=TlsStream(port, tls, receive_buffer=receive_buffer),
                         **options)


def raw_socket(port):
    plain = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plain
