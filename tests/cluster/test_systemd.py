# SPDX-License-Identifier: ISC
"""What `make install` lays down, under a real systemd: docs/deploy-pair.md on three machines."""

import os
import pathlib
import subprocess
import sys

import pytest

from keepsock import ROOT

HERE = pathlib.Path(__file__).parent
SYSTEMD = pathlib.Path("/lib/systemd/systemd")
UNIT_OF_REDIS = pathlib.Path("/lib/systemd/system/redis-sentinel.service")
FACTS = ["a pair", "a killed master is replaced, connections stay", "a killed supervisor goes on",
         "systemctl reload keeps connections", "an upgrade keeps connections", "systemctl stop of a supervisor hands over",
         "TLS sessions are resumed on the other node", "a host without power is taken over from", "systemctl stop leaves nothing"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The release build where there is one: what is installed is run as it is by users."""
    build = ROOT / "var/build/release"
    if not (build / "Makefile").exists():
        build = ROOT / "var/build/test"
    destination = tmp_path_factory.mktemp("installed")
    run = subprocess.run(["make", "-C", str(build), "install", f"DESTDIR={destination}"], text=True,
                         capture_output=True, timeout=500)
    assert run.returncode == 0, run.stdout + run.stderr
    return destination


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
@pytest.mark.skipif(not SYSTEMD.exists(), reason="systemd is not installed")
@pytest.mark.skipif(not UNIT_OF_REDIS.exists(), reason="Debian's redis-sentinel is not installed")
def test_three_machines(installed, tmp_path):
    path = os.pathsep.join([str(HERE), str(HERE.parent / "node")])
    run = subprocess.run(["unshare", "--net", "--mount", sys.executable, str(HERE / "systemd_scene.py"),
                          str(installed), str(tmp_path)],
                         env={**os.environ, "PYTHONPATH": path}, text=True, capture_output=True,
                         timeout=400)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines() == FACTS
