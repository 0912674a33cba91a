# SPDX-License-Identifier: ISC
"""A worker dies or says goodbye, and another one goes on with its connections: each kind of
connection, plain and by TLS, in each state. What load and random moments do to it is for test_crash.py, how a
takeover can fail for test_takeover.py."""

import json
import os
import signal
import ssl

import pytest

import tokens
from client import Disconnected
from interrupted import a_compressed_message_is_in_fragments, output_is_not_taken
from keepsock import API_KEY, wait_until
from takeovers import FOLLOWED, need_test_build
from tls_client import in_turn
from wire import BINARY, PING, PONG, TEXT, Closed, frame

ONE_WORKER = {"node": {"workers": 1}}


@pytest.fixture
def make_client(make_client, authority):
    return in_turn(make_client, authority)


@pytest.fixture
def node(start_tls_node):
    return start_tls_node(**ONE_WORKER)


@pytest.fixture(params=FOLLOWED)
def replace_worker(request):
    return FOLLOWED[request.param]


def restarts(node):
    return node.metrics()["keepsock_worker_restarts_total"]


# Streams cut in half

@pytest.mark.parametrize("cut", [1, 3, 6, 300])
def test_a_frame_cut_anywhere(node, make_sockets, cut, replace_worker):
    """Header, length, mask, payload: what the dead worker had read of it is not lost."""
    payload = bytes(range(256)) * 2
    whole = frame(BINARY, payload)
    sockets = make_sockets(node)
    for socket_ in sockets:
        socket_.send_raw(whole[:cut])
    replace_worker(node)
    for socket_ in sockets:
        socket_.send_raw(whole[cut:])
        assert socket_.receive_frame() == (BINARY, payload, True)


@pytest.mark.parametrize("cut", [1, 5, 12, 500])
def test_a_record_cut_anywhere(node, make_sockets, cut, replace_worker):
    """Header, nonce, ciphertext, tag; the frame in it is whole, and another one comes behind."""
    payload = bytes(range(256)) * 2
    sockets = make_sockets(node)[1:]
    for socket_ in sockets:
        sealed = socket_.stream.seal(frame(BINARY, payload))
        socket_.stream.send_raw(sealed[:cut])
        socket_.rest = sealed[cut:]
    replace_worker(node)
    for socket_ in sockets:
        more = socket_.stream.seal(frame(TEXT, b"more"))
        socket_.stream.send_raw(socket_.rest + more)
        assert socket_.receive_frame() == (BINARY, payload, True)
        assert socket_.receive_frame() == (TEXT, b"more", True)


def test_a_fragmented_message_in_the_middle_of_a_character(node, make_sockets, replace_worker):
    text = "äöü€😀".encode()
    sockets = make_sockets(node)
    for socket_ in sockets:
        socket_.send(TEXT, text[:1], fin=False)
        socket_.send(PING, b"still there?")
        assert socket_.receive_frame() == (PONG, b"still there?", True)
    replace_worker(node)
    for socket_ in sockets:
        socket_.send(0, text[1:9], fin=False)
    replace_worker(node)
    for socket_ in sockets:
        socket_.send(0, text[9:])
        assert socket_.receive_frame() == (TEXT, text, True)


def test_a_compressed_message_in_fragments(start_tls_node, replace_worker):
    node = start_tls_node(**ONE_WORKER, websocket={"compression": True})
    a_compressed_message_is_in_fragments(node, lambda: replace_worker(node))


def test_output_that_was_not_taken(node, make_sockets, replace_worker):
    output_is_not_taken(make_sockets(node, receive_buffer=4096), lambda: replace_worker(node))


def test_an_idle_keep_alive_connection_and_half_a_request(node, make_streams, replace_worker):
    body = json.dumps({"channel": "c", "data": 1}).encode()
    head = (f"POST /api/publish HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode()
    all_idle, all_in_head, all_in_body = (make_streams(node) for _ in range(3))
    for connection in all_idle:
        assert connection.request("GET", "/health").status == 200
    for in_head, in_body in zip(all_in_head, all_in_body):
        in_head.send(head[:25])
        in_body.send(head + body[:5])
    replace_worker(node)
    for in_head, in_body in zip(all_in_head, all_in_body):
        in_head.send(head[25:] + body)
        in_body.send(body[5:])
    offsets = [connection.read_response().json()["result"]["offset"]
               for connection in all_in_head + all_in_body]
    assert sorted(offsets) == [1, 2, 3, 4, 5, 6]
    for connection in all_idle:
        assert connection.request("GET", "/health").status == 200


# Clients

def test_commands_that_wait_for_redis(start_tls_node, redis, make_client):
    """Given to Redis or not, each is answered once, in order, and has happened once."""
    node = start_tls_node(**ONE_WORKER, redis={"server": redis.url, "command_timeout": "10s"})
    client = make_client(node)
    client.result("subscribe", channel="c")
    wait_until(node.are_protected, "the keeper has everything")
    redis.pause()
    client.send(*(client.command("publish", channel="c", data=number) for number in range(3)))
    client.send(client.command("subscribe", channel="d"))
    last = client.last_id
    victim = node.workers()[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: node.workers().get(0) not in (None, victim), "the next worker")
    redis.resume()
    for number in range(last - 3, last + 1):
        assert "error" not in client.reply(number)
    assert [client.publication("c")["data"] for _ in range(3)] == [0, 1, 2]
    history = node.api("history", channel="c", limit=10)["result"]
    assert [p["data"] for p in history["publications"]] == [0, 1, 2]
    node.publish("d", "here")
    assert client.publication("d")["data"] == "here"


def test_ids_users_and_subscriptions_live_on(start_auth_node, make_client, replace_worker):
    node = start_auth_node(**ONE_WORKER, client={"user_connection_limit": 2})
    client = make_client(node, connect={"token": tokens.user("alice", info={"a": 1},
                                                             channels=["server"])})
    client.result("subscribe", channel="c")
    make_client(node, connect={"token": tokens.user("alice")})
    replace_worker(node)
    row, = (r for r in node.ctl_json("show", "connections")["rows"] if r["id"] == client.id)
    assert (row["user"], row["subscriptions"]) == ("alice", 2)
    # The index of users is there again: a third one is one too many.
    third = make_client(node, connect=False)
    third.send(third.command("connect", token=tokens.user("alice")))
    with pytest.raises(Disconnected) as end:
        third.next_message()
    assert end.value.code == 3504
    for channel in ("server", "c"):
        node.publish(channel, "still")
        assert client.publication(channel)["data"] == "still"
    assert node.api("unsubscribe", user="alice", channel="c") == {"result": {}}
    assert client.push()["unsubscribe"]["code"] == 2000
    assert node.api("disconnect", user="alice") == {"result": {}}
    client.expect_disconnect(3503)


def test_tokens_expire_all_the_same(start_auth_node, make_client, replace_worker):
    node = start_auth_node(**ONE_WORKER, client={"expired_close_delay": "100ms",
                                                 "expired_sub_close_delay": "100ms"})
    client = make_client(node, connect={"token": tokens.user("alice", exp=tokens.later(4))})
    # Who is late must not find both expired at once.
    subscriber = make_client(node, connect={"token": tokens.user("alice")})
    subscriber.result("subscribe", channel="c",
                      token=tokens.subscription("alice", "c", exp=tokens.later(3)))
    replace_worker(node)
    assert subscriber.push()["unsubscribe"]["code"] == 2501
    client.expect_disconnect(3005)


def test_pings_go_on_and_who_does_not_answer_is_cut(start_tls_node, make_client, replace_worker):
    node = start_tls_node(**ONE_WORKER, client={"ping_interval": "2s", "pong_timeout": "1s"})
    lively, mute = make_client(node), make_client(node, answer_pings=False)
    replace_worker(node)
    pings = 0
    while pings < 2:
        pings += lively.next_raw() == "{}"
        lively.send("{}")
    mute.expect_disconnect(3012)


def test_a_close_handshake_under_way(node, make_client, replace_worker):
    """Its close frame sent, the server waits for the client's when it dies."""
    clients = [make_client(node) for _ in range(3)]
    for client in clients:
        client.result("subscribe", channel="c")
        assert node.ctl("disconnect", client.id).returncode == 0
    wait_until(lambda: node.api("presence_stats", channel="c")["result"]["num_clients"] == 0,
               "they are no members any more")
    replace_worker(node)
    for client in clients:
        client.expect_disconnect(3503)


def test_a_close_notify_under_way(node, make_streams, replace_worker):
    """The client has said its last word, in half: what it had asked for before is answered, and it
    gets the server's."""
    streams = make_streams(node)[1:]
    for stream in streams:
        assert stream.request("GET", "/health").status == 200
        with pytest.raises(ssl.SSLWantReadError):
            stream.tls.unwrap()
        stream.last_word = stream.outgoing.read()
        stream.send_raw(stream.last_word[:9])
    replace_worker(node)
    for stream in streams:
        stream.send_raw(stream.last_word[9:])
        assert stream.say_goodbye()
    assert node.metrics()["keepsock_tls_truncated_total"] == 0


def test_who_left_as_the_worker_died_leaves(start_tls_node, make_client):
    """Its passport gone, nothing of that has reached Redis when the worker dies."""
    node = start_tls_node(**ONE_WORKER, channel={"join_leave": True, "force_push_join_leave": True})
    need_test_build(node)
    observer, leaver = make_client(node), make_client(node)
    for client in (observer, leaver):
        client.result("subscribe", channel="c")
    leaver.result("publish", channel="c", data=1)
    while "pub" not in observer.push():
        pass
    wait_until(node.are_protected, "the keeper has everything")
    before = restarts(node)
    assert node.ctl("debug", "crash-after", "0", "release", "1").returncode == 0
    leaver.cut()
    assert observer.push()["leave"]["info"]["client"] == leaver.id
    assert restarts(node) == before + 1
    assert set(node.api("presence", channel="c")["result"]["presence"]) == {observer.id}


def test_all_leave_while_the_successor_asks_redis_who_was_there(start_node, redis, make_client,
                                                                replace_worker):
    """The arena has taken back the pages of their passports when the answer comes."""
    node = start_node(**ONE_WORKER, redis={"server": redis.url, "command_timeout": "20s"})
    crowd = [make_client(node) for _ in range(600)]
    wait_until(lambda: node.metrics()["keepsock_sessions_registered"] == 600, "all registered")
    replace_worker(node)
    deaths = restarts(node)
    redis.pause()
    # Beside the heartbeat and its probe: the next round's three questions.
    wait_until(lambda: node.ctl_json("show", "redis")["rows"][0]["waiting"] >= 5, "it asks again")
    for client in crowd:
        client.cut()
    wait_until(lambda: node.worker_rows()[0].get("connections") == 0, "all are gone")
    redis.resume()
    wait_until(lambda: node.metrics().get("keepsock_sessions_registered") == 0, "Redis knows")
    assert restarts(node) == deaths


# Redis goes at the same time

def test_redis_restarts_as_the_worker_dies(start_tls_node, redis, make_client):
    """The subscription connection can't be adopted: what was missed is read from history."""
    redis.kill()
    redis.options = ("--appendonly", "yes", "--appendfsync", "always")
    redis.start()
    node = start_tls_node(node={"workers": 2}, redis={"server": redis.url})
    clients = [make_client(node) for _ in range(6)]
    for client in clients:
        client.result("subscribe", channel="c")
    node.publish("c", 1)
    wait_until(node.are_protected, "the keepers have everything")
    victim = node.workers()[0]
    os.kill(victim, signal.SIGSTOP)
    redis.kill()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: node.workers().get(0) not in (None, victim), "the next worker")
    redis.start()
    wait_until(node.are_all_ready, "both workers are ready")
    node.publish("c", 2)
    for client in clients:
        assert [client.publication("c")["offset"] for _ in range(2)] == [1, 2]


# Poison

def test_a_poison_publication_is_skipped(start_tls_node, make_client):
    """Every worker that delivers it dies of it, twice; then it is passed over."""
    node = start_tls_node(channel={"history_size": 0, "history_ttl": 0, "force_recovery": False})
    need_test_build(node)
    clients = []
    while len(clients) < 8 or not all(row["connections"] for row in node.worker_rows().values()):
        clients.append(make_client(node))
        clients[-1].result("subscribe", channel="c")
    wait_until(node.are_protected, "the keepers have everything")
    node.publish("c", "keepsock-poison-publication")

    def passed_over():
        try:
            return node.metrics()["keepsock_takeover_skipped_batches_total"] == 2
        except (Closed, OSError):
            return False          # asked a worker that was about to die
    # Each of them dies young, so the next one is a while in coming.
    wait_until(passed_over, "by both workers", 60)
    node.publish("c", "healthy")
    for client in clients:
        assert client.publication("c")["data"] == "healthy"
    assert restarts(node) == 4
    assert "blamed" in node.ctl("show", "events").stdout


def test_who_counts_offsets_is_told_of_a_skipped_publication(start_tls_node, make_client):
    node = start_tls_node(**ONE_WORKER)
    need_test_build(node)
    client = make_client(node)
    client.result("subscribe", channel="c", positioned=True)
    wait_until(node.are_protected, "the keepers have everything")
    node.publish("c", "keepsock-poison-publication")
    assert client.push()["unsubscribe"]["code"] == 2500
    assert restarts(node) == 2


@pytest.mark.parametrize("kind", ["command", "frame"])
def test_a_poison_message_ends_its_connection(start_tls_node, make_client, kind):
    node = start_tls_node(**ONE_WORKER)
    need_test_build(node)
    bystander, poisoner = make_client(node), make_client(node)
    bystander.result("subscribe", channel="c")
    wait_until(node.are_protected, "the keepers have everything")
    poisoner.send(poisoner.command("publish", channel="c", data=f"keepsock-poison-{kind}"))
    poisoner.expect_disconnect(1011)
    bystander.result("publish", channel="c", data="healthy")
    assert bystander.publication("c")["data"] == "healthy"
    assert restarts(node) == 2
    assert node.metrics()["keepsock_takeover_blamed_connections_total"] == 1


def test_a_poison_request_is_answered_500(start_tls_node, make_client):
    node = start_tls_node(**ONE_WORKER)
    need_test_build(node)
    bystander = make_client(node)
    wait_until(node.are_protected, "the keepers have everything")
    answer = node.api_raw("publish", b'{"channel":"c","data":"keepsock-poison-request"}')
    assert answer.status == 500
    bystander.expect_quiet()
    assert restarts(node) == 2
