# SPDX-License-Identifier: ISC
"""Fixtures of the cluster tests."""

import pytest

import seeded
from keepsock import DurableRedis
from pair import Pair
from seeded import rng  # noqa: F401


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run the long campaigns too")
    seeded.add_option(parser)


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--long"):
        items[:] = [item for item in items if not item.get_closest_marker("long")]


@pytest.fixture
def redis():
    """For tests that do something to it."""
    server = DurableRedis().start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def warm_redis():
    """One that has run for a while, so that a supervisor believes it at once."""
    server = DurableRedis().start()
    yield server
    server.stop()


@pytest.fixture
def make_pair(request):
    """A function that makes a Pair on the test's own redis, if it has one."""
    pairs = []
    own = "redis" in request.fixturenames
    server = request.getfixturevalue("redis" if own else "warm_redis")
    if not own:
        assert server.command("FLUSHALL") == "OK"

    def make(**options):
        pairs.append(Pair(server.url, **options))
        return pairs[-1]

    yield make
    for pair in pairs:
        pair.end()
