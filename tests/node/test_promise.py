# SPDX-License-Identifier: ISC
"""The promise as a table: what happens to the node's processes, and what a connection, plain or by
TLS, notices of it. One test for each cell; what load and random moments do to it is for
tests/campaign."""

import json
import os
import shutil
import signal
import threading

import pytest

from interrupted import frames_are_cut
from keepsock import API_KEY, keepsockd, merge, wait_until
from wire import BINARY

SETTINGS = {
    "node": {"workers": 1},
    "namespaces": [{"name": "plain", "allow_subscribe_for_client": True}],
}


def has_changed(pids, before):
    return pids and before and pids != before


def reload(node):
    node.change_settings({"client": {"channel_limit": 100}})
    before = node.workers()
    run = node.ctl("reload")
    assert run.returncode == 0, run.stderr
    wait_until(lambda: has_changed(node.workers(), before), "another worker")


def upgrade(node):
    """To another file with the same program in it: every process goes over to that."""
    path = node.directory / "keepsockd"
    shutil.copy(keepsockd(), path)
    before = node.workers(), node.keepers()
    run = node.ctl("upgrade", str(path))
    assert run.returncode == 0, run.stderr
    wait_until(lambda: has_changed(node.workers(), before[0]) and
               has_changed(node.keepers(), before[1]), "other workers and keepers")


def kill_worker(node):
    before = node.workers()
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: has_changed(node.workers(), before), "another worker")


def crash_worker(node):
    """By its own fault, with whatever it is that it serves then."""
    before = node.workers()
    os.kill(before[0], signal.SIGABRT)
    wait_until(lambda: has_changed(node.workers(), before), "another worker")


def kill_keeper(node):
    before = node.keepers()
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: has_changed(node.keepers(), before), "another keeper")


def kill_master(node):
    node.kill_master()
    node.launch()
    wait_until(lambda: node.ctl("status").returncode == 0, "another master")


EVENTS = [reload, upgrade, kill_worker, crash_worker, kill_keeper, kill_master]


@pytest.fixture(params=EVENTS, ids=lambda event: event.__name__)
def happen(request):
    """A function that lets it happen, and returns when the node has settled."""
    def happen(node):
        wait_until(node.are_protected, "all slots are protected")
        request.param(node)
        wait_until(node.are_all_ready, "ready")
        wait_until(node.are_protected, "protected again")
    return happen


@pytest.fixture
def start(start_tls_node):
    return lambda **overrides: start_tls_node(**merge(SETTINGS, overrides))


@pytest.fixture
def node(start):
    return start()


def test_idle_connections(node, make_clients, happen):
    """They stay, with their ids and their subscriptions."""
    clients = make_clients(node)
    for client in clients:
        for channel in ("history", "plain:a"):
            client.result("subscribe", channel=channel)
    happen(node)
    rows = node.ctl_json("show", "connections")["rows"]
    assert {(row["id"], row["subscriptions"]) for row in rows} == \
        {(client.id, 2) for client in clients}
    for client in clients:
        client.expect_quiet()
    for channel in ("history", "plain:a"):
        node.publish(channel, channel)
        for client in clients:
            assert client.publication(channel)["data"] == channel


@pytest.mark.parametrize("cut", [1, 5, 100])
def test_connections_in_the_middle_of_a_frame(node, make_sockets, happen, cut):
    """By TLS also in the middle of the record that has it."""
    frames_are_cut((make_sockets(node), make_sockets(node)[1:]), cut, lambda: happen(node))


def test_connections_that_are_being_sent_to(node, make_sockets, happen):
    """More than the kernel takes: the rest waits in the server."""
    payloads = [os.urandom(60000) for _ in range(20)]
    connections = make_sockets(node, receive_buffer=4096)
    for connection in connections:
        for payload in payloads:
            connection.send(BINARY, payload)
    happen(node)
    for connection in connections:
        for payload in payloads:
            assert connection.receive_frame() == (BINARY, payload, True)


def request_bytes(data):
    body = json.dumps({"channel": "history", "data": data}).encode()
    return (f"POST /api/publish HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def test_http_requests_that_have_half_arrived(node, make_streams, happen):
    connections = make_streams(node)
    request = request_bytes("once")
    for connection in connections:
        connection.send(request[:-7])
    happen(node)
    for offset, connection in enumerate(connections, 1):
        connection.send(request[-7:])
        assert connection.read_response().json()["result"]["offset"] == offset
        assert connection.request("GET", "/health").status == 200
    assert node.api("history", channel="history", limit=0)["result"]["offset"] == 3


def waiting(node):
    return node.ctl_json("show", "redis")["rows"][0]["waiting"]


def test_http_requests_that_are_being_answered(start, make_streams, redis, happen):
    """They wait for Redis, which may have run them: each has happened once, and is answered once."""
    node = start(redis={"server": redis.url, "command_timeout": "20s"})
    connections = make_streams(node)
    wait_until(node.are_protected, "protected")
    redis.pause()
    for number, connection in enumerate(connections):
        connection.send(request_bytes(number))
    # Beside the heartbeat.
    wait_until(lambda: waiting(node) >= 4, "they wait")
    # Nothing settles without Redis.
    resumes = threading.Timer(0.5, redis.resume)
    resumes.start()
    happen(node)
    resumes.join()
    offsets = [connection.read_response().json()["result"]["offset"] for connection in connections]
    history = node.api("history", channel="history", limit=10)["result"]["publications"]
    assert [(publication["offset"], publication["data"]) for publication in history] == \
        sorted(zip(offsets, range(3)))
    assert sorted(offsets) == [1, 2, 3]


def test_messages(node, make_clients, happen):
    """Published before, during and after: each arrives once, in order, with and without history."""
    clients = make_clients(node)
    for client in clients:
        for channel in ("history", "plain:a"):
            client.result("subscribe", channel=channel)
    commands = []
    # They lie in the worker's way when it happens.
    for number in range(20):
        for by, publisher in enumerate(clients):
            for channel in ("history", "plain:a"):
                publisher.send(publisher.command("publish", channel=channel, data=[by, number]))
                commands.append((publisher, publisher.last_id))
    happen(node)
    for publisher, command in commands:
        assert "error" not in publisher.reply(command)
    for number in range(20):
        node.publish("history", [3, number])
        node.publish("plain:a", [3, number])
    everything = {(channel, by): list(range(20)) for channel in ("history", "plain:a")
                  for by in range(4)}
    for client in clients:
        seen = {key: [] for key in everything}
        while sum(map(len, seen.values())) < 160:
            push = client.push()
            by, number = push["pub"]["data"]
            seen[push["channel"], by].append(number)
        assert seen == everything
        client.expect_quiet()
