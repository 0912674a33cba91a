# SPDX-License-Identifier: ISC
"""A worker takes over from one that runs: that nobody notices, what happens when one of the two, or
their keeper, fails at any step, and that it works under load, with few descriptors, and again and
again. A third of the clients each is plain, has TLS 1.2, and has TLS 1.3. The single kinds of
connections are in test_adoption.py."""

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import socket
import threading
import time

import pytest

from keepsock import API_KEY, ROOT, wait_until
from redis_proxy import RedisProxy
from takeovers import ask_take_over, need_test_build, take_over
from test_crash import LONG_ROUNDS, ROUNDS, SETTINGS, WORKERS, Campaign
from test_keeper import fill, start_small_node  # noqa: F401 (a fixture)
from tls_client import TlsStream, in_turn
from wire import BINARY, Http, frame, http

ONE_WORKER = {"node": {"workers": 1}}
TAKEOVERS, LONG_TAKEOVERS = 10, 50


@pytest.fixture
def start(start_tls_node):
    """Starts a node of a test build."""
    def start(**overrides):
        node = start_tls_node(**ONE_WORKER, **overrides)
        need_test_build(node)
        return node
    return start


@pytest.fixture
def node(start):
    return start()


@pytest.fixture
def make_client(make_client, authority):
    return in_turn(make_client, authority)


def subscribers(node, make_client, count=3, channel="c"):
    clients = [make_client(node) for _ in range(count)]
    for client in clients:
        client.result("subscribe", channel=channel)
    return clients


def assert_all_hear(node, clients, data, channel="c"):
    node.publish(channel, data)
    for client in clients:
        assert client.publication(channel)["data"] == data


def arm(node, whom, point, stop=False, slot=0):
    """A keeper or the next worker dies, or stops, at a point."""
    words = ["debug", f"crash-{whom}", str(slot), point]
    assert node.ctl(*words, *(["19"] if stop else [])).returncode == 0


def arm_worker(node, point, slot=0):
    assert node.ctl("debug", "crash-after", str(slot), point).returncode == 0


def only_worker(node):
    return [p.pid for p in node.everybody() if p.title.startswith("keepsockd: worker ")]


def assert_alone(node, pid=None):
    """One worker is left, that one if given."""
    return wait_until(lambda: len(only_worker(node)) == 1 and only_worker(node)[0] in
                      (pid, pid or only_worker(node)[0]) and only_worker(node), "one worker")[0]


# Nobody notices

def test_the_next_worker_goes_on(node, make_client):
    clients = subscribers(node, make_client)
    before = node.workers()[0]
    for number in range(3):
        end = take_over(node)
        assert (end["old"], end["connections"]) == (before, 3)
        assert_alone(node, end["new"])
        assert_all_hear(node, clients, number)
        before = end["new"]
    rows = wait_until(node.all_protected, "protected")
    assert rows[0]["restarts"] == 0 and rows[0]["last_death"] == ""
    assert node.metrics()["keepsock_worker_restarts_total"] == 0
    assert {row["id"] for row in node.ctl_json("show", "connections")["rows"]} == \
        {client.id for client in clients}


def test_nothing_is_left_behind(node, make_client):
    """Descriptors, processes, watches: after many takeovers there are as many as after one."""
    clients = subscribers(node, make_client)

    def descriptors():
        wait_until(node.all_protected, "protected")
        return [len(os.listdir(f"/proc/{pid}/fd"))
                for pid in (node.keepers()[0], only_worker(node)[0], node.process.pid)]
    take_over(node)
    assert_alone(node)
    wait_until(node.are_all_ready, "ready")
    before = descriptors()
    for number in range(8):
        end = take_over(node)
        assert_alone(node, end["new"])
        assert_all_hear(node, clients, number)
    wait_until(lambda: descriptors() == before, "as many descriptors as before")


def test_nobody_is_refused_meanwhile(start):
    """Who connects waits in the listener's queue for one of the two."""
    node = start()
    stop = threading.Event()

    def knock():
        answers = 0
        while not stop.is_set():
            assert http(node.port, "GET", "/health").status == 200
            answers += 1
        return answers
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        visitors = [pool.submit(knock) for _ in range(4)]
        try:
            for _ in range(5):
                take_over(node)
        finally:
            stop.set()
        assert all(visitor.result() > 5 for visitor in visitors)


def test_every_byte_of_a_stream_cut_anywhere(node, rng, make_sockets):
    """Frames, or the records that have them, in pieces, pipelined, in both directions, while
    takeovers happen."""
    sockets = make_sockets(node)
    asked = []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for _ in range(3):
            over = pool.submit(take_over, node)
            while not over.done():
                payloads = [[rng.randbytes(rng.randrange(1, 9000)) for _ in range(3)]
                            for _ in sockets]
                for socket_, messages in zip(sockets, payloads):
                    data = b"".join(frame(BINARY, message) for message in messages)
                    if isinstance(socket_.stream, TlsStream):
                        data = socket_.stream.seal(data)
                    while data:
                        cut = rng.randrange(1, len(data) + 1)
                        socket_.stream.socket.sendall(data[:cut])
                        data = data[cut:]
                for socket_, messages in zip(sockets, payloads):
                    for message in messages:
                        assert socket_.receive_frame() == (BINARY, message, True)
                asked.append(payloads)
            over.result()
    assert asked


# Redis

@pytest.fixture
def proxy(redis):
    proxy = RedisProxy(redis.port)
    yield proxy
    proxy.close()


def test_commands_that_wait_for_redis(start, redis, make_client):
    """Given to Redis by the old worker, their answers not read: each is answered once and has
    happened once, with history and without, by clients and by the API."""
    node = start(redis={"server": redis.url, "command_timeout": "10s"},
                 namespaces=[{"name": "bare", "history_size": 0, "history_ttl": 0,
                              "force_recovery": False, "force_positioning": False}])
    client, reader = make_client(node), make_client(node)
    for channel in ("c", "bare:c"):
        reader.result("subscribe", channel=channel)
    wait_until(node.are_protected, "the keeper has everything")
    redis.pause()
    body = json.dumps({"channel": "bare:c", "data": "api"}).encode()
    with Http(node.port) as caller:
        caller.send((f"POST /api/publish HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\n"
                     f"Content-Length: {len(body)}\r\n\r\n").encode() + body)
        client.send(*(client.command("publish", channel=channel, data=number)
                      for number in range(3) for channel in ("c", "bare:c")))
        last = client.last_id
        take_over(node)
        redis.resume()
        for number in range(last - 5, last + 1):
            assert "error" not in client.reply(number)
        assert "result" in caller.read_response().json()
    heard = {"c": [], "bare:c": []}
    for _ in range(7):
        push = reader.push()
        heard[push["channel"]].append(push["pub"]["data"])
    reader.expect_quiet()
    assert heard["c"] == [0, 1, 2]
    assert [data for data in heard["bare:c"] if data != "api"] == [0, 1, 2]
    assert heard["bare:c"].count("api") == 1


def test_half_a_message_of_redis(start, proxy, make_client):
    """The subscription connection moves with what was read of a reply, nothing is subscribed
    anew."""
    node = start(redis={"server": f"redis://127.0.0.1:{proxy.port}"})
    clients = subscribers(node, make_client)
    messages = proxy.link_that_asked(b"keepsock.control")
    asked = len(messages.asked)
    proxy.hold_answers(messages)
    node.publish("c", "x" * 3000)
    wait_until(lambda: b"x" * 3000 in proxy.held_answers(messages), "it is on its way")
    with proxy.lock:
        held = messages.held[messages.redis_side]
        messages.node_side.sendall(held[:1500])
        messages.held[messages.redis_side] = held[1500:]
    take_over(node)
    proxy.release(messages)
    for client in clients:
        assert client.publication("c")["data"] == "x" * 3000
    assert proxy.link_that_asked(b"keepsock.control") is messages
    assert b"UBSCRIBE" not in messages.asked[asked:].upper()


def test_joins_and_leaves_are_heard_once(start, make_client):
    node = start(channel={"join_leave": True, "force_push_join_leave": True, "presence": True})
    observer, = subscribers(node, make_client, 1)
    guests = []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for _ in range(3):
            over = pool.submit(take_over, node)
            while not over.done():
                guest = make_client(node)
                guest.result("subscribe", channel="c")
                guests.append(guest)
            over.result()
    for guest in guests[::2]:
        guest.leave()
    take_over(node)
    for guest in guests[1::2]:
        guest.leave()
    events = []
    while sum(kind == "leave" for kind, _ in events) < len(guests):
        push = observer.push()
        kind = next(kind for kind in ("join", "leave", "pub") if kind in push)
        events.append((kind, push[kind]["info"]["client"]))
    observer.expect_quiet()
    events = [event for event in events if event[1] != observer.id]
    assert sorted(events) == sorted([(kind, guest.id) for guest in guests
                                     for kind in ("join", "leave")])
    assert set(node.api("presence", channel="c")["result"]["presence"]) == {observer.id}


# Failures before the commit: the old worker goes on

EARLY = ["takeover-start", "takeover-batch", "takeover-ready", "takeover-commit"]


@pytest.mark.parametrize("point", EARLY)
def test_the_next_worker_dies_before_it_has_the_arena(node, make_client, point):
    clients = subscribers(node, make_client)
    before = node.workers()[0]
    arm(node, "next", point)
    result = ask_take_over(node)
    assert result.returncode == 1 and "signal 9" in result.stderr, result
    assert_alone(node, before)
    assert_all_hear(node, clients, "we live")
    take_over(node)
    assert_all_hear(node, clients, "and it works now")
    assert node.metrics()["keepsock_worker_restarts_total"] == 0


def test_the_next_worker_is_not_ready_in_time(node, make_client):
    clients = subscribers(node, make_client)
    before = node.workers()[0]
    arm(node, "next", "takeover-ready", stop=True)
    result = ask_take_over(node, 0, "1500")
    assert result.returncode == 1 and "not ready in time" in result.stderr, result
    assert_alone(node, before)
    assert_all_hear(node, clients, "we live")


def test_the_next_worker_hangs_before_it_takes_the_arena(node, make_client):
    """No limit decides who has it: the old one asks the arena, and may go on."""
    clients = subscribers(node, make_client)
    before = node.workers()[0]
    arm(node, "next", "takeover-commit", stop=True)
    result = ask_take_over(node)
    assert result.returncode == 1 and "did not serve in time" in result.stderr, result
    assert_alone(node, before)
    assert_all_hear(node, clients, "we live")


def test_the_old_worker_hangs(node, make_client):
    clients = subscribers(node, make_client)
    before = node.workers()[0]
    wait_until(node.are_protected, "the keeper has everything")
    os.kill(before, signal.SIGSTOP)
    try:
        result = ask_take_over(node)
    finally:
        os.kill(before, signal.SIGCONT)
    assert result.returncode == 1 and "did not freeze in time" in result.stderr, result
    assert_alone(node, before)
    assert_all_hear(node, clients, "we live")
    take_over(node)
    assert_all_hear(node, clients, "and it works now")


def answer_pings(client):
    try:
        if client.next_raw(timeout=0.1) == "{}":
            client.send("{}")
    except TimeoutError:
        pass


def test_deadlines_of_a_worker_that_was_frozen_in_vain(start, make_client):
    """Pongs that came meanwhile lie in the sockets: nobody is cut for having been silent."""
    node = start(client={"ping_interval": "3s", "pong_timeout": "1s"})
    clients = subscribers(node, make_client)
    arm(node, "next", "takeover-commit", stop=True)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        over = pool.submit(ask_take_over, node)
        while not over.done():
            for client in clients:
                answer_pings(client)
    assert over.result().returncode == 1
    assert_all_hear(node, clients, "we live")


# Failures after it: a death like any other

@pytest.mark.parametrize("point", ["takeover-owned", "takeover-adopted"])
def test_the_next_worker_dies_with_the_arena(node, make_client, point):
    clients = subscribers(node, make_client)
    before = node.workers()[0]
    arm(node, "next", point)
    result = ask_take_over(node)
    assert result.returncode == 1 and "worker died" in result.stderr, result
    assert assert_alone(node) != before
    wait_until(node.are_all_ready, "ready")
    assert_all_hear(node, clients, "we live")
    wait_until(node.all_protected, "protected again")
    assert node.metrics()["keepsock_worker_restarts_total"] == 1
    take_over(node)
    assert_all_hear(node, clients, "and again")


def test_the_next_worker_serves_and_dies(node, make_client):
    clients = subscribers(node, make_client)
    arm(node, "next", "takeover-committed")
    end = take_over(node)
    wait_until(lambda: end["new"] not in only_worker(node), "it died")
    wait_until(node.are_all_ready, "ready")
    assert_all_hear(node, clients, "we live")
    wait_until(node.all_protected, "protected again")
    assert_alone(node)


@pytest.mark.parametrize("point", ["takeover-freeze", "takeover-frozen"])
def test_the_old_worker_dies_as_it_freezes(node, make_client, point):
    clients = subscribers(node, make_client)
    before = node.workers()[0]
    arm_worker(node, point)
    result = ask_take_over(node)
    assert result.returncode == 1 and "worker died" in result.stderr, result
    wait_until(node.are_all_ready, "ready")
    assert assert_alone(node) != before
    assert_all_hear(node, clients, "we live")


def test_both_die(node, make_client):
    """The next one before it has the arena, the old one as it is to go on."""
    clients = subscribers(node, make_client)
    arm_worker(node, "takeover-thaw")
    arm(node, "next", "takeover-commit")
    result = ask_take_over(node)
    assert result.returncode == 1 and "worker died" in result.stderr, result
    wait_until(node.are_all_ready, "ready")
    assert_alone(node)
    assert_all_hear(node, clients, "we live")


def test_the_old_worker_dies_as_it_leaves(node, make_client):
    clients = subscribers(node, make_client)
    arm_worker(node, "takeover-leave")
    end = take_over(node)
    assert_alone(node, end["new"])
    assert_all_hear(node, clients, "we live")
    assert node.metrics()["keepsock_worker_restarts_total"] == 0


@pytest.mark.parametrize("point", ["keeper-freeze", "keeper-commit", "keeper-committed",
                                   "keeper-leave"])
def test_the_keeper_dies(node, make_client, point):
    """One of the two workers goes on, and deposits everything with the next keeper."""
    clients = subscribers(node, make_client)
    old, keeper = node.workers()[0], node.keepers()[0]
    arm(node, "keeper", point)
    result = ask_take_over(node)
    assert (result.returncode == 1 and "the keeper died" in result.stderr) or \
        (point in ("keeper-committed", "keeper-leave") and result.returncode == 0), result
    left = assert_alone(node)
    if point in ("keeper-freeze", "keeper-commit"):
        assert left == old
    if point == "keeper-leave":
        assert left != old
    assert_all_hear(node, clients, "we live")
    rows = wait_until(node.all_protected, "protected by another keeper")
    assert rows[0]["keeper"] != keeper and rows[0]["pid"] == left
    take_over(node)
    assert_all_hear(node, clients, "and again")
    assert node.metrics()["keepsock_worker_restarts_total"] == 0


def test_the_node_stops_meanwhile(node, make_client):
    client, = subscribers(node, make_client, 1)
    arm(node, "next", "takeover-ready", stop=True)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        over = pool.submit(ask_take_over, node)
        wait_until(lambda: len(only_worker(node)) == 2, "the next worker")
        node.stop()
        assert over.result().returncode != 0
    client.expect_disconnect(3001)


# Few descriptors, many connections

def test_as_an_ordinary_user_with_few_descriptors(start_small_node):  # noqa: F811
    node = start_small_node()
    need_test_build(node)
    crowd = fill(node)
    try:
        def kept():
            return [row["kept"] for row in node.worker_rows().values() if row["protected"]]
        wait_until(lambda: kept() == [193, 193], "what fits is kept")
        for _ in range(2):
            for slot in (0, 1):
                take_over(node, slot)
        wait_until(lambda: kept() == [193, 193], "and still is")
        told = [first_line(connection) for connection in crowd]
        assert told.count(b"HTTP/1.1 200 OK") == 2 * 192
        # Of those beyond the limit some are told so, the others cut.
        both = {b"HTTP/1.1 200 OK", b"HTTP/1.1 503 Service Unavailable"}
        assert both <= set(told) <= both | {b""}
    finally:
        for connection in crowd:
            connection.close()
    wait_until(node.all_protected, "the counts agree")
    assert http(node.port, "GET", "/health").status == 200


def first_line(connection):
    """Of the answer to a request, or of what was said before any."""
    connection.settimeout(20)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        return connection.recv(4096).partition(b"\r\n")[0]
    except ConnectionResetError:
        return b""


def answers(connection):
    """Whether it is served as any other."""
    return first_line(connection) == b"HTTP/1.1 200 OK"


def test_more_than_a_batch_and_connections_that_come_and_go(start, rng):
    """By reloads: more releases than may wait for a busy keeper are deposited anew, which ends a
    takeover, and the master asks for another one."""
    node = start()
    crowd = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(600)]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for _ in range(3):
            over = pool.submit(node.ctl, "reload")
            while not over.done():
                crowd.pop(rng.randrange(len(crowd))).close()
                crowd.append(socket.create_connection(("127.0.0.1", node.port)))
            assert over.result().returncode == 0, over.result().stderr
    assert all(answers(connection) for connection in crowd)
    for connection in crowd:
        connection.close()
    wait_until(lambda: node.worker_rows()[0]["kept"] == 1, "all is released")
    assert "deposits_differ" not in node.log()


# Under load, judged byte by byte

# Which process comes to a point of a takeover, by the last word of its name.
WHOSE = {**dict.fromkeys(("start", "batch", "ready", "commit", "owned", "adopted", "committed"), "next"),
         **dict.fromkeys(("freeze", "frozen", "thaw", "leave"), "after")}


class Takeovers(Campaign):
    """The load of test_crash.py; nobody may notice anything at all."""

    def take_over(self):
        slot, _ = self.next_victim()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            over = pool.submit(take_over, self.node, slot)
            self.load.run_until(over.done, "a worker takes over")
            over.result()
        self.deaths += 1
        self.gather("takeover")

    def crash_at(self, point):
        slot, old = self.next_victim()
        keeper = self.node.keepers()[slot]
        whose, _, step = point.partition("-")
        whose = "keeper" if whose == "keeper" else WHOSE[step]
        arm = [(whose, point)] + [("next", "takeover-commit")] * (step == "thaw")
        for whom, where in arm:
            answer, _ = self.admin("debug", f"crash-{whom}", str(slot), where)
            assert answer, f"{where} was not armed"
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            over = pool.submit(ask_take_over, self.node, slot)
            self.load.run_until(over.done, f"a takeover with {point}")
        victim = {"keeper": keeper, "after": old}.get(whose)
        if not victim:
            # Who served before it died is told; of the others is said why not.
            result = over.result()
            told = re.search(r'"new": ?(\d+)', result.stdout)
            assert told or "signal 9" in result.stderr or "worker died" in result.stderr, result
            victim = int(told.group(1)) if told else old if step in ("owned", "adopted") else 0
        self.watch_until(lambda: victim not in self.pids(), f"{point} is reached")
        # Either the old worker goes on, or one has adopted what it had.
        self.watch_until(lambda: self.node.are_all_ready() and
                         len(only_worker(self.node)) == WORKERS, f"ready after {point}")
        self.deaths += old not in self.pids()
        self.gather(point)

    def watch_until(self, condition, what):
        """A look at all processes takes its time: the load goes on between two of them."""
        looks = 0.0

        def now_and_then():
            nonlocal looks
            if time.monotonic() < looks:
                return None
            found = condition()
            looks = time.monotonic() + 0.1
            return found
        self.load.run_until(now_and_then, what)

    def pids(self):
        return {process.pid for process in self.node.everybody()}


@pytest.fixture
def takeovers(start_tls_node, rng, authority):
    node = start_tls_node(**SETTINGS)
    need_test_build(node)
    campaign = Takeovers(node, rng, authority)
    yield campaign
    campaign.close()


def test_takeovers_under_load(takeovers, request):
    for _ in range(LONG_TAKEOVERS if request.config.getoption("--long") else TAKEOVERS):
        takeovers.take_over()
    takeovers.finish()
    assert takeovers.load.unanswered == 0
    assert takeovers.node.metrics()["keepsock_takeover_connections_lost_total"] == 0
    assert takeovers.node.metrics()["keepsock_worker_restarts_total"] == 0


def test_takeovers_and_deaths_in_turn(takeovers):
    for _ in range(4):
        takeovers.take_over()
        takeovers.kill()
    takeovers.finish()


# Every step at which one of the three can die

def crash_points():
    table = (ROOT / "include/keepsock/crash_points.h").read_text()
    return re.findall(r'CRASH\(\w+, "((?:takeover|keeper)-[a-z-]+)"', table)


def test_every_crash_point_is_survived(takeovers, request):
    for _ in range(LONG_ROUNDS if request.config.getoption("--long") else ROUNDS):
        points = crash_points()
        assert len(points) >= 15
        takeovers.rng.shuffle(points)
        for point in points:
            takeovers.crash_at(point)
    takeovers.finish()
