# SPDX-License-Identifier: ISC
"""A changed configuration takes effect without a closed connection, everywhere or nowhere."""

import concurrent.futures
import errno
import os
import pathlib
import signal
import socket
import subprocess

import pytest

from client import Client
from keepsock import config_text, free_port, keepsockctl, merge, wait_until
from test_keeper import assert_all_hear, crowd_of
from wire import http


def configure(node, /, **overrides):
    """Writes the file; nothing else."""
    node.settings = merge(node.settings, overrides)
    node.config.write_text(config_text(node.settings))


def reload(node):
    run = node.ctl("reload")
    assert run.returncode == 0, run.stderr
    return run


def refused(node, *words):
    """A reload that must fail and change nothing; its reason has all these words."""
    before = node.workers()
    run = node.ctl("reload")
    assert run.returncode == 1, run.stdout
    for word in words:
        assert word in run.stderr, run.stderr
    assert node.workers() == before
    return run.stderr


def has_echo(node):
    return http(node.port, "GET", "/echo").status != 404


def takeovers(node):
    return node.ctl_json("show", "takeovers")["rows"]


@pytest.fixture
def crowd(start_node, make_client):
    node = start_node()
    everyone = crowd_of(node, make_client)
    wait_until(node.all_protected, "protected")
    return node, everyone


def test_a_setting_changes(crowd):
    node, everyone = crowd
    before = node.workers()
    assert has_echo(node)
    configure(node, http={"echo": False})
    reload(node)
    assert not has_echo(node)
    assert_all_hear(node, everyone, "reloaded")
    assert [c.id for c in everyone] == [c.connected["client"] for c in everyone]
    after = node.workers()
    assert set(after) == set(before) and not set(after.values()) & set(before.values())
    rows = takeovers(node)
    assert [(r["worker"], r["reason"], r["outcome"]) for r in rows] == \
        [(0, "reload", "done"), (1, "reload", "done")]
    for row in rows:
        assert row["old_pid"] == before[row["worker"]] and row["new_pid"] == after[row["worker"]]
        assert row["lost"] == 0 and row["freeze_us"] > 0 and row["prepare_us"] > 0
    # The one that asks for the metrics is a connection as well.
    assert len(everyone) <= sum(row["connections"] for row in rows) <= len(everyone) + 2
    metrics = node.metrics()
    assert metrics["keepsock_takeover_done_total"] == 2
    assert metrics["keepsock_takeover_failures_total"] == 0
    assert metrics["keepsock_worker_restarts_total"] == 0
    assert all(row["restarts"] == 0 for row in node.worker_rows().values())


def test_reloads_in_a_row(crowd, make_client):
    node, everyone = crowd
    for number in range(5):
        configure(node, http={"echo": number % 2 == 0})
        reload(node)
        assert has_echo(node) == (number % 2 == 0)
        assert_all_hear(node, everyone, f"reload {number}")
        everyone.append(make_client(node))
        everyone[-1].result("subscribe", channel="c")


def test_by_signal(crowd):
    node, everyone = crowd
    configure(node, http={"echo": False})
    node.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "event=reloaded" in node.log(), "reloaded")
    assert not has_echo(node)
    assert_all_hear(node, everyone, "reloaded")


def test_an_invalid_file_is_refused_with_its_line(crowd):
    node, everyone = crowd
    good = node.config.read_text()
    node.config.write_text(good + "http: {\n  header_timeout = \"soon\";\n};\n")
    lines = good.count("\n")
    reason = refused(node, f"{node.config}:{lines + 2}:")
    assert "http" in reason
    node.config.write_text(good.replace("client = {", "client = {\n  pong_timeout = \"soon\";"))
    refused(node, f"{node.config}:", "pong_timeout")
    node.config.unlink()
    refused(node, str(node.config), "No such file")
    assert_all_hear(node, everyone, "nothing happened")
    assert not takeovers(node)
    assert node.metrics()["keepsock_takeover_failures_total"] == 0


@pytest.mark.parametrize("group, name, value", [("node", "name", "b"), ("node", "run_dir", "other"),
                                                ("node", "user", "nobody")])
def test_what_is_fixed_is_refused_with_its_line(start_node, group, name, value):
    node = start_node()
    configure(node, **{group: {name: value}})
    text = "".join(node.config.read_text().replace(f"{name} =", f"\n{name} ="))
    node.config.write_text(text)
    line, = (number for number, words in enumerate(text.split("\n"), 1)
             if words.startswith(f"{name} ="))
    refused(node, f"{node.config}:{line}: {group}.{name} can't be changed")


def test_what_a_reload_can_not_change(start_node):
    node = start_node()
    before = node.settings
    for change in ({"node": {"state_dir": "elsewhere"}},
                   {"redis": {"server": "redis://127.0.0.1:1"}}):
        configure(node, **change)
        refused(node, "can't be changed while the node runs")
        node.settings = before


def is_refused(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_listeners_come_and_go(crowd):
    node, everyone = crowd
    other, first = free_port(), dict(node.settings["listeners"][0])
    configure(node, listeners=[{"address": "127.0.0.1", "port": other}, first])
    reload(node)
    newcomers = [Client(other) for _ in range(4)]
    for client in newcomers:
        client.result("subscribe", channel="c")
    assert_all_hear(node, everyone + newcomers, "two listeners")
    configure(node, listeners=[{"address": "127.0.0.1", "port": other}])
    reload(node)
    assert is_refused(node.port)
    node.port = other
    assert_all_hear(node, everyone + newcomers, "one listener")
    for client in newcomers:
        client.cut()


def test_a_port_that_another_has_is_refused(crowd):
    node, everyone = crowd
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        configure(node, listeners=[node.settings["listeners"][0],
                                   {"address": "127.0.0.1", "port": port}])
        refused(node, str(port), "another process has it")
    assert_all_hear(node, everyone, "nothing happened")


def test_secrets_are_read_again(start_node):
    node = start_node(node={"workers": 1})
    node.key_path.write_text("another-key\n")
    reload(node)
    body = b'{"channel": "c", "data": 1}'
    head = {"Content-Type": "application/json"}
    assert http(node.port, "POST", "/api/publish", head | {"X-API-Key": "another-key"},
                body).status == 200
    assert node.api_raw("publish", body).status == 401
    node.key_path.unlink()
    refused(node, str(node.key_path))


def test_the_admin_socket_moves(start_node):
    node = start_node(node={"workers": 1})
    before = node.socket
    configure(node, admin={"socket": "moved.sock", "mode": "0660"})
    reload(node)
    node.socket = node.directory / "moved.sock"
    assert node.ctl("status").returncode == 0
    assert os.stat(node.socket).st_mode & 0o777 == 0o660
    wait_until(lambda: not before.exists(), "the old one is gone")
    configure(node, admin={"mode": "0600"})
    reload(node)
    assert os.stat(node.socket).st_mode & 0o777 == 0o600


def test_the_log_moves(crowd):
    node, everyone = crowd
    keepers = node.keepers()
    configure(node, log={"target": "file:other.log", "level": "debug", "format": "json"})
    reload(node)
    other = pathlib.Path(node.directory, "other.log")
    wait_until(node.all_protected, "protected by other keepers")
    assert not set(keepers.values()) & set(node.keepers().values())
    text = other.read_text()
    for process in ("master", "keeper-0", "keeper-1", "worker-0", "worker-1"):
        assert f'"process":"{process}"' in text
    assert '"level":"debug"' in text
    assert_all_hear(node, everyone, "logged elsewhere")
    assert node.metrics()["keepsock_keeper_restarts_total"] == 0
    other.unlink()


def arm(node, slot, point, *signal_number):
    run = node.ctl("debug", "crash-next", str(slot), point, *signal_number)
    if "no such command" in run.stderr:
        pytest.skip("this is no build for tests")
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("slot", [0, 1])
def test_a_worker_that_can_not_take_over_undoes_it_all(crowd, slot):
    """The one that fails goes on as it is; one that had changed already is taken back."""
    node, everyone = crowd
    before = node.workers()
    arm(node, slot, "takeover-ready")
    configure(node, http={"echo": False})
    run = node.ctl("reload")
    assert run.returncode == 1 and f"worker {slot}: " in run.stderr, run.stderr
    assert "stays changed" not in run.stderr
    assert has_echo(node)
    assert_all_hear(node, everyone, "as before")
    after = node.workers()
    assert after[1] == before[1] and (after[0] == before[0]) == (slot == 0)
    reasons = [(row["worker"], row["reason"], row["outcome"]) for row in takeovers(node)]
    assert reasons == ([] if slot == 0 else [(0, "reload", "done")]) + \
        [(slot, "reload", "not done")] + ([] if slot == 0 else [(0, "rollback", "done")])
    reload(node)
    assert not has_echo(node)
    assert_all_hear(node, everyone, "now it worked")


def interrupt(node, times):
    """So many takeovers of slot 0 end since its worker deposits everything anew, as one does when
    more was closed than may wait for a busy keeper. Returns what became of the reload."""
    seen = set(node.workers().values())

    def begun():
        """The next worker, which stops before it says that it is ready."""
        new = {p.pid for p in node.everybody() if p.title.startswith("keepsockd: worker ")} - seen
        return new.pop() if new else None
    arm(node, 0, "takeover-ready", str(int(signal.SIGSTOP)))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        over = pool.submit(node.ctl, "reload")
        for number in range(times):
            seen.add(wait_until(begun, "the next worker"))
            if number + 1 < times:
                arm(node, 0, "takeover-ready", str(int(signal.SIGSTOP)))
            assert node.ctl("debug", "deposit-anew", "0").returncode == 0
        return over.result()


def test_a_worker_that_deposits_everything_anew_is_asked_again(crowd):
    node, everyone = crowd
    configure(node, http={"echo": False})
    run = interrupt(node, 2)
    assert run.returncode == 0, run.stderr
    assert not has_echo(node)
    assert [(row["worker"], row["outcome"], row["text"]) for row in takeovers(node)] == \
        2 * [(0, "not done", "the worker deposits everything anew")] + \
        [(0, "done", ""), (1, "done", "")]
    assert_all_hear(node, everyone, "reloaded")


def test_a_worker_that_never_ends_to_deposit_anew_undoes_it_all(crowd):
    node, everyone = crowd
    before = node.workers()
    configure(node, http={"echo": False})
    run = interrupt(node, 5)
    assert run.returncode == 1
    assert "worker 0: the worker deposits everything anew again and again" in run.stderr, run.stderr
    assert has_echo(node) and node.workers() == before
    assert_all_hear(node, everyone, "as before")
    reload(node)
    assert not has_echo(node)


def test_one_at_a_time(crowd):
    node, everyone = crowd
    keeper = node.keepers()[0]
    os.kill(keeper, signal.SIGSTOP)
    first = subprocess.Popen([keepsockctl(), "-s", str(node.socket),
                              "reload"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: "event=change reason=reload" in node.log(), "it began")
        refused(node, "another reload or upgrade is under way")
    finally:
        os.kill(keeper, signal.SIGCONT)
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 0, errors
    assert_all_hear(node, everyone, "reloaded")


def test_a_worker_dies_in_the_middle(crowd):
    """Its successor is started with what is new: the reload goes on."""
    node, everyone = crowd
    arm(node, 1, "takeover-ready", "19")
    configure(node, http={"echo": False})
    before = node.workers()[1]
    process = subprocess.Popen([keepsockctl(), "-s", str(node.socket),
                                "reload"], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: len([p for p in node.everybody() if "worker 1" in p.title]) == 2,
               "two workers in slot 1")
    os.kill(before, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert not has_echo(node)
    assert_all_hear(node, everyone, "reloaded")


def test_a_master_that_dies_in_the_middle(crowd):
    """The next one brings all workers to what the file says."""
    node, everyone = crowd
    arm(node, 1, "takeover-ready", "19")
    configure(node, http={"echo": False})
    process = subprocess.Popen([keepsockctl(), "-s", str(node.socket),
                                "reload"], stderr=subprocess.DEVNULL)
    wait_until(lambda: len([p for p in node.everybody() if "worker 1" in p.title]) == 2,
               "two workers in slot 1")
    node.kill_master()
    process.wait(20)
    assert_all_hear(node, everyone, "no master")
    node.start()
    wait_until(lambda: "event=change_done" in node.log(), "all have changed")
    assert not any(has_echo(node) for _ in range(10))
    assert_all_hear(node, everyone, "another master")
