# SPDX-License-Identifier: ISC
"""Masters come and go: what runs goes on without one, and the next one adopts it."""

import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from keepsock import config_text, keepsockd, wait_until
from test_keeper import another, assert_all_hear, crowd_of, kill_keeper, kill_worker
from wire import Closed


def replace_master(node, before_start=lambda: None):
    """Kills the master and starts the next one; until that is ready, clients are served anyway."""
    node.kill_master()
    before_start()
    node.start()
    wait_until(lambda: node.ctl("status").returncode == 0, "the master answers")
    wait_until(node.are_protected, "all is protected again")


def pids_of(node):
    return node.workers(), node.keepers(), node.redis_pid()


def test_a_killed_master_concerns_nobody(start_node, make_client):
    node = start_node()
    everyone = crowd_of(node, make_client)
    wait_until(node.all_protected, "protected")
    before = pids_of(node)

    def meanwhile():
        assert_all_hear(node, everyone, "without a master")
        everyone.append(make_client(node))
        everyone[-1].result("subscribe", channel="c")
        assert_all_hear(node, everyone, "to one accepted meanwhile as well")
    replace_master(node, meanwhile)
    assert_all_hear(node, everyone, "with another master")
    assert pids_of(node) == before
    rows = wait_until(node.all_protected, "the numbers agree")
    assert sum(row["connections"] for row in rows.values()) >= len(everyone)
    assert all(row["restarts"] == 0 for row in rows.values())
    events = [row["event"] for row in node.ctl_json("show", "events")["rows"]]
    assert events.count("master replaced") == 1 and "worker died" not in events
    # It tells them where Redis is; they know.
    assert "redis_subscription_lost" not in node.log()
    make_client(node)


def test_descriptors_are_shown(start_node, make_client):
    node = start_node()
    everyone = crowd_of(node, make_client)
    wait_until(node.all_protected, "protected")
    rows = node.ctl_json("show", "fds")["rows"]
    assert [row["worker"] for row in rows] == [0, 1]
    assert sum(row["clients"] for row in rows) >= len(everyone)
    for row in rows:
        assert row["clients"] < row["open"] < row["limit"] and row["client_limit"] < row["limit"]
        assert row["deposited"] == row["kept"] == row["clients"] + 1
        assert row["listeners"] == 1 and row["pid"] == node.workers()[row["worker"]]


def test_masters_killed_again_and_again(start_node, make_client):
    node = start_node()
    everyone = crowd_of(node, make_client)
    wait_until(node.all_protected, "protected")
    before = pids_of(node)
    for number in range(5):
        replace_master(node, lambda: assert_all_hear(node, everyone, f"between {number}"))
        assert_all_hear(node, everyone, f"after {number}")
    assert pids_of(node) == before


def test_each_process_is_replaced_by_a_master_that_adopted_it(start_node, make_client):
    node = start_node()
    everyone = crowd_of(node, make_client)
    wait_until(node.all_protected, "protected")
    replace_master(node)
    kill_worker(node, 0)
    assert_all_hear(node, everyone, "a worker died")
    wait_until(node.are_protected, "protected")
    kill_keeper(node, 1)
    assert_all_hear(node, everyone, "a keeper died")
    wait_until(node.are_protected, "protected")
    rows = node.worker_rows()
    assert rows[0]["restarts"] == 1 and rows[1]["keeper_restarts"] == 1
    redis = node.redis_pid()
    os.kill(redis, signal.SIGKILL)
    wait_until(lambda: node.redis_pid() not in (None, redis), "another Redis")
    wait_until(node.are_all_ready, "it is used")
    client = make_client(node)
    client.result("subscribe", channel="after")
    node.publish("after", 1)
    assert client.publication("after")["data"] == 1


def test_a_worker_dies_without_a_master(start_node, make_client):
    """Its keeper replaces it all the same, and the next master hears of it."""
    node = start_node()
    everyone = crowd_of(node, make_client)
    wait_until(node.all_protected, "protected")

    def meanwhile():
        kill_worker(node, 0)
        assert_all_hear(node, everyone, "a worker died and nobody looked")
    replace_master(node, meanwhile)
    assert_all_hear(node, everyone, "with another master")
    rows = node.worker_rows()
    assert rows[0]["restarts"] == 1 and rows[1]["restarts"] == 0
    assert rows[0]["last_death"] == "signal 9 (Killed)"


def watched_process(node, fd):
    """Of the master's descriptor, if it is one of a process."""
    try:
        info = pathlib.Path(f"/proc/{node.process.pid}/fdinfo/{fd}").read_text()
    except FileNotFoundError:
        return None
    found = re.search(r"^Pid:\t(\d+)$", info, re.MULTILINE)
    return found and int(found.group(1))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_keeper_dies_without_a_master(start_node, make_client, workers):
    """Its worker serves on and is found by the next master, even if there is nobody else."""
    node = start_node(node={"workers": workers})
    everyone = [make_client(node) for _ in range(4)]
    for client in everyone:
        client.result("subscribe", channel="c")
    wait_until(node.all_protected, "protected")
    before = node.workers()

    def meanwhile():
        os.kill(node.keepers()[0], signal.SIGKILL)
        assert_all_hear(node, everyone, "neither keeper nor master")
    replace_master(node, meanwhile)
    assert_all_hear(node, everyone, "both are back")
    assert node.workers() == before
    # Each process that it looks after, and no other, or one of them twice.
    watched = [watched_process(node, fd) for fd in os.listdir(f"/proc/{node.process.pid}/fd")]
    assert sorted(filter(None, watched)) == sorted(
        [*node.workers().values(), *node.keepers().values(), node.redis_pid()])
    everyone += [make_client(node) for _ in range(4)]
    kill_worker(node, 0)
    for client in everyone[-4:]:
        client.result("subscribe", channel="c")
    assert_all_hear(node, everyone, "protected as before")


def test_a_hanging_keeper_is_replaced_by_the_next_master(start_node, make_client):
    node = start_node()
    everyone = crowd_of(node, make_client)
    wait_until(node.all_protected, "protected")
    workers, keepers = node.workers(), node.keepers()
    replace_master(node, lambda: os.kill(keepers[1], signal.SIGSTOP))
    assert_all_hear(node, everyone, "with another keeper")
    assert node.workers() == workers
    assert node.keepers()[0] == keepers[0] and node.keepers()[1] != keepers[1]


def kill_keeper_for_long(node, slot):
    """Again and again, each time it is started after a longer pause; the last one, in seconds."""
    def pauses():
        return re.findall(rf"keeper_died slot={slot} .* restart_in_ms=(\d+)", node.log())
    while True:
        count = len(pauses())
        keeper = node.keepers()[slot]
        os.kill(keeper, signal.SIGKILL)
        pause = int(wait_until(lambda c=count: pauses()[c:], "its death is noticed")[0]) / 1000
        if pause >= 0.5:
            return pause
        wait_until(lambda k=keeper: another(node.keepers, slot, k), "another keeper")


def test_keepers_die_while_the_next_master_waits_for_redis(start_node, make_client):
    """Redis's answer starts what is missing: not what is due to be started already."""
    node = start_node()
    everyone = crowd_of(node, make_client)
    wait_until(node.all_protected, "protected")
    before, redis = node.workers(), node.redis_pid()
    node.kill_master()
    os.kill(redis, signal.SIGSTOP)
    try:
        node.launch()
        wait_until(lambda: node.ctl("status").returncode == 0, "the master answers")
        pause = kill_keeper_for_long(node, 0)
    finally:
        os.kill(redis, signal.SIGCONT)
    wait_until(node.are_all_ready, "Redis answers")
    time.sleep(2 * pause)
    wait_until(node.all_protected, "protected again")
    titles = [process.title for process in node.everybody()]
    assert sum("keepsockd: keeper 0 " in title for title in titles) == 1, titles
    assert node.workers() == before
    assert_all_hear(node, everyone, "all were replaced")
    kill_worker(node, 0)
    assert_all_hear(node, everyone, "its worker died")


def test_redis_dies_without_a_master(start_node, make_client):
    node = start_node()
    everyone = crowd_of(node, make_client)
    wait_until(node.all_protected, "protected")
    node.publish("c", "kept")
    for client in everyone:
        assert client.publication("c")["data"] == "kept"
    before = node.workers()
    replace_master(node, lambda: os.kill(node.redis_pid(), signal.SIGKILL))
    assert node.workers() == before
    assert node.api("history", channel="c", limit=10)["result"]["publications"]


def test_a_second_master_is_refused(start_node, make_client):
    node = start_node()
    client = make_client(node)
    run = subprocess.run([keepsockd(), "-c", str(node.config)], capture_output=True, text=True,
                         timeout=20)
    assert run.returncode == 1 and f"(pid {node.process.pid})" in run.stderr
    client.expect_quiet()
    assert node.are_all_ready()


def test_a_failed_start_leaves_what_runs(start_node, make_client):
    """A master that can't start is no reason to end what runs without one."""
    node = start_node()
    everyone = crowd_of(node, make_client)
    wait_until(node.all_protected, "protected")
    before = pids_of(node)
    good = node.config.read_text()
    node.kill_master()
    bad = node.settings | {"listeners": [*node.settings["listeners"],
                                         {"address": "192.0.2.1", "port": node.port}]}
    node.config.write_text(config_text(bad))
    run = subprocess.run([keepsockd(), "-c", str(node.config)], capture_output=True, text=True,
                         timeout=20)
    assert run.returncode == 1 and "192.0.2.1" in run.stderr
    assert_all_hear(node, everyone, "still here")
    node.config.write_text(good)
    node.start()
    wait_until(lambda: node.ctl("status").returncode == 0, "the master answers")
    assert pids_of(node) == before


def test_it_stops_whatever_it_adopted(start_node, make_client):
    """Clients are told, nothing is left: the end of the test looks for processes."""
    node = start_node()
    everyone = crowd_of(node, make_client)
    wait_until(node.all_protected, "protected")
    replace_master(node)
    sessions = list(node.sessions)
    node.stop()
    for client in everyone:
        client.expect_disconnect(3001)
    assert not [s for s in sessions if node.members(s)]
    assert not list(pathlib.Path(node.directory, "run").glob("keeper-*.sock"))


def stop_command(node, option="--stop"):
    return subprocess.run([keepsockd(), "-c", str(node.config), option], capture_output=True,
                          text=True, timeout=40)


def test_stop_without_a_master(start_node, make_client):
    node = start_node()
    everyone = crowd_of(node, make_client)
    wait_until(node.all_protected, "protected")
    node.kill_master()
    run = stop_command(node)
    assert run.returncode == 0, run.stderr
    for client in everyone:
        client.expect_disconnect(3001)
    assert not node.everybody()
    node.start()


def test_stop_of_a_living_node(start_node):
    node = start_node()
    process = node.process
    run = stop_command(node)
    assert run.returncode == 0, run.stderr
    assert process.wait(1) == 0
    assert not node.everybody()
    node.process = None


def test_stop_of_nothing(make_node):
    node = make_node()
    run = stop_command(node)
    assert run.returncode == 0, run.stderr
    assert not node.everybody()


@pytest.mark.parametrize("without_master", [False, True])
def test_kill_ends_whoever_hangs(start_node, make_client, without_master, redis):
    """All of them stand still; nothing is left, and the next start finds nothing in its way."""
    node = start_node(redis={"server": redis.url})
    client = make_client(node)
    if without_master:
        node.kill_master()
    for process in node.everybody():
        os.kill(process.pid, signal.SIGSTOP)
    run = stop_command(node, "--kill")
    assert run.returncode == 0, run.stderr
    assert not node.everybody()
    with pytest.raises(Closed):
        client.read_to_close()
    if not without_master:
        node.process.wait()
    assert stop_command(node, "--kill").returncode == 0
    node.start()


def test_kill_after_an_upgrade_and_a_reload(start_node, redis):
    """A master that was executed anew, workers and keepers that came later: all are on the list."""
    node = start_node(redis={"server": redis.url})
    assert node.ctl("upgrade").returncode == 0
    assert node.ctl("reload").returncode == 0
    assert stop_command(node, "--kill").returncode == 0
    assert not node.everybody()
    node.process.wait()
    node.process = None


def test_after_a_power_failure(start_node, make_client):
    """Sockets and records are left, and nobody is behind them."""
    node = start_node()
    make_client(node)
    node.process.kill()
    node.kill_everybody()
    node.process.wait()
    wait_until(lambda: not node.everybody(), "all are dead")
    node.start()
    make_client(node)
