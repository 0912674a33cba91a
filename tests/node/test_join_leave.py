# SPDX-License-Identifier: ISC
"""Joins and leaves: who is told, in which order, and what about."""

import pytest

import tokens
from keepsock import wait_until

ALL = {"join_leave": True, "force_push_join_leave": True}


@pytest.fixture
def node(start_auth_node):
    return start_auth_node(channel=ALL, namespaces=[
        {"name": "asked", "join_leave": True, "presence": True,
         "allow_subscribe_for_client": True, "allow_presence_for_subscriber": True},
        {"name": "blind", "join_leave": True, "presence": True,
         "allow_subscribe_for_client": True},
        {"name": "bare", "allow_subscribe_for_client": True, **ALL},
        {"name": "silent", "presence": True, "allow_subscribe_for_client": True,
         "allow_presence_for_client": True}])


def connect_as(make_client, node, user, **claims):
    return make_client(node, connect={"token": tokens.user(user, **claims)})


def who(push, kind):
    return push[kind]["info"]["client"]


def test_own_join_follows_the_reply(node, make_client):
    client = connect_as(make_client, node, "alice", info={"c": 1})
    client.send(client.command("subscribe", channel="room"))
    assert "subscribe" in client.next_message()[1]
    push = client.push()
    assert push == {"channel": "room", "join": {"info": {
        "user": "alice", "client": client.id, "conn_info": {"c": 1}}}}


@pytest.mark.parametrize("leave", ["unsubscribe", "leave", "cut"])
def test_join_and_leave_reach_others(node, make_client, leave):
    watcher = connect_as(make_client, node, "watcher")
    watcher.result("subscribe", channel="room")
    assert who(watcher.push(), "join") == watcher.id
    client = connect_as(make_client, node, "alice")
    token = tokens.subscription("alice", "room", info={"s": 1})
    client.result("subscribe", channel="room", token=token)
    info = {"user": "alice", "client": client.id, "chan_info": {"s": 1}}
    assert watcher.push() == {"channel": "room", "join": {"info": info}}
    if leave == "unsubscribe":
        client.result("unsubscribe", channel="room")
    else:
        getattr(client, leave)()
    assert watcher.push() == {"channel": "room", "leave": {"info": info}}
    watcher.expect_quiet()


def test_every_worker_tells(node, make_client):
    watchers = [connect_as(make_client, node, f"w{n}") for n in range(6)]
    for watcher in watchers:
        watcher.result("subscribe", channel="wide")
    client = connect_as(make_client, node, "alice")
    client.result("subscribe", channel="wide")
    client.leave()
    for watcher in watchers:
        seen = []
        while not seen or seen[-1] != ("leave", client.id):
            push = watcher.push()
            kind = "join" if "join" in push else "leave"
            seen.append((kind, who(push, kind)))
        assert seen.count(("join", client.id)) == 1


def test_asked_for(node, make_client):
    """join_leave of the command needs the namespace's join_leave and the right to see presence."""
    asking, plain = (connect_as(make_client, node, user) for user in ("a", "b"))
    asking.result("subscribe", channel="asked:x", join_leave=True)
    plain.result("subscribe", channel="asked:x")
    assert [who(asking.push(), "join") for _ in range(2)] == [asking.id, plain.id]
    plain.expect_quiet()
    for channel in ("blind:x", "silent:x"):
        asking.result("subscribe", channel=channel, join_leave=True)
        plain.result("subscribe", channel=channel)
        asking.expect_quiet()


def test_without_presence_of_the_namespace(node, make_client):
    client, other = (connect_as(make_client, node, user) for user in ("a", "b"))
    client.result("subscribe", channel="bare:x")
    assert who(client.push(), "join") == client.id
    other.result("subscribe", channel="bare:x")
    assert who(client.push(), "join") == other.id
    other.leave()
    assert who(client.push(), "leave") == other.id
    assert client.error("presence", channel="bare:x") == 108


def test_server_side_subscriptions_join_and_leave(node, make_client):
    watcher = connect_as(make_client, node, "watcher", channels=["room"])
    assert who(watcher.push(), "join") == watcher.id
    client = connect_as(make_client, node, "alice", channels=["room"])
    assert who(watcher.push(), "join") == client.id
    assert who(client.push(), "join") == client.id
    client.leave()
    assert who(watcher.push(), "leave") == client.id


def test_overrides_of_a_token(node, make_client):
    watcher = connect_as(make_client, node, "watcher")
    watcher.result("subscribe", channel="room")
    watcher.push()
    client = connect_as(make_client, node, "alice")
    quiet = {"join_leave": {"value": False}, "force_push_join_leave": {"value": False}}
    token = tokens.subscription("alice", "room", override=quiet)
    client.result("subscribe", channel="room", token=token)
    client.result("unsubscribe", channel="room")
    client.expect_quiet()
    watcher.expect_quiet()


def test_joins_between_publications_keep_the_order(node, make_client):
    watcher = connect_as(make_client, node, "watcher")
    watcher.result("subscribe", channel="room")
    watcher.push()
    for n in range(10):
        client = connect_as(make_client, node, "alice")
        client.result("subscribe", channel="room")
        client.result("publish", channel="room", data=n)
        client.result("unsubscribe", channel="room")
        seen = [watcher.push() for _ in range(3)]
        assert who(seen[0], "join") == client.id and seen[1]["pub"]["data"] == n
        assert who(seen[2], "leave") == client.id


def test_presence_of_a_client_that_came_twice(node, make_client):
    """Subscribing again after leaving is a new join."""
    watcher, client = (connect_as(make_client, node, user) for user in ("w", "a"))
    watcher.result("subscribe", channel="room")
    watcher.push()
    for _ in range(3):
        client.result("subscribe", channel="room")
        assert who(watcher.push(), "join") == client.id
        client.result("unsubscribe", channel="room")
        assert who(watcher.push(), "leave") == client.id
    wait_until(lambda: client.id not in watcher.result("presence", channel="room")["presence"],
               "the member is gone")
