# SPDX-License-Identifier: ISC
"""Two supervisors with their nodes and one Redis, without an address that moves: who is the primary
after each fault, that epochs rise, and what the supervisors tell."""

import getpass
import json
import os
import signal
import subprocess

import pytest

from client import Client, Disconnected
from keepsock import API_KEY, is_running, wait_until
from pair import Pair, supervisor_binary
from sentinels import Group
from wire import Closed, Http


def replies_until_the_end(client):
    """Whatever comes but pings, until the connection ends, in good order or not."""
    replies = []
    try:
        while True:
            replies.append(client.next_message()[1])
    except (Disconnected, Closed):
        return replies


def rising(epochs):
    numbers = [epoch for epoch, _ in epochs]
    return numbers == sorted(set(numbers))


def test_one_of_two_becomes_primary(make_pair):
    pair = make_pair()
    primary, (standby,) = pair.start()
    rows = {row["node"]: row for row in standby.said("show", "cluster")["rows"]}
    assert rows[primary.name]["holds"] and not rows[standby.name]["holds"]
    assert rows[standby.name]["promotable"] and rows[standby.name]["epoch"] == 0
    assert primary.status()["epoch"] == rows[primary.name]["epoch"] == 1
    assert standby.status()["lease_holder"] == primary.name
    assert standby.status()["hindrance"]
    checks = {row["check"]: row for row in primary.said("show", "checks")["rows"]}
    assert set(checks) == {"master", "loop", "delivery", "ready", "echo"}
    assert all(row["good"] for row in checks.values())
    assert primary.said("show", "metrics")["primary"] == 1
    assert standby.said("show", "metrics")["peers_connected"] == 1


def test_a_node_that_dies_once_is_restarted(make_pair):
    primary, (standby,) = make_pair().start()
    pid = primary.node_pid()
    primary.signal_node(signal.SIGKILL)
    wait_until(lambda: primary.node_pid() not in (0, pid) and primary.status()["node_up"],
               "the node is back", 30)
    assert primary.state() == "primary" and standby.state() == "standby"
    assert primary.status()["epoch"] == 1


def test_a_node_beyond_its_budget_fails_over(make_pair):
    pair = make_pair(cluster={"restart_limit": 0})
    primary, (standby,) = pair.start()
    processes = primary.node_processes()
    with Client(primary.port) as client:
        primary.signal_node(signal.SIGKILL)
        standby.wait_for("primary")
        # Its workers would have served on: they were ended, so the client is not left behind.
        assert replies_until_the_end(client) == []
    wait_until(lambda: not any(map(is_running, processes)), "nothing of the node is left")
    assert len(processes) == 3
    assert standby.status()["epoch"] == 2
    assert "not healthy" in primary.logs()
    assert rising(pair.epochs()), pair.epochs()


@pytest.mark.parametrize("whom", ["master", "all"])
def test_a_hanging_node_fails_over(make_pair, whom):
    pair = make_pair(cluster={"check_timeout": "500ms"})
    primary, (standby,) = pair.start()
    processes = primary.node_processes()
    for pid in [primary.node_pid()] if whom == "master" else processes:
        os.kill(pid, signal.SIGSTOP)
    standby.wait_for("primary")
    # It did not obey, so all of it was ended; the next one is a standby.
    wait_until(lambda: not any(map(is_running, processes)), "the node that hung is gone")
    primary.wait_for("standby")


def test_a_hanging_standby_is_started_again(make_pair):
    pair = make_pair(cluster={"restart_timeout": "2s"})
    _, (standby,) = pair.start()
    processes = standby.node_processes()
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: not any(map(is_running, processes)), "the node that hung is gone", 40)
    pair.settle()


def test_a_worker_that_stands_still_fails_over(make_pair):
    """One of four, so that most clients, and checks, get another one."""
    pair = make_pair(node={"workers": 4}, cluster={"restart_timeout": "2s"})
    primary, (standby,) = pair.start()
    worker = next(p.pid for p in primary.everybody() if p.title.startswith("keepsockd: worker"))
    os.kill(worker, signal.SIGSTOP)
    standby.wait_for("primary")
    assert "check name=loop change=good->bad" in primary.supervisor_log_path.read_text()
    wait_until(lambda: not is_running(worker), "the worker that stands still is gone", 40)
    pair.settle()


def test_a_supervisor_told_to_end_leaves_nothing_of_a_node_without_master(make_pair):
    """The budget is spent and the workers serve on, as no standby is there to take over."""
    pair = make_pair(count=1, cluster={"restart_limit": 0, "restart_timeout": "60s"})
    node = pair.nodes["a"].supervise()
    node.wait_for("primary")
    node.signal_node(signal.SIGKILL)
    assert node.stop_supervisor() == 0
    assert not node.everybody(), node.logs()


def ask_to_publish(port, number):
    """Sent, and maybe taken, but not answered yet."""
    connection = Http(port)
    connection.send_request("POST", "/api/publish", {"X-API-Key": API_KEY}, json.dumps(
        {"channel": "news", "data": number}).encode())
    return connection


def test_who_was_stopped_acknowledges_nothing_when_it_goes_on(make_pair):
    """All of a host stands still beyond the lease, with publishes under way, and goes on. It is
    not taken for unhealthy because of that."""
    pair = make_pair(cluster={"lease_ttl": "5s", "check_loop_lag": "3s"})
    primary, (standby,) = pair.start()
    client = Client(primary.port)
    assert "result" in ask_to_publish(primary.port, 0).read_response().json()
    primary.signal_all(signal.SIGSTOP)
    asked = [ask_to_publish(primary.port, number) for number in range(1, 9)]
    client.send({"id": 99, "publish": {"channel": "news", "data": 9}})
    standby.wait_for("primary")
    primary.signal_all(signal.SIGCONT)
    answers = [read_to_end(connection) for connection in asked]
    assert not any(b'"result"' in answer for answer in answers), answers
    replies = replies_until_the_end(client)
    assert not [r for r in replies if r.get("id") == 99 and "publish" in r], replies
    primary.wait_for("standby")
    history = standby.api("history", channel="news", limit=100)["result"]["publications"]
    assert [p["data"] for p in history] == [0]
    looks = loop_checks(primary) + 8
    wait_until(lambda: loop_checks(primary) >= looks, "its loop was looked at again and again")
    log = primary.supervisor_log_path.read_text()
    assert "event=tilt" in log and "check name=loop change=good->bad" not in log, log


def loop_checks(node):
    return next(row["runs"] for row in node.said("show", "checks")["rows"]
                if row["check"] == "loop")


def read_to_end(connection):
    try:
        return connection.read_response().body
    except Closed:
        return b""          # without an answer


def test_a_killed_supervisor_leaves_the_node_and_its_lease_runs_out(make_pair):
    primary, (standby,) = make_pair().start()
    node = primary.node_pid()
    primary.kill_supervisor()
    standby.wait_for("primary")
    assert is_running(node)
    primary.supervise()
    primary.wait_for("standby")
    assert primary.status()["node_adopted"] and primary.node_pid() == node


def test_a_supervisor_that_is_back_in_time_goes_on(make_pair):
    pair = make_pair(cluster={"lease_ttl": "20s"})
    primary, (standby,) = pair.start()
    node, epoch = primary.node_pid(), primary.status()["epoch"]
    primary.kill_supervisor()
    primary.supervise()
    primary.wait_for("primary")
    assert primary.status()["epoch"] == epoch and primary.node_pid() == node
    assert standby.state() == "standby"


def test_a_stopped_supervisor_is_not_primary_when_it_wakes(make_pair):
    pair = make_pair()
    primary, (standby,) = pair.start()
    primary.kill_supervisor(signal.SIGSTOP)
    standby.wait_for("primary")
    primary.kill_supervisor(signal.SIGCONT)
    primary.wait_for("standby")
    assert "tilt" in primary.logs()
    assert standby.state() == "primary"
    assert rising(pair.epochs()), pair.epochs()


def test_redis_away_is_bridged_by_the_peer(make_pair, redis):
    primary, (standby,) = make_pair().start()
    redis.kill()
    wait_until(lambda: primary.status()["lease_left_ms"] == 0, "the lease in Redis has run out")
    wait_until(lambda: standby.status()["promise_left_ms"] > 0, "the standby has promised")
    status = primary.status()
    assert status["state"] == "primary" and status["primary_left_ms"] > 0
    redis.start()
    wait_until(lambda: primary.status()["lease_left_ms"] > 0, "Redis has the lease again", 40)
    assert primary.state() == "primary" and primary.status()["epoch"] == 1
    assert standby.state() == "standby"


def test_redis_and_the_standby_away_end_the_role(make_pair, redis):
    primary, (standby,) = make_pair().start()
    redis.kill()
    standby.kill_supervisor()
    primary.wait_for("standby")
    assert "redis" in primary.status()["hindrance"].lower()
    redis.start()
    primary.wait_for("primary")
    # More, where a busy machine answers later than in a third of the time for which a lease is held:
    # what was taken by such a call is given back, and its epoch is spent (test_lease.c).
    assert primary.status()["epoch"] >= 2, primary.logs()


def test_a_standby_that_starts_while_redis_is_away(make_pair, redis):
    """It learns its role all the same, and nobody hands over to who could not take over."""
    primary, standby = make_pair().nodes.values()
    primary.supervise()
    primary.wait_for("primary")
    redis.kill()
    standby.supervise()
    standby.wait_for("standby")
    refused = standby.say("promote")
    assert refused.returncode == 1 and "Redis does not answer" in refused.stderr
    assert primary.state() == "primary" and primary.status()["epoch"] == 1, primary.logs()
    log = standby.supervisor_log_path.read_text()
    assert "event=node_not_demoted" not in log and "event=node_killed" not in log, log
    redis.start()
    assert primary.said("demote")["state"] == "standby"
    standby.wait_for("primary")


def test_an_empty_redis_gives_no_epoch_twice(make_pair, redis):
    pair = make_pair()
    primary, (standby,) = pair.start()
    primary.said("demote")
    pair.settle()
    before = max(node.status()["epoch"] for node in pair.nodes.values())
    redis.kill()
    redis.forget()
    redis.start()
    wait_until(lambda: redis.command("GET", "keepsock.lease_epoch"), "the lease is there", 40)
    primary, (standby,) = pair.settle()
    assert primary.status()["epoch"] == before == 2
    primary.said("demote")
    primary, _ = pair.settle()
    assert primary.status()["epoch"] > before


@pytest.fixture
def group():
    servers = Group().start()
    yield servers
    servers.stop()


@pytest.fixture
def sentinel_pair(group):
    pair = Pair(group.url())
    yield pair
    pair.end()


def test_a_sentinel_failover_is_bridged(sentinel_pair, group):
    primary, (standby,) = sentinel_pair.start()
    epoch = primary.status()["epoch"]
    group.master.kill()
    place = f"127.0.0.1:{group.replica.port}"
    wait_until(lambda: primary.status()["redis"] == place and
               primary.status()["lease_left_ms"] > 0, "the new master has the lease", 60)
    assert primary.state() == "primary" and primary.status()["epoch"] == epoch
    assert standby.state() == "standby"


def test_without_a_majority_of_sentinels_no_renewal_counts(sentinel_pair, group):
    primary, (standby,) = sentinel_pair.start()
    for sentinel in group.sentinels[:2]:
        sentinel.kill()
    wait_until(lambda: primary.status()["lease_left_ms"] == 0, "no renewal counts")
    # Redis itself is well, and nobody may believe it: the peer's word is all there is.
    wait_until(lambda: standby.status()["promise_left_ms"] > 0, "the peer has granted")
    assert primary.state() == "primary"
    group.sentinels[0].start()
    wait_until(lambda: primary.status()["lease_left_ms"] > 0, "renewals count again", 60)


def test_simultaneous_start_of_three(make_pair):
    pair = make_pair(count=3, more={"c": {"cluster": {"priority": 200}}})
    primary, standbys = pair.start()
    assert primary.status()["epoch"] == 1
    primary.kill_supervisor()
    wait_until(lambda: any(s.state() == "primary" for s in standbys), "another is primary", 40)
    if primary.name != "c":
        assert pair.nodes["c"].state() == "primary"


def test_an_operator_promotes_and_demotes(make_pair):
    pair = make_pair(cluster={"min_change_interval": "1h"})
    primary, (standby,) = pair.start()
    answer = standby.said("promote")
    assert answer == {"state": "primary", "epoch": 2}
    primary.wait_for("standby")
    # An operator's word counts more than the time between changes.
    assert primary.said("promote")["epoch"] == 3
    standby.wait_for("standby")
    refused = standby.say("demote")
    assert refused.returncode == 1 and "not the primary" in refused.stderr
    assert rising(pair.epochs()), pair.epochs()


def test_demote_wants_somebody_to_follow(make_pair):
    primary, (standby,) = make_pair(cluster={"min_change_interval": "1h"}).start()
    assert standby.said("maintenance", "on")["state"] == "maintenance"
    def knows():
        rows = primary.said("show", "cluster")["rows"]
        return any(row["state"] == "maintenance" for row in rows)
    wait_until(knows, "the primary knows")
    refused = primary.say("demote")
    assert refused.returncode == 1
    assert f"no other node could take over: {standby.name} is maintenance" in refused.stderr
    assert primary.say("demote", "force").returncode == 0
    primary.wait_for("standby")
    assert standby.say("maintenance", "off").returncode == 0
    standby.wait_for("primary")


def test_demote_waits_for_somebody_to_follow(make_pair):
    """A standby that is held up for a moment is no reason to refuse."""
    primary, (standby,) = make_pair().start()
    standby.kill_supervisor(signal.SIGSTOP)
    wait_until(lambda: not primary.said("show", "cluster")["rows"][1]["connected"], "it is missed")
    demotion = subprocess.Popen(primary.asking("demote", "--json"), stdout=subprocess.PIPE, text=True)
    wait_until(lambda: primary.said("show", "metrics")["requests_waiting"] == 1, "it waits")
    assert primary.state() == "primary"
    standby.kill_supervisor(signal.SIGCONT)
    answer, _ = demotion.communicate(timeout=60)
    assert json.loads(answer)["state"] == "standby"
    standby.wait_for("primary")


def test_maintenance_hands_over(make_pair):
    primary, (standby,) = make_pair().start()
    assert primary.said("maintenance", "on")["state"] == "maintenance"
    standby.wait_for("primary")
    refused = primary.say("promote")
    assert refused.returncode == 1 and "only a standby" in refused.stderr
    assert primary.say("maintenance", "off").returncode == 0
    primary.wait_for("standby")


def test_a_supervisor_told_to_end_hands_over_and_ends_its_node(make_pair):
    primary, (standby,) = make_pair().start()
    node = primary.node_pid()
    assert primary.stop_supervisor() == 0
    assert not is_running(node)
    standby.wait_for("primary", deadline=3 * 3)


def test_changes_are_told_in_order(make_pair, tmp_path):
    script = tmp_path / "notify"
    script.write_text(f"#!/bin/sh\nsleep 0.3\necho \"$1 $2 $3 $4\" >> {tmp_path}/told\n")
    script.chmod(0o755)
    tmp_path.chmod(0o777)
    pair = make_pair(more={"a": {"cluster": {"notify": str(script), "notify_user": getpass.getuser(),
                                             "min_change_interval": "1h",
                                             "notify_fifo": "fifo"}}})
    primary, (standby,) = pair.start()
    node = pair.nodes["a"]
    if node is not primary:
        node.said("promote")
        pair.settle()
    node.said("demote")
    node.wait_for("standby")
    told = tmp_path / "told"
    wait_until(lambda: told.exists() and told.read_text().splitlines()[-1].startswith(
        "a demoting standby"), "the hook was told of the last change")
    lines = [line.split()[1:3] for line in told.read_text().splitlines()]
    assert lines[0] == ["starting", "standby"]
    for before, after in zip(lines, lines[1:]):
        assert before[1] == after[0], lines
    fifo = os.open(node.directory / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    text = os.read(fifo, 65536).decode()
    os.close(fifo)
    assert [line.split()[1:3] for line in text.splitlines()] == lines


def test_monitor_shows_changes_as_they_happen(make_pair):
    primary, (standby,) = make_pair().start()
    monitor = subprocess.Popen(standby.asking("monitor"), stdout=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: standby.said("show", "metrics")["requests_waiting"] == 1,
                   "it listens")
        primary.said("demote")
        assert "to=promoting" in monitor.stdout.readline()
        assert "to=primary" in monitor.stdout.readline()
    finally:
        monitor.terminate()
        monitor.wait()


def test_a_wrong_secret_keeps_peers_apart(make_pair):
    pair = make_pair()
    (pair.nodes["b"].directory / "secret").write_text("another\n")
    for node in pair.nodes.values():
        node.supervise()
    wait_until(lambda: sorted(n.state() or "" for n in pair.nodes.values()) ==
               ["primary", "standby"], "the lease alone decides", 60)
    errors = [row["error"] for node in pair.nodes.values()
              for row in node.said("show", "cluster")["rows"]]
    assert any("TLS" in error for error in errors), errors


def test_configuration_is_checked(make_pair):
    pair = make_pair()
    node = pair.nodes["a"]
    run = subprocess.run([supervisor_binary(), "-t", "-c", str(node.config)], text=True,
                         capture_output=True)
    assert run.returncode == 0 and "worst case" in run.stdout
    text = node.config.read_text()
    node.config.write_text(text.replace('lease_renew = "250ms"', 'lease_renew = "900ms"'))
    run = subprocess.run([supervisor_binary(), "-t", "-c", str(node.config)], text=True,
                         capture_output=True)
    assert run.returncode == 1 and "3 times cluster.lease_renew 900 ms = 2700 ms" in run.stderr
    node.config.write_text(text.replace("redis =", "redisx ="))
    run = subprocess.run([supervisor_binary(), "-t", "-c", str(node.config)], text=True,
                         capture_output=True)
    assert run.returncode == 1
