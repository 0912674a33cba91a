# SPDX-License-Identifier: ISC
"""Fixtures of the cluster tests."""

import random

import pytest


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run the long campaigns too")
    parser.addoption("--seed", type=int, default=None, help="seed of the randomized tests")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--long"):
        items[:] = [item for item in items if not item.get_closest_marker("long")]


@pytest.fixture
def rng(request):
    """A random generator whose seed is printed when the test fails."""
    seed = request.config.getoption("--seed")
    seed = random.randrange(2**32) if seed is None else seed
    print(f"seed {seed}: repeat with --seed {seed}")
    return random.Random(seed)
