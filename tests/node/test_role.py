# SPDX-License-Identifier: ISC
"""The node's side of roles: what a standby does and refuses, that Redis fences a primary which was
replaced, whether it knows it or not, how clients are sent away, and who has the primary's listener."""

import concurrent.futures
import contextlib
import json
import os
import signal
import socket
import threading

import pytest

from client import Client
from keepsock import API_KEY, Redis, config_text, free_port, merge, wait_until
from redis_proxy import RedisProxy
from wire import TEXT, Http, WebSocket, http

KEY = {"X-API-Key": API_KEY, "Content-Type": "application/json"}


@contextlib.contextmanager
def redis_servers(count):
    servers = [Redis().start() for _ in range(count)]
    try:
        yield servers
    finally:
        for server in servers:
            server.stop()


def pair_of(name, *urls):
    """Settings of a node that has a peer, and so a role."""
    where = {"server": urls[0]} if len(urls) == 1 else {"shards": [*urls]}
    return {"node": {"name": name}, "redis": where,
            "cluster": {"peers": ["z=127.0.0.1:1"], "peer_listen": "127.0.0.1:2",
                        "secret_file": "secret"}}


@pytest.fixture
def make_standby(make_node):
    """A function that makes a node of a pair and starts it, as a standby."""
    def make(name, servers, **overrides):
        settings = pair_of(name, *(server.url for server in servers))
        return make_node(**merge(settings, overrides)).start_standby()
    return make


@pytest.fixture
def standby(make_standby, redis):
    return make_standby("a", [redis])


def promote(node, epoch):
    answer = node.ctl_json("promote", str(epoch))
    assert (answer["role"], answer["epoch"]) == ("primary", epoch), answer
    wait_until(node.are_all_ready, "the primary takes clients")
    return node


def refusal(node, *command):
    run = node.ctl(*command)
    assert run.returncode == 1, run
    return run.stderr


def ready_reason(node):
    answer = http(node.port, "GET", "/ready")
    assert answer.status == 503, answer
    return answer.json()["reason"]


def api_status(node, method, **body):
    return node.api_raw(method, json.dumps(body).encode()).status


def assert_try_again(answer):
    assert answer.status == 503 and int(answer.header("Retry-After")) >= 1, answer


def accepts_connections(port):
    with contextlib.closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def channels_of_shards(count):
    """A channel name for each of the shards, as many as are sure to hit all of them."""
    return [f"c{i}" for i in range(1 if count == 1 else 16)]


# --- a standby ---

def test_a_node_without_peers_has_no_role(node, make_client):
    assert node.ctl_json("role") | {"since_s": 0} == {
        "role": "standalone", "epoch": 0, "since_s": 0, "fenced": False, "active_active": False,
        "draining": False, "drain_left_ms": 0}
    assert node.metrics()["keepsock_role_primary"] == 1
    make_client(node).result("publish", channel="c", data=1)
    assert node.ctl_json("show", "cluster")["rows"] == [
        {"shard": 0, "outcome": "ok", "role_epoch": 0}]


def test_what_a_standby_serves(standby):
    for path in "/health", "/metrics":
        assert http(standby.port, "GET", path).status == 200
    assert_try_again(http(standby.port, "GET", "/ready"))
    assert ready_reason(standby).startswith("standby")
    assert {method: api_status(standby, method, channel="c") for method in (
        "info", "channels", "presence", "presence_stats", "history")} == dict.fromkeys(
            ("info", "channels", "presence", "presence_stats", "history"), 200)
    echo = WebSocket(standby.port, "/echo")
    echo.send(TEXT, b"alive")
    assert echo.receive_frame()[1] == b"alive"
    echo.close()
    status = standby.ctl_json("status")
    assert (status["role"], status["epoch"], status["state"]) == ("standby", 0, "running")
    metrics = standby.metrics()
    assert metrics["keepsock_role_primary"] == 0 and metrics["keepsock_ready"] == 0


def test_what_a_standby_leaves_to_the_primary(standby, redis):
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    with Http(standby.port) as connection:
        assert_try_again(connection.request("GET", "/connection/websocket", upgrade))
    for method, body in {
            "publish": {"channel": "c", "data": 1}, "broadcast": {"channels": ["c"], "data": 1},
            "subscribe": {"user": "u", "channel": "c"}, "unsubscribe": {"user": "u"},
            "disconnect": {"user": "u"}, "refresh": {"user": "u"},
            "history_remove": {"channel": "c"},
            "batch": {"commands": [{"info": {}}, {"publish": {"channel": "c", "data": 1}}]},
    }.items():
        assert_try_again(standby.api_raw(method, json.dumps(body).encode()))
    assert_try_again(http(standby.port, "POST", "/api", KEY,
                          b'{"method": "publish", "params": {"channel": "c", "data": 1}}'))
    # Whoever keeps connections comes to the primary only by another one.
    with Http(standby.port) as kept:
        assert kept.request("GET", "/health").status == 200
        kept.send_request("POST", "/api/publish", KEY, b'{"channel": "c", "data": 1}')
        answer = kept.read_response()
        assert_try_again(answer)
        assert answer.header("Connection") == "close"
        kept.expect_end()
    # Who may not call learns nothing of roles.
    assert http(standby.port, "POST", "/api/publish", None, b"{}").status == 401
    assert "standby" in refusal(standby, "publish", "c", "1")
    assert api_status(standby, "batch", commands=[{"info": {}}]) == 200
    assert redis.command("EXISTS", "keepsock.stream.c") == 0


def test_promoted_and_demoted(standby, redis, make_client):
    promote(standby, 7)
    assert redis.command("HGET", "keepsock.run", "role") == "7"
    client = make_client(standby)
    client.result("subscribe", channel="c")
    client.result("publish", channel="c", data="as the primary")
    assert client.publication("c")["data"] == "as the primary"
    assert standby.ctl_json("promote", "7")["role"] == "primary"     # it is already
    assert "epoch 7 already" in refusal(standby, "promote", "6")
    for epoch in "0", "-1", "x", "9007199254740992":
        assert "the epoch must be" in refusal(standby, "promote", epoch)
    demoted = standby.ctl_json("demote")
    assert (demoted["role"], demoted["epoch"]) == ("standby", 7)
    client.expect_disconnect(3001)
    assert ready_reason(standby).startswith("standby")
    assert standby.ctl_json("demote")["role"] == "standby"
    promote(standby, 8)
    assert make_client(standby).result("history", channel="c", limit=1)["offset"] == 1
    events = [row["event"] for row in standby.ctl_json("show", "events")["rows"]]
    assert [e for e in events if e in ("promoted", "demoted")] == ["promoted", "demoted", "promoted"]


# --- the fence ---

@pytest.mark.parametrize("shards", (1, 2))
def test_a_replaced_primary_is_fenced(make_standby, make_client, shards):
    with redis_servers(shards) as servers:
        first, second = (make_standby(name, servers) for name in "ab")
        channels = channels_of_shards(shards)
        promote(first, 1)
        old = make_client(first)
        for channel in channels:
            old.result("subscribe", channel=channel)
            assert old.result("publish", channel=channel, data="before") == {}
            assert old.publication(channel)["data"] == "before"
        promote(second, 2)
        assert [s.command("HGET", "keepsock.run", "role") for s in servers] == ["2"] * shards
        # Nobody told the first one.
        assert first.ctl_json("role")["role"] == "primary"
        for channel in channels:
            assert old.error("publish", channel=channel, data="never") == 100
            assert old.error("subscribe", channel=channel + "-more") == 100
            assert first.api("publish", channel=channel, data="never")["error"]["code"] == 100
            # What is kept stays as well, and nobody is given a subscription.
            assert first.api("history_remove", channel=channel)["error"]["code"] == 100
            for method in "subscribe", "unsubscribe":
                answer = first.api(method, channel=channel, user="u")
                assert answer["error"]["code"] == 100, answer
        assert servers[0].command("EXISTS", "keepsock.user_subscriptions.u") == 0
        wait_until(lambda: first.ctl_json("role")["fenced"], "it has found out")
        assert ready_reason(first).startswith("fenced")
        # Gauges are written once in a tick.
        wait_until(lambda: first.metrics()["keepsock_role_fenced"] == 1, "the metric tells")
        assert "fenced" in [row["event"] for row in first.ctl_json("show", "events")["rows"]]
        # Its clients stay, and hear what the new one publishes.
        new = make_client(second)
        for channel in channels:
            assert new.result("publish", channel=channel, data="after") == {}
            assert old.publication(channel)["data"] == "after"
            history = new.result("history", channel=channel, limit=10)["publications"]
            assert [p["data"] for p in history] == ["before", "after"]
        # What it learns now is no news.
        assert first.ctl_json("demote")["role"] == "standby"
        old.expect_disconnect(3001)
        assert not first.ctl_json("role")["fenced"]


def test_an_old_epoch_promotes_nobody(make_standby, redis):
    port = free_port()
    first = make_standby("a", [redis])
    promote(first, 5)
    second = make_standby("b", [redis], listeners=[
        {"address": "127.0.0.1", "port": free_port()},
        {"address": "127.0.0.1", "port": port, "when": "primary"}])
    assert "higher epoch" in refusal(second, "promote", "4")
    assert second.ctl_json("role")["role"] == "standby"
    assert not accepts_connections(port)
    assert redis.command("HGET", "keepsock.run", "role") == "5"
    assert second.ctl_json("show", "cluster")["rows"] == [
        {"shard": 0, "outcome": "ok", "role_epoch": 5}]


@pytest.fixture
def proxy(redis):
    """Nobody gets through to Redis at first."""
    proxy = RedisProxy(redis.port)
    proxy.refuse(True)
    yield proxy
    proxy.close()


def test_a_promotion_waits_for_the_first_worker(make_node, proxy):
    port = free_port()
    node = make_node(**pair_of("a", f"redis://127.0.0.1:{proxy.port}"),
                     listeners=[{"address": "127.0.0.1", "port": free_port()},
                                {"address": "127.0.0.1", "port": port, "when": "primary"}])
    node.launch()
    status = wait_until(node.try_status, "its master answers")
    assert status["state"] == "starting" and status["workers_ready"] == 0
    assert "no worker is ready" in refusal(node, "promote", "1")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        over = pool.submit(promote, node, 2)
        wait_until(lambda: accepts_connections(port), "the promotion has begun")
        proxy.refuse(False)
        over.result()
    assert node.ctl_json("status")["state"] == "running"


def test_a_shard_that_is_away_is_fenced_when_it_is_back(make_standby, make_client):
    with redis_servers(2) as servers:
        first, second = (make_standby(name, servers) for name in "ab")
        promote(first, 1)
        old = make_client(first)
        servers[1].pause()
        # It does not answer, so the promotion does not wait for it.
        assert second.ctl_json("promote", "2")["role"] == "primary"
        assert servers[0].command("HGET", "keepsock.run", "role") == "2"
        servers[1].resume()
        wait_until(lambda: servers[1].command("HGET", "keepsock.run", "role") == "2",
                   "the new primary has its epoch kept everywhere")
        wait_until(lambda: first.ctl_json("role")["fenced"], "the old one has found out")
        for channel in channels_of_shards(2):
            assert old.error("publish", channel=channel, data=1) == 100


def test_data_that_forgets_the_epoch_is_told_again(standby, redis):
    promote(standby, 3)
    redis.command("HSET", "keepsock.run", "role", "1")
    wait_until(lambda: redis.command("HGET", "keepsock.run", "role") == "3", "it is kept again")
    redis.command("FLUSHALL")
    wait_until(lambda: redis.command("HGET", "keepsock.run", "role") == "3", "and in empty data")
    wait_until(lambda: "result" in standby.api("publish", channel="c", data=1),
               "the primary publishes again")


def test_workers_that_follow_know_the_role(standby, make_client):
    promote(standby, 4)
    before = standby.workers()
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(standby.workers()) == 2 and
               not set(standby.workers().values()) & set(before.values()), "they are replaced")
    wait_until(standby.are_all_ready, "they take clients")
    make_client(standby).result("publish", channel="c", data=1)
    assert standby.ctl_json("role")["epoch"] == 4


def test_all_nodes_serve_when_all_are_to(make_standby, redis, make_client):
    both = {"cluster": {"active_active": True}}
    first, second = (make_standby(name, [redis], **both) for name in "ab")
    clients = [make_client(node) for node in (first, second)]
    for client in clients:
        client.result("subscribe", channel="c")
    promote(second, 2)
    for client, data in zip(clients, ("from a standby", "from the primary")):
        client.result("publish", channel="c", data=data)
        for hears in clients:
            assert hears.publication("c")["data"] == data
    second.ctl_json("demote", "drain")
    clients[1].result("publish", channel="c", data="still there")
    assert second.is_ready()


# --- sending clients away ---

def crowd_on(node, make_client, count=12):
    clients = [make_client(node) for _ in range(count)]
    for client in clients:
        client.result("subscribe", channel="c")
    return clients


def test_a_demotion_in_good_order(make_standby, redis, make_client):
    node = promote(make_standby("a", [redis], drain={"window": "2s"}), 1)
    clients = crowd_on(node, make_client)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(node.ctl_json("demote", "drain")))
    thread.start()
    wait_until(lambda: node.ctl_json("role")["role"] == "standby", "it is a standby")
    # Nobody comes in or publishes any more, not even who is still there.
    assert_try_again(http(node.port, "GET", "/connection/websocket"))
    assert api_status(node, "publish", channel="c", data=1) == 503
    for client in clients:
        client.expect_disconnect(3001)
    thread.join()
    assert answers[0]["role"] == "standby" and answers[0]["draining"]
    assert node.metrics()["keepsock_drained_connections_total"] == len(clients)
    assert redis.command("EXISTS", "keepsock.stream.c") == 0


def test_a_demotion_that_is_wanted_at_once_after_all(make_standby, redis, make_client):
    node = promote(make_standby("a", [redis], drain={"window": "600s"},
                                cluster={"demote_timeout": "900s"}), 1)
    clients = crowd_on(node, make_client)
    runs = []
    thread = threading.Thread(target=lambda: runs.append(node.ctl("demote", "drain")))
    thread.start()
    wait_until(lambda: node.ctl_json("role")["draining"], "it has begun")
    assert clients[0].error("publish", channel="c", data=1) == 100
    assert clients[0].error("subscribe", channel="d") == 100
    node.ctl_json("demote")
    for client in clients:
        client.expect_disconnect(3001)
    thread.join()
    assert runs[0].returncode == 1 and "demoted" in runs[0].stderr
    # The next promotion takes clients at once.
    promote(node, 2)
    make_client(node).result("publish", channel="c", data=1)


def test_a_drain_goes_on_in_the_next_worker(make_standby, redis, make_client):
    node = promote(make_standby("a", [redis], node={"workers": 1},
                                drain={"window": "600s"}, cluster={"demote_timeout": "900s"}), 1)
    clients = crowd_on(node, make_client, 4)
    node.ctl_json("drain")
    wait_until(node.are_protected, "a successor would find everything")
    old = node.workers()[0]
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: node.workers().get(0, old) != old, "the worker is replaced")
    assert node.ctl_json("role")["draining"]
    node.ctl_json("drain", "now")
    for client in clients:
        client.expect_disconnect(3011)


def test_drained_and_resumed(make_node, make_client):
    node = make_node(drain={"window": "1s"}).start()
    clients = crowd_on(node, make_client)
    assert node.ctl_json("drain")["draining"]
    assert ready_reason(node) == "draining"
    assert_try_again(http(node.port, "GET", "/connection/websocket"))
    node.publish("c", "the role is what it was")
    for client in clients:
        client.expect_disconnect(3011)
    assert node.ctl_json("resume")["draining"] is False
    wait_until(node.are_all_ready, "it takes clients")
    make_client(node).result("subscribe", channel="c")
    assert "usage: drain [now]" in refusal(node, "drain", "later")
    assert "usage: demote [drain]" in refusal(node, "demote", "later")


def test_a_standby_is_not_drained(standby):
    assert "standby" in refusal(standby, "drain")
    assert "standby" in refusal(standby, "resume")


# --- the primary's listener ---

@pytest.fixture
def shared_port():
    return free_port()


def with_shared(port):
    return {"listeners": [{"address": "127.0.0.1", "port": free_port()},
                          {"address": "127.0.0.1", "port": port, "when": "primary"}]}


def node_at(port):
    """Which node has the shared port."""
    return http(port, "POST", "/api/info", KEY, b"{}")


def test_one_listener_for_whoever_is_primary(make_standby, redis, make_client, shared_port):
    first, second = (make_standby(name, [redis], **with_shared(shared_port)) for name in "ab")
    assert not accepts_connections(shared_port)
    promote(first, 1)
    client = Client(shared_port)
    client.result("subscribe", channel="c")
    # While the first one has it nobody else is the primary there.
    assert "cannot listen on" in refusal(second, "promote", "2")
    assert second.ctl_json("role")["role"] == "standby"
    assert redis.command("HGET", "keepsock.run", "role") == "1"
    client.result("publish", channel="c", data=1)
    first.ctl_json("demote")
    client.read_to_close()
    assert not accepts_connections(shared_port)
    promote(second, 2)
    with contextlib.closing(Client(shared_port).websocket):
        assert second.metrics()["keepsock_client_connections"] == 1
    client.cut()


def test_a_worker_that_hangs_does_not_keep_the_port(make_standby, redis, shared_port):
    first, second = (make_standby(name, [redis], **with_shared(shared_port)) for name in "ab")
    promote(first, 1)
    pid = first.workers()[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        thread = threading.Thread(target=first.ctl, args=("demote",))
        thread.start()
        wait_until(lambda: second.ctl("promote", "2").returncode == 0, "the other one has it")
        assert accepts_connections(shared_port)
    finally:
        os.kill(pid, signal.SIGCONT)
    thread.join()
    assert first.ctl_json("demote")["role"] == "standby"
    wait_until(first.are_all_healthy, "the worker is well again")


def test_every_worker_accepts_from_it(make_standby, redis, shared_port):
    node = promote(make_standby("a", [redis], **with_shared(shared_port)), 1)
    clients = []

    def all_have_some():
        clients.append(Client(shared_port))
        return all(row["connections"] for row in node.worker_rows().values())
    wait_until(all_have_some, "both workers have clients")
    before = node.workers()
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(node.workers()) == 2 and
               not set(node.workers().values()) & set(before.values()), "they are replaced")
    wait_until(node.are_all_ready, "they take clients")
    clients.append(Client(shared_port))
    clients[-1].result("publish", channel="c", data=1)
    node.ctl_json("demote")
    assert not accepts_connections(shared_port)
    for client in clients:
        client.cut()


def test_the_next_master_goes_on_as_the_primary(make_standby, redis, shared_port):
    node = promote(make_standby("a", [redis], **with_shared(shared_port)), 6)
    client = Client(shared_port)
    node.kill_master()
    node.launch()
    wait_until(lambda: node.ctl("role").returncode == 0, "the next master answers")
    role = node.ctl_json("role")
    assert (role["role"], role["epoch"]) == ("primary", 6)
    assert node.metrics()["keepsock_role_epoch"] == 6
    client.result("publish", channel="c", data=1)
    with contextlib.closing(Client(shared_port).websocket):
        pass
    wait_until(lambda: node.ctl_json("status")["workers_ready"] == 2, "it knows its workers")
    node.ctl_json("demote")
    client.expect_disconnect(3001)
    assert not accepts_connections(shared_port)


def test_a_node_without_peers_opens_it_too(make_node, shared_port):
    node = make_node(**with_shared(shared_port)).start()
    client = Client(shared_port)
    client.result("publish", channel="c", data=1)
    client.cut()
    assert node.ctl_json("role")["role"] == "standalone"


def test_the_first_ones_after_a_promotion_come_in_one_after_the_other(make_standby, redis):
    node = make_standby("a", [redis], cluster={"accept_rate": 20, "accept_rate_time": "600s"})
    promote(node, 1)
    clients = [Client(node.port) for _ in range(8)]
    for client in clients:
        client.result("subscribe", channel="c")
    assert node.metrics()["keepsock_accepts_paced_total"] > 0
    for client in clients:
        client.cut()


def test_a_reload_keeps_to_the_role(make_standby, redis, shared_port):
    node = make_standby("a", [redis], **with_shared(shared_port))
    more = free_port()
    node.settings["listeners"].append({"address": "127.0.0.1", "port": more, "when": "primary"})
    node.config.write_text(config_text(node.settings))
    assert node.ctl("reload").returncode == 0
    assert node.ctl_json("role")["role"] == "standby"
    assert not accepts_connections(shared_port) and not accepts_connections(more)
    promote(node, 1)
    client, other = Client(shared_port), Client(more)
    for each in client, other:
        each.result("subscribe", channel="c")
    node.settings["listeners"].pop()
    node.config.write_text(config_text(node.settings))
    assert node.ctl("reload").returncode == 0
    assert not accepts_connections(more)
    with contextlib.closing(Client(shared_port).websocket):
        other.result("publish", channel="c", data=1)
    assert client.publication("c")["data"] == 1
    node.ctl_json("demote")
    for each in client, other:
        each.expect_disconnect(3001)
    assert not accepts_connections(shared_port)
