# SPDX-License-Identifier: ISC
"""Fixtures of the tests of a pair in network namespaces."""

import pytest

import seeded
from network import why_not
from seeded import rng  # noqa: F401

REASON = why_not()


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="200 faults in a row, not 20")
    seeded.add_option(parser)
    parser.addoption("--faults", default=None, help="these faults, by their names, with commas")


def pytest_collection_modifyitems(items):
    for item in items:
        if REASON and "rng" in item.fixturenames:
            item.add_marker(pytest.mark.skip(reason=REASON))
