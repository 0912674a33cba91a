# SPDX-License-Identifier: ISC
"""Recovery in cache mode: the newest publication alone, where the client has not got it yet."""

import pytest

import tokens

CACHE = {"force_recovery": True, "force_recovery_mode": "cache", "history_size": 10,
         "history_ttl": "5m", "allow_subscribe_for_client": True,
         "allow_publish_for_client": True}


@pytest.fixture(scope="module")
def node(auth_node_with):
    return auth_node_with(namespaces=[
        {"name": "cache", **CACHE}, {"name": "auto", **CACHE, "auto_cache_recover": True}])


def connect(make_client, node, **parameters):
    return make_client(node, connect={"token": tokens.user("alice"), **parameters})


def test_newest_alone(node, make_client, channel):
    name = f"cache:{channel}"
    for n in range(1, 6):
        node.publish(name, n)
    client = connect(make_client, node)
    result = client.result("subscribe", channel=name, recover=True, offset=1, epoch="")
    assert result["recovered"] and result["was_recovering"] and result["offset"] == 5
    assert [(p["data"], p["offset"]) for p in result["publications"]] == [(5, 5)]
    node.publish(name, 6)
    assert client.publication(name)["offset"] == 6


def test_whatever_the_client_knew(node, make_client, channel):
    """Another epoch, or an offset from nowhere: the newest one is as good as any."""
    name = f"cache:{channel}"
    node.publish(name, 1)
    client = connect(make_client, node)
    for since in ({"epoch": "xyzw", "offset": 1}, {"offset": 77}, {"epoch": "_" * 300}):
        result = client.result("subscribe", channel=name, recover=True, **since)
        assert result["recovered"] and [p["data"] for p in result["publications"]] == [1]
        client.result("unsubscribe", channel=name)


def test_client_at_the_top_gets_nothing(node, make_client, channel):
    name = f"cache:{channel}"
    node.publish(name, 1)
    client = connect(make_client, node)
    epoch = client.result("subscribe", channel=name)["epoch"]
    client.result("unsubscribe", channel=name)
    result = client.result("subscribe", channel=name, recover=True, offset=1, epoch=epoch)
    assert result["recovered"] and "publications" not in result


def test_empty_cache(node, make_client, channel):
    name = f"cache:{channel}"
    client = connect(make_client, node)
    result = client.result("subscribe", channel=name, recover=True)
    assert result["was_recovering"] and not {"recovered", "publications"} & result.keys()
    name += "-2"
    assert client.error("subscribe", channel=name, recover=True, flag=2) == 112


def test_without_recover_nothing_is_sent(node, make_client, channel):
    name = f"cache:{channel}"
    node.publish(name, 1)
    result = connect(make_client, node).result("subscribe", channel=name)
    assert not {"recovered", "was_recovering", "publications"} & result.keys()
    assert result["offset"] == 1


def test_auto_cache_recover(node, make_client, channel):
    name = f"auto:{channel}"
    for n in range(3):
        node.publish(name, n)
    result = connect(make_client, node).result("subscribe", channel=name)
    assert result["recovered"] and [p["data"] for p in result["publications"]] == [2]


def test_server_side(node, make_client, channel):
    names = [f"cache:{channel}", f"auto:{channel}"]
    for name in names:
        node.publish(name, name)
    client = connect(make_client, node, subs={names[0]: {"recover": True}, names[1]: {}})
    for name in names:
        assert [p["data"] for p in client.connected["subs"][name]["publications"]] == [name]


def test_after_the_history_is_gone(node, make_client, channel):
    name = f"cache:{channel}"
    node.publish(name, 1)
    assert node.api("history_remove", channel=name) == {"result": {}}
    client = connect(make_client, node)
    result = client.result("subscribe", channel=name, recover=True)
    assert result["was_recovering"] and "recovered" not in result and result["offset"] == 1
