# SPDX-License-Identifier: ISC
"""Several Redis servers under one node: each channel lives on one of them, and only its own one
matters to it."""

import pytest

from keepsock import Redis, wait_until
from wire import http


@pytest.fixture
def servers():
    started = [Redis().start() for _ in range(2)]
    yield started
    for server in started:
        server.stop()


@pytest.fixture
def sharded(start_node, servers):
    return start_node(redis={"shards": [server.url for server in servers],
                             "command_timeout": "1s"})


def channel_on(node, server):
    """A channel whose shard is this server, by what a publication leaves there."""
    for number in range(100):
        name = f"channel-{number}"
        node.publish(name, "probe")
        if server.command("EXISTS", f"keepsock.stream.{name}") == 1:
            return name
    raise AssertionError("100 channels and none on this server")


def publish_error(node, channel):
    return node.api("publish", channel=channel, data=1).get("error", {}).get("code")


def test_channels_are_spread_and_served(sharded, servers, make_client):
    node = sharded
    names = [f"c{number}" for number in range(40)]
    first, second = make_client(node), make_client(node)
    for name in names:
        for client in (first, second):
            client.result("subscribe", channel=name)
    for name in names:
        first.result("publish", channel=name, data=name)
    for client in (first, second):
        pushes = [client.push() for _ in names]
        assert {push["channel"]: (push["pub"]["data"], push["pub"]["offset"]) for push in pushes} == \
            {name: (name, 1) for name in names}
    streams = [{name for name in names
                if server.command("EXISTS", f"keepsock.stream.{name}") == 1} for server in servers]
    assert all(streams) and streams[0] | streams[1] == set(names) and not streams[0] & streams[1]
    for name in names:
        assert set(node.api("presence", channel=name)["result"]["presence"]) == {first.id, second.id}
        history = node.api("history", channel=name, limit=10)["result"]["publications"]
        assert [p["data"] for p in history] == [name]
    assert len(node.api("channels")["result"]["channels"]) == len(names)
    first.result("unsubscribe", channel=names[0])
    wait_until(lambda: set(node.api("presence", channel=names[0])["result"]["presence"]) ==
               {second.id}, "who left is no member")
    # Half of the clients' subscriptions go with them, on both servers.
    second.cut()
    for name in names[1:]:
        wait_until(lambda: set(node.api("presence", channel=name)["result"]["presence"]) ==
                   {first.id}, "who is cut is no member")


def test_two_nodes_agree_on_the_shard(sharded, servers, start_node, make_client):
    other = start_node(node={"name": "b"}, redis={"shards": [server.url for server in servers]})
    client = make_client(other)
    for server in servers:
        name = channel_on(sharded, server)
        offset = client.result("subscribe", channel=name)["offset"]
        assert sharded.publish(name, "across")["offset"] == offset + 1
        assert client.publication(name)["data"] == "across"


def test_a_lost_shard_is_missed_by_its_channels_only(sharded, servers, make_client):
    node = sharded
    lost, kept = channel_on(node, servers[1]), channel_on(node, servers[0])
    client = make_client(node)
    for name in (lost, kept):
        client.result("subscribe", channel=name)
    servers[1].kill()
    wait_until(lambda: http(node.port, "GET", "/ready").status == 503, "not ready")
    wait_until(lambda: b"shard 1: " in http(node.port, "GET", "/ready").body, "the reason")
    assert http(node.port, "GET", "/health").status == 200
    node.publish(kept, "here")
    assert client.publication(kept)["data"] == "here"
    assert publish_error(node, lost) == 100
    rows = node.ctl_json("show", "redis")["rows"]
    assert {(row["worker"], row["shard"], row["subscription"] == "live") for row in rows} == \
        {(worker, shard, shard == 0) for worker in range(2) for shard in range(2)}

    servers[1].start()
    wait_until(node.are_all_ready, "ready again")
    # That server had kept nothing: whoever had a position there is told, nobody else.
    push = client.push()
    assert push["channel"] == lost and push["unsubscribe"]["code"] == 2500, push
    client.result("subscribe", channel=lost)
    node.publish(lost, "back")
    assert client.publication(lost)["data"] == "back"
    node.publish(kept, "still here")
    assert client.publication(kept)["data"] == "still here"


def test_a_broadcast_goes_to_both_servers(sharded, servers, make_client):
    names = [channel_on(sharded, server) for server in servers]
    client = make_client(sharded)
    offsets = [client.result("subscribe", channel=name)["offset"] for name in names]
    answer = sharded.api("broadcast", channels=names, data="all")["result"]["responses"]
    assert [response["result"]["offset"] for response in answer] == [o + 1 for o in offsets]
    pushes = {push["channel"]: push["pub"]["data"] for push in (client.push(), client.push())}
    assert pushes == {name: "all" for name in names}
    servers[1].kill()
    wait_until(lambda: [("error" in response) for response in
                        sharded.api("broadcast", channels=names, data=1)["result"]["responses"]]
               == [False, True], "each channel has an answer of its own")


def test_joined_fan_outs_of_two_shards(sharded, servers, make_client):
    """Bursts on channels of both servers at once: every subscriber gets each channel's in order."""
    node = sharded
    names = [channel_on(node, server) for server in servers]
    clients = [make_client(node) for _ in range(20)]
    offsets = {}
    for client in clients:
        for name in names:
            offsets[name] = client.result("subscribe", channel=name)["offset"]
    for number in range(50):
        for name in names:
            clients[number % len(clients)].send(
                clients[number % len(clients)].command("publish", channel=name, data=number))
    for client in clients:
        pushes = [client.push() for _ in range(100)]
        for name in names:
            got = [push["pub"] for push in pushes if push["channel"] == name]
            assert [p["offset"] for p in got] == list(range(offsets[name] + 1, offsets[name] + 51))
            assert sorted(p["data"] for p in got) == list(range(50))
