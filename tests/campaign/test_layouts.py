# SPDX-License-Identifier: ISC
"""Programs that know only an older layout of the arena than the one in use: they are told apart
before anything is theirs, and what runs goes on."""

import os
import signal
import subprocess

import pytest

from client import Client
from keepsock import ROOT, wait_until

NEWEST, BEFORE, RELEASED = "layout-2", "layout-1", "release"


def program(build):
    path = ROOT / f"var/build/{build}/keepsockd"
    assert path.exists(), f"{path} is missing: tools/check makes it"
    return path


@pytest.fixture
def node(make_node):
    """One that uses the newest layout there is."""
    node = make_node(node={"workers": 2})
    node.program = str(program(NEWEST))
    node.start()
    wait_until(node.all_protected, "protected")
    return node


@pytest.fixture
def clients(node):
    clients = [Client(node.port) for _ in range(8)]
    for client in clients:
        client.result("subscribe", channel="c")
    yield clients
    for client in clients:
        client.cut()


def assert_all_hear(node, clients, data):
    node.publish("c", data)
    for client in clients:
        assert client.publication("c")["data"] == data


def processes(node):
    return node.process.pid, node.workers(), node.keepers()


@pytest.mark.parametrize("older", [BEFORE, RELEASED])
def test_an_upgrade_to_one_is_refused(node, clients, older):
    wait_until(node.all_protected, "protected")
    before = processes(node)
    run = node.ctl("upgrade", str(program(older)))
    assert run.returncode == 1
    assert "those that are in use are of layout" in run.stderr, run.stderr
    assert processes(node) == before
    assert_all_hear(node, clients, "we live")


@pytest.mark.parametrize("with_keepers", [True, False], ids=["keepers", "no keepers"])
def test_a_master_that_is_one_does_not_start(node, clients, with_keepers):
    """It would have workers that die followed by such as don't know their arena."""
    workers = node.workers()
    node.kill_master()
    if not with_keepers:
        for keeper in node.keepers().values():
            os.kill(keeper, signal.SIGKILL)
    node.program = str(program(BEFORE))
    node.launch()
    assert node.process.wait(30) == 1
    assert "an arena of layout 1002, and this program knows none beyond 1001" in node.log()
    assert node.workers() == workers
    node.program = str(program(NEWEST))
    node.launch()
    wait_until(lambda: node.ctl("status").returncode == 0, "a master of the program that ran")
    wait_until(node.all_protected, "protected")
    assert node.workers() == workers
    assert_all_hear(node, clients, "we live")


def test_one_may_stop_the_node(node, clients):
    node.kill_master()
    run = subprocess.run([program(BEFORE), "-c", node.config, "--stop"], stdin=subprocess.DEVNULL,
                         capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr
    for client in clients:
        client.expect_disconnect(3001)
    assert not node.everybody()
    node.process = None
