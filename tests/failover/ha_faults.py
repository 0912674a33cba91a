# SPDX-License-Identifier: ISC
"""The faults of a pair. Each public method of a class is one, on whoever is the primary then."""

import os
import signal

from fault_record import ANYTHING, NOTHING, TAIL
from ha_record import ANY, OTHER, SAME, Fault
from keepsock import Process, wait_until
from watch import JUMP

# The primary is checked, and renews its lease, that often before a clock's jump counts as survived.
CHECKS = 8


def send(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def pids_of(node, title):
    """Of the processes on the node's host whose titles begin like this."""
    found = []
    for pid in node.host.pids():
        try:
            if Process(pid).title.startswith(title):
                found.append(pid)
        except OSError:
            pass
    return found


def kill(node, title):
    """All at once: one that is stopped starts no other."""
    pids = pids_of(node, title)
    send(pids, signal.SIGSTOP)
    send(pids, signal.SIGKILL)


class HostFaults:
    """Those of hosts, their processes and the network between them."""

    def __init__(self, site):
        self.site, self.rng = site, site.rng

    def _suffer(self, kind, primary, impose, heal=None, until=None, **more):
        self.site.suffer(Fault(kind, primary, **more), impose, heal, until)

    def _fails_over(self, kind, impose, heal=None, **more):
        """The other one becomes the primary before anything is healed."""
        self._suffer(kind, OTHER, impose, heal, self.site.other_is_primary, **more)

    # Processes

    def _killed(self, title, is_back):
        """Part of a node dies; it is there again, or if that happens too often the other one is
        the primary."""
        before = {}

        def impose(primary):
            before["pids"], before["status"] = pids_of(primary, title), primary.status()
            kill(primary, title)

        def until(primary):
            return self.site.other_is_primary(primary) or (
                is_back(primary) and not set(pids_of(primary, title)) & set(before["pids"]) and
                len(pids_of(primary, title)) >= len(before["pids"]))

        self._suffer(f"{title} killed", ANY, impose, until=until)

    def node_killed(self):
        self._killed("keepsockd", lambda node: (node.status() or {}).get("node_up"))

    def master_killed(self):
        self._killed("keepsockd: master", lambda node: (node.status() or {}).get("node_up"))

    def worker_killed(self):
        self._killed("keepsockd: worker", lambda node: True)

    def keeper_killed(self):
        self._killed("keepsockd: keeper", lambda node: True)

    def node_beyond_its_budget(self):
        """It is killed whenever it is there again."""
        def until(primary):
            kill(primary, "keepsockd")
            return self.site.other_is_primary(primary)

        self._suffer("node beyond its budget", OTHER, lambda _: None, until=until)

    def node_stopped(self):
        """It hangs, its supervisor doesn't: it is ended."""
        self._fails_over("node stopped", lambda primary: send(pids_of(primary, "keepsockd"),
                                                              signal.SIGSTOP))

    def supervisor_killed(self):
        self._fails_over("supervisor killed", lambda primary: primary.kill_supervisor(),
                         lambda primary: primary.supervise())

    def supervisor_killed_for_a_moment(self):
        """The next one goes on with the lease."""
        def impose(primary):
            primary.kill_supervisor()
            primary.supervise()

        self._suffer("supervisor killed for a moment", SAME, impose,
                     until=lambda primary: primary.state() == "primary")

    def node_and_supervisor_killed(self):
        self._fails_over("node and supervisor killed", lambda primary: kill(primary, "keepsock"),
                         lambda primary: primary.supervise())

    def supervisor_stopped(self):
        """Beyond its lease; then it goes on."""
        self._fails_over("supervisor stopped",
                         lambda primary: primary.kill_supervisor(signal.SIGSTOP),
                         lambda primary: primary.kill_supervisor(signal.SIGCONT), pauses=True)

    def host_stopped(self):
        """Everything on it, beyond the lease; then it goes on."""
        self._fails_over("host stopped", lambda primary: primary.host.signal_all(signal.SIGSTOP),
                         lambda primary: primary.host.signal_all(signal.SIGCONT), pauses=True)

    # Hosts

    def power_lost(self):
        self._fails_over("power lost", self.site.lose_power, self.site.gain_power)

    def power_of_both_lost(self):
        """They start at the same moment."""
        def impose(_):
            for node in self.site.nodes.values():
                self.site.lose_power(node)

        def heal(_):
            for node in self.site.nodes.values():
                self.site.gain_power(node)

        self._suffer("power of both lost", ANY, impose, heal)

    # Clocks

    def clock_jumps(self):
        """That of one host, an hour or so ahead or back; nothing counts by it."""
        name = self.rng.choice(list(self.site.nodes))
        self._jumps(f"clock of {name}", self.site.nodes[name].clock, self.rng.choice((-1, 1)))

    def _jumps(self, whose, clock, direction):
        before = {}
        seconds = direction * self.rng.randrange(1, 6) * JUMP

        def impose(primary):
            before["checks"] = self.site.checks_made(primary)
            clock.jump(seconds)

        self._suffer(f"{whose} jumps by {seconds} s", SAME, impose, until=lambda primary: (
            self.site.checks_made(primary) >= before["checks"] + CHECKS))

    # The network

    def _cut(self, *ways):
        self.site.network.lose(*ways)

    def _heal(self, _):
        self.site.network.lose()

    def _others_of(self, primary):
        return self.site.other(primary).host, self.site.store

    def peers_apart(self):
        """Both see Redis: nothing changes."""
        def impose(primary):
            peer, _ = self._others_of(primary)
            self._cut((primary.host, peer), (peer, primary.host))

        self._suffer("peers apart", SAME, impose, self._heal,
                     lambda primary: not self.site.peer_is_heard(primary))

    def primary_without_redis(self):
        """The standby sees it, so it is in the better place."""
        def impose(primary):
            _, store = self._others_of(primary)
            self._cut((primary.host, store), (store, primary.host))

        self._fails_over("primary without Redis", impose, self._heal)

    def standby_without_redis(self):
        def impose(primary):
            peer, store = self._others_of(primary)
            self._cut((peer, store), (store, peer))

        self._suffer("standby without Redis", SAME, impose, self._heal, lambda primary: not (
            self.site.other(primary).status() or {}).get("redis_connected", True))

    def primary_alone(self):
        """Neither peer nor Redis; its clients see it still."""
        def impose(primary):
            peer, store = self._others_of(primary)
            self._cut((primary.host, store), (store, primary.host),
                      (primary.host, peer), (peer, primary.host))

        self._fails_over("primary alone", impose, self._heal)

    def primary_off_the_network(self):
        self._fails_over("primary off the network", lambda primary: self.site.network.cut(
            primary.host), lambda primary: self.site.network.plug_in(primary.host))

    def primary_not_heard(self):
        """What it sends to peer and Redis is lost, it hears them."""
        def impose(primary):
            self._cut(*((primary.host, other) for other in self._others_of(primary)))

        self._fails_over("primary not heard", impose, self._heal)

    def primary_deaf(self):
        """It hears neither peer nor Redis; they hear it."""
        def impose(primary):
            self._cut(*((other, primary.host) for other in self._others_of(primary)))

        self._fails_over("primary deaf", impose, self._heal)

    # Operators

    def demoted(self):
        def impose(primary):
            primary.said("demote")

        self._fails_over("demoted", impose)

    def promoted(self):
        def impose(primary):
            other = self.site.other(primary)
            other.said("promote")

        self._fails_over("promoted", impose)


class RedisFaults(HostFaults):
    """And those of one Redis server that keeps what was acknowledged, or is made to forget."""

    def _redis_away(self, kind, heal, loses=NOTHING, primary=SAME, impose=None):
        """Until the lease in it has run out, so that the peer's word keeps the primary."""
        redis = self.site.redis
        self._suffer(kind, primary, impose or (lambda _: redis.kill()), heal,
                     lambda primary: (primary.status() or {}).get("lease_left_ms") == 0,
                     loses=loses)

    def redis_killed(self):
        self._redis_away("redis killed", lambda _: self.site.redis.start())

    def redis_killed_for_a_moment(self):
        def impose(_):
            self.site.redis.kill()
            self.site.redis.start()

        self._suffer("redis killed for a moment", SAME, impose, until=lambda primary: (
            primary.status() or {}).get("lease_left_ms"))

    def redis_stopped(self):
        self._redis_away("redis stopped", lambda _: self.site.redis.resume(),
                         impose=lambda _: self.site.redis.pause())

    def redis_emptied(self):
        def heal(_):
            self.site.redis.forget()
            self.site.redis.start()

        self._redis_away("redis emptied", heal, ANYTHING)

    def redis_rewound(self):
        def heal(_):
            self.site.redis.rewind()
            self.site.redis.start()

        self.site.redis.keep()
        self.site.pause(0.5, 1.5)
        self._redis_away("redis rewound", heal, ANYTHING)

    def redis_clock_jumps(self):
        """Ahead: everything with a lifetime is gone at once, the lease too. Back: it lasts longer,
        and who has the lease renews it as before."""
        self._jumps("clock of Redis", self.site.redis.clock, self.rng.choice((-1, 1)))

    def power_lost_and_redis_clock_set_back(self):
        """What the lost host's lease has left grows by as much; nobody waits for that."""
        def impose(primary):
            self.site.lose_power(primary)
            self.site.redis.clock.jump(-self.rng.randrange(1, 6) * JUMP)

        self._fails_over("power lost and Redis's clock set back", impose, self.site.gain_power)


class SentinelFaults(HostFaults):
    """And those of a master, its replica and three Sentinels."""

    def redis_failed_over(self):
        """What was not yet at the replica is lost; the killed one comes back as a replica."""
        group = self.site.group
        before = group.master_place()

        def heal(_):
            wait_until(lambda: group.master_place() != before, "the other one is the master", 60)
            group.server_at(before).start()

        self._suffer("redis failed over", SAME, lambda _: group.server_at(before).kill(), heal,
                     lambda _: group.master_place() != before, loses=TAIL)

    def sentinels_killed(self):
        """Without a majority no renewal counts."""
        group = self.site.group
        gone = self.rng.sample(group.sentinels, 2)

        def impose(_):
            for sentinel in gone:
                sentinel.kill()

        def heal(_):
            for sentinel in gone:
                sentinel.start()

        self._suffer("two sentinels killed", SAME, impose, heal, lambda primary: (
            primary.status() or {}).get("lease_left_ms") == 0)


def names(kind):
    """Of a class's own faults."""
    return [name for name in vars(kind) if not name.startswith("_")]
