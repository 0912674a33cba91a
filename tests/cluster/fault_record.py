# SPDX-License-Identifier: ISC
"""What is written down while faults happen: every publication and its outcome, everything each
subscriber was told, how the nodes answered. All times are seconds of the wall clock, which the
processes of a test share."""

import dataclasses

NOTHING, TAIL, ANYTHING = "nothing", "the unacknowledged end", "anything"


@dataclasses.dataclass
class Publication:
    """By the HTTP API. code: 0 acknowledged, 100 the outcome is unknown, None no answer came."""
    channel: str
    mark: str
    node: str
    sent: float
    answered: float = None
    code: int = None
    epoch: str = None
    offset: int = None

    @property
    def acknowledged(self):
        return self.code == 0

    @property
    def publisher(self):
        return self.mark.rpartition("-")[0]


@dataclasses.dataclass
class Event:
    """What a subscription was told: subscribing (code), unsubscribed (code), subscribed (epoch,
    offset, recovering, recovered) or publication (offset, mark)."""
    at: float
    what: str
    code: int = None
    epoch: str = None
    offset: int = None
    recovering: bool = False
    recovered: bool = False
    mark: str = None


@dataclasses.dataclass
class Subscription:
    client: str
    node: str
    channel: str
    positioned: bool
    events: list = dataclasses.field(default_factory=list)

    def __str__(self):
        return f"{self.client} in {self.channel}"

    def publications(self):
        return [event for event in self.events if event.what == "publication"]


@dataclasses.dataclass
class Command:
    """One that an SDK client sent. code: 0 or that of the error; 1 is the SDK's own timeout."""
    node: str
    kind: str
    sent: float
    answered: float = None
    code: int = None


@dataclasses.dataclass
class Sample:
    """A look at a node. took: until the slower one of both answered."""
    node: str
    at: float
    ready: int
    reason: str
    health: int
    took: float
    probe_age: float = 0.0


@dataclasses.dataclass
class Fault:
    """nodes: names of those that miss Redis. loses: what Redis may lose by it. commands_fail:
    whether their commands cannot work meanwhile. hangs: nothing is closed, only time tells.
    brief: over before anybody needs to notice."""
    kind: str
    nodes: tuple
    loses: str
    commands_fail: bool = True
    hangs: bool = False
    brief: bool = False
    begin: float = None
    healed: float = None  # when it was taken back
    end: float = None     # when all nodes were ready again


@dataclasses.dataclass
class History:
    """All of a run. connections: [(at, client, what, code, reason)], beginning with each client's
    first `connected`. streams: {channel: (epoch, [(offset, mark)])} at the end. finals: marks of
    what was published after the last fault. wanted: {channel: True once it was subscribed}."""
    publications: list = dataclasses.field(default_factory=list)
    subscriptions: dict = dataclasses.field(default_factory=dict)
    connections: list = dataclasses.field(default_factory=list)
    commands: list = dataclasses.field(default_factory=list)
    wanted: dict = dataclasses.field(default_factory=dict)
    samples: list = dataclasses.field(default_factory=list)
    faults: list = dataclasses.field(default_factory=list)
    streams: dict = dataclasses.field(default_factory=dict)
    finals: set = dataclasses.field(default_factory=set)
