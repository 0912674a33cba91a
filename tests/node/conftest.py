# SPDX-License-Identifier: ISC
"""Fixtures of the node tests: nodes, Redis servers, and a guard against a test that hangs."""

import faulthandler
import itertools
import os
import signal
import sys

import pytest

import seeded
import tokens
from certificates import Authority
from client import Client
from keepsock import Keepsock, Redis, merge, keepsockd
from seeded import rng  # noqa: F401
from tls_client import VERSIONS, TlsClient, TlsStream, context, serve_tls
from wire import Http, WebSocket

HANG_AFTER = 300
CHANNEL_NUMBERS = itertools.count(1)


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run the long campaigns too")
    seeded.add_option(parser)


def pytest_sessionstart():
    if not os.access(keepsockd(), os.X_OK):
        pytest.exit(f"{keepsockd()} is missing: build it, or name another one in KEEPSOCKD", 1)


@pytest.fixture(autouse=True)
def _guard_against_hanging(request):
    """Ends a test that never comes to an end; --long campaigns set their own limits."""
    def on_alarm(*_):
        faulthandler.dump_traceback(file=sys.stderr)
        raise AssertionError(f"hangs for {HANG_AFTER} s")

    if request.config.getoption("--long"):
        yield
        return
    previous = signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(HANG_AFTER)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def _end(nodes):
    failures = []
    for node in nodes:
        try:
            node.stop()
        except AssertionError as failure:
            failures.append(str(failure))
        if not failures:
            node.remove()
    assert not failures, "\n".join(failures)


@pytest.fixture
def make_node():
    """A function that makes a node with setting overrides; it is stopped and judged at the end."""
    nodes = []

    def make(**overrides):
        nodes.append(Keepsock(**overrides))
        return nodes[-1]

    yield make
    _end(nodes)


@pytest.fixture
def start_node(make_node):
    """The same, started and ready."""
    return lambda **overrides: make_node(**overrides).start()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Of the certificates of nodes with TLS."""
    return Authority(tmp_path_factory.mktemp("ca") / "ca")


@pytest.fixture
def start_tls_node(make_node, authority):
    """As start_node; it listens with TLS too."""
    return lambda **overrides: serve_tls(make_node(**overrides), authority).start()


@pytest.fixture
def make_streams(authority):
    """A function that connects to a node in every way: plain, and by TLS of both versions."""
    streams = []

    def make(node, **options):
        made = [Http(node.port, **options)] + [
            TlsStream(node.tls_port, context(authority, version), **options)
            for version in VERSIONS.values()]
        streams.extend(made)
        return made

    yield make
    for stream in streams:
        stream.close()


@pytest.fixture
def make_clients(make_streams):
    return lambda node: [Client(node.port, stream=stream) for stream in make_streams(node)]


@pytest.fixture
def make_sockets(make_streams):
    """They come from /echo."""
    def make(node, **options):
        return [WebSocket(node.port, "/echo", stream=stream)
                for stream in make_streams(node, **options)]
    return make


def give_secret(node):
    """Tokens of tokens.user() are good on this node."""
    secret = node.directory / "hmac"
    secret.write_text(tokens.SECRET + "\n")
    secret.chmod(0o600)
    return node


AUTH = {"client": {"insecure": False}, "token": {"hmac_secret_file": "hmac"}}


@pytest.fixture
def start_auth_node(make_node):
    """A started node on which only tokens signed with tokens.SECRET are good."""
    return lambda **overrides: give_secret(make_node(**merge(AUTH, overrides))).start()


@pytest.fixture(scope="module")
def auth_node_with():
    """The same, to be shared by the tests of a file."""
    nodes = []

    def make(**overrides):
        nodes.append(give_secret(Keepsock(**merge(AUTH, overrides))))
        return nodes[-1].start()

    yield make
    _end(nodes)


@pytest.fixture(scope="module")
def auth_node(auth_node_with):
    """One such node with default overrides."""
    return auth_node_with()


@pytest.fixture(scope="module")
def node():
    """One started node with default overrides, shared by the tests of a file."""
    shared = Keepsock()
    try:
        yield shared.start()
    finally:
        _end([shared])


@pytest.fixture
def redis():
    server = Redis().start()
    yield server
    server.stop()


@pytest.fixture
def make_client():
    """A function that connects clients to a node, by TLS if it has a context for that; they are cut
    at the end of the test."""
    clients = []

    def make(node, tls=None, **options):
        clients.append(TlsClient(node.tls_port, tls, **options) if tls else
                       Client(node.port, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.cut()


@pytest.fixture
def client(node, make_client):
    """A connected client of the shared node."""
    return make_client(node)


@pytest.fixture
def channel(request):
    """A channel name no other test of the shared node uses."""
    return f"{request.node.originalname}-{next(CHANNEL_NUMBERS)}"[-100:]
