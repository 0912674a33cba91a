# SPDX-License-Identifier: ISC
"""The random generator of all suites, as a fixture for their conftest.py."""

import random

import pytest


def add_option(parser):
    parser.addoption("--seed", type=int, default=None, help="seed of the randomized tests")


@pytest.fixture
def rng(request):
    """A random generator whose seed is printed when the test fails."""
    seed = request.config.getoption("--seed")
    seed = random.randrange(2**32) if seed is None else seed
    print(f"seed {seed}: repeat with --seed {seed}")
    return random.Random(seed)
