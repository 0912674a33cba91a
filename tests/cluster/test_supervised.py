# SPDX-License-Identifier: ISC
"""What a supervisor finds out about its own node, and what it does with others' programs and
processes: listeners, scripts, a node that somebody else runs, budgets."""

import getpass
import json
import os
import signal
import socket

import pytest

from certificates import Authority, put
from client import Client
from keepsock import DurableRedis, config_text, free_port, is_running, merge, wait_until
from pair import Pair
from redis_proxy import RedisProxy
from wire import Stream, http

AS_US = {"notify_user": getpass.getuser()}
CHECK_RISE = 2  # successes in a row that make a check good
TLS = {"certificates": [{"certificate": "a.pem", "key": "a.key"}]}


@pytest.fixture
def make_single(make_pair):
    """A cluster of one, whose supervisor has still to be started."""
    return lambda **options: make_pair(count=1, **options).nodes["a"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca") / "ca").issue("localhost", "localhost")


def checks_of(node):
    return {row["check"]: row for row in node.said("show", "checks")["rows"]}


def listener(**more):
    return {"address": "127.0.0.1", "port": free_port()} | more


# --- listeners ---

@pytest.mark.parametrize("kinds,expected", [
    (["plain", "tls"], {"echo", "echo_tls"}),
    (["tls"], {"echo"}),
    (["redirect", "tls"], {"echo"}),
    (["mutual", "plain"], {"echo"}),
])
def test_checks_go_by_a_listener_that_serves_us(make_single, certificate, kinds, expected):
    made = {"plain": listener(), "tls": listener(tls=TLS),
            "redirect": listener(https_redirect_port=443),
            "mutual": listener(tls=TLS | {"client_verify": "required", "client_ca": "a.pem"})}
    node = make_single(listeners=[made[kind] for kind in kinds])
    put(node.directory, "a", *certificate)
    node.supervise()
    node.wait_for("primary")
    echoes = {name: row for name, row in checks_of(node).items() if name.startswith("echo")}
    assert set(echoes) == expected
    assert all(row["good"] and row["judged"] and row["runs"] > 0 for row in echoes.values()), echoes


def test_a_tls_listener_that_does_not_speak_tls_is_a_fault(make_single, certificate):
    """What the node serves there is HTTP: as its clients, the check can't get through."""
    node = make_single(listeners=[listener(), listener()])
    put(node.directory, "a", *certificate)
    served = json.loads(json.dumps(node.settings["listeners"]))
    node.launch()
    wait_until(node.are_all_healthy, "the node runs")
    node.set_listeners([served[0], served[1] | {"tls": TLS}])
    node.supervise()
    node.wait_for("fault")
    row = checks_of(node)["echo_tls"]
    assert not row["good"] and "/echo: wrong version number" in row["last_failure"]
    assert node.status()["node_adopted"] and node.state() == "fault"
    assert node.stop_supervisor() == 0
    node.stop()


# --- scripts ---

@pytest.fixture
def make_script(tmp_path):
    def make(name, text):
        path = tmp_path / name
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
        return str(path)
    tmp_path.chmod(0o777)
    return make


def test_a_check_script_decides(make_pair, make_script, tmp_path):
    sick = tmp_path / "sick"
    script = make_script("disk", f"test ! -e {sick}\n")
    pair = make_pair(more={"a": {"cluster": {"check_scripts": [script], **AS_US}}})
    primary, (standby,) = pair.start()
    if primary.name != "a":
        assert standby.say("promote").returncode == 0
        primary, (standby,) = pair.settle()
    assert checks_of(primary)["script:disk"]["good"]
    sick.touch()
    standby.wait_for("primary")
    primary.wait_for("fault")
    row = checks_of(primary)["script:disk"]
    assert not row["good"] and row["last_failure"] == "exit status 1"
    sick.unlink()
    primary.wait_for("standby")


def test_a_check_script_that_hangs_is_killed_with_its_children(make_single, make_script, tmp_path):
    pids = tmp_path / "pids"
    script = make_script("hang", f"sleep 1000 &\necho $! >> {pids}\nwait\n")
    node = make_single(cluster={"check_scripts": [script], "check_timeout": "300ms", **AS_US})
    node.supervise()
    node.wait_for("fault")
    row = checks_of(node)["script:hang"]
    assert "it took too long" in row["last_failure"], row
    assert node.stop_supervisor() == 0
    started = [int(line) for line in pids.read_text().split()]
    wait_until(lambda: not any(map(is_running, started)), "nothing of the script is left")


@pytest.mark.parametrize("ends_with", [0, 3])
def test_the_fence_program_comes_before_the_promotion(make_pair, make_script, tmp_path, ends_with):
    told = tmp_path / "fenced"
    script = make_script("fence", f"echo \"$1 $2\" >> {told}\nexit {ends_with}\n")
    pair = make_pair(cluster={"fence": script, **AS_US})
    primary, (standby,) = pair.start()
    # Handed over in good order: nobody is to be fenced.
    primary.said("demote")
    primary, (standby,) = pair.settle()
    assert not told.exists()
    primary.signal_all(signal.SIGKILL)
    standby.wait_for("primary")
    assert told.read_text() == f"{primary.name} 3\n"
    log = standby.logs()
    assert ("event=fenced" in log) == (ends_with == 0)
    assert ("event=fence_failed" in log) == (ends_with != 0)
    # It has been promoted before, when nobody was lost.
    order = [log.rindex(text) for text in ("standby->promoting", "event=fence",
                                           "promoting->primary")]
    assert order == sorted(order)


# --- a node that somebody else runs ---

def test_a_node_of_systemd_is_adopted_and_never_started(make_single):
    node = make_single(cluster={"start_node": False})
    node.supervise()
    wait_until(lambda: node.is_in("starting") and node.status()["node_error"], "it waits")
    assert node.status()["node_pid"] == 0
    node.launch()
    node.wait_for("primary")
    status = node.status()
    assert status["node_adopted"] and status["node_pid"] == node.process.pid
    # Its runner starts it again: to the supervisor that is a restart.
    node.kill_master()
    node.launch()
    wait_until(lambda: node.status()["node_pid"] == node.process.pid, "it is adopted again")
    assert node.state() == "primary" and node.status()["node_restarts"] == 1
    assert node.status()["epoch"] == status["epoch"]
    # The supervisor goes, the node stays.
    assert node.stop_supervisor() == 0
    assert node.process.poll() is None
    assert node.ctl_json("role")["role"] == "standby"
    node.stop()


def test_a_node_whose_workers_are_still_starting_is_not_promoted(make_single, warm_redis):
    """Its master answers, but no worker has seen Redis yet, which the supervisor has."""
    proxy = RedisProxy(warm_redis.port)
    proxy.refuse(True)
    away = {"redis": {"server": f"redis://127.0.0.1:{proxy.port}"}}
    node = make_single(more={"a": away}, cluster={"start_node": False})
    node.launch()
    wait_until(node.try_status, "its master answers")
    # With a probe_timeout by which /ready is not judged for a while.
    node.config.write_text(config_text(merge(node.settings, {
        "redis": {"server": warm_redis.url, "probe_timeout": "60s"}})))
    node.supervise()
    wait_until(lambda: node.is_in("starting") and node.status()["node_starting"], "it is found")
    runs = checks_of(node)["echo"]["runs"] + 2 * CHECK_RISE
    wait_until(lambda: checks_of(node)["echo"]["runs"] > runs, "its checks have gone well")
    assert node.state() == "starting" and node.status()["checks_good"], node.status()
    proxy.refuse(False)
    node.wait_for("primary")
    status = node.status()
    assert status["epoch"] == 1 and not status["node_starting"], node.logs()
    assert "not promoted" not in node.logs()
    assert node.stop_supervisor() == 0
    node.stop()
    proxy.close()


def test_a_node_that_nobody_runs_is_not_promoted(make_pair):
    pair = make_pair(cluster={"start_node": False})
    a, b = pair.nodes.values()
    a.launch()
    for node in (a, b):
        node.supervise()
    a.wait_for("primary")
    b.wait_for("fault")
    assert b.say("promote").returncode == 1
    a.stop_supervisor()
    a.stop()
    wait_until(lambda: b.status()["lease_holder"] == "", "nobody has the lease")
    assert b.state() == "fault"


# --- budgets ---

def test_a_node_that_keeps_dying_does_not_flap(make_pair):
    """Beyond its budget it is left alone until the window has moved on: one failover, no more."""
    pair = make_pair(cluster={"restart_limit": 1, "restart_window": "120s",
                              "restart_timeout": "1s"})
    primary, (standby,) = pair.start()
    for _ in range(2):
        pid = wait_until(primary.node_pid, "there is a node")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: primary.node_pid() != pid, "its end was noticed")
    standby.wait_for("primary")
    primary.wait_for("fault")
    status = primary.status()
    assert status["node_restarts"] == 2 and status["node_restart_limit"] == 1
    assert primary.say("promote").returncode == 1
    # It comes up again, and is no candidate for all that.
    wait_until(lambda: primary.status()["node_up"], "it was started once more")
    assert primary.state() == "fault" and standby.state() == "primary"
    # Maintenance is how an operator says that it is mended.
    assert primary.say("maintenance", "on").returncode == 0
    assert primary.say("maintenance", "off").returncode == 0
    primary.wait_for("standby")
    assert len(pair.epochs()) == 2


def test_it_is_not_promoted_again_at_once(make_pair):
    pair = make_pair(cluster={"min_change_interval": "20s"})
    primary, (standby,) = pair.start()
    primary.said("demote")
    standby.wait_for("primary")
    standby.kill_supervisor()
    wait_until(lambda: primary.status()["lease_holder"] == "", "the lease has run out")
    wait_until(lambda: "min_change_interval" in primary.status()["hindrance"], "it says why not")
    assert primary.state() == "standby"


def test_a_promotion_that_failed_is_tried_again(make_pair):
    """It is no change to and fro that anybody has to be spared."""
    taken = socket.create_server(("127.0.0.1", 0))
    pair = make_pair(more={"a": {"cluster": {"min_change_interval": "1h"}, "listeners": [
        listener(), {"address": "127.0.0.1", "port": taken.getsockname()[1], "when": "primary"}]}})
    node = pair.nodes["a"].supervise()
    wait_until(lambda: "the node was not promoted: cannot listen on" in node.logs(),
               "the node refuses", 40)
    taken.close()
    node.wait_for("primary")
    assert node.status()["epoch"] > 1


# --- more than two ---

def test_the_standby_with_the_highest_priority_follows(make_pair):
    pair = make_pair(count=3, more={"a": {"cluster": {"priority": 10}},
                                    "b": {"cluster": {"priority": 20}},
                                    "c": {"cluster": {"priority": 200}}})
    pair.nodes["c"].supervise()
    pair.nodes["c"].wait_for("primary")
    for name in "ab":
        pair.nodes[name].supervise()
    primary, _ = pair.settle()
    assert primary.name == "c"
    primary.signal_all(signal.SIGKILL)
    pair.nodes["b"].wait_for("primary")
    assert pair.nodes["a"].state() == "standby"
    # A higher one that comes back replaces nobody.
    pair.nodes["c"].supervise()
    pair.nodes["c"].wait_for("standby")
    assert pair.nodes["b"].state() == "primary"


# --- all of them serve ---

def test_active_active_serves_everywhere(make_pair):
    """The role is for singleton duties: losing it closes nobody's connection and fences nobody."""
    pair = make_pair(cluster={"active_active": True})
    primary, (standby,) = pair.start()
    clients = {node.name: Client(node.port) for node in (primary, standby)}
    for client in clients.values():
        client.result("subscribe", channel="news")
    primary.kill_supervisor()
    standby.wait_for("primary")
    for number, client in enumerate(clients.values()):
        client.result("publish", channel="news", data=number)
        for hearing in clients.values():
            assert hearing.publication("news")["data"] == number
    assert "event=purged" not in standby.logs()
    primary.supervise()
    primary.wait_for("standby")
    for client in clients.values():
        client.result("publish", channel="news", data="still here")


# --- bad words ---

@pytest.mark.parametrize("words,complaint", [
    (["demote", "please"], "usage: demote [force]"),
    (["maintenance", "maybe"], "usage: maintenance on|off"),
    (["maintenance"], "maintenance"),
    (["promote", "now"], "promote"),
    (["log", "level", "loud"], "no such level"),
    (["show", "nothing"], "nothing"),
    (["switchover"], "switchover"),
    (["status", "x" * 5000], ""),
])
def test_bad_commands_change_nothing(single_primary, words, complaint):
    run = single_primary.say(*words)
    assert run.returncode == 1 and complaint in run.stderr, run
    assert single_primary.state() == "primary"


@pytest.fixture(scope="module")
def single_primary():
    redis = DurableRedis().start()
    port = free_port()
    pair = Pair(redis.url, count=1, cluster={"metrics_listen": f"127.0.0.1:{port}"})
    node = pair.nodes["a"].supervise()
    node.metrics_port = port
    node.wait_for("primary")
    yield node
    pair.end()
    redis.stop()


def test_commands_are_in_its_help_and_manual(single_primary):
    names = {row["command"] for row in single_primary.said("help")["rows"]}
    assert {"status", "show cluster", "show checks", "show events", "show metrics", "promote",
            "demote", "maintenance", "monitor"} <= names
    manual = os.path.join(os.path.dirname(__file__), "../../docs/keepsockctl.1.md")
    with open(manual, encoding="utf-8") as text:
        content = text.read()
    assert [name for name in names if f"`{name}" not in content] == []


def test_show_without_peers(single_primary):
    assert [row["node"] for row in single_primary.said("show", "cluster")["rows"]] == ["a"]
    events = single_primary.said("show", "events")["rows"]
    assert [(row["from"], row["to"]) for row in events] == [
        ("starting", "standby"), ("standby", "promoting"), ("promoting", "primary")]
    assert all(row["reason"] and row["node"] == "a" for row in events)


# --- /metrics ---

def samples(node):
    answer = http(node.metrics_port, "GET", "/metrics")
    assert answer.status == 200 and answer.header("Content-Type").startswith("text/plain")
    return dict(line.rsplit(" ", 1) for line in answer.body.decode().splitlines()
                if not line.startswith("#"))


def test_metrics_tell_what_it_is(single_primary):
    found = samples(single_primary)
    shown = single_primary.said("show", "metrics")
    assert {f"keepsock_supervisor_{name}" for name in shown} <= set(found)
    one = "keepsock_supervisor_{}".format
    assert found[one("primary")] == found[one("node_up")] == found[one("epoch")] == "1"
    assert found[one("promotions_total")] == "1" and found[one("failovers_total")] == "0"
    assert 0 < int(found[one("lease_left_milliseconds")]) < 3000
    assert found[one('check_good{check="echo"}')] == "1"


def test_metrics_are_well_formed(single_primary):
    """Each sample's family was described once, before it."""
    text = http(single_primary.metrics_port, "GET", "/metrics?x=1").body.decode()
    described, kinds = set(), {}
    for line in text.splitlines():
        words = line.split(" ")
        if line.startswith("# HELP "):
            assert words[2] not in described and len(words) > 4, line
            described.add(words[2])
        elif line.startswith("# TYPE "):
            kinds[words[2]] = words[3]
        else:
            name = words[0].split("{")[0]
            assert name in described and kinds[name] in ("gauge", "counter"), line
            assert name.endswith("_total") == (kinds[name] == "counter"), line
            assert words[1].isdigit(), line


@pytest.mark.parametrize("request_text,status", [
    (b"GET / HTTP/1.1\r\n\r\n", 404),
    (b"GET /metricsx HTTP/1.1\r\n\r\n", 404),
    (b"GET /metric HTTP/1.1\r\n\r\n", 404),
    (b"POST /metrics HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", 405),
    (b"GET /metrics\r\n\r\n", 400),
    (b"\r\n\r\n", 400),
    (b"\0\xff\r\n\r\n", 400),
    (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 10000 + b"\r\n\r\n", 431),
])
def test_metrics_refuse_anything_else(single_primary, request_text, status):
    with Stream(single_primary.metrics_port) as stream:
        stream.send(request_text)
        assert stream.take_until(b"\r\n").split(b" ")[1] == str(status).encode()
    assert samples(single_primary)


def test_visitors_who_say_nothing_are_sent_away(single_primary):
    """As many as there is room for, and more; whoever asks is answered when they have gone."""
    idle = [Stream(single_primary.metrics_port) for _ in range(20)]
    for stream in idle[::2]:
        stream.send(b"GET /met")
    assert samples(single_primary)["keepsock_supervisor_primary"] == "1"
    assert single_primary.state() == "primary"
    for stream in idle:
        stream.close()


def test_a_taken_address_is_told(make_single):
    taken = socket.create_server(("127.0.0.1", 0))
    node = make_single(cluster={"metrics_listen": f"127.0.0.1:{taken.getsockname()[1]}"})
    node.supervise()
    assert node.supervisor.wait(30) == 1
    assert "metrics_listen" in node.logs() and "Address already in use" in node.logs()
    taken.close()
