# SPDX-License-Identifier: ISC
"""A worker takes over from one that runs and says goodbye."""

import json

import pytest

from keepsock import wait_until

ONE_WORKER = {"node": {"workers": 1}}


def ask_take_over(node, slot=0, *args):
    return node.ctl("debug", "takeover", str(slot), *args, "--json")


def take_over(node, slot=0):
    result = ask_take_over(node, slot)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def node(start_node):
    node = start_node(**ONE_WORKER)
    if "debug takeover" not in node.ctl("help").stdout:
        pytest.skip("this is no build for tests")
    return node


def test_the_next_worker_goes_on(node, make_client):
    clients = [make_client(node) for _ in range(3)]
    for client in clients:
        client.result("subscribe", channel="c")
    before = node.workers()[0]
    for number in range(3):
        end = take_over(node)
        assert (end["old"], end["connections"], end["lost"]) == (before, 3, 0)
        wait_until(lambda: set(node.workers().values()) == {end["new"]}, "the old one left")
        node.publish("c", number)
        for client in clients:
            assert client.publication("c")["data"] == number
        before = end["new"]
    rows = wait_until(node.all_protected, "protected")
    assert rows[0]["restarts"] == 0 and rows[0]["last_death"] == ""
    assert node.metrics()["keepsock_worker_restarts_total"] == 0
