# SPDX-License-Identifier: ISC
"""Other people's clients with every suite and kind of handshake, cut in a record's middle while
their worker is followed by another one: by a reload, by SIGKILL, and in turn.

All of them are connected at once, so that the whole matrix needs each event once. A test is a cell."""

import os
import shutil
import signal

import pytest

from certificates import Authority, put
from conftest import _end
from cutter import RETRY, Cutters, wait_read
from keepsock import Keepsock, config_text, free_port, merge, wait_until
from tls_peers import REQUEST, Chromium, Curl, Node, Python, SClient, SClients

CERTIFICATES = [{"certificate": "a.pem", "key": "a.key"}, {"certificate": "b.pem", "key": "b.key"}]
SUITES_1_3 = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
SUITES_1_2 = [f"ECDHE-{key}-{cipher}" for key in ("ECDSA", "RSA")
              for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")]
ONLY = {"1.2": {"max_version": "1.2"}, "1.3": {"min_version": "1.3"}}
AUTHORITIES = {"client_verify": "required", "client_ca": "ca.pem"}

# What the listeners offer, and what is special about clients of them.
OFFERS = {suite: (ONLY["1.3"] | {"cipher_suites": [suite]}, {}) for suite in SUITES_1_3}
OFFERS |= {suite: (ONLY["1.2"] | {"cipher_suites": [suite]}, {}) for suite in SUITES_1_2}
OFFERS |= {f"{what} {version}": (only | tls, options) for version, only in ONLY.items()
           for what, tls, options in (("resumption", {}, {"resume": True}),
                                      ("client certificate", AUTHORITIES, {"certificate": True}))}
OFFERS["HelloRetryRequest"] = ONLY["1.3"] | {"curves": ["P-384"]}, {"groups": "X25519:P-384"}
PEERS = {"s_client": SClients, "python": Python, "node": Node, "curl": Curl, "chromium": Chromium}
# Chromium has client certificates from a store that headless it can't be asked about; curl wants no
# tickets of TLS 1.2, and session identifiers we have none.
NO_CELLS = [("chromium", "client certificate 1.2"), ("chromium", "client certificate 1.3"),
            ("curl", "resumption 1.2")]
CELLS = [(peer, offer) for peer in PEERS for offer in OFFERS if (peer, offer) not in NO_CELLS]


def reload(node):
    node.settings = merge(node.settings, {"client": {
        "channel_limit": 300 - node.settings["client"].get("channel_limit", 100)}})
    node.config.write_text(config_text(node.settings))
    run = node.ctl("reload")
    assert run.returncode == 0, run.stderr


def kill(node):
    wait_until(node.are_protected, "the keeper has everything")
    os.kill(node.workers()[0], signal.SIGKILL)


def follow(node, event):
    before = node.workers()[0]
    event(node)
    wait_until(lambda: node.workers().get(0) not in (None, before), "the next worker")
    wait_until(node.are_all_ready, "it is ready")


# In a record's header, and behind it.
STAGES = [(event, cut) for cut in (3, 11) for event in (reload, kill)]


class World:
    """The node with a listener for each offer, and the files that clients need."""

    def __init__(self, directory):
        self.authority = Authority(directory / "ca")
        self.certificates = [self.authority.issue(key, "localhost", key=key) for key in ("ec", "rsa")]
        self.authority.issue("anna")
        self.client = tuple(self.authority.directory / f"anna.{end}" for end in ("pem", "key"))
        tls = [{"tls": {"certificates": CERTIFICATES} | offer} for offer, _ in OFFERS.values()]
        # The first ones wait until all are connected.
        self.node = Keepsock(node={"workers": 1}, websocket={"allowed_origins": ["*"]},
                             http={"header_timeout": "300s", "idle_timeout": "300s"},
                             listeners=[{"address": "127.0.0.1", "port": free_port()} | more
                                        for more in [{}, *tls]])
        for name, files in zip("ab", self.certificates):
            put(self.node.directory, name, *files)
        shutil.copy(self.authority.path, self.node.directory / "ca.pem")
        self.ports = dict(zip(OFFERS, (listener["port"]
                                       for listener in self.node.settings["listeners"][1:])))
        self.cutters = Cutters()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("matrix"))
    try:
        world.node.start()
        yield world
    finally:
        world.cutters.close()
        _end([world.node])


class Matrix:
    """All cells at once; problems are collected by cell, and a cell that has one is left alone."""

    def __init__(self, world):
        self.world, self.node = world, world.node
        self.problems, self.cutters, self.peers, self.metrics = {}, {}, {}, {}
        self.asked = 0

    def open(self):
        for name, kind in PEERS.items():
            if shutil.which(kind.program):
                more = [[pem for pem, _ in self.world.certificates]] if kind is Chromium else []
                self.peers[name] = kind(self.world.authority, *more)
        for cell in self.cells():
            self.try_to(cell, self.connect)

    def cells(self):
        return [cell for cell in CELLS if cell[0] in self.peers and cell not in self.problems]

    def try_to(self, cell, work):
        try:
            work(cell)
        except (AssertionError, OSError) as failure:
            self.problems[cell] = f"{work.__name__}, question {self.asked}: {failure!r}"

    def connect(self, cell):
        peer, offer = cell
        options = dict(OFFERS[offer][1])
        if options.get("certificate"):
            options["certificate"] = self.world.client
        cutter = self.cutters[cell] = self.world.cutters.add(self.world.ports[offer])
        resumed = self.resumed() + options.get("resume", False)
        self.peers[peer].connect(offer, cutter.port, **options)
        # With TLS 1.2 the client's Finished is the last one.
        wait_until(lambda: self.resumed() == resumed, "it is resumed when it should be")
        assert (RETRY in cutter.greeting) == (offer == "HelloRetryRequest")

    def resumed(self):
        return self.node.metrics()["keepsock_tls_handshakes_resumed_total"]

    def ask(self, cell):
        self.peers[cell[0]].ask(cell[1], self.asked)

    def wait_for_cut(self, cell):
        wait_until(self.cutters[cell].is_cut, "something is asked")

    def answer(self, cell):
        self.peers[cell[0]].answer(cell[1], self.asked)

    def run_stage(self, event, cut):
        self.asked += 1
        self.world.cutters.cut(cut)
        for cell in self.cells():
            self.try_to(cell, self.ask)
        for cell in self.cells():
            self.try_to(cell, self.wait_for_cut)
        wait_read(self.world.ports.values())
        follow(self.node, event)
        self.world.cutters.release()
        for cell in self.cells():
            self.try_to(cell, self.answer)

    def problem(self, cell):
        assert self.asked == len(STAGES)
        return self.problems.get(cell)

    def close(self):
        for peer in self.peers.values():
            peer.close()


@pytest.fixture(scope="module")
def matrix(world):
    matrix = Matrix(world)
    try:
        matrix.open()
        for event, cut in STAGES:
            matrix.run_stage(event, cut)
        matrix.metrics = world.node.metrics()
    finally:
        matrix.close()
    return matrix


@pytest.mark.parametrize("peer, offer", CELLS)
def test_cell(matrix, peer, offer):
    if peer not in matrix.peers:
        pytest.skip(f"there is no {PEERS[peer].program}")
    assert matrix.problem((peer, offer)) is None


def test_all_were_detached_and_kept(matrix):
    metrics = matrix.metrics
    assert metrics["keepsock_tls_handshakes_failed_detach_total"] == 0
    assert metrics["keepsock_takeover_connections_lost_total"] == 0
    assert metrics["keepsock_worker_restarts_total"] == len(STAGES) / 2


# KeyUpdates, which only s_client makes when it is told to

FOLLOWED = {"reload": reload, "death": kill}


@pytest.fixture
def s_client(world):
    port = world.cutters.add(world.ports[SUITES_1_3[0]]).port
    client = SClient(port, world.authority, "-tls1_3")
    client.cutter = world.cutters.all[-1]
    yield client
    client.end()


def update(client, letter):
    """k: its keys change; K: ours have to as well. s_client then listens before it speaks."""
    before = client.said.count(b"KEYUPDATE")
    client.write(letter + b"\n")
    client.wait(b"KEYUPDATE", before + 1)


@pytest.mark.parametrize("event", FOLLOWED)
@pytest.mark.parametrize("letter", [b"k", b"K"])
def test_key_updates(world, s_client, letter, event):
    """Before another worker follows, after it, and cut in the middle, anywhere, while it follows."""
    node, answers = world.node, 0

    def ask():
        nonlocal answers
        answers += 1
        s_client.write(REQUEST)
        s_client.wait(b"200 OK", answers)

    def metric(name):
        return node.metrics()[f"keepsock_tls_key_updates_{name}_total"]
    received, sent = metric("received"), metric("sent")
    ask()
    for cut in (4, 17):
        update(s_client, letter)
        ask()
        s_client.cutter.cut(cut)
        update(s_client, letter)
        wait_until(s_client.cutter.is_cut, "half of it is on its way")
        wait_read(world.ports.values())
        follow(node, FOLLOWED[event])
        world.cutters.release()
        ask()
    # One that the next worker finds in the socket.
    wait_until(node.are_protected, "the keeper has everything")
    os.kill(node.workers()[0], signal.SIGSTOP)
    update(s_client, letter)
    before = node.workers()[0]
    os.kill(before, signal.SIGKILL)
    s_client.write(REQUEST)
    answers += 1
    s_client.wait(b"200 OK", answers)
    ask()
    assert metric("received") - received == 5
    assert metric("sent") - sent == (5 if letter == b"K" else 0)
