# SPDX-License-Identifier: ISC
"""Admin views of what happened and of who is there: events, users, sessions, nodes."""

import os
import re
import signal

from keepsock import wait_until


def events(node):
    return node.ctl_json("show", "events")["rows"]


def test_events_tell_of_a_worker_that_died(start_node):
    node = start_node()
    assert {e["process"] for e in events(node) if e["event"] == "worker started"} == {
        "worker 0", "worker 1"}
    victim = node.workers()[1]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: node.workers().get(1) not in (None, victim), "worker 1 was replaced")
    wait_until(node.are_all_ready, "every worker is ready")
    rows = events(node)
    died = [e for e in rows if e["event"] == "worker died"]
    assert [e["process"] for e in died] == ["master"] and "worker 1" in died[0]["text"]
    started = [e for e in rows if (e["event"], e["process"]) == ("worker started", "worker 1")]
    assert len(started) == 2, "the dead worker's own events stay"
    assert rows.index(started[0]) < rows.index(died[0]) < rows.index(started[1])
    for row in rows:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["at"]), row
    assert "worker died" in node.ctl("show", "events").stdout
