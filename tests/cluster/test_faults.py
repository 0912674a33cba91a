# SPDX-License-Identifier: ISC
"""Redis is killed, loses its data, goes back in time, hangs, fails over, is cut off from one node or
delivers nothing to it, under two nodes with SDK clients and publishers; a judge looks at everything
that was published, received and answered. Each fault once; many times with --long."""

import time

import pytest

from cluster import Cluster
from fault_record import ANYTHING, NOTHING, TAIL, Fault
from keepsock import DurableRedis, wait_until
from redis_proxy import RedisProxy
from sentinels import NAME, Group

LONG_ROUNDS = 20
LONG_CHAIN = 30
LONGEST, LONG_LONGEST = 3, 10
BOTH, ONE = ("a", "b"), ("b",)


def pytest_generate_tests(metafunc):
    if "round_number" in metafunc.fixturenames:
        rounds = LONG_ROUNDS if metafunc.config.getoption("--long") else 1
        metafunc.parametrize("round_number", range(1, rounds + 1))


class World:
    """One Redis server; node b reaches it through a proxy."""

    def __init__(self, rng, longest):
        self.redis = DurableRedis().start()
        self.proxy = RedisProxy(self.redis.port)
        self.rng = rng
        self.cluster = Cluster({"a": self.redis.url, "b": f"redis://127.0.0.1:{self.proxy.port}"},
                               rng, longest)

    def stop(self):
        try:
            self.cluster.stop()
        finally:
            self.proxy.close()
            self.redis.stop()

    # Faults. Each is one method, named like its test.

    def killed(self):
        self.cluster.suffer(Fault("killed", BOTH, NOTHING), self.redis.kill, self.redis.start)

    def killed_twice(self):
        """The second time while they have not yet settled what they know."""
        def heal():
            self.redis.start()
            self.cluster.pause(0, 0.7)
            self.redis.kill()
            self.redis.start()

        self.cluster.suffer(Fault("killed twice", BOTH, NOTHING), self.redis.kill, heal)

    def emptied(self):
        def heal():
            self.redis.forget()
            self.redis.start()

        self.cluster.suffer(Fault("emptied", BOTH, ANYTHING), self.redis.kill, heal)

    def rewound(self):
        def heal():
            self.redis.rewind()
            self.redis.start()

        self.redis.keep()
        self.cluster.pause(0.5, 2)
        self.cluster.suffer(Fault("rewound", BOTH, ANYTHING), self.redis.kill, heal)

    def hanging(self):
        """For 20 s."""
        def impose():
            self.redis.pause()
            time.sleep(20)

        self.cluster.suffer(Fault("hanging", BOTH, NOTHING, hangs=True), impose, self.redis.resume)

    def cut_off(self):
        """The connections end, and no new ones come about."""
        self.cluster.suffer(Fault("cut off", ONE, NOTHING), lambda: self.proxy.refuse(True),
                            lambda: self.proxy.refuse(False))

    def swallowed(self):
        """The network swallows everything; it arrives late."""
        self.cluster.suffer(Fault("swallowed", ONE, NOTHING, hangs=True),
                            lambda: self.proxy.stall(True), lambda: self.proxy.stall(False))

    def deaf(self):
        """Commands work, but nothing comes over the subscription connections."""
        self.cluster.suffer(Fault("deaf", ONE, NOTHING, commands_fail=False, hangs=True),
                            lambda: self.proxy.deafen(b"keepsock.probe"),
                            lambda: self.proxy.deafen(None))


FAULTS = [name for name, what in vars(World).items()
          if callable(what) and not name.startswith("_") and name != "stop"]


@pytest.fixture
def longest(request):
    return LONG_LONGEST if request.config.getoption("--long") else LONGEST


@pytest.fixture
def world(rng, longest):
    world = World(rng, longest)
    try:
        world.cluster.start()
        yield world
    finally:
        world.stop()


def assert_nothing_is_wrong(cluster):
    complaints = cluster.judge()
    history = cluster.history
    acknowledged = sum(p.acknowledged for p in history.publications)
    print(f"{len(history.publications)} publications, {acknowledged} acknowledged, "
          f"{sum(len(s.publications()) for s in history.subscriptions.values())} received, "
          f"{len(history.commands)} commands")
    for fault in history.faults:
        seen = [s.reason.strip() for s in history.samples
                if fault.begin <= s.at <= fault.end and s.node in fault.nodes and s.ready != 200]
        first = [s.at + s.took - fault.begin for s in history.samples
                 if s.at >= fault.begin and s.node in fault.nodes and s.ready != 200][:1]
        print(f"{fault.kind}: {fault.end - fault.begin:.1f} s, healed after "
              f"{fault.healed - fault.begin:.1f} s, noticed after {first}, {sorted(set(seen))}")
    rules = sorted({rule for rule, _ in complaints})
    told = "\n".join(f"{rule}: {text}" for rule, text in complaints[:40])
    assert not complaints, f"{len(complaints)} complaints {rules}\n{told}\n{cluster.logs()}"


@pytest.mark.parametrize("fault", FAULTS)
def test_clients_are_served_through(world, fault, round_number):
    getattr(world, fault)()
    assert_nothing_is_wrong(world.cluster)


@pytest.mark.long
def test_faults_in_a_row(world):
    for fault in world.rng.choices(FAULTS, k=LONG_CHAIN):
        getattr(world, fault)()
    assert_nothing_is_wrong(world.cluster)


# Three Sentinels, a master and two replicas

@pytest.fixture
def group():
    started = Group(replicas=2).start()
    yield started
    started.stop()


@pytest.fixture
def make_cluster(group, rng):
    """Publications are acknowledged when so many replicas have them."""
    clusters = []

    def make(min_replicas):
        clusters.append(Cluster({name: group.url() for name in BOTH}, rng,
                                min_replicas=min_replicas))
        return clusters[-1].start()

    yield make
    for cluster in clusters:
        cluster.stop()


def test_failover_from_a_dead_master(group, make_cluster, round_number):
    cluster = make_cluster(min_replicas=1)
    cluster.suffer(Fault("master killed", BOTH, TAIL), group.master.kill)
    assert_nothing_is_wrong(cluster)


def role(server):
    """Sentinels cut all connections of a server whose role they change."""
    try:
        return server.command("ROLE")
    except (OSError, AssertionError):
        return ["changing"]


def wait_for_the_next_master(group, cluster, replicas):
    """One of the replicas, with so many that follow it."""
    def is_complete(server):
        answer = role(server)
        return answer[0] == "master" and len(answer[2]) >= replicas

    wait_until(lambda: any(map(is_complete, group.replicas)), "another one took over", deadline=60)
    for node in cluster.nodes.values():
        wait_until(lambda n=node: n.metrics()["keepsock_redis_master_changes_total"] > 0,
                   "the node follows", deadline=60)


@pytest.mark.long
def test_failover_from_a_hanging_master(group, make_cluster, round_number):
    """When it goes on it believes for a moment that it is the master still."""
    cluster = make_cluster(min_replicas=1)

    def impose():
        group.master.pause()
        wait_for_the_next_master(group, cluster, 1)

    cluster.suffer(Fault("master hangs", BOTH, TAIL, brief=True), impose)
    group.master.resume()
    wait_until(lambda: role(group.master)[0] == "slave", "it obeys the Sentinels")
    assert_nothing_is_wrong(cluster)


@pytest.mark.long
def test_failover_by_order(group, make_cluster, round_number):
    """The old master takes publications until it is told, and its other replica still has them
    then: only both replicas together cannot."""
    cluster = make_cluster(min_replicas=2)

    def impose():
        group.sentinels[0].command("SENTINEL", "FAILOVER", NAME)
        wait_for_the_next_master(group, cluster, 2)

    cluster.suffer(Fault("failover", BOTH, TAIL, brief=True), impose)
    assert_nothing_is_wrong(cluster)
