# SPDX-License-Identifier: ISC
"""Connect: the subscriptions that come with it, from a token, a personal channel, the user's kept
ones and the client's own wishes; recovery of them; limits; Redis away."""

import json

import pytest

import tokens
from client import Client
from conftest import give_secret
from keepsock import wait_until


def connect_only(node, **parameters):
    client = Client(node.port, connect=False)
    client.send(client.command("connect", **parameters))
    return client


def connect_as(make_client, node, user, subs=None, **claims):
    more = {"subs": subs} if subs else {}
    return make_client(node, connect={"token": tokens.user(user, **claims), **more})


# Subscriptions of the token

def test_subs_of_a_token(auth_node, make_client, channel):
    other = channel + "-other"
    token = tokens.user("alice", info={"c": 1}, subs={
        channel: {"info": {"s": 1}, "data": {"d": [1, 2]}},
        other: {"override": {"presence": {"value": False}}}})
    client = make_client(auth_node, connect={"token": token})
    subs = client.connected["subs"]
    assert set(subs) == {channel, other}
    assert subs[channel]["data"] == {"d": [1, 2]} and subs[channel]["epoch"]
    assert subs[channel]["recoverable"] and subs[channel]["positioned"]
    assert not {"recovered", "was_recovering", "publications", "expires"} & subs[channel].keys()
    assert client.result("presence", channel=channel)["presence"][client.id] == {
        "user": "alice", "client": client.id, "conn_info": {"c": 1}, "chan_info": {"s": 1}}
    assert client.result("presence", channel=other)["presence"] == {}
    auth_node.publish(channel, {"n": 1})
    auth_node.publish(other, {"n": 2})
    assert {client.push()["channel"] for _ in range(2)} == {channel, other}


def test_channels_of_a_token(auth_node, make_client, channel):
    client = connect_as(make_client, auth_node, "alice", channels=[channel, channel + "-2"])
    assert set(client.connected["subs"]) == {channel, channel + "-2"}
    assert client.error("subscribe", channel=channel) == 105


def test_a_client_may_leave_what_the_server_gave_it(auth_node, make_client, channel):
    client = connect_as(make_client, auth_node, "alice", channels=[channel])
    assert client.result("unsubscribe", channel=channel) == {}
    auth_node.publish(channel, 1)
    client.expect_quiet()
    client.result("subscribe", channel=channel)


def test_recovery_of_server_side_subscriptions(auth_node, make_client, channel):
    client = connect_as(make_client, auth_node, "alice", channels=[channel])
    epoch = client.connected["subs"][channel]["epoch"]
    client.cut()
    for n in range(1, 4):
        auth_node.publish(channel, n)
    since = {"recover": True, "epoch": epoch, "offset": 1}
    client = connect_as(make_client, auth_node, "alice", {channel: since}, channels=[channel])
    result = client.connected["subs"][channel]
    assert result["recovered"] and result["was_recovering"] and result["offset"] == 1
    assert [p["data"] for p in result["publications"]] == [2, 3]
    auth_node.publish(channel, 4)
    assert client.publication(channel)["offset"] == 4


@pytest.mark.parametrize("since", [
    {"epoch": "_", "offset": 0}, {"epoch": "x" * 500, "offset": 1}, {"offset": 99},
    {"epoch": "", "offset": 2**64 - 1}])
def test_recovery_that_is_impossible(auth_node, make_client, channel, since):
    auth_node.publish(channel, 1)
    subs = {channel: {"recover": True, **since}}
    client = connect_as(make_client, auth_node, "alice", subs, channels=[channel])
    result = client.connected["subs"][channel]
    assert result["was_recovering"] and "recovered" not in result and "publications" not in result
    assert result["offset"] == 1


def test_more_than_a_client_may_have_queued_is_not_recovered(start_auth_node, make_client):
    node = start_auth_node(client={"queue_max_size": 65536})
    for _ in range(5):
        node.publish("c", "x" * 10000)
    subs = {"c": {"recover": True, "offset": 0}, "d": {"recover": True, "offset": 0}}
    client = connect_as(make_client, node, "alice", subs, channels=["c", "d"])
    result = client.connected["subs"]
    assert "recovered" not in result["c"] and result["c"]["offset"] == 5
    assert result["d"]["recovered"]


# Wishes

def test_wishes_are_granted_where_the_client_may(start_auth_node, make_client):
    node = start_auth_node(namespaces=[
        {"name": "open", "allow_subscribe_for_client": True, "presence": True,
         "allow_presence_for_subscriber": True},
        {"name": "shut"}])
    wishes = {"open:a": {}, "open:b": {"recover": True}, "shut:a": {}, "$open:a": {}, "ü": {},
              "x" * 300: {}}
    client = connect_as(make_client, node, "alice", wishes)
    assert set(client.connected["subs"]) == {"open:a", "open:b"}
    assert "was_recovering" not in client.connected["subs"]["open:b"]
    assert client.id in client.result("presence", channel="open:a")["presence"]


def test_wish_in_an_unknown_namespace_is_3501(auth_node):
    with connect_only(auth_node, token=tokens.user("alice"), subs={"nowhere:a": {}}) as client:
        client.expect_disconnect(3501)


@pytest.mark.parametrize("subs", ["[]", "5", '"c"', '{"c":5}', '{"c":{"offset":-1}}',
                                  '{"c":{"recover":1}}', '{"c":{"epoch":5}}'])
def test_malformed_subs_are_3501(auth_node, subs):
    with Client(auth_node.port, connect=False) as client:
        client.send('{"id":1,"connect":{"token":"%s","subs":%s}}' % (tokens.user("a"), subs))
        client.expect_disconnect(3501)


def test_wishes_of_an_anonymous_client(node, make_client, channel):
    client = make_client(node, connect={"subs": {channel: {}, channel + "-2": None}})
    assert set(client.connected["subs"]) == {channel, channel + "-2"}
    node.publish(channel, 1)
    assert client.publication(channel)["data"] == 1


def test_nothing_comes_before_the_reply(node, make_client, channel):
    """Publications of a busy publisher never overtake the reply, and none is missing."""
    publisher = make_client(node)
    for n in range(20):
        publisher.send(*[publisher.command("publish", channel=channel, data=i) for i in range(20)])
        with Client(node.port, connect=False) as client:
            client.send(client.command("connect", subs={channel: {}, channel + "-2": {}}))
            raw, first = client.next_message()
            assert "connect" in first, raw
            offset = first["connect"]["subs"][channel].get("offset", 0)
            top = node.publish(channel, "end")["offset"]
            while offset < top:
                publication = client.publication(channel)
                assert publication["offset"] == offset + 1
                offset += 1


# Personal channel, kept subscriptions

def test_personal_channel(start_auth_node, make_client):
    node = start_auth_node(personal_channel={"enabled": True})
    client = connect_as(make_client, node, "alice")
    assert set(client.connected["subs"]) == {"#alice"}
    node.publish("#alice", "for you")
    assert client.publication("#alice")["data"] == "for you"
    assert "subs" not in connect_as(make_client, node, "").connected
    # Others would get in by such a name.
    assert "subs" not in connect_as(make_client, node, "a,b").connected


def test_personal_channel_of_a_namespace(start_auth_node, make_client):
    node = start_auth_node(personal_channel={"enabled": True, "namespace": "own"},
                           namespaces=[{"name": "own"}])
    assert set(connect_as(make_client, node, "alice").connected["subs"]) == {"own:#alice"}


@pytest.fixture
def single_node(start_auth_node):
    return start_auth_node(node={"workers": 4}, personal_channel={
        "enabled": True, "single_connection": True})


def wait_for_announcements(node, count):
    """Each worker has heard of so many connections."""
    wait_until(lambda: node.log().count("op=user_keep_newest") == count * 4, "all are announced")


def test_single_connection(single_node, make_client):
    bob = connect_as(make_client, single_node, "bob")
    older = connect_as(make_client, single_node, "alice")
    for n in range(6):
        wait_for_announcements(single_node, 2 + n)
        newer = connect_as(make_client, single_node, "alice")
        older.expect_disconnect(3503)
        assert newer.result("publish", channel="#alice", data=1) == {}
        older = newer
    bob.expect_quiet()


def test_of_several_at_a_time_one_stays(single_node, make_client):
    clients = [connect_only(single_node, token=tokens.user("alice")) for _ in range(8)]
    wait_for_announcements(single_node, 8)
    rows = single_node.ctl_json("show", "connections")["rows"]
    assert [row["state"] for row in rows if row["user"] == "alice"].count("connected") == 1
    for client in clients:
        client.cut()


def test_kept_subscriptions(make_node, make_client, redis):
    node = give_secret(make_node(client={"insecure": False}, token={"hmac_secret_file": "hmac"},
                                 redis={"server": redis.url})).start()
    kept = {"news": {"channel": "news", "info": {"k": 1}, "data": {"d": 1}},
            "over": {"channel": "over", "expire_at": tokens.later(-1)},
            "later": {"channel": "later", "expire_at": tokens.later(3600)},
            "gone:x": {"channel": "gone:x"}}
    for name, value in kept.items():
        redis.command("HSET", "keepsock.user_subscriptions.alice", name, json.dumps(value))
    for name, value in {"bad": "{", "worse": "[]", "none": "{}", "odd": '{"channel":5}'}.items():
        redis.command("HSET", "keepsock.user_subscriptions.alice", name, value)
    client = connect_as(make_client, node, "alice")
    assert set(client.connected["subs"]) == {"news", "later"}
    assert client.connected["subs"]["news"]["data"] == {"d": 1}
    assert client.result("presence", channel="news")["presence"][client.id]["chan_info"] == {"k": 1}
    assert "subs" not in connect_as(make_client, node, "bob").connected


# Limits

def test_channel_limit_is_3505(start_auth_node, make_client):
    node = start_auth_node(client={"channel_limit": 3})
    names = [f"c{n}" for n in range(4)]
    client = connect_as(make_client, node, "alice", channels=names[:3])
    assert client.error("subscribe", channel="more") == 106
    with connect_only(node, token=tokens.user("alice", channels=names)) as client:
        client.expect_disconnect(3505)
    wishes = {name: {} for name in names}
    with connect_only(node, token=tokens.user("alice", channels=names[:2]), subs=wishes) as client:
        client.expect_disconnect(3505)


def test_user_connection_limit_is_3504(start_auth_node, make_client):
    node = start_auth_node(node={"workers": 3}, client={"user_connection_limit": 8})
    first, *_ = [connect_as(make_client, node, "alice") for _ in range(8)]
    # Whichever worker the next one comes to.
    for _ in range(5):
        with connect_only(node, token=tokens.user("alice")) as client:
            client.expect_disconnect(3504)
    with connect_only(node, token=tokens.user("alice")) as client:
        client.expect_disconnect(3504)
    connect_as(make_client, node, "bob")
    for _ in range(3):
        connect_as(make_client, node, "")
    first.leave()
    connect_as(make_client, node, "alice")


def test_server_time(start_auth_node, make_client):
    node = start_auth_node(client={"connect_include_server_time": True})
    assert abs(connect_as(make_client, node, "a").connected["time"] / 1000 - tokens.later(0)) < 60


# Redis away

def test_without_redis_a_connect_gets_100(make_node, redis):
    node = give_secret(make_node(client={"insecure": False}, token={"hmac_secret_file": "hmac"},
                                 redis={"server": redis.url, "command_timeout": "500ms"})).start()
    redis.pause()
    for claims in ({"sub": "alice"}, {"sub": "", "channels": ["c"]}):
        with connect_only(node, token=tokens.hmac(claims, tokens.SECRET)) as client:
            error = client.reply(1)["error"]
            assert error["code"] == 100 and error["temporary"]
    # Nobody to ask for: the user "" without subscriptions.
    with connect_only(node, token=tokens.user("")) as client:
        assert client.reply(1)["connect"]["client"]
    redis.resume()

    def connects():
        with connect_only(node, token=tokens.user("alice", channels=["c"])) as client:
            return "connect" in client.reply(1)
    wait_until(connects, "connects succeed again")


def test_who_leaves_while_connecting_leaves_nothing(make_node, make_client, redis):
    node = give_secret(make_node(client={"insecure": False}, token={"hmac_secret_file": "hmac"},
                                 redis={"server": redis.url})).start()
    redis.pause()
    for stage in range(3):
        client = connect_only(node, token=tokens.user("ghost", channels=["c", "d"]))
        client.cut()
    redis.resume()
    watcher = connect_as(make_client, node, "watcher")
    wait_until(lambda: node.metrics()["keepsock_subscriptions"] == 0, "no subscription is left")
    wait_until(lambda: not watcher.result("presence", channel="c")["presence"], "no ghosts")
