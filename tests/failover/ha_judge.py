# SPDX-License-Identifier: ISC
"""Judges an HaHistory: a pair that lost processes, hosts, networks and its Redis.

Every complaint is (rule, text). The rules:

  standing       after each fault one is the primary, the others are standbys, and it is the one
                 that the fault leaves
  holder         after each fault the primary's host has the address, no other has
  epoch          no epoch is given twice, and each is higher than those before
  flapping       the role changes no more often than the faults explain, and the times at which
                 the machine stood still or Sentinels made another server the master
  two holders    no frame bears the address of one host after another began to use it
  two addresses  no two hosts have the address at once
  fenced         nobody acknowledges a publication after another became the primary
  away           every client is back after each fault, with all of its subscriptions
and, as in tests/cluster:
  offsets        a subscription gets consecutive offsets; recovery goes on where it was
  epochs         what is recovered has the stream's epoch that it had
  twice          no publication arrives twice, or is twice in a stream
  content        at one place of a stream all see the same publication, the acknowledged one
  phantom        nothing arrives that was not published, or was refused for good
  order          acknowledged publications of one publisher keep their order
  lost           every acknowledged publication arrives, but for those before an announced loss
  announced      a loss is announced only where Redis may have lost something, once each time
  unsettled      no subscription is taken away
  silence        everything published after a fault was settled arrives
  stale          at the end all stand where the stream does
  stream         what was acknowledged is in the stream where Redis may not have lost it
"""

import functools

from fault_judge import Judge, Walk
from fault_record import NOTHING, TAIL
from ha_record import ANY, OTHER, SAME, Fault

# A process that is stopped inside the call that gives the address its lifetime: what DESIGN.md
# states, for a lease of the tests' length, with the second by which the kernel is late at most.
RESIDUAL = 4.0
# rtnetlink's events bear no time: the time is when they were read.
READ_WITHIN = 1.0
# Seconds from the first server's new role to the Sentinels' word.
FAILOVER_KNOWN_BEFORE = 3.0
NEVER = float("inf")


class HaJudge(Judge):
    def judge(self):
        self._judge_standings()
        self._judge_epochs()
        self._judge_flapping()
        for frames in self._by_address(self.history.frames):
            self._judge_frames(frames)
        for events in self._by_address(self.history.addresses):
            self._judge_addresses(events)
        self._judge_fences()
        self._judge_clients()
        for p in self.history.publications:
            if p.acknowledged and p.offset:
                self._judge_place(p.channel, p.epoch, p.offset, p.mark, "acknowledged")
        for subscription in self.history.subscriptions.values():
            self._judge_subscription(subscription)
        for channel, (_, stream) in self.history.streams.items():
            self._judge_stream(channel, stream)
        return self.complaints

    # The pair

    def _judge_standings(self):
        for fault, standing in zip(self.history.faults, self.history.standings, strict=True):
            primaries = [n for n, state in standing.states.items() if state == "primary"]
            others = {s for s in standing.states.values() if s != "primary"}
            if len(primaries) != 1 or others - {"standby"}:
                self.complain("standing", f"{fault.kind}: {standing.states}")
                continue
            if self._stalls(fault):
                pass        # the role may have gone once more
            elif (fault.primary == OTHER and primaries[0] == standing.primary_before) or \
                    (fault.primary == SAME and primaries[0] != standing.primary_before):
                self.complain("standing", f"{fault.kind}: {primaries[0]} is the primary, not "
                              f"{fault.primary}")
            if standing.holders != (primaries[0],):
                self.complain("holder", f"{fault.kind}: {standing.holders}, the primary is "
                              f"{primaries[0]}")

    def _promotions(self):
        return [c for c in self.history.changes if c.after == "promoting"]

    def _judge_epochs(self):
        """A supervisor that is started again before its lease has run out goes on with it."""
        before = None
        for change in self._promotions():
            resumed = before and change.before == "starting" and \
                (change.node, change.epoch) == (before.node, before.epoch)
            if before and change.epoch <= before.epoch and not resumed:
                self.complain("epoch", f"{change.node}: {change.epoch} after {before.epoch} of "
                              f"{before.node}")
            before = change

    def _judge_flapping(self):
        for fault, following in zip(self.history.faults, [*self.history.faults[1:], None]):
            end = following.begin if following else NEVER
            most = fault.most + self._stalls(fault, end)
            found = [c for c in self._promotions()     # one that goes on is none
                     if fault.begin <= c.at < end and c.before != "starting"]
            if len(found) > most:
                self.complain("flapping", f"{fault.kind}: {[(c.node, c.epoch) for c in found]}")
        if self.history.faults:
            first = self.history.faults[0].begin
            early = [c for c in self._promotions() if c.at < first and c.before != "starting"]
            if len(early) > 1 + sum(at < first for at in self.history.stalls):
                self.complain("flapping", f"before any fault: {early}")

    def _stalls(self, fault, end=None):
        """How often the machine stood still, or Sentinels took the master for dead by themselves: a
        lease may run out by that."""
        end = end or fault.end or NEVER
        times = self.history.stalls + (self.history.failovers if fault.loses == NOTHING else [])
        return sum(fault.begin - 1 <= at <= end for at in times)

    # The address

    def _residual(self, at):
        """What is excused at this time."""
        return RESIDUAL if any(f.pauses and f.begin <= at <= (f.end or NEVER)
                               for f in self.history.faults) else 0.0

    @staticmethod
    def _by_address(records):
        """Those of each address by themselves."""
        return [[r for r in records if r.address == address]
                for address in sorted({r.address for r in records})]

    def _judge_frames(self, frames):
        """Of each host the address was in use from its first frame to its last one before
        another's promotion brought it there."""
        holder, since, gone = None, None, {}
        for frame in frames:
            if frame.host == holder:
                continue
            # A host comes back to the address by a promotion of its own only.
            own = [c for c in self._promotions() if c.node == frame.host and c.at <= frame.at]
            if frame.host in gone and not (own and own[-1].at >= gone[frame.host]):
                late = frame.at - since
                if late > self._residual(frame.at):
                    self.complain("two holders", f"{frame.kind} of {frame.address} by "
                                  f"{frame.host} at {frame.at:.3f}, {late:.3f} s after "
                                  f"{holder}'s first")
                continue
            if holder:
                gone[holder] = frame.at
            holder, since = frame.host, frame.at

    def _judge_addresses(self, events):
        since = {}
        for event in events:
            if not event.there:
                since.pop(event.host, None)
                continue
            since.setdefault(event.host, event.at)
            for other in set(since) - {event.host}:
                ends = (e.at for e in events
                        if e.host == other and not e.there and e.at >= event.at)
                over = next(ends, NEVER) - event.at
                if over > READ_WITHIN + self._residual(event.at):
                    self.complain("two addresses", f"{other} had {event.address} {over:.1f} s "
                                  f"longer than {event.host} had it already, at {event.at:.3f}")

    # Publications

    def _judge_fences(self):
        spans = []
        for change in self._promotions():
            following = [c.at for c in self.history.changes if c.after == "primary" and
                         c.node != change.node and c.at > change.at]
            spans.append((change.node, change.at, min(following, default=NEVER)))
        for p in self.history.publications:
            if not p.acknowledged or p.node not in {node for node, *_ in spans}:
                continue
            if not any(node == p.node and begin <= p.answered and p.sent <= end
                       for node, begin, end in spans):
                self.complain("fenced", f"{p.mark} was acknowledged by {p.node} at "
                              f"{p.answered:.3f}")
        for channel, (epoch, _) in self.history.streams.items():
            self._judge_turns(channel, epoch)

    def _judge_turns(self, channel, epoch):
        """In a stream the nodes follow each other as their promotions did."""
        promotions, turn = self._promotions(), 0
        nodes = {c.node for c in promotions}
        placed = sorted((p for p in self.history.publications
                         if p.acknowledged and p.channel == channel and p.epoch == epoch and
                         p.node in nodes), key=lambda p: p.offset)
        for p in placed:
            fitting = [at for at, c in enumerate(promotions)
                       if at >= turn and c.node == p.node and c.at <= p.answered]
            if not fitting:
                self.complain("fenced", f"{p.mark} of {p.node} at {channel} {p.offset}, behind "
                              f"what {promotions[turn].node} acknowledged with epoch "
                              f"{promotions[turn].epoch}")
                continue
            turn = fitting[0]

    # Clients

    def _judge_clients(self):
        connected = {}
        for at, client, what, code, reason in self.history.connections:
            connected[client] = what
            if what == "disconnected":
                self.complain("away", f"{client}: {what} {code} {reason} at {at:.1f}")
        for client, what in connected.items():
            if what != "connected":
                self.complain("away", f"{client} is {what} at the end")
        for subscription in self.history.subscriptions.values():
            for fault in self.history.faults:
                events = [e for e in subscription.events
                          if fault.end and e.at <= fault.end and e.what != "publication"]
                if not fault.end or not events or events[-1].what != "subscribed":
                    self.complain("away", f"{subscription}: not back after {fault.kind}")

    def _judge_events(self, subscription):
        if not subscription.positioned:
            for event in subscription.events:
                if event.what == "unsubscribed":
                    self.complain("unsettled", f"{subscription}: {event.code}")
            return []
        walk = HaWalk(self, subscription)
        for event in subscription.events:
            walk.step(event)
        walk.end()
        return walk.announcements

    def _is_excused(self, node, begin, end):
        """Without positions, what is published while a client is on its way back is lost."""
        return any(begin <= (fault.end or NEVER) and end >= fault.begin
                   for fault in self.history.faults)

    def fault_before(self, at):
        """The last one of those so far that lost anything, if it is not long settled."""
        begun = [fault for fault in self._losses if fault.begin <= at]
        return begun[-1] if begun else None

    @functools.cached_property
    def _losses(self):
        """A busy machine's Sentinels may take a master for dead that nobody harmed. Then Redis may
        lose its end as it does when they are made to; of a failover somebody may know before they
        tell."""
        faults = self.history.faults
        own = []
        for at in self.history.failovers:
            meanwhile = max((fault.begin for fault in faults if fault.begin <= at), default=0)
            own.append(Fault("Sentinels failed over", ANY, TAIL,
                             begin=max(meanwhile, at - FAILOVER_KNOWN_BEFORE)))
        return sorted([*faults, *own], key=lambda fault: fault.begin)


class HaWalk(Walk):
    """Connections end in a pair, and subscriptions begin anew, with recovery."""

    def step(self, event):
        if event.what != "subscribing":
            super().step(event)


__all__ = ["HaJudge"]
