# SPDX-License-Identifier: ISC
"""What ends by the clock: connections (3005), subscriptions (2501, 3006), and the commands refresh
and sub_refresh that put the end off."""

import pytest

import tokens
from keepsock import wait_until

SOON = {"expired_close_delay": "100ms", "expired_sub_close_delay": "100ms"}


@pytest.fixture
def node(start_auth_node):
    return start_auth_node(client=SOON, channel={"allow_subscribe_for_client": False})


def connect_as(make_client, node, user, **claims):
    return make_client(node, connect={"token": tokens.user(user, **claims)})


def subscribe(client, channel, **claims):
    token = tokens.subscription("alice", channel, **claims)
    return client.result("subscribe", channel=channel, token=token)


# Connections

def test_ttl_is_told(node, make_client):
    connected = connect_as(make_client, node, "alice", exp=tokens.later(100)).connected
    assert connected["expires"] is True and 90 <= connected["ttl"] <= 100
    connected = connect_as(make_client, node, "alice", exp=tokens.later(10**9)).connected
    assert connected["ttl"] == 365 * 86400
    never = connect_as(make_client, node, "alice", exp=tokens.later(100), expire_at=0).connected
    assert "expires" not in never and "ttl" not in never


def test_expired_connection_is_3005(node, make_client):
    client = connect_as(make_client, node, "alice", exp=tokens.later(2))
    client.expect_disconnect(3005)


def test_refresh(node, make_client):
    client = connect_as(make_client, node, "alice", exp=tokens.later(2), info={"n": 1})
    client.result("publish", channel="c", data=1)
    fresh = tokens.user("alice", exp=tokens.later(60), info={"n": 2})
    result = client.result("refresh", token=fresh)
    assert result["expires"] is True and 50 <= result["ttl"] <= 60
    subscribe(client, "c")
    info = client.result("presence", channel="c")["presence"][client.id]
    assert info["conn_info"] == {"n": 2} and info["user"] == "alice"
    # Beyond the first token's end.
    bystander = connect_as(make_client, node, "bob", exp=tokens.later(3))
    bystander.expect_disconnect(3005)
    assert client.result("publish", channel="c", data=2) == {}


def test_refresh_to_no_end(node, make_client):
    client = connect_as(make_client, node, "alice", exp=tokens.later(2))
    assert client.result("refresh", token=tokens.user("alice")) == {}
    connect_as(make_client, node, "bob", exp=tokens.later(3)).expect_disconnect(3005)
    client.expect_quiet()


BAD_REFRESH = {
    "empty": ("", 3501), "garbage": ("x", 3500), "other user": (tokens.user("bob"), 3500),
    "other secret": (tokens.user("alice", secret="x"), 3500),
    "expired": (tokens.user("alice", exp=1), 3005),
    "expire_at is over": (tokens.user("alice", expire_at=1), 3005),
    "a channel more": (tokens.user("alice", channels=["a", "b", "c"]), 3010),
    "a channel less": (tokens.user("alice", channels=["a"]), 3010),
    "no channels": (tokens.user("alice"), 3010),
    "other channels": (tokens.user("alice", channels=["a", "x"]), 3010),
}


@pytest.mark.parametrize("token, code", BAD_REFRESH.values(), ids=BAD_REFRESH.keys())
def test_bad_refresh(node, make_client, token, code):
    client = connect_as(make_client, node, "alice", exp=tokens.later(60), channels=["a", "b"])
    client.send(client.command("refresh", token=token))
    client.expect_disconnect(code)


def test_refresh_with_the_same_channels_in_other_words(node, make_client):
    client = connect_as(make_client, node, "alice", exp=tokens.later(60), channels=["a", "b"])
    same = tokens.user("alice", exp=tokens.later(90), subs={"b": {}, "a": {"info": {}}})
    assert client.result("refresh", token=same)["ttl"] > 60


# Subscriptions

def test_subscription_ttl_is_told(node, make_client):
    client = connect_as(make_client, node, "alice")
    result = subscribe(client, "c", exp=tokens.later(100))
    assert result["expires"] is True and 90 <= result["ttl"] <= 100
    assert "expires" not in subscribe(client, "d")


def test_expired_subscription_is_2501(node, make_client):
    client = connect_as(make_client, node, "alice")
    subscribe(client, "stays")
    subscribe(client, "later", exp=tokens.later(60))
    for channel in ("c", "d"):
        subscribe(client, channel, exp=tokens.later(2))
    ended = {}
    for _ in range(2):
        push = client.push()
        ended[push["channel"]] = push["unsubscribe"]
    assert {c: e["code"] for c, e in ended.items()} == {"c": 2501, "d": 2501}
    assert all(e["reason"] for e in ended.values())
    node.publish("c", 1)
    node.publish("stays", 2)
    node.publish("later", 3)
    assert {client.push()["channel"] for _ in range(2)} == {"stays", "later"}
    client.expect_quiet()
    subscribe(client, "c")


def test_expired_server_side_subscription_is_3006(node, make_client):
    client = connect_as(make_client, node, "alice")
    node.api("subscribe", user="alice", channel="c", expire_at=tokens.later(2))
    assert "subscribe" in client.push()
    client.expect_disconnect(3006)


def test_sub_refresh(node, make_client):
    client = connect_as(make_client, node, "alice")
    subscribe(client, "c", exp=tokens.later(2), info={"n": 1})
    subscribe(client, "d", exp=tokens.later(3))
    fresh = tokens.subscription("alice", "c", exp=tokens.later(60), info={"n": 2})
    result = client.result("sub_refresh", channel="c", token=fresh)
    assert result["expires"] is True and 50 <= result["ttl"] <= 60
    info = client.result("presence", channel="d")["presence"][client.id]
    assert "chan_info" not in info
    client.result("publish", channel="c", data=1)
    assert client.publication("c")["info"]["chan_info"] == {"n": 2}
    push = client.push()
    assert push["channel"] == "d" and push["unsubscribe"]["code"] == 2501
    client.expect_quiet()


def test_sub_refresh_to_no_end(node, make_client):
    client = connect_as(make_client, node, "alice")
    subscribe(client, "c", exp=tokens.later(2))
    subscribe(client, "d", exp=tokens.later(3))
    assert client.result("sub_refresh", channel="c",
                         token=tokens.subscription("alice", "c")) == {}
    assert client.push()["channel"] == "d"
    client.expect_quiet()


BAD_SUB_REFRESH = {
    "garbage": ("x", 3500), "other user": (tokens.subscription("bob", "c"), 3500),
    "other channel": (tokens.subscription("alice", "d"), 3500),
    "other client": (tokens.subscription("alice", "c", client="x"), 3500),
    "other secret": (tokens.subscription("alice", "c", secret="x"), 3500),
    "expired": (tokens.subscription("alice", "c", exp=1), 3006),
    "expire_at is over": (tokens.subscription("alice", "c", expire_at=1), 3006),
}


@pytest.mark.parametrize("token, code", BAD_SUB_REFRESH.values(), ids=BAD_SUB_REFRESH.keys())
def test_bad_sub_refresh(node, make_client, token, code):
    client = connect_as(make_client, node, "alice")
    subscribe(client, "c", exp=tokens.later(60))
    client.send(client.command("sub_refresh", channel="c", token=token))
    client.expect_disconnect(code)


def test_sub_refresh_errors(node, make_client):
    client = connect_as(make_client, node, "alice", channels=["server"])
    subscribe(client, "c", exp=tokens.later(60))
    assert client.error("sub_refresh", channel="d", token="x") == 103
    assert client.error("sub_refresh", channel="c", token="") == 107
    assert client.error("sub_refresh", channel="c") == 107
    client.send(client.command("sub_refresh", channel="server", token="x"))
    client.expect_disconnect(3501)


def test_the_end_survives_other_traffic(node, make_client):
    """Pings, commands and pushes arm the connection's timer too."""
    client = connect_as(make_client, node, "alice", exp=tokens.later(2))
    subscribe(client, "c")

    def ended():
        try:
            client.result("publish", channel="c", data=1)
        except Exception as end:  # Disconnected, or the socket's own word for it
            return end
        return None
    assert getattr(wait_until(ended, "the connection expires"), "code", 3005) == 3005
