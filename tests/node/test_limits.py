# SPDX-License-Identifier: ISC
"""Limits: what a client gets beyond them, that nobody else notices, and that memory stays bounded."""

import os
import re
import threading

import pytest

from client import Client
from keepsock import Process, wait_until
from wire import BINARY, TIMEOUT, Http, upgrade


def try_connection(port):
    """(answer to an upgrade, the stream to keep or close)."""
    stream = Http(port)
    return upgrade(stream, "/connection/websocket"), stream


def passes(node):
    response, stream = try_connection(node.port)
    stream.close()
    return response.status == 101


# Connections

def enter(node, make_client):
    """A client, as soon as there is a place: a probe of /ready may still hold the last one."""
    def admitted():
        try:
            return make_client(node)
        except AssertionError:
            return None
    return wait_until(admitted, "admitted")


def test_connection_limit_of_the_node(start_node, make_client):
    """It counts the connections of all workers together."""
    node = start_node(client={"connection_limit": 8}, node={"workers": 2})
    clients = [enter(node, make_client) for _ in range(8)]
    for _ in range(6):
        response, stream = try_connection(node.port)
        stream.close()
        assert response.status == 503, response
        assert int(response.header("Retry-After")) >= 1
    for client in clients:
        client.expect_quiet()
    clients[0].cut()
    wait_until(lambda: passes(node), "the place of one that left is free again")


def test_connection_limit_spares_http(start_node, make_client):
    node = start_node(client={"connection_limit": 1})
    enter(node, make_client)
    assert node.is_ready()
    node.publish("c", 1)


def test_connection_rate_limit(start_node):
    node = start_node(client={"connection_rate_limit": 5})

    def statuses():
        answers = [try_connection(node.port) for _ in range(60)]
        for _, stream in answers:
            stream.close()
        refused = [response for response, _ in answers if response.status == 503]
        assert all(int(response.header("Retry-After")) >= 1 for response in refused)
        return {response.status for response, _ in answers}
    wait_until(lambda: statuses() == {101, 503}, "some of a burst pass, some are refused")
    wait_until(lambda: passes(node), "later connections pass")


# Slow readers

class Reader(threading.Thread):
    """A well-behaved subscriber: collects the offsets of all publications it gets."""

    def __init__(self, client, channel, total):
        super().__init__(daemon=True)
        self.client, self.channel, self.total = client, channel, total
        self.offsets, self.failure = [], None
        self.start()

    def run(self):
        try:
            while len(self.offsets) < self.total:
                self.offsets.append(self.client.publication(self.channel)["offset"])
        except Exception as failure:
            self.failure = failure

    def finish(self):
        self.join(4 * TIMEOUT)
        assert self.failure is None, self.failure
        assert self.offsets == list(range(1, self.total + 1))


def read_what_is_left(client):
    """Reads a given-up connection to its end; the close code it showed, if it got that far."""
    try:
        return client.read_to_close().code
    except OSError:
        return None


def test_slow_reader_is_3008_and_nobody_else_notices(start_node, make_client):
    total = 800
    node = start_node(client={"queue_max_size": 65536, "close_timeout": "2s"},
                      channel={"history_size": 10})
    good = make_client(node)
    slow = make_client(node, receive_buffer=4096)
    for client in (good, slow):
        client.result("subscribe", channel="c")
    reader = Reader(good, "c", total)
    for _ in range(total):
        node.publish("c", "x" * 16000)
    reader.finish()
    code = read_what_is_left(slow)
    assert code == 3008 or re.search(f"{slow.id}.*3008", node.log()), code
    wait_until(lambda: slow.id not in str(node.ctl_json("show", "connections")),
               "the slow reader is gone")
    assert good.id in str(node.ctl_json("show", "connections"))


def test_many_slow_readers_cannot_exhaust_the_arena(start_node, make_client, monkeypatch):
    """Together they would need more than the arena has; its thresholds close them instead."""
    cap, total = 32 << 20, 150
    monkeypatch.setenv("ASAN_OPTIONS", "quarantine_size_mb=1")
    node = start_node(memory={"arena_size": cap}, node={"workers": 1},
                      client={"queue_max_size": 4 << 20}, channel={"history_size": 10})
    good = make_client(node)
    good.result("subscribe", channel="c")
    for _ in range(30):
        make_client(node, receive_buffer=4096).result("subscribe", channel="c")
    before = resident(node.workers()[0])
    reader = Reader(good, "c", total)
    for _ in range(total):
        node.publish("c", "x" * 60000)
    reader.finish()
    assert resident(node.workers()[0]) - before < 2 * cap
    wait_until(lambda: passes(node), "new connections are taken again")
    good.expect_quiet()


def resident(pid):
    """Bytes of memory a process has mapped in."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def test_reader_that_stops_for_a_while_gets_everything(start_node, make_client):
    """Below the limit a pause costs nothing."""
    node = start_node()
    client = make_client(node, receive_buffer=4096)
    client.result("subscribe", channel="c")
    for i in range(100):
        node.publish("c", [i, "x" * 4000])
    assert [client.publication("c")["data"][0] for _ in range(100)] == list(range(100))


# Input

def test_oversized_message_is_1009(client):
    client.send('{"id":2,"publish":{"channel":"c","data":"%s"}}' % ("x" * 65536))
    end = client.read_to_close()
    assert end.code == 1009


def test_flood_of_commands_is_served_in_order(start_node, make_client):
    """More input than the queue holds: the server stops reading instead of growing or closing."""
    node = start_node(client={"input_queue_max_size": 65536}, channel={"history_size": 10})
    client = make_client(node)
    total = 3000
    commands = [client.command("publish", channel="c", data=[i, "x" * 500]) for i in range(total)]
    sender = threading.Thread(target=lambda: [client.send(c) for c in commands], daemon=True)
    sender.start()
    for number in range(client.last_id - total + 1, client.last_id + 1):
        assert client.next_message()[1] == {"id": number, "publish": {}}
    sender.join()


def test_flood_without_reading_hurts_only_itself(start_node, make_client):
    """One who sends commands for ever and reads no reply is held back, others are served."""
    node = start_node(node={"workers": 1}, client={"input_queue_max_size": 65536,
                                                   "queue_max_size": 65536})
    flood = make_client(node, receive_buffer=4096)
    other = make_client(node)
    other.result("subscribe", channel="c")
    flood.websocket.stream.socket.settimeout(1)
    command = flood.command("history", channel="c", limit=-1)
    node.publish("c", "x" * 10000)
    assert other.publication("c")["offset"] == 1
    try:
        for _ in range(20000):
            flood.send(command)
    except OSError:
        pass
    node.publish("c", 2)
    assert other.publication("c")["offset"] == 2
    other.expect_quiet()


def test_many_half_open_messages_stay_bounded(start_node, make_client):
    """Fragments that never end count against the message limit, connection by connection."""
    node = start_node(node={"workers": 1})
    holders = [make_client(node) for _ in range(20)]
    for holder in holders:
        holder.websocket.send(BINARY, b" " * 60000, fin=False)
    for holder in holders:
        holder.websocket.send(0, b" " * 6000, fin=False)
        assert holder.read_to_close().code == 1009


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to see the workers' descriptors")
def test_descriptors_come_back(start_node):
    """A thousand connections come and go; the workers hold no more descriptors than before."""
    node = start_node()

    def descriptors():
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in node.workers().values())
    with Client(node.port) as first:
        assert first.id
    before = wait_until(descriptors, "the workers run")
    for _ in range(25):
        clients = [Client(node.port) for _ in range(40)]
        for i, client in enumerate(clients):
            client.cut() if i % 2 else client.leave()
    wait_until(lambda: descriptors() <= before, "all descriptors are closed")


def test_worker_runs_as_configured(node):
    assert len(node.workers()) == 2
    assert Process(node.workers()[0]).title.startswith("keepsockd: worker 0 of a (")
