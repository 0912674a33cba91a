# SPDX-License-Identifier: ISC
"""Two nodes on one Redis, and what is left of one that ends: nothing, whether it left by itself,
was declared dead, or only looked like it."""

import os
import signal

import pytest

from keepsock import Keepsock, wait_until

CHANNEL = {"join_leave": True, "force_push_join_leave": True}


def node_on(start_node, redis, name, **more):
    settings = {"cluster": {"node_timeout": "60s"}, "client": {"close_timeout": "500ms"}} | more
    return start_node(node={"name": name}, redis={"server": redis.url}, channel=CHANNEL, **settings)


def registered(redis):
    return redis.command("HLEN", "keepsock.workers")


def members(node, channel="c"):
    return set(node.api("presence", channel=channel)["result"]["presence"])


def next_end(client):
    """The client that left, of the next leave; joins are passed over."""
    while True:
        push = client.push()
        assert push["channel"] == "c" and ("join" in push or "leave" in push), push
        if "leave" in push:
            return push["leave"]["info"]["client"]


def kill(node):
    """The whole node, as a power failure would."""
    session = node.process.pid
    node.kill_all(session)
    node.process.wait()
    node.process = None


@pytest.fixture
def crowd(start_node, redis, make_client):
    """Nodes a and b; a watcher of the channel on a, five clients in it on b."""
    first, second = (node_on(start_node, redis, name) for name in ("a", "b"))
    watcher = make_client(first)
    watcher.result("subscribe", channel="c")
    there = [make_client(second) for _ in range(5)]
    for client in there:
        client.result("subscribe", channel="c")
    assert members(first) == {watcher.id} | {client.id for client in there}
    return first, second, watcher, there


def test_purged_on_the_operators_word(crowd, redis):
    first, second, watcher, there = crowd
    kill(second)
    assert registered(redis) == 4
    purged = first.ctl_json("purge", "b")
    assert (purged["workers"], purged["members"]) == (2, 5)
    # When the command answers, all of it is done.
    assert members(first) == {watcher.id}
    assert registered(redis) == 2
    assert {next_end(watcher) for _ in there} == {client.id for client in there}
    assert first.ctl_json("purge", "b") == {"workers": 0, "members": 0}
    assert first.metrics()["keepsock_workers_purged_total"] == 2


def test_declared_dead_by_its_silence(start_node, redis, make_client):
    nodes = [node_on(start_node, redis, name, cluster={"node_timeout": "2s"}) for name in "ab"]
    watcher, other = (make_client(node) for node in nodes)
    for client in (watcher, other):
        client.result("subscribe", channel="c")
    kill(nodes[1])
    assert next_end(watcher) == other.id
    assert members(nodes[0]) == {watcher.id}
    wait_until(lambda: registered(redis) == 2, "both of its workers are purged")
    purged = [row for row in nodes[0].ctl_json("show", "events")["rows"] if row["event"] == "purged"]
    assert purged and all("b." in str(row) for row in purged)


def test_a_node_that_was_only_asleep_registers_again(crowd, redis):
    first, second, watcher, there = crowd
    pids = [process.pid for process in Keepsock.members(second.process.pid)
            if process.name != "redis-server"]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert first.ctl_json("purge", "b")["members"] == 5
        assert members(first) == {watcher.id}
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: members(first) == {watcher.id} | {client.id for client in there},
               "they are present again")
    wait_until(lambda: registered(redis) == 4, "both workers are registered again")
    first.publish("c", "still subscribed")
    for client in there:
        push = client.push()
        while "pub" not in push:
            push = client.push()
        assert push["pub"]["data"] == "still subscribed"
    assert "purged ourselves" in [row["event"] for row in second.ctl_json("show", "events")["rows"]]


def test_a_node_that_stops_leaves_nothing(crowd, redis):
    first, second, watcher, there = crowd
    second.stop()
    assert registered(redis) == 2
    assert members(first) == {watcher.id}
    assert {next_end(watcher) for _ in there} == {client.id for client in there}


def test_a_new_node_of_that_name_cleans_up_first(crowd, redis, start_node):
    """With fewer workers than the one that died."""
    first, second, watcher, _ = crowd
    kill(second)
    start_node(node={"name": "b", "workers": 1}, redis={"server": redis.url},
               cluster={"node_timeout": "60s"})
    wait_until(lambda: members(first) == {watcher.id}, "nobody of the dead node is present")
    wait_until(lambda: registered(redis) == 3, "its workers are not registered any more")
