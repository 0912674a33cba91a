# SPDX-License-Identifier: ISC
"""The promise as a table: what happens to the node's processes, and what a plain connection notices
of it. One test for each cell; what load and random moments do to it is for tests/campaign."""

import json
import os
import shutil
import signal
import threading

import pytest

from client import Client
from keepsock import API_KEY, config_text, keepsockd, merge, wait_until
from wire import BINARY, Http, WebSocket, frame

SETTINGS = {
    "node": {"workers": 1},
    "namespaces": [{"name": "plain", "allow_subscribe_for_client": True}],
}


def has_changed(pids, before):
    return pids and before and pids != before


def reload(node):
    node.settings = merge(node.settings, {"client": {"channel_limit": 100}})
    node.config.write_text(config_text(node.settings))
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
def node(start_node):
    return start_node(**SETTINGS)


def test_an_idle_connection(node, make_client, happen):
    """It stays, with its id and its subscriptions."""
    client = make_client(node)
    for channel in ("history", "plain:a"):
        client.result("subscribe", channel=channel)
    happen(node)
    row, = node.ctl_json("show", "connections")["rows"]
    assert (row["id"], row["subscriptions"]) == (client.id, 2)
    client.expect_quiet()
    for channel in ("history", "plain:a"):
        node.publish(channel, channel)
        assert client.publication(channel)["data"] == channel


@pytest.mark.parametrize("cut", [1, 5, 100])
def test_a_connection_in_the_middle_of_a_frame(node, happen, cut):
    payload = os.urandom(300)
    whole = frame(BINARY, payload)
    with WebSocket(node.port, "/echo") as connection:
        connection.send_raw(whole[:cut])
        happen(node)
        connection.send_raw(whole[cut:])
        assert connection.receive_frame() == (BINARY, payload, True)


def test_a_connection_that_is_being_sent_to(node, happen):
    """More than the kernel takes: the rest waits in the server."""
    payloads = [os.urandom(60000) for _ in range(20)]
    with WebSocket(node.port, "/echo", receive_buffer=4096) as connection:
        for payload in payloads:
            connection.send(BINARY, payload)
        happen(node)
        for payload in payloads:
            assert connection.receive_frame() == (BINARY, payload, True)


def request_bytes(data):
    body = json.dumps({"channel": "history", "data": data}).encode()
    return (f"POST /api/publish HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def test_an_http_request_that_has_half_arrived(node, happen):
    with Http(node.port) as connection:
        request = request_bytes("once")
        connection.send(request[:-7])
        happen(node)
        connection.send(request[-7:])
        assert connection.read_response().json()["result"]["offset"] == 1
        assert connection.request("GET", "/health").status == 200
    assert node.api("history", channel="history", limit=0)["result"]["offset"] == 1


def waiting(node):
    return node.ctl_json("show", "redis")["rows"][0]["waiting"]


def test_an_http_request_that_is_being_answered(start_node, redis, happen):
    """It waits for Redis, which may have run it: it has happened once, and is answered once."""
    node = start_node(**merge(SETTINGS, {"redis": {"server": redis.url,
                                                   "command_timeout": "20s"}}))
    wait_until(node.are_protected, "protected")
    with Http(node.port) as connection:
        redis.pause()
        connection.send(request_bytes("once"))
        # Beside the heartbeat.
        wait_until(lambda: waiting(node) >= 2, "it waits")
        # Nothing settles without Redis.
        resumes = threading.Timer(0.5, redis.resume)
        resumes.start()
        happen(node)
        resumes.join()
        assert connection.read_response().json()["result"]["offset"] == 1
    history = node.api("history", channel="history", limit=10)["result"]["publications"]
    assert [publication["data"] for publication in history] == ["once"]


def test_messages(node, happen):
    """Published before, during and after: each arrives once, in order, with and without history."""
    clients = [Client(node.port) for _ in range(3)]
    try:
        for client in clients:
            for channel in ("history", "plain:a"):
                client.result("subscribe", channel=channel)
        publisher, commands = clients[0], []
        # They lie in the worker's way when it happens.
        for number in range(50):
            for channel in ("history", "plain:a"):
                publisher.send(publisher.command("publish", channel=channel, data=number))
                commands.append(publisher.last_id)
        happen(node)
        for command in commands:
            assert "error" not in publisher.reply(command)
        for number in range(50, 60):
            node.publish("history", number)
            node.publish("plain:a", number)
        for client in clients:
            seen = {"history": [], "plain:a": []}
            while sum(map(len, seen.values())) < 120:
                push = client.push()
                seen[push["channel"]].append(push["pub"]["data"])
            assert seen == {"history": list(range(60)), "plain:a": list(range(60))}
            client.expect_quiet()
    finally:
        for client in clients:
            client.cut()
