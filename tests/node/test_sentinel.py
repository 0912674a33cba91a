# SPDX-License-Identifier: ISC
"""Redis behind three real Sentinels: the node finds its master, follows it when another server
takes over, and minds neither Sentinels that are dead nor such that know nothing."""

import socket

import pytest

from keepsock import free_port, wait_until
from sentinels import NAME, Group
from wire import http

# What docs/redis.md tells operators to allow.
ACL = ("on", ">keepsock-secret", "resetkeys", "~keepsock.*", "resetchannels", "&keepsock.*", "-@all",
       "+@read", "+@write", "+@pubsub", "+@scripting", "+@connection", "-@dangerous", "+info",
       "+role", "+time", "+wait")


@pytest.fixture
def group():
    started = Group().start()
    yield started
    started.stop()


def redis_of(group, **more):
    return {"server": group.url(), "command_timeout": "1s", "reconnect_max_delay": "200ms", **more}


def publish_code(node, channel="news"):
    """0, or the code of the error."""
    return node.api("publish", channel=channel, data="x").get("error", {}).get("code", 0)


def rows(node):
    return node.ctl_json("show", "sentinel")["rows"]


def place(server):
    return f"127.0.0.1:{server.port}"


def test_all_sentinels_are_asked_and_heard(group, start_node):
    node = start_node(redis=redis_of(group))
    found = wait_until(lambda: all(row["announces"] for row in rows(node)) and rows(node), "heard")
    assert {row["sentinel"] for row in found} == {place(s) for s in group.sentinels}
    for row in found:
        assert (row["shard"], row["name"], row["answers"]) == (0, NAME, True)
        assert row["master"] == row["used"] == place(group.master)
        assert row["error"] == row["master_error"] == ""
    assert node.ctl_json("status")["redis_endpoint"] == place(group.master)


def test_the_node_follows_a_failover(group, start_node, make_client):
    node = start_node(redis=redis_of(group))
    clients = [make_client(node) for _ in range(4)]
    for client in clients:
        client.result("subscribe", channel="news")
    assert publish_code(node) == 0
    for client in clients:
        assert client.publication("news")["data"] == "x"
    wait_until(lambda: group.replica.command("EXISTS", "keepsock.stream.news"), "it is replicated")

    group.master.kill()
    wait_until(lambda: http(node.port, "GET", "/ready").status == 503, "not ready")
    assert http(node.port, "GET", "/health").status == 200
    assert publish_code(node) == 100
    wait_until(node.are_all_ready, "ready on the other server", deadline=60)
    assert all(row["used"] == place(group.replica) for row in rows(node))
    assert node.metrics()["keepsock_redis_master_changes_total"] == 1
    moves = [row for row in node.ctl_json("show", "events")["rows"] if row["event"] == "redis moved"]
    assert place(group.replica) in moves[-1]["text"]

    # No client was disconnected, and the stream goes on where it was.
    assert node.publish("news", "on the other one")["offset"] == 2
    for client in clients:
        assert client.publication("news") == {"data": "on the other one", "offset": 2}

    # The old master comes back, and is a replica from then on: nobody looks at it again.
    group.master.start()
    wait_until(lambda: group.master.command("ROLE")[0] == "slave", "it has been told", deadline=60)
    assert publish_code(node) == 0
    assert node.metrics()["keepsock_redis_master_changes_total"] == 1


def test_dead_and_foreign_sentinels_are_minded_by_nobody(group, start_node):
    """Named first: a port nobody listens on, a server that is no Sentinel, one that says nothing,
    and a name that does not exist."""
    silent = socket.create_server(("127.0.0.1", 0))
    others = [f"127.0.0.1:{free_port()}", place(group.replica),
              f"127.0.0.1:{silent.getsockname()[1]}", "no-such-host.invalid"]
    node = start_node(redis=redis_of(group, server=group.url(*others)))
    assert publish_code(node) == 0
    by_place = {row["sentinel"]: row for row in rows(node)}
    for other in others:
        row = by_place[other if ":" in other else f"{other}:26379"]
        assert row["master"] == "" and not row["announces"]
        assert wait_until(lambda: {r["sentinel"]: r for r in rows(node)}[row["sentinel"]]["error"],
                          "the reason is told")
    silent.close()

    # One real one is enough, before and after a change of the master.
    group.sentinels[0].kill()
    group.master.kill()
    wait_until(lambda: publish_code(node) == 0, "it works again", deadline=60)
    assert {row["used"] for row in rows(node)} == {place(group.replica)}


def test_the_node_starts_before_its_sentinels(make_node):
    group = Group()
    node = make_node(redis=redis_of(group)).launch()
    try:
        wait_until(lambda: _status(node, "/health") == 200, "it is alive")
        assert _status(node, "/ready") == 503
        assert publish_code(node) == 100
        assert node.ctl_json("status")["redis_endpoint"] == "unknown"
        group.start()
        wait_until(node.are_all_ready, "ready")
        assert publish_code(node) == 0
    finally:
        group.stop()


def _status(node, path):
    try:
        return http(node.port, "GET", path).status
    except OSError:
        return None


def test_passwords_and_an_acl_user(make_node, make_client):
    """The user may do no more than the manual says; the Sentinels have a password of their own."""
    group = Group("all-powerful", "sentinel-secret").start()
    for server in (group.master, group.replica):
        server.command("ACL", "SETUSER", "worker", *ACL)
    node = make_node(redis=redis_of(group, server=group.url(login="worker:@"), password_file="redis",
                                    sentinel_password_file="sentinel", min_replicas=1,
                                    min_replicas_timeout="400ms"))
    for name, secret in (("redis", "keepsock-secret"), ("sentinel", "sentinel-secret")):
        path = node.directory / name
        path.write_text(secret + "\n")
        path.chmod(0o600)
    try:
        node.start()
        clients = [make_client(node) for _ in range(2)]
        for client in clients:
            client.result("subscribe", channel="news")
        clients[0].result("publish", channel="news", data="confirmed by the replica")
        assert group.replica.command("XLEN", "keepsock.stream.news") == 1
        for client in clients:
            assert client.publication("news")["data"] == "confirmed by the replica"
        assert len(node.api("presence", channel="news")["result"]["presence"]) == 2
        assert len(node.api("history", channel="news", limit=5)["result"]["publications"]) == 1
        assert not node.api("history_remove", channel="news").get("error")
        clients[0].result("unsubscribe", channel="news")
        users = {line.split("user=")[1].split()[0]
                 for line in group.master.command("CLIENT", "LIST", "TYPE", "normal").splitlines()}
        assert "worker" in users

        # Without the replica nothing is acknowledged, and nothing else suffers.
        group.replica.pause()
        assert publish_code(node) == 100
        assert len(node.api("presence", channel="news")["result"]["presence"]) == 1
        group.replica.resume()
        wait_until(lambda: publish_code(node) == 0, "confirmed again")
        log = node.log()
        assert "keepsock-secret" not in log and "sentinel-secret" not in log
        assert "NOPERM" not in log
    finally:
        group.stop()


def test_a_wrong_password_is_told(group, make_node):
    node = make_node(redis=redis_of(group, server=group.url(login=":wrong@"))).launch()
    wait_until(lambda: _status(node, "/health") == 200, "it is alive")
    wait_until(lambda: "AUTH" in rows(node)[0]["master_error"], "why the master is not used")
    assert _status(node, "/ready") == 503


def test_a_shard_behind_sentinels_beside_one_that_is_not(group, start_node, make_client, redis):
    """The failover of one shard is not noticed on the other."""
    node = start_node(redis=redis_of(group, shards=[group.url(), redis.url]))
    by_server = {}
    for number in range(100):
        name = f"channel-{number}"
        node.publish(name, "where")
        server = group.master if group.master.command("EXISTS", f"keepsock.stream.{name}") else redis
        by_server.setdefault(server, name)
    moving, staying = by_server[group.master], by_server[redis]
    client = make_client(node)
    for name in (moving, staying):
        client.result("subscribe", channel=name)
    wait_until(lambda: group.replica.command("EXISTS", f"keepsock.stream.{moving}"), "replicated")
    group.master.kill()
    wait_until(lambda: http(node.port, "GET", "/ready").status == 503, "not ready")
    node.publish(staying, "undisturbed")
    assert client.publication(staying)["data"] == "undisturbed"
    wait_until(node.are_all_ready, "ready on the other server", deadline=60)
    assert {(row["shard"], row["used"]) for row in rows(node)} == {(0, place(group.replica))}
    assert publish_code(node, moving) == 0
    assert client.publication(moving)["data"] == "x"


def test_a_secret_file_that_is_missing_is_an_error_of_the_configuration(make_node):
    node = make_node(redis={"server": "sentinel://127.0.0.1/m", "sentinel_password_file": "absent"})
    node.launch()
    assert node.wait() == 1
    assert "absent" in node.log()
