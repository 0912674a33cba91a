# SPDX-License-Identifier: ISC
"""The address follows the role: there with it, gone without it, and gone by the kernel's hand when
the supervisor is killed or stopped."""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
FACTS = ["promoted: primary, address", "demoted: standby, no address", "killed: no address",
         "again: primary, address", "stopped: no address", "awake: primary, address",
         "ended: no address"]


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_the_address_follows_the_role():
    path = os.pathsep.join([str(HERE), str(HERE.parent / "node")])
    run = subprocess.run(["unshare", "--net", sys.executable, str(HERE / "vip_scene.py")],
                         env={**os.environ, "PYTHONPATH": path}, text=True, capture_output=True,
                         timeout=200)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines() == FACTS
