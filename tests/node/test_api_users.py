# SPDX-License-Identifier: ISC
"""The API's commands on users, on two nodes that share a Redis: subscribe, unsubscribe, disconnect
and refresh reach every connection of the user wherever it is, and subscriptions stay."""

import json
import os
import signal

import pytest

import tokens
from client import Client, Disconnected
from keepsock import Keepsock, Redis, wait_until

SECRET = "a-secret-of-the-tests-and-their-nodes-alone"
METHODS = ("subscribe", "unsubscribe", "disconnect", "refresh")


def settings(redis, directory, **more):
    path = directory / "hmac-secret"
    if not path.exists():
        path.write_text(SECRET)
        path.chmod(0o600)
    base = {"redis": {"server": redis.url}, "client": {"insecure": False},
            "channel": {"join_leave": True},
            "token": {"hmac_secret_file": str(path)}}
    return {name: base.get(name, {}) | more.get(name, {}) for name in {**base, **more}}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two nodes on one Redis."""
    redis = Redis().start()
    directory = tmp_path_factory.mktemp("pair")
    nodes = [Keepsock(**settings(redis, directory, node={"name": name})) for name in ("a", "b")]
    try:
        for node in nodes:
            node.start()
        yield nodes
    finally:
        for node in nodes:
            node.stop()
            node.remove()
        redis.stop()


@pytest.fixture
def user(channel):
    """A user nobody else has; with what JSON and keys could stumble over."""
    return f'u "{channel}"\u00e9'


@pytest.fixture
def connect(pair):
    """connect(user, node number) -> a connected client; all are cut at the end."""
    clients = []

    def make(user, where=0, **claims):
        node = pair[where] if isinstance(where, int) else where
        token = tokens.hmac({"sub": user, "exp": tokens.later(3600), **claims}, SECRET)
        client = Client(node.port, connect=False)
        clients.append(client)
        client.connected = client.result("connect", token=token)
        client.id = client.connected["client"]
        return client
    yield make
    for client in clients:
        client.cut()


def command(node, method, **body):
    """The API's answer must be {"result": {}}."""
    answer = node.api(method, **body)
    assert answer == {"result": {}}, answer


def code(node, method, **body):
    return node.api(method, **body)["error"]["code"]


def subscribed(client, channel):
    """The next push must say that the server subscribed the client."""
    push = client.push()
    assert push["channel"] == channel and "subscribe" in push, push
    return push["subscribe"]


def unsubscribed(client, channel):
    push = client.push()
    assert push["channel"] == channel and "unsubscribe" in push, push
    assert push["unsubscribe"]["code"] == 2000 and push["unsubscribe"]["reason"], push


# What is wrong with a command

@pytest.mark.parametrize("method", METHODS)
def test_a_command_needs_a_user(pair, method):
    assert code(pair[0], method, channel="c") == 107
    assert code(pair[0], method, channel="c", user="") == 107
    assert code(pair[0], method, channel="c", user="u" * 5000) == 107
    assert code(pair[0], method, channel="c", user="u", client="c" * 300) == 107


@pytest.mark.parametrize("method", ["subscribe", "unsubscribe"])
def test_channels_are_checked(pair, method):
    assert code(pair[0], method, user="u", channel="none:x") == 102
    assert code(pair[0], method, user="u", channel="x" * 256) == 107
    assert code(pair[0], method, user="u", channel="\u00e9") == 107
    assert code(pair[0], "subscribe", user="u") == 107


def test_payloads_are_checked(pair):
    for field in ("b64data", "b64info"):
        assert code(pair[0], "subscribe", user="u", channel="c", **{field: "!"}) == 107
    for method, field in (("subscribe", "info"), ("subscribe", "data"), ("refresh", "info")):
        assert code(pair[0], method, user="u", channel="c", **{field: "x" * 20000}) == 107


@pytest.mark.parametrize("disconnect", [{"code": 2999}, {"code": 5000}, {"code": 1000},
                                        {"code": 4000, "reason": "x" * 124},
                                        {"code": 4000, "reason": '{"reconnect":true}'},
                                        {"code": 4000, "reason": "7"}])
def test_what_sdks_could_not_read_is_refused(pair, disconnect):
    assert code(pair[0], "disconnect", user="u", disconnect=disconnect) == 107


def test_whitelists_have_a_limit(pair, user):
    command(pair[0], "disconnect", user=user, whitelist=["x"] * 1024)
    assert code(pair[0], "disconnect", user=user, whitelist=["x"] * 1025) == 107


@pytest.mark.parametrize("method", METHODS)
def test_a_user_who_is_nowhere(pair, user, method):
    command(pair[0], method, user=user, channel="c", client="no-such-client")


# subscribe

def test_subscribe_reaches_both_nodes(pair, connect, user, channel):
    here, there = connect(user, 0), connect(user, 1)
    stranger = connect("somebody else", 1)
    command(pair[0], "subscribe", user=user, channel=channel, data={"hello": 1})
    for client in (here, there):
        assert subscribed(client, channel)["data"] == {"hello": 1}
    pair[1].publish(channel, "news")
    for client in (here, there):
        while "pub" not in (push := client.push()):
            assert "join" in push
        assert push["pub"]["data"] == "news"
    stranger.expect_quiet()


def test_the_subscription_is_complete(pair, connect, user, channel):
    member = connect(user)
    command(pair[1], "subscribe", user=user, channel=channel, info={"seat": 4})
    push = subscribed(member, channel)
    assert push["recoverable"] and push["positioned"] and push["epoch"]
    wait_until(lambda: pair[1].api("presence", channel=channel)["result"]["presence"] == {
        member.id: {"user": user, "client": member.id, "chan_info": {"seat": 4}}},
        "the member is present")


def test_overrides(pair, connect, user, channel):
    member = connect(user)
    command(pair[1], "subscribe", user=user, channel=channel,
            override={"presence": {"value": False}, "join_leave": {"value": False},
                      "force_recovery": {"value": False}})
    push = subscribed(member, channel)
    assert not push.get("recoverable")
    assert pair[0].api("presence", channel=channel)["result"]["presence"] == {}


def test_only_one_client(pair, connect, user, channel):
    one, other = connect(user, 0), connect(user, 1)
    command(pair[0], "subscribe", user=user, channel=channel, client=other.id)
    subscribed(other, channel)
    one.expect_quiet()
    # That was about a connection and not about the user: the next one is not subscribed.
    assert channel not in connect(user, 0).connected.get("subs", {})


def test_a_session_that_no_websocket_has(pair, connect, user, channel):
    member = connect(user)
    command(pair[0], "subscribe", user=user, channel=channel, session="a-session")
    member.expect_quiet()


def test_subscribing_again_changes_nothing(pair, connect, user, channel):
    member = connect(user)
    for _ in range(3):
        command(pair[1], "subscribe", user=user, channel=channel, client=member.id)
    subscribed(member, channel)
    pair[0].publish(channel, 1)
    pushes = [member.push() for _ in range(1)]
    while "pub" not in pushes[-1]:
        pushes.append(member.push())
    assert not any("subscribe" in push for push in pushes)
    member.expect_quiet()


def test_recover_since(pair, connect, user, channel):
    positions = [pair[0].publish(channel, i) for i in range(4)]
    member = connect(user)
    command(pair[1], "subscribe", user=user, channel=channel,
            recover_since={"offset": positions[1]["offset"], "epoch": positions[1]["epoch"]})
    subscribed(member, channel)
    seen = []
    while len(seen) < 2:
        push = member.push()
        if "pub" in push:
            seen.append(push["pub"]["data"])
    assert seen == [2, 3]


# Subscriptions stay

def test_a_subscription_of_the_user_is_there_after_reconnecting(pair, connect, user, channel):
    """Made while nobody was there, or while somebody was: later connections have it too, on any
    node, until it is taken back."""
    command(pair[0], "subscribe", user=user, channel=channel, info={"seat": 1}, data="kept")
    first = connect(user, 1)
    assert first.connected["subs"][channel]["data"] == "kept"
    first.cut()
    second = connect(user, 0)
    assert channel in second.connected["subs"]
    pair[1].publish(channel, "still there")
    while "pub" not in (push := second.push()):
        assert "join" in push or "leave" in push
    assert push["pub"]["data"] == "still there"
    command(pair[1], "unsubscribe", user=user, channel=channel)
    while "unsubscribe" not in (push := second.push()):
        assert "join" in push or "leave" in push
    assert channel not in connect(user, 1).connected.get("subs", {})


def test_an_expired_subscription_is_not_there(pair, connect, user, channel):
    command(pair[0], "subscribe", user=user, channel=channel, expire_at=1)
    assert channel not in connect(user).connected.get("subs", {})


def test_as_many_as_a_client_may_have(pair, user):
    for i in range(128):
        command(pair[0], "subscribe", user=user, channel=f"c{i}")
    assert code(pair[0], "subscribe", user=user, channel="c128") == 106
    command(pair[0], "subscribe", user=user, channel="c5")
    command(pair[0], "unsubscribe", user=user, channel="c7")
    command(pair[0], "subscribe", user=user, channel="c128")
    command(pair[0], "unsubscribe", user=user)
    command(pair[0], "subscribe", user=user, channel="c129")


# unsubscribe

def test_unsubscribe_reaches_both_nodes(pair, connect, user, channel):
    clients = [connect(user, 0), connect(user, 1)]
    command(pair[0], "subscribe", user=user, channel=channel)
    for client in clients:
        subscribed(client, channel)
    command(pair[1], "unsubscribe", user=user, channel=channel)
    for client in clients:
        while "unsubscribe" not in (push := client.push()):
            assert push["channel"] == channel, push
        assert push["unsubscribe"]["code"] == 2000 and push["unsubscribe"]["reason"]
    wait_until(lambda: pair[0].api("channels", pattern=channel)["result"]["channels"] == {},
               "nobody is subscribed")
    for client in clients:
        client.expect_quiet()


def test_unsubscribe_takes_what_the_client_subscribed_to(pair, connect, user, channel):
    member = connect(user)
    member.result("subscribe", channel=channel)
    command(pair[1], "unsubscribe", user=user, channel=channel)
    while "unsubscribe" not in (push := member.push()):
        assert "join" in push
    assert push["unsubscribe"]["code"] == 2000
    member.result("subscribe", channel=channel)


def test_unsubscribe_from_everything(pair, connect, user, channel):
    member, names = connect(user), {f"{channel}-{i}" for i in range(3)}
    command(pair[0], "subscribe", user=user, channel=f"{channel}-0")
    for name in sorted(names)[1:]:
        member.result("subscribe", channel=name)
    command(pair[1], "unsubscribe", user=user)
    left = set()
    while left != names:
        push = member.push()
        if "unsubscribe" in push:
            left.add(push["channel"])
    assert not connect(user).connected.get("subs")


def test_unsubscribe_of_one_client(pair, connect, user, channel):
    one, other = connect(user, 0), connect(user, 1)
    command(pair[0], "subscribe", user=user, channel=channel)
    for client in (one, other):
        subscribed(client, channel)
    command(pair[0], "unsubscribe", user=user, channel=channel, client=other.id)
    while "unsubscribe" not in (push := other.push()):
        assert push["channel"] == channel
    assert pair[0].api("channels", pattern=channel)["result"]["channels"] == {
        channel: {"num_clients": 1}}
    # The user as such still has it.
    assert channel in connect(user, 1).connected["subs"]


# disconnect

def test_disconnect_reaches_both_nodes(pair, connect, user):
    clients = [connect(user, 0), connect(user, 1)]
    stranger = connect("somebody else")
    command(pair[1], "disconnect", user=user)
    for client in clients:
        end = client.read_to_close()
        assert (end.code, end.reason) == (3503, "force disconnect")
    stranger.expect_quiet()


def test_disconnect_with_a_code_of_ones_own(pair, connect, user):
    member = connect(user, 1)
    command(pair[0], "disconnect", user=user, disconnect={"code": 4321, "reason": "tea is ready"})
    end = member.read_to_close()
    assert (end.code, end.reason) == (4321, "tea is ready")


def test_disconnect_spares_the_whitelist(pair, connect, user):
    spared, hit = connect(user, 0), connect(user, 1)
    command(pair[0], "disconnect", user=user, whitelist=[spared.id, "x"])
    hit.expect_disconnect(3503)
    spared.expect_quiet()


def test_disconnect_of_one_client(pair, connect, user):
    one, other = connect(user, 0), connect(user, 0)
    command(pair[1], "disconnect", user=user, client=one.id)
    one.expect_disconnect(3503)
    other.expect_quiet()
    # Of another user there is no such client.
    command(pair[1], "disconnect", user=user + "x", client=other.id)
    other.expect_quiet()


# refresh

def test_refresh_prolongs_and_tells(pair, connect, user):
    member = connect(user, 1, expire_at=tokens.later(60))
    assert member.connected["expires"] and member.connected["ttl"] <= 60
    command(pair[0], "refresh", user=user, expire_at=tokens.later(1000))
    refresh = member.push()["refresh"]
    assert refresh["expires"] and 900 < refresh["ttl"] <= 1000


def test_refresh_can_end_a_connection(pair, connect, user):
    for body in ({"expired": True}, {"expire_at": 1}):
        member = connect(user, 1)
        command(pair[0], "refresh", user=user, **body)
        member.expect_disconnect(3005)


def test_refresh_changes_the_info_others_see(pair, connect, user, channel):
    member = connect(user, info={"name": "old"})
    member.result("subscribe", channel=channel)
    command(pair[1], "refresh", user=user, info={"name": "new"})
    pair[0].publish(channel, 1)
    member.result("publish", channel=channel, data=2)
    while "pub" not in (push := member.push()) or push["pub"]["data"] != 2:
        pass
    assert push["pub"]["info"]["conn_info"] == {"name": "new"}


# Batches, and what an acknowledgement means

def test_commands_on_users_in_a_batch(pair, connect, user, channel):
    member = connect(user, 1)
    body = json.dumps({"commands": [
        {"subscribe": {"user": user, "channel": channel}},
        {"publish": {"channel": channel, "data": "in between"}},
        {"disconnect": {"user": user, "disconnect": {"code": 4001, "reason": "over"}}},
        {"unsubscribe": {"user": ""}}]}).encode()
    replies = pair[0].api_raw("batch", body).json()["replies"]
    assert list(replies[0]) == ["subscribe"] and replies[2] == {"disconnect": {}}
    assert replies[3]["error"]["code"] == 107
    assert member.read_to_close().code == 4001


def test_without_redis_nothing_is_acknowledged(start_node, redis, tmp_path):
    node = start_node(**settings(redis, tmp_path))
    redis.kill()
    wait_until(lambda: not node.is_ready(), "the node noticed")
    for method in METHODS:
        assert code(node, method, user="u", channel="c") == 100


def test_a_worker_that_cannot_act_is_no_success(start_node, redis, tmp_path, user):
    """A worker that hangs has connections, and has not done it: error 100 until it has."""
    node = start_node(**settings(redis, tmp_path))
    token = tokens.hmac({"sub": user, "exp": tokens.later(3600)}, SECRET)
    with Client(node.port, connect=False) as member:
        member.result("connect", token=token)
        others = [pid for pid in node.workers().values() if not owns(pid, node, member)]
        hung = next(pid for pid in node.workers().values() if pid not in others)
        os.kill(hung, signal.SIGSTOP)
        try:
            answered = set()

            def ask():
                # A request may land on the hung worker itself, which will not answer it.
                try:
                    answered.add(code_of(node, "disconnect", user=user))
                except OSError:
                    pass
                return answered
            assert wait_until(ask, "a worker answers") == {100}
        finally:
            os.kill(hung, signal.SIGCONT)
        wait_until(lambda: node.api("disconnect", user=user) == {"result": {}}, "all workers act")
        with pytest.raises(Disconnected):
            while True:
                member.next_message()


def test_a_worker_nobody_hears_is_waited_for_until_the_verdict(start_node, redis, tmp_path, user):
    """It is registered and has not heard of the command: it may still have the user's clients."""
    node = start_node(**settings(redis, tmp_path, cluster={"node_timeout": "2s"}))
    now = int(redis.command("TIME")[0]) * 1000
    redis.command("HSET", "keepsock.workers", "ghost.0.00000000", f"{now + 1000} 0")
    assert code(node, "disconnect", user=user) == 100
    assert "ghost.0.00000000" in node.log()
    wait_until(lambda: node.api("disconnect", user=user) == {"result": {}},
               "the verdict is that it is dead")
    metrics = node.metrics()
    assert metrics["keepsock_user_commands_incomplete_total"] >= 1
    assert metrics["keepsock_user_commands_total"] == 1


def owns(pid, node, member):
    """Whether this worker has the client's connection."""
    port = member.websocket.stream.socket.getsockname()[1]
    rows = node.ctl_json("show", "connections")["rows"]
    mine = next(row for row in rows if row["peer"].endswith(f":{port}"))
    return node.workers()[mine["worker"]] == pid


def code_of(node, method, **body):
    """The error's code, 0 for success; raises OSError when nobody answers soon."""
    from wire import Http
    from keepsock import API_KEY
    with Http(node.port) as caller:
        caller.send_request("POST", f"/api/{method}", {"X-API-Key": API_KEY},
                            json.dumps(body).encode())
        while b"\r\n\r\n" not in caller.buffer:
            caller.fill(timeout=3)
        return caller.read_response().json().get("error", {}).get("code", 0)
