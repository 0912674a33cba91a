# SPDX-License-Identifier: ISC
"""Judges a History of two nodes that missed Redis for a while: what the publisher knows beside what
the subscribers got.

Every complaint is (rule, text). The rules:

  disconnected   no client's connection ever ended
  offsets        a positioned subscription gets consecutive offsets; recovery goes on where it was
  epoch          what is recovered has the epoch it had
  twice          no publication arrives twice, or is twice in a stream
  content        at one place of a stream all see the same publication, the acknowledged one
  phantom        nothing arrives that was not published, or was refused for good
  order          without history, too, acknowledged publications of one publisher keep their order
  lost           every acknowledged publication arrives, but for those before an announced loss
  announced      a loss is announced only where Redis may have lost something, once each time
  unsettled      no subscription is taken away where nothing was lost
  silence        everything published after the last fault arrives
  stale          at the end all stand where the stream does
  stream         what was acknowledged is in the stream where Redis may not have lost it
  refused        nothing is refused where no fault explains it; commands that came to nothing for
                 the time being come through in the end
  slow           every answer comes within the SDK's patience
  outage         while Redis is away commands get the temporary error 100
  readiness      /ready is 503 with a reason while a node misses Redis, and not for longer
  noticed        it becomes so in time; where nothing is closed the delivery probe tells
  health         /health is 200 all the time
"""

from fault_record import ANYTHING, NOTHING

TEMPORARY = 100
ANSWER_WITHIN = 5.0
PROBE_TIMEOUT = 5.0
# The probe's period, and what a busy machine may add.
NOTICED_WITHIN = PROBE_TIMEOUT + 1.0 + 4.0
# An acknowledged publication was written to all subscription connections; reading takes a moment.
GRACE = 2.0
NEVER = float("inf")
KINDS = ("publish", "history", "subscribe")


def probe_tells(sample):
    return "probe" in sample.reason or sample.probe_age > PROBE_TIMEOUT


class Announcement:
    """A subscription that could not go on where it was. fault: the one that explains it, or None."""

    def __init__(self, event, fault):
        self.at, self.epoch, self.offset = event.at, event.epoch, event.offset
        self.fault = fault if fault and fault.loses != NOTHING else None

    def excuses(self, publication):
        if not self.fault or publication.answered < self.fault.begin - GRACE:
            return False
        if publication.epoch == self.epoch:
            return publication.offset <= self.offset
        return publication.sent <= self.at


class Judge:
    def __init__(self, history):
        self.history = history
        self.complaints = []
        self.sent = {p.mark: p for p in history.publications}
        self.places = {}  # (channel, epoch, offset): mark

    def complain(self, rule, text):
        self.complaints.append((rule, text))

    def judge(self):
        self._judge_connections()
        for publication in self.history.publications:
            self._judge_publication(publication)
        for subscription in self.history.subscriptions.values():
            self._judge_subscription(subscription)
        for channel, (_, stream) in self.history.streams.items():
            self._judge_stream(channel, stream)
        self._judge_commands()
        for fault in self.history.faults:
            self._judge_fault(fault)
        for sample in self.history.samples:
            self._judge_sample(sample)
        return self.complaints

    def _is_excused(self, node, begin, end):
        """Whether a fault of this node was under way at any time between."""
        return any(node in fault.nodes and begin <= (fault.end or NEVER) and end >= fault.begin
                   for fault in self.history.faults)

    # Publications and streams

    def _judge_connections(self):
        for _, client, what, code, reason in self.history.connections:
            if what != "connected":
                self.complain("disconnected", f"{client}: {what} {code} {reason}")

    def _judge_publication(self, p):
        if p.answered is None:
            self.complain("slow", f"{p.mark} at {p.node}: no answer")
            return
        if p.answered - p.sent > ANSWER_WITHIN:
            self.complain("slow", f"{p.mark} at {p.node}: {p.answered - p.sent:.1f} s")
        if p.acknowledged:
            if p.offset:
                self._judge_place(p.channel, p.epoch, p.offset, p.mark, "acknowledged")
        elif p.code != TEMPORARY or not self._is_excused(p.node, p.sent, p.answered):
            self.complain("refused", f"{p.mark} at {p.node}: {p.code}")

    def _judge_place(self, channel, epoch, offset, mark, who):
        known = self.places.setdefault((channel, epoch, offset), mark)
        if known != mark:
            self.complain("content", f"{channel} {epoch} {offset}: {mark} ({who}), not {known}")

    def _judge_stream(self, channel, stream):
        kept_since = max((f.end or NEVER for f in self.history.faults if f.loses == ANYTHING),
                         default=0)
        marks = dict(stream)
        if len(set(marks.values())) != len(stream):
            self.complain("twice", f"in the stream of {channel}")
        for p in self.history.publications:
            if p.channel == channel and p.acknowledged and p.sent >= kept_since and \
                    marks.get(p.offset) != p.mark:
                self.complain("stream", f"{p.mark} is not at {channel} {p.offset}, "
                              f"{marks.get(p.offset)} is")

    # Subscriptions

    def _judge_subscription(self, subscription):
        received = {}
        for event in subscription.publications():
            if event.mark in received:
                self.complain("twice", f"{subscription}: {event.mark}")
            received.setdefault(event.mark, len(received))
            published = self.sent.get(event.mark)
            if not published or published.channel != subscription.channel or \
                    published.code not in (0, TEMPORARY, None):
                self.complain("phantom", f"{subscription}: {event.mark}")
        announcements = self._judge_events(subscription)
        self._judge_order(subscription, received)
        for p in self.history.publications:
            if p.channel == subscription.channel and p.acknowledged and p.mark not in received:
                self._judge_missing(subscription, p, announcements)

    def _judge_missing(self, subscription, p, announcements):
        text = f"{subscription}: {p.mark}, acknowledged as {p.epoch} {p.offset}"
        if p.mark in self.history.finals:
            self.complain("silence", text)
        elif subscription.positioned:
            if not any(announcement.excuses(p) for announcement in announcements):
                self.complain("lost", text)
        elif not self._is_excused(subscription.node, p.sent, p.answered + GRACE):
            self.complain("lost", text)

    def _judge_order(self, subscription, received):
        last = {}
        for mark in received:
            published = self.sent.get(mark)
            if not published or not published.acknowledged:
                continue
            before = last.get(published.publisher)
            if before and before.sent > published.sent:
                self.complain("order", f"{subscription}: {mark} behind {before.mark}")
            last[published.publisher] = published

    def _judge_events(self, subscription):
        """All but the publications themselves; returns the announcements."""
        if not subscription.positioned:
            for event in subscription.events[1:]:
                if event.what != "publication":
                    self.complain("unsettled", f"{subscription}: {event.what} {event.code}")
            return []
        walk = Walk(self, subscription)
        for event in subscription.events:
            walk.step(event)
        walk.end()
        return walk.announcements

    def fault_before(self, at):
        begun = [fault for fault in self.history.faults if fault.begin <= at]
        return begun[-1] if begun else None

    # Commands

    def _judge_commands(self):
        for command in self.history.commands:
            text = f"{command.kind} at {command.node}"
            if command.answered is None or command.answered - command.sent > ANSWER_WITHIN:
                self.complain("slow", f"{text}, sent at {command.sent:.1f}")
            elif command.code != 0 and (command.code != TEMPORARY or not self._is_excused(
                    command.node, command.sent, command.answered)):
                self.complain("refused", f"{text}: {command.code} at {command.sent:.1f}")
        for channel, came_through in self.history.wanted.items():
            if not came_through:
                self.complain("refused", f"{channel} was never subscribed")

    # Faults

    def _judge_fault(self, fault):
        for node in fault.nodes:
            name = f"{fault.kind} at {node}"
            samples = [s for s in self.history.samples
                       if s.node == node and fault.begin <= s.at <= fault.healed]
            failing = [s for s in samples if s.ready == 503 and s.reason]
            if fault.brief:
                continue
            if not failing:
                self.complain("readiness", f"{name}: no 503")
            elif failing[0].at + failing[0].took - fault.begin > NOTICED_WITHIN:
                self.complain("noticed", f"{name}: after "
                              f"{failing[0].at + failing[0].took - fault.begin:.1f} s")
            if fault.hangs and not any(probe_tells(sample) for sample in samples):
                self.complain("noticed", f"{name}: the probe tells nothing")
            if fault.commands_fail:
                self._judge_outage(fault, node, name)
        if fault.end is None:
            self.complain("readiness", f"{fault.kind}: never ready again")

    def _judge_outage(self, fault, node, name):
        def failed(attempts):
            return any(a.node == node and a.code == TEMPORARY and
                       fault.begin <= a.sent <= fault.healed for a in attempts)

        if not failed(self.history.publications):
            self.complain("outage", f"{name}: the API never answered 100")
        for kind in KINDS:
            if not failed([c for c in self.history.commands if c.kind == kind]):
                self.complain("outage", f"{name}: no {kind} was answered 100")

    def _judge_sample(self, sample):
        if sample.health != 200 or sample.took > ANSWER_WITHIN:
            self.complain("health", f"{sample.node}: {sample.health} after {sample.took:.1f} s")
        if sample.ready == 200:
            return
        if not self._is_excused(sample.node, sample.at, sample.at + sample.took):
            self.complain("readiness", f"{sample.node}: {sample.ready} {sample.reason} at "
                          f"{sample.at:.1f}")


class Walk:
    """A positioned subscription's way through its stream."""

    def __init__(self, judge, subscription):
        self.judge, self.subscription = judge, subscription
        self.epoch = self.offset = None
        self.announcements = []

    def complain(self, rule, text):
        self.judge.complain(rule, f"{self.subscription}: {text}")

    def step(self, event):
        if event.what == "subscribed":
            self._subscribed(event)
        elif event.what == "publication":
            if event.offset != self.offset + 1:
                self.complain("offsets", f"{self.epoch} {event.offset} after {self.offset}")
            self.offset = event.offset
            self.judge._judge_place(self.subscription.channel, self.epoch, event.offset,
                                    event.mark, self.subscription)
        elif event.what == "subscribing":
            fault = self.judge.fault_before(event.at)
            if not fault or fault.loses == NOTHING:
                self.complain("unsettled", f"{event.code}")
        else:
            self.complain("unsettled", f"{event.what} {event.code}")

    def _subscribed(self, event):
        if self.epoch is None:
            self.epoch, self.offset = event.epoch, event.offset
        elif event.recovered:
            if event.epoch != self.epoch:
                self.complain("epoch", f"{event.epoch} after {self.epoch}")
        else:
            self._announced(event)
            self.epoch, self.offset = event.epoch, event.offset

    def _announced(self, event):
        announcement = Announcement(event, self.judge.fault_before(event.at))
        if not announcement.fault:
            self.complain("announced", f"{event.epoch} {event.offset} after {self.epoch} "
                          f"{self.offset}, nothing was lost")
        elif any(a.fault is announcement.fault for a in self.announcements):
            self.complain("announced", f"{announcement.fault.kind}: more than once")
        self.announcements.append(announcement)

    def end(self):
        epoch, stream = self.judge.history.streams[self.subscription.channel]
        top = stream[-1][0] if stream else 0
        if (self.epoch, self.offset) != (epoch, top):
            self.complain("stale", f"{self.epoch} {self.offset}, the stream {epoch} {top}")
