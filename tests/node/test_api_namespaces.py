# SPDX-License-Identifier: ISC
"""The HTTP API in namespaces: each channel by the options of its own namespace."""

import pytest

NAMESPACES = [
    {"name": "kept", "history_size": 2, "history_ttl": "5m", "presence": True},
    {"name": "bare"},
    {"name": "digits", "channel_regex": "^[0-9]+$", "history_size": 5, "history_ttl": "5m"},
]


@pytest.fixture(scope="module")
def node():
    from keepsock import Keepsock
    shared = Keepsock(namespaces=NAMESPACES)
    try:
        yield shared.start()
    finally:
        shared.stop()
        shared.remove()


def code(node, method, **body):
    answer = node.api(method, **body)
    return answer["error"]["code"] if "error" in answer else 0


def test_history_is_each_namespaces_own(node):
    for i in range(4):
        assert node.publish("kept:a", i)["offset"] == i + 1
    result = node.api("history", channel="kept:a", limit=-1)["result"]
    assert [p["data"] for p in result["publications"]] == [2, 3]
    assert node.publish("bare:a", 1) == {}
    assert node.publish("plain", 1)["offset"] == 1


def test_private_channels_and_those_of_users(node):
    assert node.publish("$kept:a", 1)["offset"] == 1
    assert node.publish("kept:dialog#1,2", 1)["offset"] == 1


@pytest.mark.parametrize("method", ["history", "history_remove", "presence", "presence_stats"])
def test_what_a_namespace_does_not_have_is_108(node, method):
    assert code(node, method, channel="bare:a") == 108
    assert code(node, method, channel="kept:a") == 0


@pytest.mark.parametrize("method", ["publish", "history", "history_remove", "presence",
                                    "presence_stats"])
def test_unknown_namespaces_and_bad_names(node, method):
    assert code(node, method, channel="none:a", data=1) == 102
    assert code(node, method, channel="", data=1) == 107
    assert code(node, method, channel="x" * 256, data=1) == 107
    assert code(node, method, channel="kept:\u00e9", data=1) == 107


def test_a_namespaces_regex_binds_the_api_too(node):
    assert node.publish("digits:123", 1)["offset"] == 1
    assert code(node, "publish", channel="digits:12a", data=1) == 107


def test_a_broadcast_over_namespaces(node):
    names = ["kept:b", "bare:b", "none:b", "digits:b", "digits:1"]
    responses = node.api("broadcast", channels=names, data=1)["result"]["responses"]
    assert [r.get("error", {}).get("code") for r in responses] == [None, None, 102, 107, None]
    assert "offset" in responses[0]["result"] and responses[1]["result"] == {}
