# SPDX-License-Identifier: ISC
"""Several calls in one request of the HTTP API: batch and the legacy endpoint; and callers who
leave, or half leave, while a call is under way."""

import json
import socket
import struct

import pytest

from keepsock import API_KEY, wait_until
from wire import Http, http

COMMANDS_MAX = 1000
HEAD = {"X-API-Key": API_KEY}


def replies(node, commands, **more):
    response = node.api_raw("batch", json.dumps({"commands": commands, **more}).encode())
    assert response.status == 200, response
    answer = response.json()
    assert list(answer) == ["replies"], answer
    return answer["replies"]


def legacy(node, *commands, path="/api"):
    body = "\n".join(c if isinstance(c, str) else json.dumps(c) for c in commands).encode()
    return http(node.port, "POST", path, HEAD, body)


def lines(response):
    assert response.status == 200, response
    return [json.loads(line) for line in response.body.decode().split("\n")]


# batch

@pytest.mark.parametrize("parallel", [False, True])
def test_replies_are_in_the_order_of_the_commands(node, channel, parallel):
    names = [f"{channel}-{i}" for i in range(200)]
    answers = replies(node, [{"publish": {"channel": name, "data": i}}
                             for i, name in enumerate(names)], parallel=parallel)
    assert len(answers) == len(names)
    assert all(list(a) == ["publish"] and a["publish"]["offset"] == 1 for a in answers), answers
    again = replies(node, [{"history": {"channel": name, "limit": 1}} for name in names],
                    parallel=parallel)
    assert [a["history"]["publications"][0]["data"] for a in again] == list(range(200))


def test_commands_of_a_sequential_batch_see_each_other(node, channel):
    """Publishing to one channel n times gives rising offsets, and a read behind it sees them."""
    commands = [{"publish": {"channel": channel, "data": i}} for i in range(50)]
    answers = replies(node, [*commands, {"history": {"channel": channel, "limit": -1}}])
    assert [a["publish"]["offset"] for a in answers[:-1]] == list(range(1, 51))
    assert [p["data"] for p in answers[-1]["history"]["publications"]] == list(range(50))


def test_a_batch_reaches_subscribers_in_order(node, client, channel):
    client.result("subscribe", channel=channel)
    replies(node, [{"publish": {"channel": channel, "data": i}} for i in range(30)], parallel=True)
    assert [client.publication(channel)["data"] for _ in range(30)] == list(range(30))


def test_an_error_is_its_commands_alone(node, channel):
    answers = replies(node, [
        {"publish": {"channel": channel, "data": 1}},
        {"publish": {"channel": "news:x", "data": 1}},
        {"publish": {"channel": channel}},
        {"no_such_method": {}},
        {},
        {"rpc": {"method": "x"}},
        {"info": {}},
        {"broadcast": {"channels": [channel, "news:x"], "data": 2}},
    ])
    assert answers[0]["publish"]["offset"] == 1
    assert [a["error"]["code"] for a in answers[1:6]] == [102, 107, 104, 104, 104]
    assert all(list(a) == ["error"] and a["error"]["message"] for a in answers[1:6])
    assert len(answers[6]["info"]["nodes"]) == 1
    responses = answers[7]["broadcast"]["responses"]
    assert responses[0]["result"]["offset"] == 2 and responses[1]["error"]["code"] == 102


def test_transport_errors_do_not_concern_the_commands_of_a_batch(node):
    body = json.dumps({"commands": [{"publish": {"channel": "news:x", "data": 1}}]}).encode()
    response = node.api_raw("batch", body, {"X-Centrifugo-Error-Mode": "transport"})
    assert response.status == 200 and response.json()["replies"][0]["error"]["code"] == 102


@pytest.mark.parametrize("body", [b"{}", b'{"commands":[]}', b'{"commands":null,"parallel":true}'])
def test_an_empty_batch(node, body):
    assert node.api_raw("batch", body).json() == {"replies": []}


def test_one_broken_command_and_none_has_an_effect(node, channel):
    body = json.dumps({"commands": [{"publish": {"channel": channel, "data": 1}},
                                    {"publish": {"channel": 5, "data": 1}}]}).encode()
    assert node.api_raw("batch", body).status == 400
    assert node.api("history", channel=channel, limit=-1)["result"]["publications"] == []


@pytest.mark.parametrize("body", [b"", b"[]", b'{"commands":{}}', b'{"commands":[1]}',
                                  b'{"commands":[{}', b'{"commands":[],"parallel":1}'])
def test_bad_batches_are_400(node, body):
    assert node.api_raw("batch", body).status == 400


def test_the_most_commands_and_one_more(node):
    assert len(replies(node, [{"rpc": {}}] * COMMANDS_MAX)) == COMMANDS_MAX
    body = json.dumps({"commands": [{"rpc": {}}] * (COMMANDS_MAX + 1)}).encode()
    assert node.api_raw("batch", body).json()["error"]["code"] == 107
    response = node.api_raw("batch", body, {"X-Centrifugo-Error-Mode": "transport"})
    assert response.status == 400 and response.json()["code"] == 107


@pytest.mark.parametrize("parallel", [False, True])
def test_a_full_batch_that_waits_for_redis(node, channel, parallel):
    answers = replies(node, [{"publish": {"channel": channel, "data": 0}}] * COMMANDS_MAX,
                      parallel=parallel)
    assert [a["publish"]["offset"] for a in answers] == list(range(1, COMMANDS_MAX + 1))


def test_answers_are_bounded(node, channel):
    """A hundred times 100 KB do not fit in 4 MiB: what does fit is whole, the rest says so."""
    node.publish(channel, "x" * 100_000)
    answers = replies(node, [{"history": {"channel": channel, "limit": 1}}] * 100)
    errors = [a["error"]["code"] for a in answers if "error" in a]
    whole = [a for a in answers if "history" in a]
    assert set(errors) == {106} and len(errors) + len(whole) == 100
    assert 35 <= len(whole) <= 42
    assert all(len(a["history"]["publications"][0]["data"]) == 100_000 for a in whole)
    assert "error" not in answers[0] and "history" not in answers[-1]


def test_batches_need_the_key(node):
    assert http(node.port, "POST", "/api/batch", {"X-API-Key": "x"}, b"{}").status == 401
    assert http(node.port, "POST", "/api", {"X-API-Key": "x"}, b"{}").status == 401


def test_a_batch_while_redis_is_away(start_node, redis):
    node = start_node(redis={"server": redis.url})
    redis.kill()
    wait_until(lambda: not node.is_ready(), "the node noticed")
    answers = replies(node, [{"publish": {"channel": "c", "data": 1}}, {"rpc": {}}] * 100)
    assert [a["error"]["code"] for a in answers] == [100, 107] * 100


def test_a_batch_while_redis_hangs_comes_to_an_end(start_node, redis):
    """However long each command waits, a batch starts none after ten seconds."""
    node = start_node(redis={"server": redis.url, "command_timeout": "700ms"})
    redis.pause()
    try:
        answers = replies(node, [{"publish": {"channel": "c", "data": 1}}] * COMMANDS_MAX)
    finally:
        redis.resume()
    assert [a["error"]["code"] for a in answers] == [100] * COMMANDS_MAX


def test_calls_are_counted(node, channel):
    def counts():
        metrics = node.metrics()
        return metrics["keepsock_api_calls_total"], metrics["keepsock_api_errors_total"]
    before = counts()
    replies(node, [{"publish": {"channel": channel, "data": 1}}, {"publish": {}}, {"rpc": {}}])
    node.publish(channel, 2)
    assert [after - old for after, old in zip(counts(), before)] == [4, 2]


# legacy

def test_legacy_single(node, client, channel):
    client.result("subscribe", channel=channel)
    answers = lines(legacy(node, {"method": "publish",
                                  "params": {"channel": channel, "data": {"a": 1}}}))
    assert len(answers) == 1 and answers[0]["result"]["offset"] == 1
    assert client.publication(channel)["data"] == {"a": 1}


@pytest.mark.parametrize("path", ["/api", "/api/"])
def test_legacy_lines(node, channel, path):
    answers = lines(legacy(
        node, {"id": 7, "method": "publish", "params": {"channel": channel, "data": 1}},
        {"method": "PUBLISH", "params": {"channel": channel, "data": 2}},
        {"id": 9, "method": "publish", "params": {"channel": "news:x", "data": 1}},
        {"method": "publish", "params": {"channel": 5}},
        {"id": 11, "method": "no_such_method"},
        {"method": "info"},
        {"method": "history", "params": {"channel": channel, "limit": -1}}, path=path))
    assert answers[0]["id"] == 7 and answers[0]["result"]["offset"] == 1
    assert answers[1]["result"]["offset"] == 2 and "id" not in answers[1]
    assert answers[2]["id"] == 9 and answers[2]["error"]["code"] == 102
    assert answers[3]["error"]["code"] == 107
    assert answers[4]["id"] == 11 and answers[4]["error"]["code"] == 104
    assert len(answers[5]["result"]["nodes"]) == 1
    assert [p["data"] for p in answers[6]["result"]["publications"]] == [1, 2]


@pytest.mark.parametrize("body", ["", "{", "[]", '{"method":1}', '{"method":"info"},{}'])
def test_bad_legacy_bodies_are_400(node, body):
    assert legacy(node, body).status == 400


# Who leaves

@pytest.fixture
def paused(start_node, redis):
    """A node whose Redis does not answer until it is resumed."""
    node = start_node(redis={"server": redis.url, "command_timeout": "30s"})
    redis.pause()
    yield node
    redis.resume()


def open_connections(node):
    return node.ctl_json("status")["connections"]


def reset(connection):
    """Closes it as a killed process with unread data does."""
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("path, body", [
    ("/api/publish", b'{"channel":"c","data":1}'),
    ("/api/batch", b'{"parallel":true,"commands":[%s]}' % b",".join(
        [b'{"publish":{"channel":"c","data":1}}'] * 300)),
    ("/api/info", b"{}")])
def test_a_caller_who_breaks_off_is_not_kept(paused, path, body):
    before = open_connections(paused)
    callers = [Http(paused.port) for _ in range(4)]
    for caller in callers:
        caller.send_request("POST", path, HEAD, body)
    wait_until(lambda: paused.metrics()["keepsock_http_requests_total"] >= 4 and
               open_connections(paused) >= before + 4, "the calls are under way")
    for caller in callers:
        reset(caller)
    wait_until(lambda: open_connections(paused) <= before, "their connections are gone")


def test_a_half_closed_caller_is_answered(start_node, redis):
    node = start_node(redis={"server": redis.url, "command_timeout": "30s"})
    redis.pause()
    with Http(node.port) as caller:
        for i in range(3):
            caller.send_request("POST", "/api/publish", HEAD,
                                json.dumps({"channel": "c", "data": i}).encode())
        caller.socket.shutdown(socket.SHUT_WR)
        redis.resume()
        for i in range(3):
            assert caller.read_response().json()["result"]["offset"] == i + 1
        caller.expect_end()


def test_half_of_a_request_and_the_end(node):
    """What follows an answered request will never be whole: the connection ends."""
    with Http(node.port) as caller:
        caller.send_request("POST", "/api/info", HEAD, b"{}")
        caller.send(b"POST /api/info HTTP/1.1\r\nHost: x\r\n")
        caller.socket.shutdown(socket.SHUT_WR)
        assert caller.read_response().status == 200
        caller.expect_end()


def test_requests_behind_a_waiting_one_are_served_in_order(node, channel):
    with Http(node.port) as caller:
        for i in range(100):
            caller.send_request("POST", "/api/publish", HEAD,
                                json.dumps({"channel": channel, "data": "x" * 2000}).encode())
        for i in range(100):
            assert caller.read_response().json()["result"]["offset"] == i + 1


def test_an_upgrade_after_publishing_starts_a_new_count(node, channel):
    """Redis remembers the connection's last command: the client's first ones are newer."""
    with Http(node.port) as caller:
        for i in range(3):
            response = caller.request("POST", "/api/publish", HEAD,
                                      json.dumps({"channel": channel, "data": i}).encode())
            assert response.json()["result"]["offset"] == i + 1
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                   "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
        assert caller.request("GET", "/connection/websocket", upgrade).status == 101
        commands = ['{"id":1,"connect":{}}'] + [
            json.dumps({"id": i, "publish": {"channel": channel, "data": i}}) for i in (2, 3)]
        payload = "\n".join(commands).encode()
        mask = b"\0\0\0\0"
        caller.send(bytes([0x81, 0x80 | 126]) + struct.pack(">H", len(payload)) + mask + payload)
        wait_until(lambda: node.api("history", channel=channel)["result"]["offset"] == 5,
                   "both publications of the client are there")
