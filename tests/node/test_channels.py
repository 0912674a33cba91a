# SPDX-License-Identifier: ISC
"""Namespaces and permissions as clients meet them: each channel by its own options."""

import pytest

from keepsock import Keepsock

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
                      channel={f"allow_{right}_for_client": False for right in RIGHTS})
    try:
        yield shared.start()
    finally:
        shared.stop()
        shared.remove()


@pytest.fixture
def anonymous(node, make_client):
    return make_client(node)


@pytest.mark.parametrize("channel, code", [
    ("none:x", 102), ("$none:x", 102), (":x", 102), ("closed:x", 103), ("x", 103),
    ("users:x", 103), ("public:x", 0), ("public:", 0), ("public:x#42", 0), ("$public:x", 103),
    ("team:x", 0), ("team:x#42", 103), ("team:x#", 103), ("$team:x#42", 103),
    ("room:caf", 0), ("room:café", 0), ("room:Caf", 107), ("room:", 107), ("$room:1", 107),
    ("public:café", 107), ("closed:café", 107), ("none:café", 102)])
def test_subscribing_without_a_user(anonymous, channel, code):
    reply = anonymous.call("subscribe", channel=channel)
    assert reply.get("error", {}).get("code", 0) == code, reply


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
