# SPDX-License-Identifier: ISC
"""Workers are killed under load, at random moments and at every named crash point, and each time
the arena they left is judged beside what their clients saw. Nobody goes on with it here: the
connections end, so that what was received is all that was sent. The node must be a test build
(--enable-sanitizers --enable-crash-points)."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from crash_judge import Death, judge_cut, judge_streams, note_replies, note_responses
from crash_load import CHANNELS, Load
from crash_record import Transcript, mark, responses
from keepsock import DEADLINE, ROOT, keepsockd

WORKERS = 4
KILLS, LONG_KILLS = 100, 1000
# The master starts a worker anew at once only if the last one lived for a second.
LIFE = 1.05
PAGE = 5000
SETTINGS = {
    "node": {"workers": WORKERS},
    "channel": {"history_size": 1000000, "history_ttl": "1h",
                "history_max_publication_limit": PAGE, "recovery_max_publication_limit": 300},
    "client": {"ping_interval": "2s", "pong_timeout": "1500ms", "queue_max_size": 262144},
    "memory": {"arena_size": 67108864},
    "websocket": {"compression": True},
}


def arena_checker():
    return os.path.join(os.path.dirname(keepsockd()), "tests/node/arena_checker")


def crash_points():
    table = (ROOT / "include/keepsock/crash_points.h").read_text()
    return re.findall(r'CRASH\(\w+, "([a-z-]+)"', table)


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


class Campaign:
    """A node under load whose workers die one after the other."""

    def __init__(self, node, rng):
        self.node, self.rng = node, rng
        self.load = Load(node.port, rng)
        self.next_slot = 0
        self.deaths = self.fanning_out = self.judged = self.exact = 0
        self.seen = {}            # (channel, offset): mark, of all clients
        self.known = set()        # serials of connections that a passport named
        self.complaints = []

    # The node

    def admin(self, *words):
        """(answer, descriptors) of one admin command."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(DEADLINE)
            connection.connect(str(self.node.socket))
            connection.sendall(" ".join((*words, "--json")).encode() + b"\n")
            answer, fds, *_ = socket.recv_fds(connection, 65536, 4)
            while more := connection.recv(65536):
                answer += more
        status, _, body = answer.partition(b"\n")
        return (json.loads(body) if status == b"OK" else None), fds

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
        """(slot, pid) of the next worker in turn, once it has lived long enough."""
        slot, self.next_slot = self.next_slot, (self.next_slot + 1) % WORKERS

        def grown_up():
            pid = self.worker(slot)
            return pid if pid and self.age(pid) > LIFE else None
        return slot, self.load.run_until(grown_up, f"worker {slot} lives long enough")

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
        recordings = {}           # by passport
        for passport in view.get("passports", ()):
            recording = self.load.find(passport["peer_port"], passport["accepted_at"])
            if passport["kind"] == 1 and recording:
                recordings[passport["ref"]] = recording
        self.load.drain(list(recordings.values()))
        death = Death(view, recordings).judge()
        cut, self.load.cut = self.load.cut, []
        if not view["violations"]:
            self.known |= {recording.serial for recording in recordings.values()}
            death.complaints += judge_cut(cut, self.known)
        self.complaints += [(f"death {self.deaths} ({how})", *c) for c in death.complaints]
        self.deaths += 1
        self.fanning_out += bool(view.get("fanout", {}).get("batch"))
        self.judged += death.judged
        self.exact += death.exact
        self.take(death.publications)
        for recording in recordings.values():
            recording.received = None
        return view

    def kill(self):
        slot, pid = self.next_victim()
        # From a thread of its own, so that the moment has nothing to do with what we just did.
        killer = threading.Timer(self.rng.uniform(0, 0.15), os.kill, (pid, signal.SIGKILL))
        killer.start()
        self.load.run_until(lambda: not killer.is_alive(), "the worker is killed")
        self.judge(slot, pid, "SIGKILL")

    def crash_at(self, point):
        slot, pid = self.next_victim()
        count = str(self.rng.randrange(1, 6))
        answer, _ = self.admin("debug", "crash-after", str(slot), point, count)
        assert answer, f"{point} was not armed"

        def died():
            if self.rng.random() < 0.02:
                self.load.churn()
            return self.worker(slot) != pid
        self.load.run_until(died, f"{point} is reached {count} times")
        view = self.judge(slot, pid, point)
        if "fanout" in view and not TRACES.get(point, lambda _: True)(view):
            self.complaints.append((point, "the arena shows another place"))

    # The end

    def take(self, publications):
        for channel, offset, what in publications:
            if self.seen.setdefault((channel, offset), what) != what:
                self.complaints.append(("content", f"{channel} {offset} differs among clients"))

    def stream(self, channel):
        """The channel's whole stream as [(offset, mark)]."""
        found, since = [], None
        while True:
            result = self.node.api("history", channel=channel, limit=PAGE,
                                   **({"since": since} if since else {}))["result"]
            found += [(p["offset"], mark(p["data"])) for p in result["publications"]]
            if len(result["publications"]) < PAGE:
                return found
            since = {"offset": found[-1][0], "epoch": result["epoch"]}

    def top(self, channel):
        return self.node.api("history", channel=channel, limit=0)["result"]["offset"]

    def finish(self):
        """Ends the load, judges the streams, and fails the test if there was any complaint."""
        self.load.settle(lambda: {channel: self.top(channel) for channel in CHANNELS})
        self.load.close()
        for recording in self.load.recordings:
            if recording.received is not None:
                self.digest(recording)
        streams = {channel: self.stream(channel) for channel in CHANNELS}
        seen = [(channel, offset, what) for (channel, offset), what in self.seen.items()]
        self.complaints += judge_streams(streams, self.load.recordings, seen)
        print(f"{self.deaths} deaths, {self.fanning_out} in a fan-out; {self.judged} connections "
              f"judged, {self.exact} of them to the last byte; "
              f"{sum(map(len, streams.values()))} publications, "
              f"{len(self.load.recordings)} connections")
        assert not self.complaints, "\n".join(map(str, self.complaints[:50]))
        # Loss on the way must stay the exception, or the judge sees little.
        assert self.exact > self.judged / 2

    def digest(self, recording):
        """Takes the acknowledgements and publications of a connection no death judged."""
        if recording.kind == "api":
            note_responses(recording, responses(recording.received))
        elif recording.kind == "client":
            transcript = Transcript(recording.commands_within(recording.planned))
            transcript.read(recording.received)
            note_replies(recording, transcript)
            self.complaints += transcript.complaints
            self.take(transcript.publications)
        recording.received = None


@pytest.fixture
def campaign(start_node, rng):
    assert os.access(arena_checker(), os.X_OK), f"{arena_checker()} is missing: make check"
    campaign = Campaign(start_node(**SETTINGS), rng)
    assert "debug arena" in campaign.node.ctl("help").stdout, "this is no build for tests"
    assert campaign.node.ctl_json("debug", "adoption", "off") == {"adoption": False}
    yield campaign
    campaign.load.close()
    # What was found already says more than a deadline that was missed later.
    print(*campaign.complaints[:50], sep="\n")


def test_killed_at_random_moments(campaign, request):
    kills = LONG_KILLS if request.config.getoption("--long") else KILLS
    for _ in range(kills):
        campaign.kill()
    campaign.finish()


def test_every_crash_point_is_reached(campaign):
    points = crash_points()
    assert len(points) >= 19
    campaign.rng.shuffle(points)
    for point in points:
        campaign.crash_at(point)
    campaign.finish()
