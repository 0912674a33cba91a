# SPDX-License-Identifier: ISC
"""What is written down while faults happen to a pair: to what tests/cluster records come who held the
address, who had the role, and how the pair stood after each fault. All times are seconds of the wall
clock."""

import dataclasses

from fault_record import NOTHING, History

OTHER, SAME, ANY = "the other one", "the same one", "any"


@dataclasses.dataclass
class Frame:
    """One that was seen on the switch with an address of the pair as its source."""
    at: float
    host: str
    kind: str
    address: str = "10.9.0.100"


@dataclasses.dataclass
class Address:
    """rtnetlink's word: the host has the address from now on, or has it no more."""
    at: float
    host: str
    there: bool
    address: str = "10.9.0.100"


@dataclasses.dataclass
class Change:
    """A supervisor's change of state, from its log."""
    at: float
    node: str
    before: str
    after: str
    epoch: int
    reason: str = ""


@dataclasses.dataclass
class Fault:
    """primary: who has to be it afterwards. loses: what Redis may lose by it. most: promotions that
    it explains. pauses: whether processes are stopped, which is what DESIGN states a residual for."""
    kind: str
    primary: str
    loses: str = NOTHING
    most: int = 1
    pauses: bool = False
    begin: float = None
    healed: float = None
    end: float = None


@dataclasses.dataclass
class Standing:
    """The pair after a fault, when nothing changed any more."""
    at: float
    states: dict              # {node: state}
    holders: tuple            # hosts that have the addresses; "a 10.9.0.100": that has one only
    primary_before: str       # who it was before the fault


@dataclasses.dataclass
class HaHistory(History):
    frames: list = dataclasses.field(default_factory=list)
    addresses: list = dataclasses.field(default_factory=list)
    changes: list = dataclasses.field(default_factory=list)
    standings: list = dataclasses.field(default_factory=list)   # one for each fault
    failovers: list = dataclasses.field(default_factory=list)   # when Sentinels changed the master
    stalls: list = dataclasses.field(default_factory=list)      # when the machine stood still
