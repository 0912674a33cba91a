# SPDX-License-Identifier: ISC
"""The session registry in Redis: one entry for each connected client, written soon, gone soon."""

import json
import os
import signal

import pytest

from keepsock import wait_until


class Registry:
    def __init__(self, redis):
        self.redis = redis

    def keys(self):
        return self.redis.command("KEYS", "keepsock.sessions.*")

    def all(self):
        """{client id: (worker name, entry)} of every worker."""
        found = {}
        for key in self.keys():
            words = self.redis.command("HGETALL", key)
            for client, text in zip(words[::2], words[1::2]):
                assert client not in found, f"{client} is registered twice"
                found[client] = (key.removeprefix("keepsock.sessions."), json.loads(text))
        return found

    def settled(self, what, condition):
        return wait_until(lambda: condition(self.all()), what)


@pytest.fixture
def registry(redis):
    return Registry(redis)


@pytest.fixture
def node(start_node, redis):
    return start_node(redis={"server": redis.url})


def test_a_client_is_registered_and_gone(node, registry, make_client):
    clients = [make_client(node) for _ in range(5)]
    registry.settled("all are registered", lambda all_: set(all_) == {c.id for c in clients})
    for worker, entry in registry.all().values():
        assert worker.startswith("a.") and worker.count(".") == 2
        assert entry["user"] == "" and entry["subscriptions"] == {}
        assert entry["peer"].startswith("127.0.0.1:")
        assert 1.7e12 < entry["connected_at"] < 1e14
    clients[0].cut()
    clients[1].leave()
    registry.settled("two are gone", lambda all_: set(all_) == {c.id for c in clients[2:]})


def test_peers_and_subscriptions(node, registry, make_client):
    client = make_client(node)
    port = client.websocket.stream.socket.getsockname()[1]
    epoch = node.publish("with", 1)["epoch"]
    client.result("subscribe", channel="with")
    client.result("subscribe", channel='odd "name"')

    def entry(all_):
        entry = all_.get(client.id, (None, {}))[1]
        return set(entry.get("subscriptions", ())) == {"with", 'odd "name"'} and entry
    found = registry.settled("both subscriptions are there", entry)
    assert found["peer"] == f"127.0.0.1:{port}"
    assert found["subscriptions"]["with"] == {"offset": 1, "epoch": epoch}
    client.result("unsubscribe", channel="with")
    registry.settled("one is gone", lambda all_: list(all_[client.id][1]["subscriptions"]) ==
                     ['odd "name"'])


def test_http_connections_are_no_sessions(node, registry, make_client):
    client = make_client(node)
    make_client(node, connect=False)
    node.api("info")
    registry.settled("only the connected client", lambda all_: set(all_) == {client.id})


def test_many_at_once(node, registry, make_client):
    clients = [make_client(node) for _ in range(600)]
    registry.settled("all are registered", lambda all_: set(all_) == {c.id for c in clients})
    assert sum(node.metrics()[f"keepsock_{n}"] for n in ("sessions_registered",)) == 600
    for client in clients:
        client.cut()
    registry.settled("all are gone", lambda all_: all_ == {})


def test_what_redis_missed_is_made_up_for(node, redis, registry, make_client):
    """Redis is away while clients come, go and subscribe, and comes back with nothing."""
    stays, goes = make_client(node), make_client(node)
    registry.settled("both are registered", lambda all_: set(all_) == {stays.id, goes.id})
    redis.kill()
    wait_until(lambda: not node.is_ready(), "the node noticed")
    goes.cut()
    new = make_client(node)
    redis.start()
    registry.settled("who is here now", lambda all_: set(all_) == {stays.id, new.id})


def test_a_slow_redis_holds_nobody_up(node, redis, registry, make_client):
    clients = [make_client(node) for _ in range(20)]
    registry.settled("all are registered", lambda all_: len(all_) == 20)
    redis.pause()
    for client in clients:
        client.cut()
    wait_until(lambda: node.ctl_json("status")["connections"] <= 1, "the connections are gone")
    redis.resume()
    registry.settled("the entries are gone too", lambda all_: all_ == {})


def test_a_crowd_that_left_before_it_was_written(start_node, redis, registry, make_client):
    """Their passports' pages are given back while their sessions wait to be written."""
    node = start_node(node={"workers": 1}, redis={"server": redis.url})
    crowd = [make_client(node) for _ in range(600)]
    for client in crowd:
        client.result("subscribe", channel="news")
    registry.settled("all are registered", lambda all_: len(all_) == 600)
    redis.pause()
    for client in crowd:
        client.cut()
    wait_until(lambda: node.metrics()["keepsock_client_connections"] == 0, "all are gone")
    redis.resume()
    registry.settled("the entries are gone too", lambda all_: all_ == {})
    assert "worker_died" not in node.log()


def test_a_stopped_node_leaves_nothing(make_node, redis, registry, make_client):
    node = make_node(redis={"server": redis.url}).start()
    client = make_client(node)
    registry.settled("registered", lambda all_: set(all_) == {client.id})
    client.cut()
    node.stop()
    assert registry.all() == {}


def test_who_was_forgotten_registers_again(node, redis, registry, make_client):
    clients = [make_client(node) for _ in range(8)]
    registry.settled("all are registered", lambda all_: len(all_) == 8)
    redis.command("DEL", "keepsock.workers", *registry.keys())
    assert registry.all() == {}
    registry.settled("registered again", lambda all_: set(all_) == {c.id for c in clients})


def test_a_killed_workers_sessions_live_on(node, registry, make_client):
    """Its successor is the same worker to Redis: the entries stay, under the same name."""
    clients = [make_client(node) for _ in range(16)]
    registered = registry.settled("all are registered",
                                  lambda all_: len(all_) == len(clients) and all_)
    victim = node.workers()[0]
    its = [c for c in clients if registered[c.id][0].startswith("a.0.")]
    assert 0 < len(its) < len(clients), "clients are spread over both workers"
    wait_until(node.are_protected, "the keepers have everything")
    os.kill(victim, signal.SIGKILL)
    its[0].result("subscribe", channel="later")
    registry.settled("the successor goes on with them",
                     lambda all_: "later" in all_[its[0].id][1]["subscriptions"])
    assert {client: worker for client, (worker, _) in registry.all().items()} == \
        {client: worker for client, (worker, _) in registered.items()}
    its[0].leave()
    registry.settled("... and with removing them", lambda all_: set(all_) ==
                     {c.id for c in clients} - {its[0].id})
