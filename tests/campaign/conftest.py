# SPDX-License-Identifier: ISC
"""The node tests' fixtures, and rigs."""

import importlib.util
import os
import pathlib
import resource

import pytest

from certificates import Authority, put
from clients import Entrance
from keepsock import ROOT, free_port, merge
from rig import SETTINGS, Rig

# SDKs have their patience: they get the build that people run.
os.environ.setdefault("KEEPSOCKD", str(ROOT / "var/build/release/keepsockd"))

# Of the same name as this file, so not to be had by an import.
_SPEC = importlib.util.spec_from_file_location(
    "node_conftest", pathlib.Path(__file__).resolve().parents[1] / "node/conftest.py")
_NODE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_NODE)
pytest_addoption = _NODE.pytest_addoption
pytest_sessionstart = _NODE.pytest_sessionstart
rng, make_node, start_node = _NODE.rng, _NODE.make_node, _NODE.start_node


def listeners():
    """A plain one and one with TLS."""
    tls = {"certificates": [{"certificate": "a.pem", "key": "a.key"}]}
    return [{"address": "127.0.0.1", "port": free_port()} | more for more in ({}, {"tls": tls})]


def tls_entrance(node, directory):
    authority = Authority(directory / "authority")
    put(node.directory, "a", *authority.issue("a", "localhost"))
    return Entrance(node.settings["listeners"][1]["port"], authority.path)


@pytest.fixture
def make_rig(make_node, rng, monkeypatch, tmp_path):
    """A function that starts a node, prepare(node) before it runs, with all its clients."""
    rigs = []
    # Freed memory is given back at once, so that what is held says something.
    monkeypatch.setenv("ASAN_OPTIONS", "quarantine_size_mb=1")

    def make(prepare=lambda node: None, settings=SETTINGS, by_tls=False, **options):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        node = make_node(**merge(settings, {"listeners": listeners()} if by_tls else {}))
        prepare(node)
        entrance = tls_entrance(node, tmp_path) if by_tls else Entrance(node.port)
        rigs.append(Rig(node.start(), rng, entrance, **options))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()
