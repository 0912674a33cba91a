# SPDX-License-Identifier: ISC
"""The client protocol: envelope, connect, subscribe, publish, presence, pings; what each mistake
gets, and that payloads pass byte for byte. History and recovery: test_recovery.py."""

import json
import re
import time
import uuid

import pytest

from client import BINARY, TEXT, Client, Disconnected
from keepsock import Keepsock, wait_until
from wire import frame


def connect_only(node, *messages, **options):
    """A connection that has sent these messages and no connect of its own."""
    client = Client(node.port, connect=False, **options)
    client.send(*messages)
    return client


# Envelope

def test_connect(node, make_client):
    client = make_client(node)
    assert str(uuid.UUID(client.id)) == client.id
    assert client.connected["ping"] == 25 and client.connected["pong"] is True
    assert client.connected["version"]
    assert not {"session", "node", "expires", "subs"} & client.connected.keys()
    assert make_client(node).id != client.id


@pytest.mark.parametrize("text", ['{"id":1,"connect":{}}\n', '{"id":4294967295,"connect":{}}',
                                  ' { "connect" : { "name":"js", "version":"1" } , "id" : 1 } ',
                                  '{"id":1,"connect":{"nobody":[{"knows":null}]},"this":"field"}',
                                  '{"id":1,"subscribe":null,"connect":{}}',
                                  '{"connect":{"data":{"any":1},"headers":{"a":"b"}},"id":1}'])
def test_connect_variants(node, text):
    with connect_only(node, text) as client:
        assert client.reply(json.loads(text)["id"])["connect"]["client"]


def test_sub_protocol_is_echoed_only_if_offered(node, make_client):
    client = make_client(node, headers={"Sec-WebSocket-Protocol": "centrifuge-json"})
    assert client.websocket.response.header("Sec-WebSocket-Protocol") == "centrifuge-json"
    assert make_client(node).websocket.response.header("Sec-WebSocket-Protocol") is None


def test_unknown_url_parameters_are_ignored(node):
    with Client(node.port, path="/connection/websocket?cf_protocol_version=v2&x=%20") as client:
        assert client.id


NOT_AN_ENVELOPE = {
    "empty frame": "",
    "only a newline": "\n",
    "no JSON": "hello",
    "half an object": '{"id":1,"connect":{}',
    "two objects without newline": '{"id":1,"connect":{}}{"id":2,"publish":{}}',
    "trailing comma": '{"id":1,"connect":{},}',
    "array": "[]", "number": "1", "string": '"connect"', "null": "null",
    "single quotes": "{'id':1,'connect':{}}",
    "connect is no object": '{"id":1,"connect":[]}',
    "connect is a string": '{"id":1,"connect":"x"}',
    "field of wrong type": '{"id":1,"connect":{"token":5}}',
    "id 0": '{"id":0,"connect":{}}',
    "no id": '{"connect":{}}',
    "negative id": '{"id":-1,"connect":{}}',
    "id too large": '{"id":4294967296,"connect":{}}',
    "id with a fraction": '{"id":1.5,"connect":{}}',
    "id as a string": '{"id":"1","connect":{}}',
    "raw control character in a string": '{"id":1,"connect":{"name":"a\tb"}}',
    "very deep": '{"id":1,"connect":{"data":' + "[" * 20000 + "]" * 20000 + "}}",
    "not connect": '{"id":1,"subscribe":{"channel":"c"}}',
    "pong first": "{}",
    "ping first": '{"id":1,"ping":{}}',
    "send first": '{"send":{"data":{}}}',
    "empty line first": '\n{"id":1,"connect":{}}',
}


@pytest.mark.parametrize("text", NOT_AN_ENVELOPE.values(), ids=NOT_AN_ENVELOPE.keys())
def test_bad_first_message_is_3501(node, text):
    with connect_only(node, text) as client:
        client.expect_disconnect(3501)


@pytest.mark.parametrize("text", [text for name, text in NOT_AN_ENVELOPE.items()
                                  if name not in ("not connect", "send first")]
                         + ['{"id":2,"connect":{}}', '{"id":2}', '{"id":2,"nothing":{}}',
                            '{"id":2,"ping":{}}', '{"id":2,"publish":{"channel":""}}',
                            '{"id":2,"subscribe":{}}', '{"id":2,"unsubscribe":{}}',
                            '{"id":2,"presence":{}}', '{"id":2,"presence_stats":{}}',
                            '{"id":2,"history":{}}', '{"id":2,"publish":{"data":{}}}',
                            '{"id":2,"subscribe":{"channel":5}}',
                            '{"id":2,"subscribe":{"channel":"c","offset":"1"}}',
                            '{"id":2,"subscribe":{"channel":"c","offset":-1}}',
                            '{"id":2,"subscribe":{"channel":"c","recover":1}}',
                            '{"id":2,"subscribe":{"channel":"c","delta":"other"}}',
                            '{"id":2,"history":{"channel":"c","since":[]}}',
                            '{"id":2,"refresh":{}}',
                            '{"id":2,"publish":{"channel":"c","data":}}',
                            '{"id":2,"publish":{"channel":"c","data":01}}',
                            '{"id":2,"publish":{"channel":"c","data":"\\x"}}'],
                         ids=lambda text: text[:40])
def test_bad_later_message_is_3501(node, client, text):
    client.send(text)
    client.expect_disconnect(3501)


def test_empty_binary_frame_is_3501(client):
    client.send("", opcode=BINARY)
    client.expect_disconnect(3501)


def test_binary_frame_is_read_as_json(node):
    with Client(node.port, connect=False) as client:
        client.send('{"id":1,"connect":{}}', opcode=BINARY)
        assert client.reply(1)["connect"]["client"]


def test_send_is_3508(client):
    client.send('{"send":{"data":{"x":1}}}')
    client.expect_disconnect(3508)


def test_rpc_is_not_available(client):
    assert client.error("rpc", method="x", data={}) == 108


def test_sub_refresh_of_no_subscription(client):
    assert client.error("sub_refresh", channel="nowhere", token="x") == 103


def test_no_credentials_is_3501(start_node):
    node = start_node(client={"insecure": False})
    with connect_only(node, '{"id":1,"connect":{}}') as client:
        client.expect_disconnect(3501)


def test_batch_is_answered_in_order(client, channel):
    """All commands of one frame, though some wait for Redis and some do not."""
    commands, methods = [], []
    for i in range(30):
        method, more = [("subscribe", {"channel": f"{channel}-{i}"}),
                        ("publish", {"channel": channel, "data": i}),
                        ("unsubscribe", {"channel": "never"}),
                        ("presence_stats", {"channel": channel}),
                        ("rpc", {"method": "x"})][i % 5]
        commands.append(client.command(method, **more))
        methods.append(method)
    client.send("\n".join(commands) + "\n")
    replies = []
    while len(replies) < len(commands):
        _, message = client.next_message()
        if "push" not in message:
            replies.append(message)
    assert [r["id"] for r in replies] == [json.loads(c)["id"] for c in commands]
    for method, reply in zip(methods, replies):
        assert ("error" if method == "rpc" else method) in reply, reply


def test_first_frame_of_centrifuge_js(node, channel):
    with connect_only(node, '{"connect":{"name":"js"},"id":1}',
                      '{"subscribe":{"channel":"%s","flag":1},"id":2}' % channel) as client:
        first, second = client.next_message()[1], client.next_message()[1]
        assert (first["id"], second["id"]) == (1, 2)
        assert second["subscribe"]["recoverable"] is True


def test_replies_before_a_breach_are_sent(node, channel):
    with connect_only(node, '{"id":1,"connect":{}}',
                      '{"id":2,"publish":{"channel":"%s","data":1}}' % channel, '{"bad') as client:
        assert client.reply(1)["connect"]
        assert client.reply(2)["publish"] == {}
        client.expect_disconnect(3501)


def test_empty_line_in_the_middle_is_3501(client):
    client.send(client.command("unsubscribe", channel="x"), "", "{}")
    assert client.reply(client.last_id)["unsubscribe"] == {}
    client.expect_disconnect(3501)


def test_a_breach_does_no_harm_to_others(node, client, make_client, channel):
    client.result("subscribe", channel=channel)
    other = make_client(node)
    other.send('{"id":2,"publish":{"channel":"%s","data":{"a":}}}' % channel)
    other.expect_disconnect(3501)
    client.expect_quiet()


# Subscribe and unsubscribe

def test_subscribe(client, channel):
    result = client.result("subscribe", channel=channel)
    assert result["recoverable"] is True and result["positioned"] is True and result["epoch"]
    assert not {"offset", "recovered", "was_recovering", "expires", "delta", "id"} & result.keys()


def test_subscribe_tells_the_top(node, client, channel):
    position = node.publish(channel, 1)
    result = client.result("subscribe", channel=channel)
    assert (result["offset"], result["epoch"]) == (1, position["epoch"])
    assert "publications" not in result or result["publications"] == []


def test_subscribe_without_history(start_node, make_client):
    node = start_node(channel={"history_size": 0, "history_ttl": 0, "force_recovery": False})
    result = make_client(node).result("subscribe", channel="plain")
    assert not {"recoverable", "positioned", "epoch", "offset"} & result.keys()


def test_subscribe_twice_is_105(client, channel):
    client.result("subscribe", channel=channel)
    assert client.error("subscribe", channel=channel) == 105
    client.result("unsubscribe", channel=channel)
    client.result("subscribe", channel=channel)


def test_subscribe_limit_is_106(start_node, make_client):
    client = make_client(start_node(client={"channel_limit": 3}))
    for i in range(3):
        client.result("subscribe", channel=f"c{i}")
    assert client.error("subscribe", channel="c3") == 106
    client.result("unsubscribe", channel="c0")
    client.result("subscribe", channel="c3")


BAD_NAMES = [("x" * 256, 107), ("ünicode", 107), ("news:x", 102)]


def test_channel_names(client):
    client.result("subscribe", channel="x" * 255)
    for name, code in BAD_NAMES + [("$news:x", 102), ("$private", 103)]:
        assert client.error("subscribe", channel=name) == code, name


@pytest.mark.parametrize("more, code", [({"type": 4}, 108), ({"type": 1}, 103)])
def test_other_subscription_types(client, channel, more, code):
    assert client.error("subscribe", channel=channel, **more) == code


def test_flags_we_do_not_offer_are_ignored(client, channel):
    result = client.result("subscribe", channel=channel, flag=1, delta="fossil", join_leave=True,
                           positioned=True, recoverable=True, data={"x": 1})
    assert not {"id", "delta"} & result.keys()


def test_unsubscribe_always_succeeds(client, channel):
    assert client.result("unsubscribe", channel=channel) == {}
    client.result("subscribe", channel=channel)
    assert client.result("unsubscribe", channel=channel) == {}


def test_nothing_arrives_after_unsubscribe(node, client, channel):
    client.result("subscribe", channel=channel)
    node.publish(channel, 1)
    assert client.publication(channel)["data"] == 1
    client.result("unsubscribe", channel=channel)
    node.publish(channel, 2)
    client.expect_quiet()


def test_nothing_is_allowed_by_default(start_node, make_client):
    """Without client.insecure and with an anonymous user, each permission is a 103."""
    nobody = {"allow_subscribe_for_client": False, "allow_publish_for_client": False,
              "allow_presence_for_client": False, "allow_history_for_client": False}
    node = start_node(client={"insecure": False, "allow_anonymous": True}, channel=nobody)
    client = make_client(node)
    for method in ("subscribe", "presence", "presence_stats", "history"):
        assert client.error(method, channel="c") == 103, method
    assert client.error("publish", channel="c", data=1) == 103
    assert client.result("unsubscribe", channel="c") == {}


@pytest.mark.parametrize("permission, calls", [
    ("allow_subscribe_for_client", ["subscribe"]), ("allow_publish_for_client", ["publish"]),
    ("allow_presence_for_client", ["presence", "presence_stats"]),
    ("allow_history_for_client", ["history"])])
def test_each_permission_opens_its_own_commands(start_node, make_client, permission, calls):
    flags = {name: name == permission for name in (
        "allow_subscribe_for_client", "allow_publish_for_client", "allow_presence_for_client",
        "allow_history_for_client")}
    flags[permission.replace("client", "anonymous")] = True
    node = start_node(client={"insecure": False, "allow_anonymous": True}, channel=flags)
    client = make_client(node)
    for method in ("subscribe", "publish", "presence", "presence_stats", "history"):
        more = {"data": 1} if method == "publish" else {}
        reply = client.call(method, channel="c", **more)
        assert (method in reply) == (method in calls), reply


def test_insecure_opens_everything(start_node, make_client):
    node = start_node(channel={
        "allow_subscribe_for_client": False, "allow_publish_for_client": False,
        "allow_presence_for_client": False, "allow_history_for_client": False})
    client = make_client(node)
    for method in ("subscribe", "presence", "presence_stats", "history"):
        client.result(method, channel="c")
    client.result("publish", channel="c", data=1)


# Publish

def test_publication(node, client, make_client, channel):
    publisher = make_client(node)
    epoch = client.result("subscribe", channel=channel)["epoch"]
    assert publisher.result("publish", channel=channel, data={"n": 1}) == {}
    publication = client.publication(channel)
    assert publication["data"] == {"n": 1} and publication["offset"] == 1
    assert publication["info"]["client"] == publisher.id and publication["info"]["user"] == ""
    assert publication.get("epoch", epoch) == epoch
    assert not {"delta", "tags", "time"} & publication.keys()


def test_publisher_hears_itself(client, channel):
    client.result("subscribe", channel=channel)
    assert client.result("publish", channel=channel, data="mine") == {}
    assert client.publication(channel)["data"] == "mine"


def test_publish_without_history_has_no_offset(start_node, make_client):
    node = start_node(channel={"history_size": 0, "history_ttl": 0, "force_recovery": False})
    client = make_client(node)
    client.result("subscribe", channel="plain")
    client.result("publish", channel="plain", data=1)
    assert "offset" not in client.publication("plain")


def test_publish_without_data_is_107(client, channel):
    assert client.error("publish", channel=channel) == 107


@pytest.mark.parametrize("name, code", BAD_NAMES, ids=["long", "not ASCII", "unknown namespace"])
def test_publish_to_a_bad_channel(client, name, code):
    assert client.error("publish", channel=name, data=1) == code


PAYLOADS = [
    "1", "-0", "1.0", "1E400", "12345678901234567890123456789", "0.1000000000000000055511151231",
    '""', '"\\u0041\\/\\ud83d\\ude00\\b\\f\\n\\r\\t\\"\\\\"', '"\\ud800 alone"', '"\\u0000"',
    '"ß € 😀 \u2028 \u2029 \u007f"', "true", "[]", "{}", "[ ]", "{ }",
    '{ "a" :\t[ 1 ,2,\r 3 ] , "a": 2, "": null }', '{"__proto__":1}', '"</script>"',
    '{"channel":"x","offset":7,"push":{}}', "[[[[[[[[[[1]]]]]]]]]]", '"' + "x" * 60000 + '"',
    "[" + ",".join(["1"] * 20000) + "]",
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=[p[:24] for p in PAYLOADS])
def test_payload_passes_byte_for_byte(node, client, make_client, channel, payload):
    """As a publication, and later out of the history and in a recovery."""
    client.result("subscribe", channel=channel)
    publisher = make_client(node)
    publisher.send('{"id":2,"publish":{"channel":"%s","data":%s}}' % (channel, payload))
    assert publisher.reply(2)["publish"] == {}
    expected = '"data":' + payload.strip()
    assert expected in client.push_raw()[0]

    publisher.send('{"id":3,"history":{"channel":"%s","limit":-1}}' % channel)
    assert expected in publisher.next_message()[0]
    publisher.send('{"id":4,"subscribe":{"channel":"%s","recover":true}}' % channel)
    assert expected in publisher.next_message()[0]


def test_newlines_in_an_api_payload_do_not_break_frames(node, client, channel):
    client.result("subscribe", channel=channel)
    body = ('{"channel":"%s",\n"data":{\n  "a": [1,\r\n  2],\n  "b": "\\n"\n}\n}' % channel)
    assert node.api_raw("publish", body.encode()).status == 200
    assert client.publication(channel)["data"] == {"a": [1, 2], "b": "\n"}


def test_order_of_publications(node, client, make_client, channel):
    """Several publishers at once: every subscriber sees the same order, offsets without a gap."""
    other = make_client(node)
    for subscriber in (client, other):
        subscriber.result("subscribe", channel=channel)
    publishers = [make_client(node) for _ in range(4)]
    for i in range(50):
        for publisher in publishers:
            publisher.send(publisher.command("publish", channel=channel, data=[publisher.id, i]))
    first = [client.publication(channel) for _ in range(200)]
    second = [other.publication(channel) for _ in range(200)]
    assert first == second
    assert [p["offset"] for p in first] == list(range(1, 201))
    for publisher in publishers:
        assert [p["data"][1] for p in first if p["data"][0] == publisher.id] == list(range(50))


def test_many_commands_in_flight(client, channel):
    commands = [client.command("publish", channel=channel, data=i) for i in range(500)]
    for command in commands:
        client.send(command)
    for command in commands:
        assert client.next_message()[1] == {"id": json.loads(command)["id"], "publish": {}}


# History and presence

def test_history_and_presence_that_are_off_are_108(start_node, make_client):
    node = start_node(channel={"history_size": 0, "history_ttl": 0, "force_recovery": False,
                               "presence": False})
    client = make_client(node)
    for method in ("history", "presence", "presence_stats"):
        assert client.error(method, channel="c") == 108, method


@pytest.mark.parametrize("method", ["history", "presence", "presence_stats"])
@pytest.mark.parametrize("name, code", BAD_NAMES, ids=["long", "not ASCII", "unknown namespace"])
def test_bad_channel_names_everywhere(client, method, name, code):
    assert client.error(method, channel=name) == code


def test_many_fragmented_messages_in_one_write(client, channel):
    """However many messages come to their end in one read, they are one commit."""
    commands = [client.command("history", channel=channel).encode() for _ in range(500)]
    client.websocket.send_raw(b"".join(frame(TEXT, c[:9], fin=False) + frame(0, c[9:])
                                       for c in commands))
    for number in range(client.last_id - 499, client.last_id + 1):
        assert "history" in client.reply(number)


def test_presence(node, client, make_client, channel):
    other = make_client(node)
    assert client.result("presence", channel=channel) == {"presence": {}}
    assert client.result("presence_stats", channel=channel) == {"num_clients": 0, "num_users": 0}
    for member in (client, other):
        member.result("subscribe", channel=channel)
    assert client.result("presence", channel=channel)["presence"] == {
        member.id: {"user": "", "client": member.id} for member in (client, other)}
    stats = client.result("presence_stats", channel=channel)
    assert stats["num_clients"] == 2


@pytest.mark.parametrize("end", ["unsubscribe", "leave", "cut"])
def test_presence_ends(node, client, make_client, channel, end):
    other = make_client(node)
    other.result("subscribe", channel=channel)
    assert other.id in client.result("presence", channel=channel)["presence"]
    if end == "unsubscribe":
        other.result("unsubscribe", channel=channel)
    else:
        getattr(other, end)()
    wait_until(lambda: client.result("presence", channel=channel)["presence"] == {},
               "the one who left is gone")


def test_no_presence_of_who_left_while_subscribing(start_node, make_client):
    node = start_node(node={"workers": 1})
    client = make_client(node)
    client.result("subscribe", channel="c")
    for _ in range(20):
        leaver = make_client(node)
        leaver.send(leaver.command("subscribe", channel="c"))
        leaver.cut()
    wait_until(lambda: [row["id"] for row in node.ctl_json("show", "connections")["rows"]
                        if row["state"] == "connected"] == [client.id], "the others are gone")
    wait_until(lambda: list(client.result("presence", channel="c")["presence"]) == [client.id],
               "only the one who stayed is present")


def test_presence_is_refreshed(start_node, make_client, redis):
    """It lives on past its time as long as the client stays: an entry of the same age that nobody
    refreshes goes, the client's own remains."""
    node = start_node(client={"presence_update_interval": "1s"}, channel={"presence_ttl": "3s"},
                      redis={"server": redis.url})
    client = make_client(node)
    client.result("subscribe", channel="c")
    ghost = str(uuid.uuid4())
    info = json.dumps({"user": "", "client": ghost})
    redis.command("HSET", "keepsock.presence.c", ghost, "0 0 " + info)
    redis.command("ZADD", "keepsock.presence_expire.c", int(time.time() * 1000) + 3000, ghost)

    def members():
        return client.result("presence", channel="c")["presence"].keys()
    assert members() == {client.id, ghost}
    wait_until(lambda: ghost not in members(), "the ghost's time is over")
    assert members() == {client.id}


# Pings and time limits

@pytest.fixture(scope="module")
def ping_node():
    shared = Keepsock(client={"ping_interval": "1s", "pong_timeout": "800ms"})
    yield shared.start()
    shared.stop()
    shared.remove()


def test_pings_come_and_pongs_keep_alive(ping_node, make_client):
    client = make_client(ping_node)
    assert client.connected["ping"] == 1
    for _ in range(3):
        assert client.next_raw() == "{}"
        client.send("{}")
    client.expect_quiet()


def test_no_pong_is_3012(ping_node, make_client):
    """Other traffic does not count as a pong."""
    client = make_client(ping_node, answer_pings=False)
    assert client.next_raw() == "{}"
    client.send(client.command("unsubscribe", channel="x"))
    client.expect_disconnect(3012)


def test_pong_without_ping_is_3501(client):
    client.send("{}")
    client.expect_disconnect(3501)


def test_second_pong_is_3501(ping_node, make_client):
    client = make_client(ping_node, answer_pings=False)
    assert client.next_raw() == "{}"
    client.send("{}", "{}")
    client.expect_disconnect(3501)


def test_pong_of_whitespace_and_in_a_batch(ping_node, make_client):
    client = make_client(ping_node, answer_pings=False)
    assert client.next_raw() == "{}"
    client.send(" { } ", client.command("unsubscribe", channel="x"))
    assert client.reply(client.last_id)["unsubscribe"] == {}


def test_pings_come_on_busy_connections_too(ping_node, make_client):
    """Some SDKs count only pings as a sign of life."""
    client = make_client(ping_node, answer_pings=False)
    pings = 0
    while pings < 2:
        client.send(client.command("unsubscribe", channel="x"))
        while True:
            raw = client.next_raw()
            if raw != "{}":
                break
            pings += 1
            client.send("{}")


def test_silent_connection_is_3502(start_node):
    node = start_node(client={"stale_close_delay": "1s"})
    with Client(node.port, connect=False) as client:
        client.expect_disconnect(3502)
    with Client(node.port) as client:
        assert client.id


def test_client_that_leaves_politely_gets_its_close_back(client):
    assert client.leave().code == 1000


def test_stop_closes_clients_with_3001(start_node, make_client):
    node = start_node()
    clients = [make_client(node) for _ in range(6)]
    process = node.process
    process.terminate()
    for client in clients:
        client.expect_disconnect(3001)
    assert process.wait(20) == 0


def test_reason_is_never_json(node):
    """Not even the plain numbers that SDKs would take for a JSON reason."""
    with connect_only(node, "garbage") as client:
        end = client.read_to_close()
        assert isinstance(end, Disconnected) and re.fullmatch(r"[a-z][a-z ]+", end.reason)
