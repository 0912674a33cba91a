# SPDX-License-Identifier: ISC
"""Admin views of what happened and of who is there: events, users, sessions, nodes."""

import os
import re
import signal

import pytest

import tokens
from client import Client
from keepsock import wait_until

SECRET = "a-secret-of-the-tests-and-their-nodes-alone"


def events(node):
    return node.ctl_json("show", "events")["rows"]


def test_events_tell_of_a_worker_that_died(start_node):
    node = start_node()
    assert {e["process"] for e in events(node) if e["event"] == "worker started"} == {
        "worker 0", "worker 1"}
    victim = node.workers()[1]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: node.workers().get(1) not in (None, victim), "worker 1 was replaced")
    wait_until(node.are_all_ready, "every worker is ready")
    rows = events(node)
    died = [e for e in rows if e["event"] == "worker died"]
    assert [e["process"] for e in died] == ["master"] and "worker 1" in died[0]["text"]
    started = [e for e in rows if (e["event"], e["process"]) == ("worker started", "worker 1")]
    assert len(started) == 2, "the dead worker's own events stay"
    assert rows.index(started[0]) < rows.index(died[0]) < rows.index(started[1])
    for row in rows:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["at"]), row
    assert "worker died" in node.ctl("show", "events").stdout


def events_named(node, name):
    return [event for event in events(node) if event["event"] == name]


def test_events_tell_of_redis_lost_and_back(start_node, redis):
    node = start_node(redis={"server": redis.url})
    assert not events_named(node, "redis lost")
    redis.kill()
    wait_until(lambda: len(events_named(node, "redis lost")) == 2, "each worker lost it")
    assert all("shard 0" in event["text"] for event in events_named(node, "redis lost"))
    assert not events_named(node, "redis back")
    redis.start()
    wait_until(lambda: len(events_named(node, "redis back")) == 2, "each worker has it back")
    wait_until(lambda: events_named(node, "continuity renewed"), "an empty Redis has kept nothing")


# Users

def rows(node, *command):
    return node.ctl_json("show", *command)["rows"]


@pytest.fixture
def pair(start_node, redis, tmp_path):
    """Two nodes on one Redis whose clients have tokens."""
    path = tmp_path / "hmac-secret"
    path.write_text(SECRET)
    path.chmod(0o600)
    common = {"redis": {"server": redis.url}, "token": {"hmac_secret_file": str(path)}}
    return [start_node(node={"name": name}, **common) for name in ("a", "b-c")]


@pytest.fixture
def connect():
    clients = []

    def make(node, user):
        client = Client(node.port, connect=False)
        clients.append(client)
        if user:
            client.connected = client.result("connect", token=tokens.hmac({"sub": user}, SECRET))
        else:
            client.connected = client.result("connect")
        client.id = client.connected["client"]
        return client
    yield make
    for client in clients:
        client.cut()


def test_show_users_and_one_user(pair, connect):
    node, other = pair
    ann = [connect(node, "ann lee") for _ in range(6)]
    connect(node, "bob")
    connect(node, "")
    connect(other, "ann lee")
    assert rows(node, "users") == [{"user": "ann lee", "connections": 6},
                                   {"user": "bob", "connections": 1}]
    listed = rows(node, "user", "ann", "lee")
    assert {row["id"] for row in listed} == {client.id for client in ann}
    assert {row["worker"] for row in listed} <= {0, 1}
    assert {row["user"] for row in listed} == {"ann lee"}
    run = node.ctl("show", "user", "nobody")
    assert run.returncode == 1 and "not connected" in run.stderr
    assert "ann lee" in node.ctl("show", "users").stdout


def test_show_sessions_of_all_nodes(pair, connect):
    here, there = connect(pair[0], "ann"), connect(pair[1], "bob")
    pair[0].publish("news", 1)
    there.result("subscribe", channel="news")

    def both():
        listed = {row["client"]: row for row in rows(pair[0], "sessions")}
        return set(listed) == {here.id, there.id} and listed[there.id]["positions"] and listed
    listed = wait_until(both, "both are registered")
    assert (listed[here.id]["node"], listed[here.id]["user"]) == ("a", "ann")
    row = listed[there.id]
    assert (row["node"], row["user"], row["subscriptions"]) == ("b-c", "bob", 1)
    assert row["worker"] in (0, 1) and row["peer"].startswith("127.0.0.1:")
    assert row["positions"]["news"]["offset"] == 1
    assert {r["client"] for r in rows(pair[1], "sessions")} == {here.id, there.id}
    assert there.id in pair[0].ctl("show", "sessions").stdout


def test_show_nodes(pair):
    for node in pair:
        listed = rows(node, "nodes")
        assert [(row["node"], row["worker"]) for row in listed] == [
            ("a", 0), ("a", 1), ("b-c", 0), ("b-c", 1)]
        for row in listed:
            assert row["name"].startswith(f"{row['node']}.{row['worker']}.")
            assert 0 <= row["silent_ms"] < 5000


def test_views_of_the_registry_without_redis(start_node, redis):
    node = start_node(redis={"server": redis.url})
    redis.kill()
    wait_until(lambda: not node.is_ready(), "the node noticed")
    for view in ("sessions", "nodes"):
        run = node.ctl("show", view)
        assert run.returncode == 1 and run.stderr.strip(), run
    assert rows(node, "users") == []


# unsubscribe

def test_unsubscribe(start_node, make_client):
    node = start_node()
    client = make_client(node)
    for channel in ("a", "b c", "d"):
        client.result("subscribe", channel=channel)
    assert node.ctl("unsubscribe", client.id, "a").returncode == 0
    push = client.push()
    assert (push["channel"], push["unsubscribe"]["code"]) == ("a", 2000)
    run = node.ctl("unsubscribe", client.id, "a")
    assert run.returncode == 1 and "no such subscription" in run.stderr
    run = node.ctl("unsubscribe", "00000000-0000-4000-8000-000000000000", "a")
    assert run.returncode == 1 and "no client has that id" in run.stderr
    assert node.ctl("unsubscribe", client.id).returncode == 0
    assert {client.push()["channel"] for _ in range(2)} == {"b c", "d"}
    client.expect_quiet()
