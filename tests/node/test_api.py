# SPDX-License-Identifier: ISC
"""The server HTTP API: methods, errors, keys, and its surveys."""

import json

import pytest

from keepsock import API_KEY, wait_until
from wire import Http, http


def error_code(answer):
    assert "result" not in answer, answer
    assert answer["error"]["message"]
    return answer["error"]["code"]


# Keys

def status_with(port, headers, query=""):
    return http(port, "POST", f"/api/info{query}", headers, b"{}").status


def test_three_ways_to_give_the_key(node):
    assert status_with(node.port, {"X-API-Key": API_KEY}) == 200
    assert status_with(node.port, {"x-api-key": API_KEY}) == 200
    assert status_with(node.port, {"Authorization": f"apikey {API_KEY}"}) == 200
    assert status_with(node.port, {}, f"?api_key={API_KEY}") == 200


def test_wrong_or_missing_key_is_401(node):
    assert status_with(node.port, {}) == 401
    for wrong in ("x", API_KEY + "x", API_KEY[:-1], API_KEY.upper(), ""):
        assert status_with(node.port, {"X-API-Key": wrong}) == 401
        assert status_with(node.port, {"Authorization": f"apikey {wrong}"}) == 401
        assert status_with(node.port, {}, f"?api_key={wrong}") == 401
    assert status_with(node.port, {"Authorization": f"Bearer {API_KEY}"}) == 401
    assert status_with(node.port, {"X-API-Key": "x", "Authorization": f"apikey {API_KEY}"}) == 401


def test_refusal_has_no_body_and_does_nothing(node, client, channel):
    client.result("subscribe", channel=channel)
    body = json.dumps({"channel": channel, "data": 1}).encode()
    response = http(node.port, "POST", "/api/publish", {"X-API-Key": "x"}, body)
    assert response.status == 401 and response.body == b""
    client.expect_quiet()


def test_without_a_key_the_api_is_closed(start_node):
    node = start_node(http_api={"key_file": ""})
    for key in ("", "x"):
        assert status_with(node.port, {"X-API-Key": key}) == 401
    assert status_with(node.port, {}) == 401


def test_insecure_api_needs_no_key(start_node):
    node = start_node(http_api={"key_file": "", "insecure": True})
    assert status_with(node.port, {}) == 200


# HTTP

def test_other_methods_are_405(node):
    for method in ("GET", "PUT", "DELETE"):
        response = http(node.port, method, "/api/info", {"X-API-Key": API_KEY})
        assert response.status == 405 and response.header("Allow") == "POST", response


@pytest.mark.parametrize("method", ["map_publish", "map_remove", "map_read_state",
                                    "map_read_stream", "map_stats", "map_clear",
                                    "shared_poll_publish"])
def test_methods_of_other_channel_types_are_108(node, method, channel):
    assert error_code(node.api(method, channel=channel, key="k", data=1)) == 108


def test_rpc_has_nobody_to_go_to(node):
    def rpc(body):
        return error_code(node.api_raw("rpc", body).json())
    assert rpc(b'{"method":"anything","params":{}}') == 104
    assert rpc(b"{}") == 107


def test_unknown_method_is_404(node):
    assert node.api_raw("no_such_method", b"{}").status == 404


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b'"x"', b"null", b"{} {}", b"{'a':1}",
                                  b'{"channel":5,"data":1}', b'{"channel":"c","data":01}',
                                  b'{"channel":"c","data":}', b'{"channel":"\xff","data":1}',
                                  b'{"channel":"c","data":1,}', b'{"channel":"c","data":"a\nb"}',
                                  b'{"channel":"c","data":' + b"[" * 5000 + b"]" * 5000 + b"}"],
                         ids=lambda body: body[:24])
def test_bad_json_is_400(node, body):
    response = node.api_raw("publish", body)
    assert response.status == 400, response
    assert response.body


def test_bad_json_leaves_the_connection_usable(node):
    with Http(node.port) as connection:
        head = {"X-API-Key": API_KEY}
        assert connection.request("POST", "/api/publish", head, b"{bad").status == 400
        assert connection.request("POST", "/api/info", head, b"{}").status == 200


def test_answer_is_json(node):
    response = node.api_raw("info", b"{}")
    assert response.header("Content-Type").startswith("application/json")


# publish and broadcast

def test_publish(node, client, channel):
    epoch = client.result("subscribe", channel=channel)["epoch"]
    assert node.api("publish", channel=channel, data={"x": 1}) == {
        "result": {"offset": 1, "epoch": epoch}}
    publication = client.publication(channel)
    assert publication["data"] == {"x": 1} and publication["offset"] == 1
    assert "info" not in publication


def test_publish_passes_tags(node, client, channel):
    client.result("subscribe", channel=channel)
    node.publish(channel, 1, tags={"kind": "a", "price": "2"})
    assert client.publication(channel)["tags"] == {"kind": "a", "price": "2"}
    history = client.result("history", channel=channel, limit=-1)["publications"]
    assert history[0]["tags"] == {"kind": "a", "price": "2"}


def test_publish_without_history(start_node, make_client):
    plain = start_node(channel={"history_size": 0, "history_ttl": 0, "force_recovery": False})
    subscriber = make_client(plain)
    subscriber.result("subscribe", channel="c")
    assert plain.api("publish", channel="c", data=1) == {"result": {}}
    assert subscriber.publication("c")["data"] == 1


def test_publish_can_skip_history(node, client, channel):
    client.result("subscribe", channel=channel)
    assert node.api("publish", channel=channel, data="kept")["result"]["offset"] == 1
    assert node.api("publish", channel=channel, data="passing", skip_history=True) == {
        "result": {}}
    assert client.publication(channel)["data"] == "kept"
    passing = client.publication(channel)
    assert passing["data"] == "passing" and "offset" not in passing
    history = node.api("history", channel=channel, limit=-1)["result"]
    assert [p["data"] for p in history["publications"]] == ["kept"]


@pytest.mark.parametrize("body, code", [({"data": 1}, 107), ({"channel": "", "data": 1}, 107),
                                        ({"channel": "c"}, 107),
                                        ({"channel": "news:x", "data": 1}, 102)])
def test_publish_errors(node, body, code):
    assert error_code(node.api("publish", **body)) == code


def test_unknown_fields_are_ignored(node, channel):
    assert node.api("publish", channel=channel, data=1, later={"version": 2})["result"]


def test_broadcast(node, client, channel):
    names = [f"{channel}-{i}" for i in range(5)]
    for name in names:
        client.result("subscribe", channel=name)
    node.publish(names[2], "first")
    assert client.publication(names[2])["data"] == "first"
    answer = node.api("broadcast", channels=names, data={"to": "all"})["result"]["responses"]
    assert [r["result"]["offset"] for r in answer] == [1, 1, 2, 1, 1]
    for name in names:
        assert client.publication(name)["data"] == {"to": "all"}


def test_broadcast_tells_each_channels_error(node, channel):
    responses = node.api("broadcast", channels=[channel, "news:x", channel + "-2"], data=1)[
        "result"]["responses"]
    assert "result" in responses[0] and "result" in responses[2]
    assert responses[1]["error"]["code"] == 102


@pytest.mark.parametrize("body", [{"data": 1}, {"channels": [], "data": 1}, {"channels": ["c"]}])
def test_broadcast_errors(node, body):
    assert error_code(node.api("broadcast", **body)) == 107


# history and presence

def test_history(node, channel):
    for i in range(5):
        position = node.publish(channel, i)

    def history(**more):
        result = node.api("history", channel=channel, **more)["result"]
        assert (result["offset"], result["epoch"]) == (5, position["epoch"])
        return [p["data"] for p in result["publications"]]
    since = {"offset": 2, "epoch": position["epoch"]}
    assert history() == []
    assert history(limit=0) == []
    assert history(limit=-1) == [0, 1, 2, 3, 4]
    assert history(limit=2) == [0, 1]
    assert history(limit=-1, since=since) == [2, 3, 4]
    assert history(limit=2, reverse=True) == [4, 3]
    assert history(limit=-1, since=since, reverse=True) == [0]


def test_history_errors(node, channel):
    assert error_code(node.api("history")) == 107
    assert error_code(node.api("history", channel="news:x")) == 102
    node.publish(channel, 1)
    assert error_code(node.api("history", channel=channel, limit=1,
                               since={"offset": 1, "epoch": "elsewhere"})) == 112


def test_history_has_no_client_limit(start_node):
    node = start_node(channel={"history_max_publication_limit": 2})
    for i in range(5):
        node.publish("c", i)
    assert len(node.api("history", channel="c", limit=-1)["result"]["publications"]) == 5


def test_off_features_are_108(start_node):
    node = start_node(channel={"history_size": 0, "history_ttl": 0, "force_recovery": False,
                               "presence": False})
    for method in ("history", "presence", "presence_stats"):
        assert error_code(node.api(method, channel="c")) == 108, method


def test_presence(node, client, make_client, channel):
    other = make_client(node)
    assert node.api("presence", channel=channel)["result"] == {"presence": {}}
    for member in (client, other):
        member.result("subscribe", channel=channel)
    assert node.api("presence", channel=channel)["result"]["presence"] == {
        member.id: {"user": "", "client": member.id} for member in (client, other)}
    assert node.api("presence_stats", channel=channel)["result"]["num_clients"] == 2


# channels and info: surveys over all workers

def test_channels(node, make_client, channel):
    clients = [make_client(node) for _ in range(8)]
    for i, client in enumerate(clients):
        client.result("subscribe", channel=f"{channel}/all")
        if i < 3:
            client.result("subscribe", channel=f"{channel}/some")
    channels = node.api("channels", pattern=f"{channel}/*")["result"]["channels"]
    assert channels == {f"{channel}/all": {"num_clients": 8}, f"{channel}/some": {"num_clients": 3}}
    assert node.api("channels", pattern=f"{channel}/s?me")["result"]["channels"] == {
        f"{channel}/some": {"num_clients": 3}}
    assert channels.items() <= node.api("channels")["result"]["channels"].items()
    assert node.api("channels", pattern="nothing/*")["result"]["channels"] == {}


def test_channels_follow_who_leaves(node, make_client, channel):
    clients = [make_client(node) for _ in range(4)]
    for client in clients:
        client.result("subscribe", channel=channel)
    clients[0].result("unsubscribe", channel=channel)
    for client in clients[1:]:
        client.cut()
    wait_until(lambda: node.api("channels", pattern=channel)["result"]["channels"] == {},
               "the empty channel is not listed")


def test_info(start_node, make_client):
    node = start_node()
    clients = [make_client(node) for _ in range(6)]
    for i, client in enumerate(clients):
        client.result("subscribe", channel="all")
        client.result("subscribe", channel=f"own-{i}")
    nodes = node.api("info")["result"]["nodes"]
    assert len(nodes) == 1
    info = nodes[0]
    assert info["name"] == "a" and info["uid"] and info["version"]
    assert info["num_clients"] == 6 and info["num_channels"] == 7
    assert info["num_subs"] == 12


def test_two_nodes_on_one_redis_see_each_other(start_node, make_client, redis):
    """The survey goes over the Redis control channel: workers of other nodes answer too."""
    external = {"server": redis.url}
    first = start_node(redis=external)
    second = start_node(node={"name": "b"}, redis=external)
    here, there = make_client(first), make_client(second)
    for client in (here, there):
        client.result("subscribe", channel="shared")
    first.publish("shared", 1)
    assert here.publication("shared")["data"] == there.publication("shared")["data"] == 1
    for node in (first, second):
        assert node.api("channels")["result"]["channels"] == {"shared": {"num_clients": 2}}
        nodes = node.api("info")["result"]["nodes"]
        assert sorted(n["name"] for n in nodes) == ["a", "b"]
        assert sum(n["num_clients"] for n in nodes) == 2
        assert node.api("presence_stats", channel="shared")["result"]["num_clients"] == 2
