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
BOTH, ONE = ("a", "b"), ("b",)


def pytest_generate_tests(metafunc):
    if "round_number" in metafunc.fixturenames:
        rounds = LONG_ROUNDS if metafunc.config.getoption("--long") else 1
        metafunc.parametrize("round_number", range(1, rounds + 1))


class World:
    """One Redis server; node b reaches it through a proxy."""

    def __init__(self, rng):
        self.redis = DurableRedis().start()
        self.proxy = RedisProxy(self.redis.port)
        self.rng = rng
        self.cluster = Cluster({"a": self.redis.url, "b": f"redis://127.0.0.1:{self.proxy.port}"},
                               rng)

    def stop(self):
        try:
            self.cluster.stop()
        finally:
            self.proxy.close()
            self.redis.stop()

    # Faults. Each is one method, named like its test.

    def killed(self):
        self.cluster.suffer(Fault("killed", BOTH, NOTHING), self.redis.kill, self.redis.start)

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
def world(rng):
    world = World(rng)
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
def group_cluster(group, rng):
    """Publications are acknowledged when a replica has them."""
    cluster = Cluster({name: group.url() for name in BOTH}, rng, min_replicas=1)
    try:
        yield cluster.start()
    finally:
        cluster.stop()


def test_failover(group, group_cluster, round_number):
    group_cluster.suffer(Fault("failover", BOTH, TAIL), group.master.kill)
    assert_nothing_is_wrong(group_cluster)
