# SPDX-License-Identifier: ISC
"""Workers are killed under load, at random moments and at every named crash point, and their
clients may not notice: no connection ends, no byte is lost, doubled or in the wrong place, every
acknowledged publication is there once. The node must be a test build (--enable-sanitizers
--enable-crash-points)."""

import json
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from crash_judge import judge_arena
from crash_load import GARBAGE_SHARE
from crash_watch import SETTINGS as WATCHED, Watch
from keepsock import DEADLINE, ROOT, keepsockd, merge

WORKERS = 4
KILLS, LONG_KILLS = 50, 500
ROUNDS, LONG_ROUNDS = 5, 50
# A keeper starts the next worker at once only if the last one lived for a second.
LIFE = 1.05
SETTINGS = merge(WATCHED, {
    "node": {"workers": WORKERS},
    "client": {"ping_interval": "5s", "pong_timeout": "4s", "queue_max_size": 262144},
    "memory": {"arena_size": 67108864},
})


def arena_checker():
    return os.path.join(os.path.dirname(keepsockd()), "tests/node/arena_checker")


def crash_points():
    """Those that serving reaches; takeovers have their own (test_takeover.py)."""
    table = (ROOT / "include/keepsock/crash_points.h").read_text()
    points = re.findall(r'CRASH\(\w+, "([a-z-]+)"', table)
    return [point for point in points if not point.startswith(("takeover-", "keeper-"))]


READ, WRITE = 1, 2
BATCH = 2
# What the arena must tell after a death at a point: the test's own proof that it died there.
TRACES = {
    "read-before": lambda view: view["syscall"] == READ,
    "read-after": lambda view: view["syscall"] == READ,
    "redis-read": lambda view: view["syscall"] == READ and
        view["syscall_ref"] in view["redis_passports"],
    "write-before": lambda view: view["syscall"] == WRITE,
    "write-after": lambda view: view["syscall"] == WRITE,
    "fanout-begin": lambda view: is_serving(view) and not view["fanout"]["begun"],
    "fanout-deflated": lambda view: is_serving(view) and view["fanout"]["deflated"],
    "fanout-send": lambda view: is_sending(view),
    "fanout-sent": lambda view: is_sending(view),
    "fanout-queued": lambda view: is_serving(view) and view["fanout"]["settled"],
    "fanout-end": lambda view: is_serving(view),
}


def is_serving(view):
    return view["fanout"]["batch"] and view["serving"] == BATCH and \
        view["serving_ref"] == view["fanout"]["channel"] and \
        view["serving_item"] == view["fanout"]["batch"]


def is_sending(view):
    return is_serving(view) and view["fanout"]["begun"] and not view["fanout"]["settled"]


class Campaign(Watch):
    """A node under load whose workers die one after the other."""

    def __init__(self, node, rng, authority):
        super().__init__(node, rng, authority)
        self.next_slot = 0
        self.deaths = self.fanning_out = self.reading = self.writing = 0

    # The node

    def worker(self, slot):
        """The pid of a slot's worker, None while there is none; cheaper than Keepsock.workers()."""
        master = self.node.process.pid
        for child in self.children(master):
            for pid in (child, *self.children(child)):
                try:
                    with open(f"/proc/{pid}/cmdline", "rb") as title:
                        if title.read().startswith(f"keepsockd: worker {slot} of".encode()):
                            return int(pid)
                except OSError:
                    continue
        return None

    @staticmethod
    def children(pid):
        try:
            with open(f"/proc/{pid}/task/{pid}/children") as children:
                return children.read().split()
        except OSError:
            return []

    @staticmethod
    def age(pid):
        """How long a process has lived, in seconds."""
        with open(f"/proc/{pid}/stat") as stat:
            started = int(stat.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started

    def next_victim(self):
        """(slot, pid) of the next worker in turn, once it has lived long enough and its keeper has
        everything that a successor needs."""
        slot, self.next_slot = self.next_slot, (self.next_slot + 1) % WORKERS

        def may_die():
            pid = self.worker(slot)
            if not pid or self.age(pid) < LIFE:
                return None
            answer, _ = self.admin("show", "workers")
            row = next((r for r in answer["rows"] if r["worker"] == slot), {})
            return pid if row.get("protected") and row.get("pid") == pid else None
        return slot, self.load.run_until(may_die, f"worker {slot} is protected")

    def left_arena(self, slot, pid):
        """What arena_checker sees in the arena of the dead worker; None before the master does."""
        answer, fds = self.admin("debug", "arena", str(slot))
        try:
            if not answer or answer["pid"] != pid:
                return None
            run = subprocess.run([arena_checker(), str(fds[0])], pass_fds=fds,
                                 capture_output=True, timeout=DEADLINE)
            assert run.returncode == 0, run.stderr.decode()
            view = json.loads(run.stdout)
            assert view["pid"] == pid
            return view
        finally:
            for fd in fds:
                os.close(fd)

    # A death

    def judge(self, slot, pid, how):
        """The worker is dead or dying; waits for what it left and judges."""
        view = self.load.run_until(lambda: self.left_arena(slot, pid), f"an arena after {how}")
        how = f"death {self.deaths} ({how})"
        self.complain(how, judge_arena(view))
        self.gather(how)
        self.deaths += 1
        self.fanning_out += bool(view.get("fanout", {}).get("batch"))
        self.reading += view["syscall"] == READ
        self.writing += view["syscall"] == WRITE
        return view

    def kill(self):
        slot, pid = self.next_victim()
        # From a thread of its own, so that the moment has nothing to do with what we just did.
        killer = threading.Timer(self.rng.uniform(0, 0.15), os.kill, (pid, signal.SIGKILL))
        killer.start()
        self.load.run_until(lambda: not killer.is_alive(), "the worker is killed", acts=10)
        self.judge(slot, pid, "SIGKILL")

    def crash_at(self, point):
        slot, pid = self.next_victim()
        # It takes who reads nothing long to be queued for at all.
        count = str(1 if point == "fanout-queued" else self.rng.randrange(1, 6))
        answer, _ = self.admin("debug", "crash-after", str(slot), point, count)
        assert answer, f"{point} was not armed"

        def died():
            if self.rng.random() < 0.02:
                self.load.churn()
            return self.worker(slot) != pid
        # Some points are only reached by who does not read, or is thrown out.
        self.load.starving = point == "fanout-queued"
        self.load.garbage = 0.05 if point == "close" else GARBAGE_SHARE
        # Some are reached by a few of a hundred connections only.
        self.load.run_until(died, f"{point} is reached {count} times", 90)
        self.load.starving, self.load.garbage = False, GARBAGE_SHARE
        view = self.judge(slot, pid, point)
        if "fanout" in view and not TRACES.get(point, lambda _: True)(view):
            self.complaints.append((point, "the arena shows another place"))

    def finish(self):
        """Ends the load, judges, and fails the test if there was any complaint."""
        told = super().finish()
        metrics = self.node.metrics()
        print(f"{self.deaths} deaths, {self.fanning_out} in a fan-out, {self.reading} in a read, "
              f"{self.writing} in a write; {told}; "
              f"{metrics['keepsock_takeover_connections_total']:.0f} lived on")
        assert not self.complaints, "\n".join(map(str, self.complaints[:50]))
        assert metrics["keepsock_takeover_adoptions_total"] == self.deaths
        # Only in the moment between accept() and its deposit a connection is nobody's.
        assert self.load.unanswered <= self.deaths


@pytest.fixture
def campaign(start_tls_node, rng, authority):
    assert os.access(arena_checker(), os.X_OK), f"{arena_checker()} is missing: make check"
    campaign = Campaign(start_tls_node(**SETTINGS), rng, authority)
    assert "debug arena" in campaign.node.ctl("help").stdout, "this is no build for tests"
    yield campaign
    campaign.close()


def test_killed_at_random_moments(campaign, request):
    kills = LONG_KILLS if request.config.getoption("--long") else KILLS
    for _ in range(kills):
        campaign.kill()
    campaign.finish()


def test_every_crash_point_is_survived(campaign, request):
    for _ in range(LONG_ROUNDS if request.config.getoption("--long") else ROUNDS):
        points = crash_points()
        assert len(points) >= 23
        campaign.rng.shuffle(points)
        for point in points:
            campaign.crash_at(point)
    campaign.finish()
