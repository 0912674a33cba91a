# SPDX-License-Identifier: ISC
"""Two nodes on one Redis, and what is left of one that ends: nothing, whether it left by itself,
was declared dead, or only looked like it."""

import os
import signal

import pytest

from keepsock import Keepsock, Redis, wait_until

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


# --- many members ---

ROOMS = [f"room-{number}" for number in range(6)]


def held(servers):
    """What Redis holds of members, sessions and workers: {kind: set of names in it}."""
    found = {kind: set() for kind in ("present", "expire", "index", "session", "worker", "trace")}
    for server in servers:
        found["worker"] |= set(server.command("HKEYS", "keepsock.workers"))
        found["trace"] |= set(server.command("SMEMBERS", "keepsock.purging"))
        for key in server.command("KEYS", "keepsock.*"):
            kind, _, name = key.removeprefix("keepsock.").partition(".")
            if kind == "presence":
                entries = server.facts("HGETALL", key)
                found["present"] |= {(client, name, entry) for client, entry in entries.items()}
            elif kind == "presence_expire":
                found["expire"] |= {(c, name) for c in server.command("ZRANGE", key, "0", "-1")}
            elif kind == "members":
                found["index"] |= {(*member.split(" ", 1), name)
                                   for member in server.command("SMEMBERS", key)}
            elif kind == "sessions":
                found["session"] |= {(c, name) for c in server.command("HKEYS", key)}
            elif kind in ("done", "purged"):
                found["trace"].add(name)
    return found


def of_node(found, node):
    """Those of it that worker names tell to be the node's."""
    workers = {name for name in found["worker"] if name.startswith(f"{node}.")}
    return workers, {kind: {item for item in found[kind] if item[-1] in workers}
                     for kind in ("index", "session")}


@pytest.mark.parametrize("shards", [1, 2])
def test_nothing_of_hundreds_is_left_and_no_survivor_touched(start_node, make_client, shards):
    servers = [Redis().start() for _ in range(shards)]
    try:
        many_die(start_node, make_client, servers)
    finally:
        for server in servers:
            server.stop()


def many_die(start_node, make_client, servers):
    """More members than one step of a purge takes, in shared rooms and in one of each client."""
    urls = [server.url for server in servers]
    redis = {"shards": urls} if len(urls) > 1 else {"server": urls[0]}
    first, second = (start_node(node={"name": name}, redis=redis, channel={"join_leave": True})
                     for name in "ab")
    there = {}
    for node, count in ((first, 20), (second, 250)):
        for number in range(count):
            client = make_client(node, connect=False)
            own = f"own-{node.settings['node']['name']}-{number}"
            client.send(client.command("connect"), *(client.command("subscribe", channel=name)
                                                     for name in (*ROOMS, own)))
            client.id = client.reply(1)["connect"]["client"]
            for command in range(2, len(ROOMS) + 3):
                assert "subscribe" in client.reply(command)
            # A remembered command, which is the worker's too.
            if number < 3:
                client.result("publish", channel=own, data=number)
            there[client.id, node] = {*ROOMS, own}
    watcher = make_client(first)
    for name in ROOMS:
        watcher.result("subscribe", channel=name, join_leave=True)
        assert watcher.push()["join"]["info"]["client"] == watcher.id
    there[watcher.id, first] = set(ROOMS)
    members_of = {node: {(client, name) for (client, home), names in there.items()
                         if home is node for name in names} for node in (first, second)}
    wait_until(lambda: {c for c, _ in held(servers)["session"]} == {c for c, _ in there},
               "every session is registered")
    before = held(servers)
    kept_workers, kept = of_node(before, "a")
    assert {item[:2] for item in before["present"]} == members_of[first] | members_of[second]
    assert len(kept_workers) == 2 and len(before["worker"]) == 4

    kill(second)
    wait_until(lambda: held(servers)["worker"] == kept_workers and
               not {item for item in held(servers)["trace"] if item.startswith("b.")},
               "the dead node is declared dead and purged")
    after = held(servers)
    assert after["present"] == {item for item in before["present"] if item[:2] in members_of[first]}
    assert after["expire"] == members_of[first]
    assert after["index"] == kept["index"] and after["session"] == kept["session"]
    for name in ROOMS:
        assert members(first, name) == {client for client, home in there if home is first}
    leaves = [watcher.push() for _ in range(250 * len(ROOMS))]
    assert sorted((push["leave"]["info"]["client"], push["channel"]) for push in leaves) == \
        sorted(member for member in members_of[second] if member[1] in ROOMS)
    watcher.expect_quiet()
