# SPDX-License-Identifier: ISC
"""The judge of the fault campaign, judged: an orderly history pleases it, each planted disorder is
found, by the rule that is for it."""

import dataclasses

import pytest

import fault_judge
from fault_judge import Judge
from fault_record import (ANYTHING, NOTHING, TAIL, Command, Event, Fault, History, Publication,
                          Sample, Subscription)

BEGIN, HEALED, END = 1010.0, 1014.0, 1016.0
OLD, NEW = "epoch-old", "epoch-new"


class Scene:
    """Node b (of a and b) misses Redis from 1010 to 1014 and is ready again at 1016; clients a0 and
    b0 are in `news`, with positions, and in `live`, without. Each second until 1029 node a publishes
    to both, from 1017 on as the last ones; b tried once in between."""

    def __init__(self, loses=NOTHING, nodes=("b",)):
        self.history = History()
        self.fault = Fault("fault", nodes, loses, hangs=True, begin=BEGIN, healed=HEALED, end=END)
        self.history.faults.append(self.fault)
        for client in ("a0", "b0"):
            self.history.connections.append((1000.0, client, "connected", None, None))
            for channel, positioned in (("news", True), ("live", False)):
                self.history.subscriptions[client, channel] = Subscription(
                    client, client[0], channel, positioned,
                    [Event(1000.5, "subscribed", epoch=OLD if positioned else None,
                           offset=0 if positioned else None)])
        self._publish()
        for node in ("a", "b"):
            self._look(node)
            self._ask(node)
        self.history.wanted = {"asked-a-1": True, "asked-b-1": True}

    def _publish(self):
        stream = []
        for second in range(1001, 1030):
            for channel in ("news", "live"):
                mark = f"a0-{channel}{second}"
                p = Publication(channel, mark, "a", second + 0.1, second + 0.2, 0)
                self.history.publications.append(p)
                if second > END:
                    self.history.finals.add(mark)
                if channel == "news":
                    stream.append((len(stream) + 1, mark))
                    p.epoch, p.offset = OLD, len(stream)
                self._deliver(p)
        for node in self.fault.nodes:
            self.history.publications.append(
                Publication("news", f"{node}0-1", node, 1011.0, 1012.0, 100))
        self.history.streams["news"] = (OLD, stream)

    def _deliver(self, p):
        for client in ("a0", "b0"):
            missed = client[0] in self.fault.nodes and BEGIN < p.sent < END
            if missed and p.channel == "live":
                continue
            self.of(client, p.channel).events.append(
                Event(END if missed else p.answered, "publication", offset=p.offset, mark=p.mark))

    def _look(self, node):
        for tick in range(300):
            at = 1000 + tick / 10
            away = node in self.fault.nodes and BEGIN + 3 < at < HEALED
            self.history.samples.append(Sample(
                node, at, 503 if away else 200, "the delivery probe is not heard" if away else "",
                200, 0.01, 6.0 if away else 0.1))

    def _ask(self, node):
        for tick in range(60):
            at = 1000 + tick / 2
            away = node in self.fault.nodes and BEGIN < at < HEALED
            for kind in ("publish", "history", "subscribe"):
                self.history.commands.append(
                    Command(node, kind, at, at + (3 if away else 0.01), 100 if away else 0))

    def lose(self):
        """Redis lost `news` from 1009 on; all are told at the fault's end, in a new epoch."""
        kept = [(n, m) for n, m in self.history.streams["news"][1] if int(m[-4:]) < 1009]
        later = [p for p in self.history.publications
                 if p.channel == "news" and p.acknowledged and p.sent > END]
        for number, p in enumerate(later, len(kept) + 1):
            p.epoch, p.offset = NEW, number
        self.history.streams["news"] = (NEW, kept + [(p.offset, p.mark) for p in later])
        for client in ("a0", "b0"):
            subscription = self.of(client, "news")
            new = {p.mark: p for p in later}
            subscription.events = [
                e for e in subscription.events if e.what != "publication" or int(e.mark[-4:]) < 1010]
            subscription.events += [
                Event(END, "subscribing", code=2500),
                Event(END + 0.1, "subscribed", epoch=NEW, offset=len(kept), recovering=True)]
            subscription.events += [
                Event(p.answered, "publication", offset=p.offset, mark=m) for m, p in new.items()]
        return self

    def of(self, client, channel):
        return self.history.subscriptions[client, channel]

    def event(self, client, channel, mark):
        return next(e for e in self.of(client, channel).events if e.mark == mark)

    def drop(self, client, channel, mark):
        self.of(client, channel).events.remove(self.event(client, channel, mark))

    def sent(self, mark):
        return next(p for p in self.history.publications if p.mark == mark)

    def complaints(self):
        return Judge(self.history).judge()


@pytest.fixture
def scene():
    return Scene()


@pytest.fixture
def lossy():
    return Scene(ANYTHING, ("a", "b")).lose()


def both(scene):
    return Scene(scene.fault.loses, ("a", "b"))


def test_order_pleases(scene, lossy):
    assert not scene.complaints()
    assert not both(scene).complaints()
    assert not lossy.complaints()


def test_unknown_outcomes_may_arrive_or_not(scene):
    scene.sent("b0-1").channel = "live"
    for client in ("a0", "b0"):
        scene.of(client, "live").events.insert(5, Event(1018.0, "publication", mark="b0-1"))
    assert not scene.complaints()


def test_recovery_in_another_fault_is_no_announcement(lossy):
    """Taken away and given back where it was: allowed where something may have been lost."""
    events = lossy.of("a0", "news").events
    events[5:5] = [Event(BEGIN + 1, "subscribing", code=2500),
                   Event(BEGIN + 1, "subscribed", epoch=OLD, offset=4, recovering=True,
                         recovered=True)]
    assert not lossy.complaints()


# What is wrong with a history in which nothing may be lost.

PLANTS = []


def plant(rule):
    def add(disturb):
        PLANTS.append(pytest.param(rule, disturb, id=f"{rule}: {disturb.__name__}"))
        return disturb
    return add


@plant("disconnected")
def a_client_reconnects(scene):
    scene.history.connections.append((1012.0, "b0", "connecting", 1, "transport closed"))


@plant("disconnected")
def a_client_is_sent_away(scene):
    scene.history.connections.append((1012.0, "b0", "disconnected", 3503, "force disconnect"))


@plant("lost")
def missing_in_front(scene):
    scene.drop("b0", "news", "a0-news1001")


@plant("lost")
def published_while_away_and_not_caught_up(scene):
    scene.drop("b0", "news", "a0-news1012")


@plant("offsets")
def a_gap(scene):
    scene.drop("b0", "news", "a0-news1012")


@plant("offsets")
def two_change_places(scene):
    events = scene.of("b0", "news").events
    events[5], events[6] = events[6], events[5]


@plant("twice")
def a_publication_twice(scene):
    events = scene.of("b0", "news").events
    events.insert(6, dataclasses.replace(events[5]))


@plant("twice")
def a_publication_twice_without_history(scene):
    events = scene.of("b0", "live").events
    events.append(dataclasses.replace(events[5]))


@plant("twice")
def twice_in_the_stream(scene):
    stream = scene.history.streams["news"][1]
    stream.append((len(stream) + 1, stream[-1][1]))


@plant("content")
def another_publication_at_that_place(scene):
    scene.event("b0", "news", "a0-news1005").mark = "b0-1"


@plant("content")
def acknowledged_elsewhere(scene):
    scene.sent("a0-news1005").offset += 100
    scene.sent("a0-news1006").offset -= 1


@plant("phantom")
def by_nobody(scene):
    scene.event("b0", "live", "a0-live1005").mark = "who"


@plant("phantom")
def of_another_channel(scene):
    scene.of("b0", "live").events.append(Event(1018.0, "publication", mark="a0-news1005"))


@plant("phantom")
def refused_for_good(scene):
    scene.sent("a0-live1005").code = 103


@plant("order")
def disorder_without_history(scene):
    events = scene.of("b0", "live").events
    events[3], events[4] = events[4], events[3]


@plant("lost")
def without_history_where_nothing_was_wrong(scene):
    scene.drop("a0", "live", "a0-live1012")


@plant("lost")
def without_history_before_the_fault(scene):
    scene.drop("b0", "live", "a0-live1005")


@plant("announced")
def a_loss_is_announced_for_nothing(scene):
    scene.of("b0", "news").events.append(
        Event(END, "subscribed", epoch=OLD, offset=29, recovering=True))


@plant("unsettled")
def a_subscription_is_taken_away_for_nothing(scene):
    scene.of("b0", "news").events += [
        Event(END, "subscribing", code=2500),
        Event(END, "subscribed", epoch=OLD, offset=29, recovering=True, recovered=True)]


@plant("unsettled")
def a_subscription_ends(scene):
    scene.of("b0", "news").events.append(Event(END, "unsubscribed", code=2000))


@plant("unsettled")
def a_subscription_without_history_is_taken_away(scene):
    scene.of("b0", "live").events.append(Event(END, "subscribing", code=2500))


@plant("epoch")
def recovered_in_another_epoch(scene):
    scene.of("b0", "news").events.append(
        Event(END, "subscribed", epoch=NEW, offset=29, recovering=True, recovered=True))


@plant("silence")
def nothing_more_arrives(scene):
    events = scene.of("b0", "news").events
    del events[[e.mark for e in events].index("a0-news1017"):]


@plant("silence")
def nothing_more_arrives_without_history(scene):
    events = scene.of("b0", "live").events
    del events[[e.mark for e in events].index("a0-live1017"):]


@plant("stale")
def behind_the_stream(scene):
    scene.of("b0", "news").events.pop()


@plant("stale")
def in_an_epoch_that_is_no_more(scene):
    scene.history.streams["news"] = (NEW, scene.history.streams["news"][1])


@plant("stream")
def acknowledged_and_not_in_the_stream(scene):
    del scene.history.streams["news"][1][11]


@plant("refused")
def the_api_refuses_for_nothing(scene):
    p = scene.sent("a0-news1020")
    p.code, p.offset = 100, None


@plant("refused")
def the_api_of_the_other_node_refuses(scene):
    scene.sent("b0-1").node = "a"


@plant("refused")
def the_api_refuses_for_good(scene):
    scene.sent("b0-1").code = 108


@plant("refused")
def a_command_is_refused_for_nothing(scene):
    scene.history.commands[-1].code = 100


@plant("refused")
def a_command_is_refused_for_good(scene):
    next(c for c in scene.history.commands if c.code == 100).code = 103


@plant("refused")
def a_subscription_never_comes_about(scene):
    scene.history.wanted["asked-b-1"] = False


@plant("slow")
def a_command_is_not_answered(scene):
    scene.history.commands[-1].answered = None


@plant("slow")
def a_command_is_answered_late(scene):
    next(c for c in scene.history.commands if c.code == 100).answered += 3


@plant("slow")
def the_api_does_not_answer(scene):
    scene.sent("b0-1").answered = None


@plant("slow")
def the_api_answers_late(scene):
    scene.sent("b0-1").answered += 5


@plant("outage")
def commands_seem_to_work(scene):
    for command in scene.history.commands:
        if command.kind == "history":
            command.code = 0


@plant("outage")
def the_api_seems_to_work(scene):
    scene.history.publications.remove(scene.sent("b0-1"))


def samples(scene, node, since=0, until=9999):
    return [s for s in scene.history.samples if s.node == node and since <= s.at < until]


@plant("readiness")
def readiness_tells_nothing(scene):
    for sample in samples(scene, "b"):
        sample.ready, sample.reason = 200, ""


@plant("readiness")
def readiness_gives_no_reason(scene):
    for sample in samples(scene, "b"):
        sample.reason = ""


@plant("readiness")
def the_other_node_is_not_ready(scene):
    samples(scene, "a", 1012)[0].ready = 503


@plant("readiness")
def not_ready_for_nothing(scene):
    samples(scene, "b", 1020)[0].ready = 503


@plant("readiness")
def never_ready_again(scene):
    scene.fault.end = None


@plant("noticed")
def readiness_tells_too_late(scene):
    scene.fault.begin -= 9
    for sample in samples(scene, "b", until=1013.5):
        sample.ready, sample.reason, sample.probe_age = 200, "", 0.1


@plant("noticed")
def the_probe_tells_nothing(scene):
    for sample in samples(scene, "b", 1012):
        sample.probe_age = 0.1
        sample.reason = sample.reason and "redis command connections are down"


@plant("health")
def not_healthy(scene):
    samples(scene, "b", 1012)[0].health = 503


@plant("health")
def health_does_not_answer(scene):
    samples(scene, "b", 1012)[0].took = 6.0


@pytest.mark.parametrize("rule, disturb", PLANTS)
def test_disorder_is_caught(scene, rule, disturb):
    disturb(scene)
    complaints = scene.complaints()
    assert rule in {caught for caught, _ in complaints}, complaints


def test_every_rule_has_its_plant():
    rules = {line.split()[0] for line in fault_judge.__doc__.splitlines()
             if line.startswith("  ") and not line.startswith("   ")}
    assert rules == {plant.values[0] for plant in PLANTS}


# And where Redis did lose something.

def found(scene):
    return {rule for rule, _ in scene.complaints()}


def test_loss_that_is_not_told_is_caught(lossy):
    subscription = lossy.of("b0", "news")
    subscription.events = [e for e in subscription.events if e.at < END]
    assert {"silence", "stale"} <= found(lossy)


def test_only_what_was_before_the_announcement_is_excused(lossy):
    subscription = lossy.of("b0", "news")
    lossy.drop("b0", "news", "a0-news1016")
    assert {"lost", "offsets"} <= found(lossy)
    # A position behind it makes it one that was before.
    subscribed = next(e for e in subscription.events if e.what == "subscribed" and e.recovering)
    subscribed.offset += 1
    assert not lossy.complaints()


def test_what_was_long_before_the_fault_is_not_excused(lossy):
    lossy.of("b0", "news").events[0].offset = 3
    for mark in ("a0-news1001", "a0-news1002", "a0-news1003"):
        lossy.drop("b0", "news", mark)
    assert found(lossy) == {"lost"}


def test_announced_twice_for_one_fault(lossy):
    last = lossy.of("b0", "news").events[-1]
    lossy.of("b0", "news").events.append(
        Event(1029.5, "subscribed", epoch=NEW, offset=last.offset, recovering=True))
    assert found(lossy) == {"announced"}


def test_offsets_of_the_old_epoch_in_the_new_one(lossy):
    """As if nothing had happened: the next offset is the client's next by chance."""
    events = lossy.of("b0", "news").events
    lossy.of("b0", "news").events = [e for e in events
                                     if e.what == "publication" or not e.recovering and not e.code]
    assert "stale" in found(lossy)


def test_replicas_keep_what_is_acknowledged():
    scene = Scene(TAIL, ("a", "b")).lose()
    assert "stream" in found(scene)
