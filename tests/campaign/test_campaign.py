# SPDX-License-Identifier: ISC
"""Processes of a node under load are killed at random moments, and replaced, and none of thousands
of clients may notice: no connection ends, nothing is lost, doubled, or out of order, everybody keeps
the id, what an SDK said was published is stored once, and nothing leaks."""

import os
import pwd

import pytest

from keepsock import ROOT, merge
from rig import SETTINGS
from test_keeper import give_to

SDKS = {"js": 40, "go": 40, "py": 15}
PUBLISHED = 10000


@pytest.fixture
def size(request):
    """How much of everything."""
    if request.config.getoption("--long"):
        return {"members": 10000, "rate": 60, "channels": 100, "asked": 100}
    return {"members": 2000, "rate": 30, "channels": 40, "asked": 150}


def layouts():
    """Programs that lay the arena out in another way each, as later versions may."""
    programs = [ROOT / f"var/build/layout-{number}/keepsockd" for number in (1, 2)]
    for program in programs:
        assert program.exists(), f"{program} is missing: tools/check makes it"
    return programs


def test_nobody_notices(make_rig, size, request):
    """Kills first, then changes, and kills on until the SDKs have published enough."""
    kills, reloads = (500, 16) if request.config.getoption("--long") else (50, 3)
    rig = make_rig(settings=merge(SETTINGS, {"node": {"workers": 4}}), sdks=SDKS, **size)
    for _ in range(kills):
        rig.kill_one()
    for program in (*layouts(), None):
        for _ in range(reloads):
            rig.reload()
        if program:
            rig.upgrade(program)
    while rig.acknowledged() < PUBLISHED:
        rig.kill_one()
    rig.finish()


def test_nobody_notices_by_tls(make_rig, size, request):
    """Clients of TLS 1.2 and 1.3, records cut anywhere."""
    kills, reloads = (500, 16) if request.config.getoption("--long") else (8, 2)
    if not request.config.getoption("--long"):
        size = {"members": 400, "rate": 30, "channels": 20, "asked": 60}
    rig = make_rig(settings=merge(SETTINGS, {"node": {"workers": 2}}), by_tls=True,
                   sdks={"js": 15, "go": 15, "py": 8}, **size)
    for program in (layouts()[0], None):
        for _ in range(kills // 2):
            rig.kill_one()
        for _ in range(reloads):
            rig.reload()
        if program:
            rig.upgrade(program)
    assert rig.node.metrics()["keepsock_tls_connections"] >= size["members"]
    rig.finish()


def test_nobody_notices_with_few_descriptors(make_rig):
    """An ordinary user's node with 256 of them for each process: for those the kernel limits what is
    on its way between processes, too."""
    is_root = os.geteuid() == 0

    def prepare(node):
        node.descriptor_limit = 256
        if is_root:
            give_to(node, pwd.getpwnam("nobody").pw_uid)
    ordinary = {"node": {"user": "nobody"}} if is_root else {}
    rig = make_rig(prepare, merge(SETTINGS, ordinary), members=200, rate=30, channels=10,
                   sdks={"js": 10, "go": 10, "py": 5}, asked=50)
    for _ in range(3):
        for _ in range(4):
            rig.kill_one()
        rig.reload()
    rig.finish()
