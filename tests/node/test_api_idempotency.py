# SPDX-License-Identifier: ISC
"""Publishing that may be repeated: idempotency keys and versions; history_remove; error modes."""

import json
import threading

import pytest

from keepsock import wait_until

HISTORY_OFF = {"history_size": 0, "history_ttl": 0, "force_recovery": False}


def history(node, channel):
    return node.api("history", channel=channel, limit=-1)["result"]


def published(node, channel):
    return [p["data"] for p in history(node, channel)["publications"]]


# Idempotency keys

def test_a_key_publishes_once(node, client, channel):
    client.result("subscribe", channel=channel)
    first = node.publish(channel, "a", idempotency_key="k")
    again = node.publish(channel, "b", idempotency_key="k")
    other = node.publish(channel, "c", idempotency_key="l")
    assert again == first and other == {"offset": 2, "epoch": first["epoch"]}
    assert [client.publication(channel)["data"] for _ in range(2)] == ["a", "c"]
    client.expect_quiet()
    assert published(node, channel) == ["a", "c"]


def test_a_key_is_its_channels(node, channel):
    for name in (channel + "-1", channel + "-2"):
        assert node.publish(name, 1, idempotency_key="k")["offset"] == 1
    # {a.b, c} is not {a, b.c}
    assert node.publish(channel + ".b", 1, idempotency_key="c")["offset"] == 1
    assert node.publish(channel, 1, idempotency_key="b.c")["offset"] == 1


def test_a_key_without_history(start_node, make_client):
    node = start_node(channel=HISTORY_OFF)
    subscriber = make_client(node)
    subscriber.result("subscribe", channel="c")
    for i in range(3):
        assert node.api("publish", channel="c", data=i, idempotency_key="k") == {"result": {}}
    assert subscriber.publication("c")["data"] == 0
    subscriber.expect_quiet()


def test_a_broadcast_by_key_repeats_only_what_is_missing(node, channel):
    names = [f"{channel}-{i}" for i in range(4)]
    node.publish(names[1], "before", idempotency_key="k")
    for _ in range(2):
        answer = node.api("broadcast", channels=names, data="all", idempotency_key="k")
        assert [r["result"]["offset"] for r in answer["result"]["responses"]] == [1, 1, 1, 1]
    assert [published(node, name) for name in names] == [["all"], ["before"], ["all"], ["all"]]


def test_many_callers_with_one_key(node, channel):
    results = []

    def call():
        results.append(node.publish(channel, 1, idempotency_key="k")["offset"])
    callers = [threading.Thread(target=call) for _ in range(16)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [1] * 16 and history(node, channel)["offset"] == 1


def test_a_key_is_forgotten_in_time(start_node):
    node = start_node(http_api={"idempotency_result_ttl": "1s"})
    assert node.publish("c", 1, idempotency_key="k")["offset"] == 1
    wait_until(lambda: node.publish("c", 2, idempotency_key="k")["offset"] == 2,
               "the key's time is over")


@pytest.mark.parametrize("field", ["idempotency_key", "version_epoch"])
def test_names_to_remember_have_a_limit(node, channel, field):
    assert "result" in node.api("publish", channel=channel, data=1, version=1, **{field: "x" * 255})
    for method, where in (("publish", {"channel": channel}), ("broadcast", {"channels": [channel]})):
        assert node.api(method, data=1, **where, **{field: "x" * 256})["error"]["code"] == 107


def test_suppressed_publications_are_counted(node, channel):
    before = node.metrics()
    for _ in range(3):
        node.publish(channel, 1, idempotency_key="k")
    after = node.metrics()

    def grown(name):
        return after[f"keepsock_{name}"] - before[f"keepsock_{name}"]
    assert grown("publications_published_total") == 1
    assert grown("publications_suppressed_total") == 2


# Versions

def test_an_old_version_is_not_published(node, client, channel):
    client.result("subscribe", channel=channel)
    assert node.publish(channel, "v2", version=2)["offset"] == 1
    for old in (1, 2):
        assert node.publish(channel, f"v{old}", version=old)["offset"] == 1
    assert node.publish(channel, "v3", version=3)["offset"] == 2
    assert node.publish(channel, "plain")["offset"] == 3
    assert published(node, channel) == ["v2", "v3", "plain"]
    assert [client.publication(channel)["data"] for _ in range(3)] == ["v2", "v3", "plain"]
    client.expect_quiet()


def test_versions_of_another_epoch_begin_anew(node, channel):
    node.publish(channel, "a9", version=9, version_epoch="a")
    node.publish(channel, "a8", version=8, version_epoch="a")
    node.publish(channel, "b1", version=1, version_epoch="b")
    node.publish(channel, "b1 again", version=1, version_epoch="b")
    assert published(node, channel) == ["a9", "b1"]


def test_versions_beyond_doubles(node, channel):
    big = 2**64 - 1
    for version in (big - 1, big, big - 1):
        node.publish(channel, version, version=version)
    assert [int(d) for d in published(node, channel)] == [big - 1, big]


def test_versions_in_a_broadcast(node, channel):
    names = [f"{channel}-{i}" for i in range(3)]
    node.publish(names[0], "new", version=5)
    node.api("broadcast", channels=names, data="all", version=4)
    assert [published(node, name) for name in names] == [["new"], ["all"], ["all"]]


def test_delta_is_not_available(node, channel):
    assert node.api("publish", channel=channel, data=1, delta=True)["error"]["code"] == 108


# history_remove

def test_history_remove_keeps_epoch_and_offset(node, client, channel):
    client.result("subscribe", channel=channel)
    for i in range(3):
        position = node.publish(channel, i)
    assert node.api("history_remove", channel=channel) == {"result": {}}
    assert history(node, channel) == {"publications": [], "offset": 3, "epoch": position["epoch"]}
    assert node.publish(channel, "next") == {"offset": 4, "epoch": position["epoch"]}
    assert [client.publication(channel)["offset"] for _ in range(4)] == [1, 2, 3, 4]


def test_who_missed_what_was_removed_is_told(node, make_client, channel):
    position = node.publish(channel, 0)
    node.publish(channel, 1)
    node.api("history_remove", channel=channel)
    late = make_client(node)
    result = late.result("subscribe", channel=channel, recover=True, offset=position["offset"],
                         epoch=position["epoch"])
    assert result["was_recovering"] and not result.get("recovered")
    current = make_client(node)
    result = current.result("subscribe", channel=channel, recover=True, offset=2,
                            epoch=position["epoch"])
    assert result["recovered"] and not result.get("publications")


def test_history_remove_of_nothing(node, channel):
    assert node.api("history_remove", channel=channel) == {"result": {}}


def test_history_remove_errors(node, start_node):
    assert node.api("history_remove")["error"]["code"] == 107
    assert node.api("history_remove", channel="news:x")["error"]["code"] == 102
    plain = start_node(channel=HISTORY_OFF)
    assert plain.api("history_remove", channel="c")["error"]["code"] == 108


# Error modes

@pytest.mark.parametrize("method, body, status, code, message", [
    ("publish", {"channel": "news:x", "data": 1}, 404, 102, "unknown channel"),
    ("rpc", {"method": "x"}, 404, 104, "not found"),
    ("publish", {"channel": "c"}, 400, 107, "bad request"),
    ("publish", {"channel": "c", "data": 1, "delta": True}, 400, 108, "not available"),
    ("history", {"channel": "c", "since": {"offset": 1, "epoch": "x" * 99}}, 416, 112,
     "unrecoverable position")])
def test_errors_in_both_modes(node, method, body, status, code, message):
    error = {"code": code, "message": message}
    text = json.dumps(body).encode()
    response = node.api_raw(method, text)
    assert (response.status, response.json()) == (200, {"error": error})
    response = node.api_raw(method, text, {"X-Centrifugo-Error-Mode": "transport"})
    assert (response.status, response.json()) == (status, error)
    response = node.api_raw(method, text, {"X-Centrifugo-Error-Mode": "other"})
    assert (response.status, response.json()) == (200, {"error": error})


def test_the_setting_makes_transport_errors_the_rule(start_node):
    node = start_node(http_api={"error_mode": "transport"})
    response = node.api_raw("publish", b'{"channel":"news:x","data":1}')
    assert (response.status, response.json()["code"]) == (404, 102)
    assert node.api("publish", channel="c", data=1)["result"]["offset"] == 1


def test_redis_away_is_500_in_transport_mode(start_node, redis):
    node = start_node(redis={"server": redis.url}, http_api={"error_mode": "transport"})
    redis.kill()
    wait_until(lambda: not node.is_ready(), "the node noticed")
    for method, body in (("publish", b'{"channel":"c","data":1}'), ("info", b"{}"),
                         ("history_remove", b'{"channel":"c"}')):
        response = node.api_raw(method, body)
        assert (response.status, response.json()["code"]) == (500, 100), method
