# SPDX-License-Identifier: ISC
"""The judge of a pair's faults, judged: an orderly history pleases it, each planted disorder is
found, by the rule that is for it."""

import dataclasses

import pytest

from fault_record import ANYTHING, TAIL, Event, Publication, Subscription
from ha_judge import RESIDUAL, HaJudge
from ha_record import ANY, OTHER, SAME, Address, Change, Fault, Frame, HaHistory, Standing

BEGIN, PROMOTED, BACK, END = 1010.0, 1015.0, 1016.0, 1020.0
OLD, NEW = "epoch-old", "epoch-new"
CLIENTS = ("c0", "c1")


class Scene:
    """Host a is the primary until it is lost at 1010, b from 1015 on; the clients are back at 1016,
    all is settled at 1020. Each second until 1025 the primary acknowledges a publication to `news`,
    with positions, and to `live`, without."""

    def __init__(self, **fault):
        self.history = h = HaHistory()
        self.fault = Fault(**{"kind": "host lost", "primary": OTHER, "begin": BEGIN,
                              "healed": 1018.0, "end": END} | fault)
        h.faults.append(self.fault)
        h.standings.append(Standing(END, {"a": "standby", "b": "primary"}, ("b",), "a"))
        h.changes = [Change(1000.0, "a", "standby", "promoting", 1),
                     Change(1000.1, "a", "promoting", "primary", 1),
                     Change(PROMOTED - 0.2, "b", "standby", "promoting", 2),
                     Change(PROMOTED, "b", "promoting", "primary", 2),
                     Change(1018.5, "a", "starting", "standby", 0)]
        h.addresses = [Address(1000.05, "a", True), Address(BEGIN, "a", False),
                       Address(PROMOTED - 0.1, "b", True)]
        h.frames = [Frame(1000 + tick / 10, "a", "tcp") for tick in range(1, 100)]
        h.frames += [Frame(PROMOTED - 0.1 + tick / 10, "b", "tcp") for tick in range(100)]
        for client in CLIENTS:
            h.connections += [(1000.5, client, "connected", None, None),
                              (BACK - 1, client, "connecting", 2, "no ping"),
                              (BACK, client, "connected", None, None)]
            for channel, positioned in (("news", True), ("live", False)):
                h.subscriptions[client, channel] = Subscription(client, "vip", channel, positioned)
        self._publish()

    def _publish(self):
        stream = []
        for second in range(1001, 1026):
            if BEGIN <= second < BACK:
                continue
            node = "a" if second < BEGIN else "b"
            for channel in ("news", "live"):
                mark = f"{node}-{channel}{second}"
                p = Publication(channel, mark, node, second + 0.1, second + 0.2, 0)
                if channel == "news":
                    stream.append((len(stream) + 1, mark))
                    p.epoch, p.offset = OLD, len(stream)
                if second >= END:
                    self.history.finals.add(mark)
                self.history.publications.append(p)
        self.history.publications.append(
            Publication("news", "b-refused", "b", 1005.0, 1005.1, 503))
        self.history.streams["news"] = (OLD, stream)
        for (client, channel), subscription in self.history.subscriptions.items():
            positioned = subscription.positioned
            own = [p for p in self.history.publications if p.channel == channel and p.acknowledged]
            before = [p for p in own if p.sent < BEGIN]
            subscription.events = [
                Event(1000.6, "subscribed", epoch=OLD if positioned else None,
                      offset=0 if positioned else None),
                *(self.delivered(p) for p in before),
                Event(BACK - 1, "subscribing", code=1),
                Event(BACK, "subscribed", epoch=OLD if positioned else None,
                      offset=len(before) if positioned else None, recovering=positioned,
                      recovered=positioned),
                *(self.delivered(p) for p in own if p.sent > BEGIN)]

    @staticmethod
    def delivered(p):
        return Event(p.answered + 0.01, "publication", offset=p.offset, mark=p.mark)

    def of(self, client, channel):
        return self.history.subscriptions[client, channel]

    def publication(self, mark):
        return next(p for p in self.history.publications if p.mark == mark)

    def lose_tail(self):
        """Redis lost what was acknowledged at 1009, and all clients are told."""
        stream = self.history.streams["news"][1]
        lost = stream.pop(8)
        marks = [mark for _, mark in stream]
        self.history.streams["news"] = (NEW, [(o, m) for o, m in enumerate(marks, 1)])
        for p in self.history.publications:
            if p.channel == "news" and p.acknowledged and p.sent > BEGIN:
                p.epoch, p.offset = NEW, marks.index(p.mark) + 1
        for client in CLIENTS:
            events = self.of(client, "news").events
            back = next(e for e in events if e.at == BACK)
            back.epoch, back.offset, back.recovered = NEW, 8, False
            for event in events[events.index(back) + 1:]:
                event.offset = marks.index(event.mark) + 1
        return lost[1]

    def fail_over(self):
        """Redis goes on with all that was acknowledged, but can't prove that nothing else was lost."""
        _, stream = self.history.streams["news"]
        self.history.streams["news"] = (NEW, stream)
        for p in self.history.publications:
            if p.channel == "news" and p.acknowledged and p.sent > BEGIN:
                p.epoch = NEW
        for client in CLIENTS:
            back = next(e for e in self.of(client, "news").events if e.at == BACK)
            back.epoch, back.recovered = NEW, False

    def rules(self):
        return sorted({rule for rule, _ in HaJudge(self.history).judge()})


@pytest.fixture
def scene():
    return Scene()


def test_an_orderly_history_pleases(scene):
    assert HaJudge(scene.history).judge() == []


def test_a_loss_that_is_announced_pleases():
    scene = Scene(loses=ANYTHING)
    mark = scene.lose_tail()
    for client in CLIENTS:      # it did not arrive before, either
        events = scene.of(client, "news").events
        events[:] = [e for e in events if e.mark != mark]
    assert scene.rules() == []


def test_a_failover_of_redis_loses_nothing_that_was_acknowledged():
    scene = Scene(loses=TAIL)
    scene.lose_tail()
    assert "stream" in scene.rules()


def test_sentinels_that_fail_over_by_themselves_are_excused_once(scene):
    scene.fail_over()
    assert scene.rules() == ["announced"]
    scene.history.failovers = [BEGIN + 2]
    assert scene.rules() == []
    events = scene.of("c0", "news").events
    again = events.index(next(e for e in events if e.at > END and e.what == "publication"))
    events.insert(again, Event(END + 0.05, "subscribed", epoch="epoch-newer",
                               offset=events[again].offset - 1))
    assert "announced" in scene.rules()


# The pair

def test_nobody_is_the_primary(scene):
    scene.history.standings[0].states["b"] = "standby"
    assert scene.rules() == ["standing"]


def test_both_are_the_primary(scene):
    scene.history.standings[0].states["a"] = "primary"
    assert scene.rules() == ["standing"]


def test_one_is_no_standby_again(scene):
    scene.history.standings[0].states["a"] = "fault"
    assert scene.rules() == ["standing"]


def test_it_should_have_stayed(scene):
    scene.fault.primary = SAME
    assert scene.rules() == ["standing"]
    scene.fault.primary = ANY
    assert scene.rules() == []


def test_it_should_have_moved(scene):
    scene.history.standings[0].primary_before = "b"
    assert scene.rules() == ["standing"]


@pytest.mark.parametrize("holders", [(), ("a",), ("a", "b")])
def test_the_address_is_elsewhere(scene, holders):
    scene.history.standings[0].holders = holders
    assert scene.rules() == ["holder"]


def test_an_epoch_that_was_given_before(scene):
    for change in scene.history.changes[2:4]:
        change.epoch = 1
    assert scene.rules() == ["epoch"]


def test_a_supervisor_goes_on_with_its_lease(scene):
    scene.history.changes[2:2] = [Change(1003.0, "a", "starting", "promoting", 1),
                                  Change(1003.1, "a", "promoting", "primary", 1)]
    assert scene.rules() == []


def test_a_supervisor_goes_on_with_anothers_lease(scene):
    scene.history.changes[4:] = [Change(1018.0, "a", "starting", "promoting", 2)]
    assert "epoch" in scene.rules()


def test_it_goes_to_and_fro(scene):
    scene.history.changes[3:3] = [
        Change(1014.85, "b", "promoting", "demoting", 2), Change(1014.9, "b", "standby",
                                                                 "promoting", 3)]
    scene.history.changes[5].epoch = 3
    assert scene.rules() == ["flapping"]
    scene.fault.most = 2
    assert scene.rules() == []


def test_a_machine_that_stands_still_explains_a_change(scene):
    scene.history.standings[0].primary_before = "b"
    scene.history.stalls = [900.0]
    assert scene.rules() == ["standing"]
    scene.history.stalls = [1012.0]
    assert scene.rules() == []
    scene.fault.most = 0
    assert scene.rules() == []
    scene.fault.most = -1
    assert scene.rules() == ["flapping"]


def test_it_goes_to_and_fro_without_a_fault(scene):
    scene.fault.begin = 1009.5
    scene.history.changes[0:0] = [Change(999.0, "b", "standby", "promoting", 0)]
    assert scene.rules() == ["flapping"]


# The address

def test_a_frame_of_the_one_before(scene):
    scene.history.frames[120:120] = [Frame(scene.history.frames[119].at + 0.01, "a", "tcp")]
    assert scene.rules() == ["two holders"]


def test_an_announcement_counts_too(scene):
    scene.history.frames.append(Frame(1030.0, "a", "arp-reply"))
    assert scene.rules() == ["two holders"]


def test_the_residual_is_excused_where_processes_were_stopped():
    scene = Scene(pauses=True)
    at = scene.history.frames[99].at
    scene.history.frames[110:110] = [Frame(at + 1, "a", "tcp")]
    assert scene.rules() == []
    scene.history.frames.append(Frame(at + RESIDUAL + 0.5, "a", "tcp"))
    assert scene.rules() == ["two holders"]


def test_a_host_may_get_the_address_again(scene):
    scene.history.changes += [Change(1027.0, "b", "primary", "demoting", 2),
                              Change(1028.0, "a", "standby", "promoting", 3)]
    scene.fault.most = 2
    scene.history.frames.append(Frame(1028.5, "a", "tcp"))
    assert scene.rules() == []
    scene.history.frames.append(Frame(1028.6, "b", "tcp"))
    assert scene.rules() == ["two holders"]


def test_each_address_by_itself(scene):
    """One may follow later than the other, but none may be used by both hosts."""
    at = scene.history.frames[99].at
    scene.history.frames[105:105] = [Frame(at + 0.4, "a", "tcp", "fd09::100"),
                                     Frame(at + 0.5, "b", "tcp", "fd09::100")]
    assert scene.rules() == []
    scene.history.frames.append(Frame(1030.0, "a", "tcp", "fd09::100"))
    assert scene.rules() == ["two holders"]


def test_a_host_with_one_address_of_two(scene):
    scene.history.standings[-1].holders = ("b fd09::100",)
    assert scene.rules() == ["holder"]


def test_a_stranger_uses_the_address(scene):
    scene.history.frames[50:50] = [Frame(scene.history.frames[50].at, "02:ff", "tcp")]
    assert scene.rules() == ["two holders"]


def test_two_have_the_address(scene):
    scene.history.addresses[1].at = PROMOTED + 2
    scene.history.addresses.sort(key=lambda event: event.at)
    assert scene.rules() == ["two addresses"]


def test_one_keeps_the_address_for_good(scene):
    del scene.history.addresses[1]
    assert scene.rules() == ["two addresses"]


# Fences

def test_a_fenced_primary_acknowledges(scene):
    p = scene.publication("b-live1017")
    p.node = "a"
    assert scene.rules() == ["fenced"]


def test_a_standby_acknowledges(scene):
    scene.publication("a-live1005").node = "b"
    assert scene.rules() == ["fenced"]


def test_one_that_was_under_way_counts_by_its_place(scene):
    """Sent before the promotion and answered after: only the stream tells when it was done."""
    p = scene.publication("b-news1018")
    p.node, p.sent = "a", PROMOTED - 0.1
    assert "fenced" in scene.rules()


# Clients

@pytest.mark.parametrize("what", ["disconnected", "connecting"])
def test_a_client_that_is_away(scene, what):
    scene.history.connections.append((1024.0, "c0", what, 1, "away"))
    assert scene.rules() == ["away"]


def test_a_subscription_that_is_not_back_after_a_fault(scene):
    events = scene.of("c0", "live").events
    back = next(e for e in events if e.at == BACK)
    back.at = END + 1
    assert scene.rules() == ["away"]


# Publications

def test_one_is_lost(scene):
    for client, channel in (("c0", "news"), ("c1", "live")):
        fresh = Scene()
        events = fresh.of(client, channel).events
        events[:] = [e for e in events if e.mark != f"a-{channel}1005"]
        assert set(fresh.rules()) - {"offsets"} == {"lost"}


def test_one_is_lost_in_the_fault(scene):
    """What was published while the client was away has to be recovered."""
    events = scene.of("c0", "news").events
    events[:] = [e for e in events if e.mark != "b-news1016"]
    assert "lost" in scene.rules()


def test_a_loss_without_a_reason():
    scene = Scene()
    scene.lose_tail()
    assert {"announced"} <= set(scene.rules())


def test_a_loss_nobody_is_told_of():
    scene = Scene(loses=ANYTHING)
    mark = scene.lose_tail()
    for client in CLIENTS:
        events = scene.of(client, "news").events
        events[:] = [e for e in events if e.mark != mark]
        back = next(e for e in events if e.at == BACK)
        back.recovered = True
    assert {"epoch", "lost"} <= set(scene.rules())


def test_one_arrives_twice(scene):
    events = scene.of("c0", "live").events
    events.append(dataclasses.replace(events[3]))
    assert "twice" in scene.rules()


def test_one_is_stored_twice(scene):
    stream = scene.history.streams["news"][1]
    stream.append((len(stream) + 1, stream[0][1]))
    assert "twice" in scene.rules()


def test_order_is_not_kept(scene):
    events = scene.of("c0", "live").events
    events[2].mark, events[3].mark = events[3].mark, events[2].mark
    assert scene.rules() == ["order"]


def test_places_are_exchanged(scene):
    events = scene.of("c0", "news").events
    events[2].mark, events[3].mark = events[3].mark, events[2].mark
    assert {"content", "order"} <= set(scene.rules())


def test_one_arrives_that_was_refused(scene):
    scene.of("c0", "live").events.append(Event(1024.0, "publication", mark="b-refused"))
    assert "phantom" in scene.rules()


def test_recovery_in_another_epoch(scene):
    next(e for e in scene.of("c0", "news").events if e.at == BACK).epoch = NEW
    assert "epoch" in scene.rules()


def test_silence_after_the_fault(scene):
    for channel in ("news", "live"):
        fresh = Scene()
        fresh.of("c1", channel).events[-1:] = []
        assert "silence" in fresh.rules()


def test_a_client_stands_elsewhere_than_the_stream(scene):
    stream = scene.history.streams["news"][1]
    stream.append((len(stream) + 1, "b-unseen"))
    assert scene.rules() == ["stale"]


def test_the_stream_lost_what_was_acknowledged(scene):
    stream = scene.history.streams["news"][1]
    stream[4] = (5, "another")
    assert "stream" in scene.rules()


@pytest.mark.parametrize("channel", ["news", "live"])
def test_a_subscription_is_taken_away(scene, channel):
    scene.of("c0", channel).events.append(Event(1024.0, "unsubscribed", code=2500))
    assert "unsettled" in scene.rules()
