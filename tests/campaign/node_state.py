# SPDX-License-Identifier: ISC
"""What a node consists of: how many processes, descriptors and bytes. Two looks at it with the same
clients connected tell what has leaked in between."""

import collections
import os
import re

from keepsock import processes

PAGE = os.sysconf("SC_PAGE_SIZE")
# What dead workers leave is kept for tests, one of each slot.
LEFT_ARENA = "/memfd:keepsock-left-arena (deleted)"
# More connections to Redis are open while the others are busy, and a while longer.
REDIS_OVERFLOW = 4
MEMORY_FACTOR, MEMORY_SLACK = 1.3, 32 << 20


def role_of(title):
    found = re.match(r"keepsockd: (keeper|worker) (\d+) of |keepsockd: (master) of |(redis-server) ",
                     title)
    if not found:
        return title
    return " ".join(filter(None, found.groups()))


def descriptors_of(pid):
    """{kind: how many}"""
    kinds = collections.Counter()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        kind = re.sub(r":\[\d+\]|^/.*/", "", os.readlink(f"/proc/{pid}/fd/{fd}"))
        if kind != LEFT_ARENA:
            kinds[kind] += 1
    return kinds


def same(held, before, role):
    more = held["socket"] - before.get("socket", 0)
    return (held | {"socket": 0}) == (before | {"socket": 0}) and \
        (abs(more) <= REDIS_OVERFLOW if role.startswith("worker") else more == 0)


class NodeState:
    """rows: of `show workers`; who: a function that tells of a process whether it is the node's."""

    def __init__(self, rows, who):
        mine = [process for process in processes() if who(process)]
        self.roles = sorted(role_of(process.title) for process in mine)
        self.descriptors, self.memory = {}, {}
        connections = {f"{role} {row['worker']}": row["connections"]
                       for row in rows for role in ("worker", "keeper")}
        for process in mine:
            role = role_of(process.title)
            if role == "redis-server":
                continue              # its memory is the data's
            self.descriptors[role] = descriptors_of(process.pid)
            self.descriptors[role]["socket"] -= connections.get(role, 0)
            with open(f"/proc/{process.pid}/statm") as statm:
                self.memory[role] = int(statm.read().split()[1]) * PAGE

    def is_like(self, before):
        return self.roles == before.roles and all(
            same(held, before.descriptors[role], role) for role, held in self.descriptors.items())

    def leaked_since(self, before):
        """Complaints, and what the memory was and is for people."""
        complaints = []
        if self.roles != before.roles:
            complaints.append(("processes", f"{self.roles}, not {before.roles}"))
        for role, held in self.descriptors.items():
            if not same(held, before.descriptors.get(role, {}), role):
                complaints.append(("descriptors", f"{role}: {dict(held)} beside its connections, "
                                   f"not {dict(before.descriptors.get(role, {}))}"))
        was, now = sum(before.memory.values()), sum(self.memory.values())
        if now > was * MEMORY_FACTOR + MEMORY_SLACK:
            complaints.append(("memory", f"{now >> 20} MiB, not {was >> 20} MiB"))
        each = ", ".join(f"{role} {before.memory.get(role, 0) >> 20} → {size >> 20}"
                         for role, size in sorted(self.memory.items()))
        return complaints, f"{was >> 20} MiB before, {now >> 20} MiB after ({each})"
