# SPDX-License-Identifier: ISC
"""How tests have a worker followed by another one: it dies, or says goodbye."""

import json
import os
import signal

import pytest

from keepsock import wait_until


def need_test_build(node):
    if "debug takeover" not in node.ctl("help").stdout:
        pytest.skip("this is no build for tests")


def ask_take_over(node, slot=0, *args):
    return node.ctl("debug", "takeover", str(slot), *args, "--json")


def take_over(node, slot=0):
    """Returns what the takeover's end tells, once the next worker serves."""
    result = ask_take_over(node, slot)
    assert result.returncode == 0, result.stderr
    end = json.loads(result.stdout)
    assert end["lost"] == 0
    return end


def kill_worker(node, slot=0):
    """Kills a worker whose keeper has everything; returns when the next one serves."""
    wait_until(node.are_protected, "the keepers have everything")
    victim = node.workers()[slot]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: node.workers().get(slot) not in (None, victim), "the next worker")
    wait_until(node.are_all_ready, "it is ready")


def say_goodbye(node, slot=0):
    need_test_build(node)
    take_over(node, slot)


FOLLOWED = {"death": kill_worker, "goodbye": say_goodbye}
