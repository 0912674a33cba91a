# SPDX-License-Identifier: ISC
"""Connections change the worker while everything goes on: `debug move` begins what a reload with
another number of workers does. Nobody is told, nothing is lost, doubled or out of order, of plain
connections and by TLS."""

import json
import os
import signal
import threading

import pytest

import tokens
from client import Disconnected
from interrupted import a_compressed_message_is_in_fragments, frames_are_cut, output_is_not_taken
from keepsock import wait_until
from test_reload import configure, reload
from tls_client import in_turn
from wire import PING, PONG, TEXT, WebSocket, http

TWO_WORKERS = {"node": {"workers": 2}}
# Clients that are not read for a while answer no pings.
PATIENT = {"ping_interval": "5m"}
BARE = {"history_size": 0, "history_ttl": 0, "force_recovery": False}


@pytest.fixture
def node(start_tls_node):
    return two_workers(start_tls_node)


@pytest.fixture
def make_client(make_client, authority):
    return in_turn(make_client, authority)


def two_workers(start, **overrides):
    node = start(**{**TWO_WORKERS, **overrides})
    if "debug move" not in node.ctl("help").stdout:
        pytest.skip("this is no build for tests")
    return node


def connections(node, slot):
    return node.worker_rows()[slot]["connections"]


def begin(node, source, target, *count):
    answer = node.ctl("debug", "move", str(source), str(target), *map(str, count))
    assert answer.returncode == 0, answer.stderr


def moves(node):
    return sum("moved" in line for line in node.ctl("show", "events").stdout.splitlines())


def move(node, source, target, *count):
    """Returns when the move has ended."""
    before = moves(node)
    begin(node, source, target, *count)
    wait_until(lambda: moves(node) > before, "the move has ended")


def gather(node, slot=0):
    """All connections are on one worker."""
    move(node, 1 - slot, slot)
    wait_until(lambda: connections(node, 1 - slot) == 0, "all are there")


def there_and_back(node):
    gather(node, 1)
    gather(node, 0)


# Streams cut in half

@pytest.mark.parametrize("cut", [1, 3, 6, 300])
def test_a_frame_cut_anywhere(node, make_sockets, cut):
    """Or its record."""
    frames_are_cut((make_sockets(node), make_sockets(node)[1:]), cut, lambda: there_and_back(node))


def test_a_fragmented_message_in_the_middle_of_a_character(node):
    text = "äöü€😀".encode()
    with WebSocket(node.port, "/echo") as socket_:
        socket_.send(TEXT, text[:1], fin=False)
        gather(node, 1)
        socket_.send(PING, b"still there?")
        assert socket_.receive_frame() == (PONG, b"still there?", True)
        socket_.send(0, text[1:9], fin=False)
        gather(node, 0)
        socket_.send(0, text[9:])
        assert socket_.receive_frame() == (TEXT, text, True)


def test_a_compressed_message_in_fragments(start_node):
    node = two_workers(start_node, websocket={"compression": True})
    a_compressed_message_is_in_fragments(node, lambda: there_and_back(node))


def test_output_that_was_not_taken(node, make_sockets):
    """It is more than a message between workers holds."""
    output_is_not_taken(make_sockets(node, receive_buffer=4096), lambda: there_and_back(node))


def test_half_a_request(node, make_streams):
    connections = make_streams(node)
    for connection in connections:
        connection.send(b"GET /health HTT")
    there_and_back(node)
    for connection in connections:
        connection.send(b"P/1.1\r\nHost: a\r\n\r\n")
        assert connection.read_response().status == 200
    gather(node, 1)
    for connection in connections:
        assert connection.request("GET", "/health").status == 200


def test_a_long_export(start_node, make_client):
    """A client with many subscriptions, and with much that waits for it."""
    node = two_workers(start_node, client={"channel_limit": 2000})
    client = make_client(node, receive_buffer=4096)
    for number in range(1000):
        client.send(client.command("subscribe", channel=f"c{number}"))
    for _ in range(1000):
        client.next_message()
    for number in range(200):
        node.publish("c0", "x" * 2000 + str(number))
    there_and_back(node)
    for number in range(200):
        assert client.publication("c0")["data"] == "x" * 2000 + str(number)
    node.publish("c999", "still")
    assert client.publication("c999")["data"] == "still"


# What others see of it

def test_ids_users_and_subscriptions_move(start_auth_node, make_client):
    node = two_workers(start_auth_node, client={"user_connection_limit": 2})
    client = make_client(node, connect={"token": tokens.user("alice", info={"a": 1},
                                                             channels=["server"])})
    client.result("subscribe", channel="c")
    make_client(node, connect={"token": tokens.user("alice")})
    gather(node, 1)
    gather(node, 0)
    row, = (r for r in node.ctl_json("show", "connections")["rows"] if r["id"] == client.id)
    assert (row["user"], row["subscriptions"], row["worker"]) == ("alice", 2, 0)
    third = make_client(node, connect=False)
    third.send(third.command("connect", token=tokens.user("alice")))
    with pytest.raises(Disconnected) as end:
        third.next_message()
    assert end.value.code == 3504
    assert node.ctl_json("show", "user", "alice")["rows"]
    for channel in ("server", "c"):
        node.publish(channel, "still")
        assert client.publication(channel)["data"] == "still"
    assert node.api("unsubscribe", user="alice", channel="c") == {"result": {}}
    assert client.push()["unsubscribe"]["code"] == 2000
    assert node.api("disconnect", user="alice") == {"result": {}}
    client.expect_disconnect(3503)


def test_presence_and_sessions_follow(start_tls_node, make_client):
    """Nobody leaves or joins, in Redis neither; and who leaves later has left."""
    node = two_workers(start_tls_node, channel={"join_leave": True, "force_push_join_leave": True})
    watcher = make_client(node)
    watcher.result("subscribe", channel="c")
    gather(node, 0)
    members = [make_client(node) for _ in range(6)]
    for member in members:
        member.result("subscribe", channel="c")
        assert watcher.push()["join"]["info"]["client"] in {m.id for m in members} | {watcher.id}
    while True:
        before = node.api("presence", channel="c")["result"]["presence"]
        if len(before) == 7:
            break
    gather(node, 1)
    gather(node, 0)
    gather(node, 1)
    assert node.api("presence", channel="c")["result"]["presence"] == before
    everybody = {watcher.id} | {member.id for member in members}

    def sessions():
        rows = node.ctl_json("show", "sessions")["rows"]
        return len(rows) == 7 and {row["client"] for row in rows} == everybody
    wait_until(sessions, "each has one session")
    seen = []
    for member in members:
        member.cut()
    while len(seen) < 6:
        push = watcher.push()
        if "leave" in push:
            seen.append(push["leave"]["info"]["client"])
    assert sorted(seen) == sorted(member.id for member in members)
    assert set(node.api("presence", channel="c")["result"]["presence"]) == {watcher.id}


def test_tokens_expire_all_the_same(start_auth_node, make_client):
    node = two_workers(start_auth_node, client={"expired_close_delay": "100ms",
                                                "expired_sub_close_delay": "100ms"})
    client = make_client(node, connect={"token": tokens.user("alice", exp=tokens.later(4))})
    # Who is late must not find both expired at once.
    subscriber = make_client(node, connect={"token": tokens.user("alice")})
    subscriber.result("subscribe", channel="c",
                      token=tokens.subscription("alice", "c", exp=tokens.later(3)))
    there_and_back(node)
    assert subscriber.push()["unsubscribe"]["code"] == 2501
    client.expect_disconnect(3005)


def test_pings_go_on(start_node, make_client):
    node = two_workers(start_node, client={"ping_interval": "2s", "pong_timeout": "1s"})
    lively, mute = make_client(node), make_client(node, answer_pings=False)
    there_and_back(node)
    pings = 0
    while pings < 2:
        pings += lively.next_raw() == "{}"
        lively.send("{}")
    mute.expect_disconnect(3012)


def test_only_some(node, make_client):
    for _ in range(10):
        make_client(node)
    gather(node, 0)
    move(node, 0, 1, 4)
    assert connections(node, 1) == 4
    assert connections(node, 0) == 6


# While everything goes on

class Publisher(threading.Thread):
    """Publishes numbers in all channels, in turns, until told to stop."""

    def __init__(self, node, channels):
        super().__init__()
        self.node, self.channels, self.numbers = node, channels, 0
        self.ending, self.error = threading.Event(), None

    def run(self):
        try:
            while not self.ending.is_set():
                for channel in self.channels:
                    self.node.publish(channel, self.numbers)
                self.numbers += 1
        except Exception as error:
            self.error = error

    def stop(self):
        self.ending.set()
        self.join()
        assert self.error is None


@pytest.mark.parametrize("channel", [{}, BARE], ids=["history", "bare"])
def test_publications_meanwhile(start_tls_node, make_client, channel):
    """Each client gets each number in order, wherever it is."""
    node = two_workers(start_tls_node, channel=channel, client=PATIENT)
    channels = ["a", "b", "c"]
    clients = [make_client(node) for _ in range(30)]
    for client in clients:
        for name in channels:
            client.result("subscribe", channel=name)
    publisher = Publisher(node, channels)
    publisher.start()
    try:
        for _ in range(4):
            gather(node, 1)
            gather(node, 0)
    finally:
        publisher.stop()
    assert publisher.numbers > 20
    for client in clients:
        got = {name: [] for name in channels}
        while any(len(numbers) < publisher.numbers for numbers in got.values()):
            push = client.push()
            got[push["channel"]].append(push["pub"]["data"])
        for numbers in got.values():
            assert numbers == list(range(publisher.numbers))
        client.expect_quiet()


def test_commands_meanwhile(start_tls_node, make_client):
    """Each is answered once and done once, in order."""
    node = two_workers(start_tls_node, client=PATIENT)
    publishers = [make_client(node) for _ in range(6)]
    reader = make_client(node)
    reader.result("subscribe", channel="all")
    sent = {client: 0 for client in publishers}
    ending = threading.Event()
    failures = []

    def publish(client):
        try:
            while not ending.is_set():
                client.result("publish", channel="all", data=[client.id, sent[client]])
                sent[client] += 1
        except Exception as error:
            failures.append(error)
    threads = [threading.Thread(target=publish, args=(client,)) for client in publishers]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            move(node, 0, 1)
            move(node, 1, 0)
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    assert not failures
    total = sum(sent.values())
    assert total > 50
    got = {client.id: [] for client in publishers}
    for _ in range(total):
        client, number = reader.publication("all")["data"]
        got[client].append(number)
    for client in publishers:
        assert got[client.id] == list(range(sent[client]))
    reader.expect_quiet()


@pytest.mark.parametrize("victim", [0, 1], ids=["source", "destination"])
def test_a_worker_dies_as_it_moves(node, make_client, victim):
    """Whose each connection is, survivors and successors agree about."""
    clients = [make_client(node) for _ in range(120)]
    for number, client in enumerate(clients):
        client.result("subscribe", channel=f"c{number % 7}")
    gather(node, 0)
    wait_until(node.are_protected, "the keepers have everything")
    pid = node.workers()[victim]
    begin(node, 0, 1)
    wait_until(lambda: connections(node, 1) > 0 or moves(node) > 1, "it has begun", interval=0)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: node.workers().get(victim) not in (None, pid), "the next worker")
    wait_until(node.are_all_ready, "it is ready")
    for number in range(7):
        node.publish(f"c{number}", number)
    for number, client in enumerate(clients):
        assert client.publication(f"c{number % 7}")["data"] == number % 7
    wait_until(lambda: connections(node, 0) + connections(node, 1) == len(clients), "all of them")
    gather(node, 1)
    for number in range(7):
        node.publish(f"c{number}", "again")
    for number, client in enumerate(clients):
        assert client.publication(f"c{number % 7}")["data"] == "again"
        client.expect_quiet()


def test_a_worker_dies_before_its_keeper_knows_that_they_left(node, make_client):
    """The next one finds sockets there that are another worker's connections by now."""
    clients = [make_client(node) for _ in range(12)]
    for client in clients:
        client.result("subscribe", channel="c")
    gather(node, 0)
    wait_until(node.are_protected, "the keepers have everything")
    pid = node.workers()[0]
    assert node.ctl("debug", "crash-after", "0", "release", "1").returncode == 0
    begin(node, 0, 1)
    wait_until(lambda: node.workers().get(0) not in (None, pid), "the next worker")
    wait_until(node.are_all_ready, "it is ready")
    node.publish("c", 1)
    for client in clients:
        assert client.publication("c")["data"] == 1
    assert connections(node, 0) + connections(node, 1) == len(clients)


def test_redis_away(start_node, redis, make_client):
    """Nothing moves without Redis, nobody is cut; and then they do."""
    node = two_workers(start_node, redis={"server": redis.url})
    clients = [make_client(node) for _ in range(8)]
    for client in clients:
        client.result("subscribe", channel="c")
    gather(node, 0)
    redis.pause()
    begin(node, 0, 1)
    redis.resume()
    wait_until(lambda: connections(node, 0) == 0, "they have moved")
    node.publish("c", 1)
    for client in clients:
        assert client.publication("c")["data"] == 1


def test_refusals(node):
    for arguments, reason in ((("0", "0"), "itself"), (("0", "7"), "no such slot"),
                              (("0", "1", "x"), "number")):
        answer = node.ctl("debug", "move", *arguments)
        assert answer.returncode == 1 and reason in answer.stderr
    assert json.loads(node.ctl("debug", "move", "0", "1", "--json").stdout)


# A reload with another number of workers

def resize(node, workers):
    configure(node, node={"workers": workers})
    reload(node)
    assert len(node.workers()) == workers
    wait_until(lambda: sorted(node.worker_rows()) == list(range(workers)), "so many workers")


def assert_order(clients, numbers):
    for client in clients:
        assert [client.publication("c")["data"] for _ in range(numbers)] == list(range(numbers))
        client.expect_quiet()


@pytest.mark.parametrize("channel", [{}, BARE], ids=["history", "bare"])
def test_fewer_and_more_workers(start_tls_node, make_client, channel):
    """Nobody is cut and nothing is lost; who comes meanwhile and afterwards is served."""
    node = start_tls_node(node={"workers": 3}, channel=channel, client=PATIENT)
    clients = [make_client(node) for _ in range(45)]
    ids = {client.id for client in clients}
    for client in clients:
        client.result("subscribe", channel="c")
    publisher = Publisher(node, ["c"])
    publisher.start()
    try:
        resize(node, 1)
        assert {row["id"] for row in node.ctl_json("show", "connections")["rows"]} >= ids
        resize(node, 3)
        late = [make_client(node) for _ in range(30)]
        assert len({row["worker"] for row in node.ctl_json("show", "connections")["rows"]}) == 3
        resize(node, 2)
    finally:
        publisher.stop()
    assert_order(clients, publisher.numbers)
    node.publish("late", 1)
    for client in late:
        client.result("subscribe", channel="d")
    node.publish("d", "to all")
    for client in late:
        assert client.publication("d")["data"] == "to all"
    stats = node.api("presence_stats", channel="c")["result"]
    assert stats["num_clients"] == len(clients)
    # Redis has each session once, with a worker that lives.
    everybody = ids | {client.id for client in late}

    def sessions():
        rows = node.ctl_json("show", "sessions")["rows"]
        return (sorted(row["client"] for row in rows) == sorted(everybody)
                and {row["worker"] for row in rows} <= {0, 1})
    wait_until(sessions, "each has one session")


def test_connections_are_accepted_all_the_while(start_node):
    """Those that the kernel gives to a socket of a worker that is no more, too."""
    node = start_node(node={"workers": 4})
    ending, failures, served = threading.Event(), [], []

    def ask():
        while not ending.is_set():
            try:
                served.append(http(node.port, "GET", "/health").status)
            except Exception as error:
                failures.append(error)
                return
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for workers in (1, 3, 2):
            resize(node, workers)
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert set(served) == {200} and len(served) > 50
