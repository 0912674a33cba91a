# SPDX-License-Identifier: ISC
"""Namespaces and permissions as clients meet them: each channel by its own options."""

import pytest

import tokens
from client import Client, Disconnected
from keepsock import Keepsock, Redis, wait_until

SECRET = "a-secret-of-the-application"

NAMESPACES = [
    {"name": "closed"},
    {"name": "users", "allow_subscribe_for_client": True, "allow_publish_for_client": True},
    {"name": "public", "allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True},
    {"name": "talk", "allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True,
     "allow_publish_for_subscriber": True, "allow_publish_for_anonymous": True,
     "allow_presence_for_subscriber": True, "allow_presence_for_anonymous": True,
     "allow_history_for_subscriber": True, "allow_history_for_anonymous": True,
     "presence": True, "history_size": 10, "history_ttl": "5m"},
    {"name": "quiet", "allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True,
     "history_size": 10, "history_ttl": "5m"},
    {"name": "watched", "allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True,
     "history_size": 10, "history_ttl": "5m", "allow_positioning": True, "allow_recovery": True},
    {"name": "team", "allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True,
     "allow_user_limited_channels": True},
    {"name": "room", "allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True,
     "channel_regex": "^[^A-Z0-9]+$"},
]
RIGHTS = ("subscribe", "publish", "presence", "history")


@pytest.fixture(scope="module")
def node():
    shared = Keepsock(client={"insecure": False, "allow_anonymous": True}, namespaces=NAMESPACES,
                      channel={f"allow_{right}_for_client": False for right in RIGHTS},
                      token={"hmac_secret_file": "secret"})
    secret = shared.directory / "secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    try:
        yield shared.start()
    finally:
        shared.stop()
        shared.remove()


@pytest.fixture
def anonymous(node, make_client):
    return make_client(node)


def connect(client, user):
    token = tokens.hmac({"sub": user, "exp": tokens.later(600)}, SECRET)
    return client.result("connect", token=token)


@pytest.fixture
def user(node):
    """Connected as the user 42."""
    with Client(node.port, connect=False) as client:
        client.id = connect(client, "42")["client"]
        yield client


@pytest.mark.parametrize("channel, code", [
    ("none:x", 102), ("$none:x", 102), (":x", 102), ("closed:x", 103), ("x", 103),
    ("users:x", 103), ("public:x", 0), ("public:", 0), ("public:x#42", 0), ("$public:x", 103),
    ("team:x", 0), ("team:x#42", 103), ("team:x#", 103), ("$team:x#42", 103),
    ("room:caf", 0), ("room:café", 0), ("room:Caf", 107), ("room:", 107), ("$room:1", 107),
    ("public:café", 107), ("closed:café", 107), ("none:café", 102)])
def test_subscribing_without_a_user(anonymous, channel, code):
    reply = anonymous.call("subscribe", channel=channel)
    assert reply.get("error", {}).get("code", 0) == code, reply


@pytest.mark.parametrize("channel, code", [
    ("none:x", 102), ("closed:x", 103), ("x", 103), ("users:x", 0), ("public:x", 0),
    ("$users:x", 103), ("users:x#43", 0), ("team:x", 0), ("team:x#42", 0), ("team:#41,42", 0),
    ("team:x#43", 103), ("team:x#42#43", 103), ("team:x#4", 103), ("team:x#", 103),
    ("$team:x#42", 103), ("closed:x#42", 103)])
def test_subscribing_as_a_user(user, channel, code):
    reply = user.call("subscribe", channel=channel)
    assert reply.get("error", {}).get("code", 0) == code, reply


def test_a_token_opens_what_options_close(user):
    def token(channel, sub="42"):
        return tokens.hmac({"sub": sub, "channel": channel, "exp": tokens.later(600)}, SECRET)

    for channel in ("closed:a", "$closed:b", "team:c#43", "$team:d#43", "e"):
        user.result("subscribe", channel=channel, token=token(channel))
    # The name's own rules come first, and a token for somebody else is never ignored.
    assert user.error("subscribe", channel="none:x", token=token("none:x")) == 102
    assert user.error("subscribe", channel="room:X", token=token("room:X")) == 107
    assert user.error("subscribe", channel="users:x", token="nonsense") == 103
    with pytest.raises(Disconnected) as gone:
        user.result("subscribe", channel="users:x", token=token("users:x", sub="43"))
    assert gone.value.code == 3500


def test_publishing_as_a_user(user, anonymous):
    assert user.result("publish", channel="users:x", data=1) == {}
    assert anonymous.error("publish", channel="users:x", data=1) == 103
    assert user.error("publish", channel="public:x", data=1) == 103
    assert user.error("publish", channel="talk:x", data=1) == 103
    user.result("subscribe", channel="talk:x")
    user.result("publish", channel="talk:x", data=1)
    assert user.publication("talk:x")["info"]["user"] == "42"


def test_rights_that_come_with_the_subscription(anonymous):
    calls = {"publish": {"data": 1}, "presence": {}, "presence_stats": {}, "history": {}}
    for method, more in calls.items():
        assert anonymous.error(method, channel="talk:rights", **more) == 103, method
    anonymous.result("subscribe", channel="talk:rights")
    for method, more in calls.items():
        anonymous.result(method, channel="talk:rights", **more)
    assert anonymous.publication("talk:rights")["data"] == 1
    for method, more in calls.items():
        assert anonymous.error(method, channel="talk:others", **more) == 103, method


def test_what_a_namespace_does_not_keep_is_108_before_103(anonymous):
    for method in ("presence", "presence_stats", "history"):
        assert anonymous.error(method, channel="closed:x") == 108, method
        assert anonymous.error(method, channel="none:x") == 102, method
        assert anonymous.error(method, channel="room:X") == 107, method


@pytest.mark.parametrize("namespace, granted", [("watched", True), ("talk", True),
                                                ("quiet", False)])
def test_asking_for_positioning_and_recovery(anonymous, namespace, granted):
    """By the option, or by the right to read the history; else the wish is not granted."""
    result = anonymous.result("subscribe", channel=f"{namespace}:p", positioned=True)
    assert result.get("positioned", False) == granted and "recoverable" not in result
    result = anonymous.result("subscribe", channel=f"{namespace}:r", recoverable=True)
    assert result.get("recoverable", False) == granted


def test_insecure_opens_every_namespace_but_no_private_channel(start_node, make_client):
    node = start_node(namespaces=NAMESPACES)
    client = make_client(node)
    for channel in ("closed:x", "users:x", "team:x#42", "x"):
        client.result("subscribe", channel=channel)
    client.result("publish", channel="closed:x", data=1)
    assert client.error("subscribe", channel="$closed:x") == 103
    assert client.error("subscribe", channel="none:x") == 102


def test_personal_channels(make_node, make_client):
    """Each user's own, by itself; nobody else's, and none for whose name would let others in."""
    node = make_node(client={"insecure": False, "allow_anonymous": True},
                     token={"hmac_secret_file": "secret"},
                     personal_channel={"enabled": True, "namespace": "me"},
                     namespaces=[{"name": "me", "allow_user_limited_channels": True}])
    secret = node.directory / "secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    node.start()
    assert not make_client(node).connected.get("subs")
    for user, channels in (("42", ["me:#42"]), ("a:b", ["me:#a:b"]), ("a,b", []), ("a#b", [])):
        client = make_client(node, connect=False)
        subs = connect(client, user).get("subs", {})
        assert list(subs) == channels, user
        if channels:
            node.publish(channels[0], user)
            assert client.publication(channels[0])["data"] == user
        assert client.error("subscribe", channel="me:#43") == 103


def test_presence_lives_as_long_as_its_namespace_says(start_node, make_client):
    """Each entry is renewed for the time of its own channel, also where `channel` keeps none."""
    redis = Redis().start()
    try:
        node = start_node(redis={"server": redis.url}, channel={"presence": False},
                          client={"presence_update_interval": "1s"},
                          namespaces=[{"name": "short", "presence": True, "presence_ttl": "20s"},
                                      {"name": "long", "presence": True, "presence_ttl": "2h"}])
        client = make_client(node)

        def expiry(channel):
            return int(redis.command("ZSCORE", f"keepsock.presence_expire.{channel}", client.id))

        first = {}
        for channel in ("short:x", "long:x"):
            client.result("subscribe", channel=channel)
            first[channel] = expiry(channel)
        assert 7000000 < first["long:x"] - first["short:x"] < 7200000
        for channel, before in first.items():
            wait_until(lambda: expiry(channel) > before, f"the presence in {channel} is renewed")
            assert expiry(channel) - before < 1000000
    finally:
        redis.stop()
