# SPDX-License-Identifier: ISC
"""Subscriptions that the server makes and ends at run time, by its HTTP API, as their clients see
them: pushes, positions, what a lost position means, and that nothing is lost around them."""

import itertools
import threading

import pytest

import tokens
from conftest import give_secret
from keepsock import Redis, wait_until


def connect_as(make_client, node, user, **claims):
    return make_client(node, connect={"token": tokens.user(user, **claims)})


@pytest.fixture
def user(channel):
    return f"user-{channel}"


def subscribe(node, user, channel, **more):
    assert node.api("subscribe", user=user, channel=channel, **more) == {"result": {}}


def test_subscribe_push(auth_node, make_client, user, channel):
    clients = [connect_as(make_client, auth_node, user, info={"c": 1}) for _ in range(3)]
    stranger = connect_as(make_client, auth_node, user + "-2")
    top = auth_node.publish(channel, "before")
    subscribe(auth_node, user, channel, info={"s": 1}, data={"d": 1})
    for client in clients:
        push = client.push()
        assert push["channel"] == channel
        assert push["subscribe"] == {"recoverable": True, "positioned": True, "data": {"d": 1},
                                     "epoch": top["epoch"], "offset": 1}
        assert client.error("subscribe", channel=channel) == 105
    auth_node.publish(channel, "after")
    for client in clients:
        assert client.publication(channel)["data"] == "after"
        entry = client.result("presence", channel=channel)["presence"][client.id]
        assert entry["chan_info"] == {"s": 1} and entry["conn_info"] == {"c": 1}
    stranger.expect_quiet()


def test_it_is_there_when_the_user_comes_back(auth_node, make_client, user, channel):
    subscribe(auth_node, user, channel, data={"d": 1})
    client = connect_as(make_client, auth_node, user)
    assert client.connected["subs"][channel]["data"] == {"d": 1}
    assert auth_node.api("unsubscribe", user=user, channel=channel) == {"result": {}}
    push = client.push()
    assert push["channel"] == channel and push["unsubscribe"]["code"] == 2000
    assert push["unsubscribe"]["reason"]
    assert "subs" not in connect_as(make_client, auth_node, user).connected


def test_one_client_alone(auth_node, make_client, user, channel):
    one, other = (connect_as(make_client, auth_node, user) for _ in range(2))
    subscribe(auth_node, user, channel, client=one.id)
    assert "subscribe" in one.push()
    other.expect_quiet()
    assert "subs" not in connect_as(make_client, auth_node, user).connected
    assert auth_node.api("unsubscribe", user=user, channel=channel,
                         client=one.id) == {"result": {}}
    assert "unsubscribe" in one.push()


def test_twice_is_once(auth_node, make_client, user, channel):
    client = connect_as(make_client, auth_node, user)
    for _ in range(3):
        subscribe(auth_node, user, channel)
    assert "subscribe" in client.push()
    client.result("subscribe", channel=channel + "-own")
    subscribe(auth_node, user, channel + "-own")
    client.expect_quiet()


def test_recovery(auth_node, make_client, user, channel):
    client = connect_as(make_client, auth_node, user)
    tops = [auth_node.publish(channel, n) for n in range(4)]
    since = {"offset": 2, "epoch": tops[0]["epoch"]}
    subscribe(auth_node, user, channel, recover_since=since)
    assert client.push()["subscribe"]["offset"] == 2
    assert [client.publication(channel)["data"] for _ in range(2)] == [2, 3]


def test_overrides(auth_node, make_client, user, channel):
    client = connect_as(make_client, auth_node, user)
    subscribe(auth_node, user, channel, override={
        "force_recovery": {"value": False}, "presence": {"value": False}})
    push = client.push()["subscribe"]
    assert "recoverable" not in push and "positioned" not in push
    assert client.result("presence", channel=channel)["presence"] == {}


def test_unsubscribe_from_everything(auth_node, make_client, user, channel):
    client = connect_as(make_client, auth_node, user, channels=[channel + "-token"])
    client.result("subscribe", channel=channel + "-own")
    subscribe(auth_node, user, channel)
    client.push()
    assert auth_node.api("unsubscribe", user=user, channel="") == {"result": {}}
    ended = [client.push() for _ in range(3)]
    assert {p["channel"] for p in ended} == {channel, channel + "-own", channel + "-token"}
    assert all(p["unsubscribe"]["code"] == 2000 for p in ended)
    client.expect_quiet()


def test_not_more_than_a_client_may_have(start_auth_node, make_client):
    node = start_auth_node(client={"channel_limit": 2})
    client = connect_as(make_client, node, "alice", channels=["a", "b"])
    subscribe(node, "alice", "c", client=client.id)
    client.expect_quiet()
    assert client.result("unsubscribe", channel="a") == {}
    subscribe(node, "alice", "c", client=client.id)
    assert "subscribe" in client.push()


def test_no_gap_under_load(auth_node, make_client, user, channel):
    """Subscribed in the middle of a stream of publications, everybody gets all that follow."""
    stop = threading.Event()

    def publish():
        with_client = 0
        while not stop.is_set():
            auth_node.publish(channel, with_client)
            with_client += 1
    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        clients = [connect_as(make_client, auth_node, user) for _ in range(4)]
        subscribe(auth_node, user, channel)
        late = connect_as(make_client, auth_node, user)
        starts = [client.push()["subscribe"].get("offset", 0) for client in clients]
        starts.append(late.connected["subs"][channel].get("offset", 0))
        for client, start in zip(clients + [late], starts):
            assert [client.publication(channel)["offset"] for _ in range(20)] == list(
                range(start + 1, start + 21))
    finally:
        stop.set()
        publisher.join()


def external(make_node, redis, **more):
    return give_secret(make_node(client={"insecure": False}, token={"hmac_secret_file": "hmac"},
                                 redis={"server": redis.url}, **more)).start()


def test_a_lost_position_is_3010(make_node, make_client, redis):
    """A client can't ask again for what it never asked for; its own subscription ends with 2500."""
    node = external(make_node, redis)
    for channel in ("mine", "theirs"):
        node.publish(channel, 1)
    given = connect_as(make_client, node, "alice", channels=["theirs"])
    asked = connect_as(make_client, node, "bob")
    asked.result("subscribe", channel="mine")
    for channel in ("mine", "theirs"):
        redis.command("DEL", f"keepsock.meta.{channel}", f"keepsock.stream.{channel}")
        node.publish(channel, 2)
    assert asked.push()["unsubscribe"]["code"] == 2500
    given.expect_disconnect(3010)
    back = connect_as(make_client, node, "alice", channels=["theirs"])
    assert back.connected["subs"]["theirs"]["offset"] == 1


def test_subscriptions_outlive_redis(make_node, make_client, redis):
    node = external(make_node, redis)
    subscribe(node, "alice", "kept")
    client = connect_as(make_client, node, "alice", channels=["token"])
    assert set(client.connected["subs"]) == {"kept", "token"}
    redis.pause()
    assert client.error("publish", channel="token", data=1) == 100
    redis.resume()
    for channel in ("token", "kept"):
        # A call each: another worker may answer, whose connections come back in their own time.
        wait_until(lambda: "result" in node.api("publish", channel=channel, data=2), "Redis is back")
    seen = set()
    while seen != {"token", "kept"}:
        seen.add(client.push()["channel"])


def test_who_is_connecting_meanwhile_gets_it_too(make_node, make_client, redis):
    """Made or ended while connects are under way: whoever is connected in the end agrees."""
    node = external(make_node, redis)
    for n in range(10):
        clients = []
        connecting = threading.Thread(target=lambda: clients.extend(
            connect_as(make_client, node, "alice") for _ in range(5)))
        connecting.start()
        subscribe(node, "alice", f"c{n}")
        connecting.join()
        for client in clients:
            if f"c{n}" not in client.connected.get("subs", {}):
                assert client.push()["channel"] == f"c{n}"
        for client in clients:
            client.leave()
        node.api("unsubscribe", user="alice")


def test_a_shard_that_is_away_delays_no_longer_than_it_is(make_node, make_client, redis):
    """The user is subscribed as soon as the channel's Redis is back, without another call."""
    second = Redis().start()
    try:
        node = give_secret(make_node(client={"insecure": False},
                                     token={"hmac_secret_file": "hmac"},
                                     redis={"shards": [redis.url, second.url],
                                            "command_timeout": "300ms"})).start()
        client = connect_as(make_client, node, "alice")
        ended = connect_as(make_client, node, "bob")
        second.kill()
        names = (f"c{n}" for n in itertools.count())
        channel = next(n for n in names if "error" in node.api("publish", channel=n, data=1))
        for user in ("alice", "bob"):
            subscribe(node, user, channel)
        assert node.api("unsubscribe", user="bob", channel=channel) == {"result": {}}
        client.expect_quiet()
        second.start()
        assert client.push()["channel"] == channel
        wait_until(lambda: "result" in node.api("publish", channel=channel, data=2), "it is back")
        assert client.publication(channel)["data"] == 2
        ended.expect_quiet()
    finally:
        second.stop()
