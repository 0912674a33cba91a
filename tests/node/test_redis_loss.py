# SPDX-License-Identifier: ISC
"""Redis dies, forgets, goes back in time, hangs, or delivers nothing any more: what clients are
told, and what the node does about it."""

import time

import pytest

from keepsock import DurableRedis, wait_until
from redis_proxy import RedisProxy
from wire import http


@pytest.fixture
def durable():
    server = DurableRedis().start()
    yield server
    server.stop()


@pytest.fixture
def two_nodes(start_node, durable):
    """Two nodes on the same Redis, both with one worker."""
    return [start_node(node={"name": name, "workers": 1},
                       redis={"server": durable.url, "command_timeout": "2s"})
            for name in ("a", "b")]


def subscribed(make_client, nodes, channel="c", **more):
    """A client of each node, and the epoch they were told."""
    clients = [make_client(node) for node in nodes]
    epochs = {client.result("subscribe", channel=channel, **more)["epoch"] for client in clients}
    assert len(epochs) == 1
    return clients, epochs.pop()


def reason(node):
    response = http(node.port, "GET", "/ready")
    return None if response.status == 200 else response.body.decode()


def all_ready(nodes):
    for node in nodes:
        wait_until(node.are_all_ready, "ready again")


def api_error(node, method, **parameters):
    return node.api(method, **parameters).get("error", {}).get("code")


def events(node):
    return [row["event"] for row in node.ctl_json("show", "events")["rows"]]


def test_restart_with_data_loses_nothing(two_nodes, durable, make_client):
    (first, second), epoch = subscribed(make_client, two_nodes)
    for number in (1, 2):
        two_nodes[0].publish("c", number)
    durable.kill()
    for node in two_nodes:
        wait_until(lambda: reason(node), "not ready")
        assert "redis" in reason(node)
        assert http(node.port, "GET", "/health").status == 200
        assert api_error(node, "publish", channel="c", data=0) == 100
    assert first.error("history", channel="c", limit=1) == 100
    assert second.error("subscribe", channel="other") == 100
    durable.start()
    all_ready(two_nodes)
    assert two_nodes[1].publish("c", 3)["offset"] == 3
    for client in (first, second):
        assert [client.publication("c")["data"] for _ in range(3)] == [1, 2, 3]
    result = make_client(two_nodes[0]).result("subscribe", channel="c", recover=True, offset=1,
                                              epoch=epoch)
    assert result["recovered"] and [p["data"] for p in result["publications"]] == [2, 3]
    for node in two_nodes:
        assert {"redis lost", "redis back", "continuity kept"} <= set(events(node))
        assert "continuity renewed" not in events(node)


def test_what_came_while_a_node_was_away_is_delivered(start_node, durable, make_client):
    """The proxy cuts one node's connections; the other one publishes meanwhile."""
    proxy = RedisProxy(durable.port)
    try:
        away = start_node(node={"workers": 1}, redis={"server": f"redis://127.0.0.1:{proxy.port}"})
        other = start_node(node={"name": "b", "workers": 1}, redis={"server": durable.url})
        client = make_client(away)
        client.result("subscribe", channel="c")
        proxy.refuse(True)
        wait_until(lambda: reason(away), "it misses Redis")
        for number in range(1, 51):
            other.publish("c", number)
        proxy.refuse(False)
        assert [client.publication("c")["data"] for _ in range(50)] == list(range(1, 51))
        other.publish("c", 51)
        assert client.publication("c")["offset"] == 51
    finally:
        proxy.close()


def test_more_missed_than_is_recovered_is_told(start_node, durable, make_client):
    proxy = RedisProxy(durable.port)
    try:
        away = start_node(node={"workers": 1}, redis={"server": f"redis://127.0.0.1:{proxy.port}"},
                          channel={"recovery_max_publication_limit": 10})
        other = start_node(node={"name": "b", "workers": 1}, redis={"server": durable.url})
        client = make_client(away)
        client.result("subscribe", channel="c")
        proxy.refuse(True)
        wait_until(lambda: reason(away), "it misses Redis")
        for number in range(1, 12):
            other.publish("c", number)
        proxy.refuse(False)
        push = client.push()
        assert push["channel"] == "c" and push["unsubscribe"]["code"] == 2500, push
    finally:
        proxy.close()


def assert_everybody_is_told(nodes, clients, epoch):
    """Positions are void, and nothing of the old epoch is recovered."""
    for client in clients:
        push = client.push()
        assert push["channel"] == "c" and push["unsubscribe"]["code"] == 2500, push
        result = client.result("subscribe", channel="c", recover=True, offset=2, epoch=epoch)
        assert not result.get("recovered") and result["epoch"] != epoch, result
    offset = nodes[0].publish("c", "anew")["offset"]
    for client in clients:
        publication = client.publication("c")
        assert (publication["data"], publication["offset"]) == ("anew", offset)
    for node in nodes:
        assert node.metrics()["keepsock_redis_continuity_renewed_total"] >= 1
        assert "continuity renewed" in events(node)


def test_restart_without_data_is_told(two_nodes, durable, make_client):
    clients, epoch = subscribed(make_client, two_nodes)
    for number in (1, 2):
        two_nodes[0].publish("c", number)
    for client in clients:
        assert [client.publication("c")["data"] for _ in range(2)] == [1, 2]
    durable.kill()
    durable.forget()
    durable.start()
    all_ready(two_nodes)
    assert_everybody_is_told(two_nodes, clients, epoch)


def test_restart_with_older_data_is_told(two_nodes, durable, make_client):
    """What was kept has the channel with the same epoch; only what was seen of it is too much."""
    clients, epoch = subscribed(make_client, two_nodes)
    two_nodes[0].publish("c", 1)
    durable.kill()
    durable.keep()
    durable.start()
    all_ready(two_nodes)
    two_nodes[0].publish("c", 2)
    for client in clients:
        assert [client.publication("c")["data"] for _ in range(2)] == [1, 2]
    durable.kill()
    durable.rewind()
    durable.start()
    all_ready(two_nodes)
    assert_everybody_is_told(two_nodes, clients, epoch)


def test_a_worker_that_saw_nothing_lost_agrees_with_one_that_did(two_nodes, durable, make_client):
    """Only node a heard the message that is lost: b's clients are told all the same."""
    clients, epoch = subscribed(make_client, two_nodes)
    durable.kill()
    durable.keep()
    durable.start()
    all_ready(two_nodes)
    two_nodes[0].publish("only-published", 1)
    durable.kill()
    durable.rewind()
    durable.start()
    all_ready(two_nodes)
    assert_everybody_is_told(two_nodes, clients, epoch)


def test_channels_without_history_go_on(start_node, durable, make_client):
    """They have no positions; after a loss of everything their messages must not pass for old."""
    node = start_node(node={"workers": 1}, redis={"server": durable.url},
                      channel={"history_size": 0, "history_ttl": "0s", "force_recovery": False})
    client = make_client(node)
    client.result("subscribe", channel="c")
    for number in range(20):
        node.publish("c", number)
        assert client.publication("c")["data"] == number
    for change in (durable.forget, lambda: None):
        durable.kill()
        change()
        durable.start()
        wait_until(node.are_all_ready, "ready again")
        node.publish("c", "after")
        assert client.publication("c")["data"] == "after"


def test_a_hanging_redis_is_survived(start_node, durable, make_client):
    node = start_node(redis={"server": durable.url, "command_timeout": "500ms",
                             "connect_timeout": "500ms"})
    client = make_client(node)
    client.result("subscribe", channel="c")
    durable.pause()
    try:
        assert api_error(node, "publish", channel="c", data=0) == 100
        assert client.error("publish", channel="c", data=0) == 100
        wait_until(lambda: reason(node), "not ready")
        assert client.result("unsubscribe", channel="never") == {}
        assert http(node.port, "GET", "/health").status == 200
        # Who closes while Redis hangs is not kept waiting.
        make_client(node).leave()
    finally:
        durable.resume()
    wait_until(node.are_all_ready, "ready again")
    # What got error 100 may have been published after all; then it is delivered.
    offset = node.publish("c", "after")["offset"]
    publication = client.publication("c")
    while publication["data"] != "after":
        assert publication["data"] == 0
        publication = client.publication("c")
    assert publication["offset"] == offset


def test_flushed_data_is_noticed(start_node, durable, make_client):
    """FLUSHALL under a living node: nothing is cut, yet all positions are void."""
    node = start_node(node={"workers": 1}, redis={"server": durable.url})
    client = make_client(node)
    epoch = client.result("subscribe", channel="c")["epoch"]
    node.publish("c", 1)
    assert client.publication("c")["offset"] == 1
    durable.command("FLUSHALL")
    push = client.push()
    assert push["channel"] == "c" and push["unsubscribe"]["code"] == 2500, push
    wait_until(node.are_all_ready, "ready again")
    assert client.result("subscribe", channel="c")["epoch"] != epoch
    node.publish("c", "anew")
    assert client.publication("c")["data"] == "anew"


# The delivery probe

# What goes over subscription connections only.
SUBSCRIBE = b"$9\r\nSUBSCRIBE\r\n"


@pytest.fixture
def proxied(start_node, durable):
    proxy = RedisProxy(durable.port)
    node = start_node(node={"workers": 1},
                      redis={"server": f"redis://127.0.0.1:{proxy.port}",
                             "probe_interval": "100ms", "probe_timeout": "1s"})
    yield node, proxy
    proxy.close()


def test_a_deaf_subscription_connection_is_made_anew(proxied, durable, start_node, make_client):
    """Commands work, nothing is delivered: only the probe can tell."""
    node, proxy = proxied
    other = start_node(node={"name": "b", "workers": 1}, redis={"server": durable.url})
    client = make_client(node)
    client.result("subscribe", channel="c")
    deaf = proxy.link_that_asked(SUBSCRIBE)
    proxy.hold_answers(deaf)
    other.publish("c", "unheard")
    assert node.publish("c", "published all the same")["offset"] == 2
    assert [client.publication("c")["data"] for _ in range(2)] == \
        ["unheard", "published all the same"]
    assert node.metrics()["keepsock_redis_probes_lost_total"] == 1
    assert proxy.link_that_asked(SUBSCRIBE) is not deaf
    wait_until(node.are_all_ready, "ready again")
    assert {"probe lost", "probe back"} <= set(events(node))


def test_readiness_tells_that_nothing_is_delivered(proxied):
    """Every new connection is deaf as well."""
    node, proxy = proxied
    proxy.deafen(SUBSCRIBE)
    wait_until(lambda: "probe" in (reason(node) or ""), "the reason is the probe")
    wait_until(lambda: node.metrics()["keepsock_redis_probe_age_milliseconds"] > 1000, "its age")
    (row,) = node.ctl_json("show", "redis")["rows"]
    assert row["probe_age_ms"] > 1000
    assert http(node.port, "GET", "/health").status == 200
    assert "result" in node.api("publish", channel="c", data=1)
    proxy.deafen(None)
    wait_until(node.are_all_ready, "ready again")


def test_what_waits_behind_a_command_is_answered_in_time(proxied, make_client):
    """Commands of a client run one by one. When Redis hangs, or only does not confirm what is
    subscribed, each would wait for its own time-out, far longer than an SDK does."""
    node, proxy = proxied
    # Names of their own: a channel that a worker hears already waits for no confirmation.
    for name, stall, heal in (
            ("hung", lambda: proxy.stall(True), lambda: proxy.stall(False)),
            ("deaf", lambda: proxy.deafen(b"keepsock.probe"), lambda: proxy.deafen(None))):
        client = make_client(node)
        client.result("subscribe", channel="c")
        stall()
        start = time.monotonic()
        commands = [client.command("subscribe", channel=f"{name}{number}") for number in range(20)]
        client.send(*commands)
        for number in range(client.last_id - len(commands) + 1, client.last_id + 1):
            assert client.reply(number)["error"]["code"] == 100
        assert time.monotonic() - start < 5
        heal()
        wait_until(node.are_all_ready, "ready again")
        assert client.result("subscribe", channel=f"{name}0") is not None
