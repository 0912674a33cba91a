# SPDX-License-Identifier: ISC
"""Fixtures of the tests of a pair in network namespaces."""

import random

import pytest

from network import why_not

REASON = why_not()


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="200 faults in a row, not 20")
    parser.addoption("--seed", type=int, default=None, help="seed of the randomized tests")
    parser.addoption("--faults", default=None, help="these faults, by their names, with commas")


def pytest_collection_modifyitems(items):
    for item in items:
        if REASON and "rng" in item.fixturenames:
            item.add_marker(pytest.mark.skip(reason=REASON))


@pytest.fixture
def rng(request):
    """A random generator whose seed is printed when the test fails."""
    seed = request.config.getoption("--seed")
    seed = random.randrange(2**32) if seed is None else seed
    print(f"seed {seed}: repeat with --seed {seed}")
    return random.Random(seed)
