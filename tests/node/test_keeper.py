# SPDX-License-Identifier: ISC
"""Keepers: what they hold, and what it means when one dies, hangs, or is visited by strangers."""

import os
import pwd
import resource
import shutil
import signal
import socket
import stat
import struct

import pytest

from client import Client
from keepsock import API_KEY, wait_until
from test_workers import clients_of_each_worker, worker_of
from wire import Closed, http

HELLO = 14     # position in KEEPER_MESSAGES_TABLE
VERSION = 2


def is_cut(client):
    """Waits for the connection's end."""
    try:
        while True:
            client.next_raw()
    except Closed:
        return True


def another(found, slot, before):
    """The pid in that slot once it is another one."""
    pid = found().get(slot)
    return pid if pid not in (None, before) else None


def kill_keeper(node, slot):
    before = node.keepers()[slot]
    os.kill(before, signal.SIGKILL)
    return wait_until(lambda: another(node.keepers, slot, before), f"another keeper {slot}")


def kill_worker(node, slot):
    before = node.workers()[slot]
    os.kill(before, signal.SIGKILL)
    return wait_until(lambda: another(node.workers, slot, before), f"another worker {slot}")


def crowd_of(node, make_client):
    """Subscribed clients of both workers."""
    found = clients_of_each_worker(node, make_client)
    everyone = [client for clients in found.values() for client in clients]
    for client in everyone:
        client.result("subscribe", channel="c")
    return everyone


def assert_all_hear(node, everyone, text):
    node.publish("c", text)
    for client in everyone:
        assert client.publication("c")["data"] == text


# What they hold

def test_what_is_open_is_kept(start_node, make_client):
    node = start_node()
    everyone = crowd_of(node, make_client)
    rows = wait_until(node.all_protected, "all is deposited")
    assert sum(row["connections"] for row in rows.values()) >= len(everyone)
    assert {slot: row["keeper"] for slot, row in rows.items()} == node.keepers()
    assert all(row["keeper_restarts"] == 0 and row["last_death"] == "" for row in rows.values())
    metrics = node.metrics()
    assert metrics["keepsock_workers_protected"] == 2
    for client in everyone:
        client.cut()

    def empty():
        rows = node.all_protected()
        return rows and all(row["kept"] == 1 for row in rows.values())
    wait_until(empty, "only Redis's connections are left")
    wait_until(lambda: node.metrics()["keepsock_keeper_descriptors"] <= 4, "the metric falls")


def test_many_connections_that_come_and_go(start_node):
    node = start_node()
    for _ in range(10):
        crowd = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(100)]
        assert http(node.port, "GET", "/health").status == 200
        for connection in crowd:
            connection.close()
    crowd = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(600)]
    try:
        def all_kept():
            rows = node.all_protected()
            return rows and sum(row["connections"] for row in rows.values()) >= len(crowd)
        wait_until(all_kept, "all of them are kept")
    finally:
        for connection in crowd:
            connection.close()
    wait_until(lambda: sum(row["kept"] for row in node.worker_rows().values()) == 2, "none is left")


def test_who_was_answered_is_deposited(start_node):
    """The deposit goes out before the first answer does."""
    node = start_node(node={"workers": 1})
    for _ in range(50):
        client = Client(node.port)
        assert node.worker_rows()[0]["protected"]
        client.cut()


# Keepers that die

def test_a_killed_keeper_concerns_nobody(start_node, make_client):
    node = start_node()
    everyone = crowd_of(node, make_client)
    workers = node.workers()
    rows = wait_until(node.all_protected, "protected")
    for slot in (0, 1):
        kill_keeper(node, slot)
        assert_all_hear(node, everyone, f"keeper {slot} was killed")
    after = wait_until(node.all_protected, "protected again")
    assert node.workers() == workers
    for slot, row in after.items():
        assert row["keeper_restarts"] == 1 and row["restarts"] == 0
        assert row["connections"] == rows[slot]["connections"]
    assert node.metrics()["keepsock_keeper_restarts_total"] == 2
    events = [row["event"] for row in node.ctl_json("show", "events")["rows"]]
    assert events.count("keeper died") == 2
    everyone.append(make_client(node))


def test_keepers_killed_again_and_again(start_node, make_client):
    node = start_node()
    everyone = crowd_of(node, make_client)
    workers = node.workers()
    for _ in range(5):
        kill_keeper(node, 0)
    wait_until(node.all_protected, "protected again")
    assert_all_hear(node, everyone, "still here")
    assert node.workers() == workers


def test_a_replaced_keeper_replaces_its_worker(start_node, make_client):
    """It is not its child: the master, which inherited it, knows how it ended. What was deposited
    anew is handed over."""
    node = start_node()
    everyone = crowd_of(node, make_client)
    kill_keeper(node, 1)
    wait_until(node.all_protected, "protected again")
    kill_worker(node, 1)
    rows = wait_until(node.all_protected, "and again")
    assert rows[1]["last_death"] == "signal 9 (Killed)"
    assert (rows[1]["restarts"], rows[1]["keeper_restarts"]) == (1, 1)
    assert_all_hear(node, everyone, "we live")
    wait_until(node.are_all_ready, "ready")
    clients_of_each_worker(node, make_client)


def test_keeper_and_worker_killed_at_once(start_node, make_client):
    node = start_node()
    everyone = crowd_of(node, make_client)
    victims = [c for c in everyone if worker_of(node, c) == node.workers()[0]]
    survivors = [c for c in everyone if c not in victims]
    keeper, worker = node.keepers()[0], node.workers()[0]
    os.kill(keeper, signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    assert all(is_cut(client) for client in victims)
    wait_until(lambda: another(node.keepers, 0, keeper), "another keeper")
    wait_until(lambda: another(node.workers, 0, worker), "another worker")
    wait_until(node.are_all_ready, "ready")
    wait_until(node.all_protected, "protected")
    assert node.worker_rows()[0]["last_death"] == "signal 9 (Killed)"
    assert_all_hear(node, survivors, "we live")
    clients_of_each_worker(node, make_client)


def test_a_killed_worker_is_replaced_at_once(start_node, make_client):
    node = start_node()
    everyone = crowd_of(node, make_client)
    wait_until(node.all_protected, "protected")
    wait_until(lambda: min(row["uptime_s"] for row in node.worker_rows().values()) >= 1,
               "they live long enough")
    kill_worker(node, 0)
    rows = wait_until(node.all_protected, "protected again")
    assert rows[0]["restarts"] == 1 and rows[0]["last_death"] == "signal 9 (Killed)"
    assert "worker_died slot=0" in node.log() and " restart_in_ms=0" in node.log()
    assert_all_hear(node, everyone, "we live")


def test_the_node_ends_while_a_keeper_is_replaced(make_node, make_client):
    node = make_node().start()
    make_client(node)
    os.kill(node.keepers()[0], signal.SIGKILL)
    node.stop()


# Keepers that hang

def test_a_hung_keeper_holds_nobody_up(start_node, make_client):
    node = start_node()
    everyone = crowd_of(node, make_client)
    wait_until(node.all_protected, "protected")
    keeper = node.keepers()[0]
    os.kill(keeper, signal.SIGSTOP)
    try:
        # More than fits into its channel, and more than the worker lets wait.
        for _ in range(120):
            crowd = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(100)]
            for connection in crowd:
                connection.close()
        assert_all_hear(node, everyone, "served")
        wait_until(lambda: not node.worker_rows()[0]["protected"], "it is known to be unprotected")
        assert node.worker_rows()[1]["protected"]
    finally:
        os.kill(keeper, signal.SIGCONT)
    wait_until(node.all_protected, "protected again")
    assert node.keepers()[0] == keeper
    assert_all_hear(node, everyone, "served")


def test_a_hung_keeper_whose_worker_dies(start_node, make_client):
    """Nobody else would ever start the next one."""
    node = start_node()
    everyone = crowd_of(node, make_client)
    survivors = [c for c in everyone if worker_of(node, c) == node.workers()[1]]
    keeper = node.keepers()[0]
    os.kill(keeper, signal.SIGSTOP)
    kill_worker(node, 0)
    assert another(node.keepers, 0, keeper)
    wait_until(node.are_all_ready, "ready")
    rows = wait_until(node.all_protected, "protected")
    assert (rows[0]["restarts"], rows[0]["keeper_restarts"]) == (1, 1)
    assert rows[0]["last_death"] == "signal 9 (Killed)"
    assert_all_hear(node, survivors, "we live")


# Few descriptors

# Who connects and says nothing stays for as long as a test takes.
PATIENT = {"header_timeout": "300s"}


def give_to(node, user):
    """The node's directory and all that is in it."""
    for path in (node.directory, *node.directory.iterdir()):
        shutil.chown(path, user, user)


@pytest.fixture
def start_small_node(make_node):
    """A node of 256 descriptors per process, run by an ordinary user: for those the kernel limits
    what is on its way between processes, too."""
    def start(**overrides):
        user = pwd.getpwnam("nobody").pw_uid
        ordinary = {"node": {"user": "nobody"}} if os.geteuid() == 0 else {}
        node = make_node(http=PATIENT, **ordinary, **overrides)
        node.descriptor_limit = 256
        if os.geteuid() == 0:
            give_to(node, user)
        return node.start()
    return start


def fill(node):
    """Connects until both workers are full: [connections]"""
    crowd = []

    def full():
        crowd.extend(socket.create_connection(("127.0.0.1", node.port)) for _ in range(20))
        # Each worker keeps a quarter of its descriptors for itself.
        return all(row["connections"] >= 192 for row in node.worker_rows().values())
    wait_until(full, "both workers are full", interval=0)
    return crowd


def test_deposits_with_few_descriptors(start_small_node):
    """Who comes beyond the limit is told so or cut, is nobody's to keep, and takes no descriptor that
    a worker needs to reach its keeper."""
    node = start_small_node()
    crowd = fill(node)
    try:
        crowd.extend(socket.create_connection(("127.0.0.1", node.port)) for _ in range(200))
        def kept():
            return [row["kept"] for row in node.worker_rows().values() if row["protected"]]
        wait_until(lambda: kept() == [193, 193], "what fits is kept")
        for slot in (0, 1):
            kill_keeper(node, slot)
        wait_until(lambda: kept() == [193, 193], "and kept again")
        kill_worker(node, 0)
        wait_until(lambda: kept() == [193, 193], "and by the next worker")
        assert [row["restarts"] for row in node.worker_rows().values()] == [1, 0]
    finally:
        for connection in crowd:
            connection.close()
    wait_until(node.all_protected, "the counts agree")
    assert http(node.port, "GET", "/health").status == 200


def test_a_keeper_without_descriptors_left(start_node):
    """What it could not take is deposited again once it can."""
    node = start_node(node={"workers": 1}, http=PATIENT)
    wait_until(node.all_protected, "protected")
    keeper, = node.keepers().values()
    limits = resource.prlimit(keeper, resource.RLIMIT_NOFILE)
    resource.prlimit(keeper, resource.RLIMIT_NOFILE, (40, limits[1]))
    crowd = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(100)]
    try:
        wait_until(lambda: "event=deposits_differ" in node.log(), "the counts differ")
        assert not node.worker_rows()[0]["protected"]
        assert http(node.port, "GET", "/health").status == 200
        resource.prlimit(keeper, resource.RLIMIT_NOFILE, limits)
        rows = wait_until(node.all_protected, "protected again")
        assert rows[0]["kept"] > len(crowd) and rows[0]["keeper"] == keeper
    finally:
        for connection in crowd:
            connection.close()


def is_answered(node):
    """Where many wait to be told that there is no room, the next one is cut instead."""
    api = {"X-API-Key": API_KEY, "Content-Type": "application/json"}
    try:
        return http(node.port, "POST", "/api/info", api, b"{}").status in (200, 503)
    except (Closed, OSError):
        return False


def test_more_on_their_way_than_the_kernel_allows(start_small_node):
    node = start_small_node()
    keepers = node.keepers().values()
    for keeper in keepers:
        os.kill(keeper, signal.SIGSTOP)
    try:
        crowd = fill(node)
        rows = node.worker_rows()
        assert not any(row["protected"] for row in rows.values())
        crowd.pop().close()
        wait_until(lambda: is_answered(node), "it serves all the same")
    finally:
        for keeper in keepers:
            os.kill(keeper, signal.SIGCONT)
    wait_until(lambda: all(row["protected"] and row["kept"] > 150
                           for row in node.worker_rows().values()), "all of it arrives")
    for connection in crowd:
        connection.close()
    wait_until(node.all_protected, "the counts agree")


# Least privilege

def keeper_socket(node, slot=0):
    return node.directory / "run" / f"keeper-{slot}.sock"


def test_the_socket_is_for_the_nodes_own_user(start_node):
    node = start_node()
    status = os.stat(keeper_socket(node))
    assert stat.S_ISSOCK(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o600


def test_nobody_but_the_worker_gets_in(start_node, make_client):
    """Not even with the right greeting."""
    node = start_node()
    everyone = crowd_of(node, make_client)
    wait_until(node.all_protected, "protected")
    greeting = struct.pack("=IIQII", HELLO, 8, 0, VERSION, 0)
    for message in (greeting, b"", b"\0", b"x" * 70000, struct.pack("=IIQ", HELLO, 9, 0)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            stranger.settimeout(20)
            stranger.connect(str(keeper_socket(node)))
            stranger.send(message)
            assert stranger.recv(100) == b""
    # Those who say nothing block nobody.
    silent = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(5)]
    for stranger in silent:
        stranger.connect(str(keeper_socket(node)))
    assert_all_hear(node, everyone, "undisturbed")
    assert wait_until(node.all_protected, "protected")[0]["keeper_restarts"] == 0
    for stranger in silent:
        stranger.close()


def test_keepers_show_no_secrets(start_node):
    node = start_node()
    for pid in node.keepers().values():
        with open(f"/proc/{pid}/cmdline", "rb") as title:
            assert title.read().rstrip(b"\0").startswith(b"keepsockd: keeper ")
        with open(f"/proc/{pid}/status") as status:
            assert "NoNewPrivs:\t1" in status.read()
        # Who may not be dumped belongs to root as far as /proc is concerned.
        assert os.stat(f"/proc/{pid}/environ").st_uid == 0
    assert API_KEY not in node.log()


