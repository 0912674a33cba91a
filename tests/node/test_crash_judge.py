# SPDX-License-Identifier: ISC
"""The judge of test_crash.py: it accepts a death that left everything in order, and catches each
kind of disorder planted into it. Nothing here runs a node."""

import copy
import json

import pytest

from crash_judge import Death, judge_cut, judge_streams
from crash_record import Recording, Transcript, echo_of, mark, server_frame
from wire import BINARY, CLOSE, PING, TEXT

UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
ECHO, CLIENT, NEXT, API = 11, 12, 13, 14  # passports, and so serials


def text(message):
    return server_frame(TEXT, json.dumps(message).encode())


def data(by, number):
    return {"by": by, "n": number, "pad": "x" * number}


def publication(offset, by, number):
    return {"data": data(by, number), "offset": offset}


def push(channel, *arguments):
    return text({"push": {"channel": channel, "pub": publication(*arguments)}})


def response(body):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


class Scene:
    """A worker that died with a fan-out under way: the second client is in doubt."""

    def __init__(self):
        self.recordings = {}
        self.batch = push("news", 4, 7, 9) + push("news", 5, 7, 10)
        self.view = {
            "violations": 0, "report": "", "syscall": 2, "syscall_ref": 11,
            "channels": [{"ref": 1, "name": "news", "offset": 3, "last_sequence": 30}],
            "fanout": {"batch": 6, "begun": True, "settled": False, "index": 1, "base": 0,
                       "channel": 1, "last_offset": 5, "last_sequence": 32,
                       "frame": self.batch.hex(), "deflated": ""},
            "passports": [self.make_echo(), self.make_client(), self.make_next(),
                          self.make_api()],
        }
        self.view["fanout"]["base"] = self.passport(NEXT)["out_done"]

    def passport(self, ref):
        return next(p for p in self.view["passports"] if p["ref"] == ref)

    def add(self, kind, ref, state, received, **facts):
        """A recording and its passport, everything consumed and received."""
        recording = self.recordings[ref] = Recording(kind, ref)
        recording.received = bytearray(received)
        return recording, {
            "kind": 1, "ref": ref, "peer_port": ref, "state": state, "reader_valid": True,
            "in_done": 0, "in_end": 0, "out_done": len(received), "out_end": len(received),
            "out_queued": "", "command_number": 0, "subscriptions": [],
            "takes_deflated": False} | facts

    @staticmethod
    def all_consumed(recording, passport):
        recording.sent = recording.planned
        passport["in_done"] = passport["in_end"] = recording.planned
        return passport

    def make_echo(self):
        """Of its four answers one is committed and not written, one was written and not counted."""
        recording, passport = self.add("echo", ECHO, "echo", b"")
        recording.plan("upgrade", None, 50)
        for what, payload in ((TEXT, b"one"), (BINARY, b"2" * 200), (PING, b"?"), (TEXT, b"four")):
            recording.plan(what, payload, len(payload) + 6)
        answers = [echo_of(event) for event in recording.events[1:]]
        counted = UPGRADE + b"".join(answers[:2])
        recording.received = bytearray(counted + answers[2])
        passport |= {"out_done": len(counted), "out_queued": b"".join(answers[2:]).hex(),
                     "out_end": len(counted + answers[2] + answers[3])}
        return self.all_consumed(recording, passport)

    @staticmethod
    def plan_commands(recording):
        recording.plan("upgrade", None, 50)
        commands = [{"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "news"}},
                    {"id": 3, "publish": {"channel": "news", "data": data(recording.serial, 3)}},
                    {"id": 4, "publish": {"channel": "news", "data": data(recording.serial, 4)}},
                    {"id": 5, "publish": {"channel": "news", "data": data(recording.serial, 5)}}]
        for command in commands:
            recording.plan(TEXT, [command], 60)

    @staticmethod
    def replies():
        return [UPGRADE, text({"id": 1, "connect": {}}),
                text({"id": 2, "subscribe": {"epoch": "e", "offset": 1}}), push("news", 2, 12, 3),
                push("news", 3, 13, 3), text({"id": 3, "publish": {}})]

    def make_client(self):
        """Served by the batch; its last two commands wait."""
        recording, passport = self.add("client", CLIENT, "connected",
                                       b"".join(self.replies()) + self.batch, command_number=3)
        self.plan_commands(recording)
        passport["subscriptions"] = [{"channel": "news", "position": 0, "start_sequence": 20}]
        return self.all_consumed(recording, passport)

    def make_next(self):
        """The cursor's: half of the frame arrived."""
        known = b"".join(self.replies())
        recording, passport = self.add("client", NEXT, "connected", known, command_number=3)
        recording.received += self.batch[:len(self.batch) // 2 + 10]
        self.plan_commands(recording)
        passport["subscriptions"] = [{"channel": "news", "position": 1, "start_sequence": 20}]
        return self.all_consumed(recording, passport)

    def make_api(self):
        """Two requests answered, the third is under way."""
        answer = response(b'{"result":{}}')
        recording, passport = self.add("api", API, "http", answer * 2, command_number=2)
        for channel in ("news", None, "news"):
            recording.plan("request", channel, 80)
        self.all_consumed(recording, passport)
        passport["in_done"] = 160
        return passport

    def complaints(self):
        return Death(self.view, self.recordings).judge().complaints

    def streams(self):
        """What is in Redis: the under-way publication of CLIENT is in, that of NEXT is not."""
        return {"news": [(offset, mark(data(*key))) for offset, key in enumerate(
            [(7, 8), (12, 3), (13, 3), (7, 9), (7, 10), (14, 1), (12, 4)], 1)]}

    def others(self):
        """The recording of a connection that no death judged."""
        other = Recording("client", 7)
        for number in range(1, 11):
            other.plan(TEXT, [{"id": number, "publish": {"channel": "news"}}], 10)
        other.acknowledged = {8, 9, 10}
        return [other]

    def final_complaints(self, streams=None):
        death = Death(self.view, self.recordings).judge()
        assert not death.complaints
        return judge_streams(streams or self.streams(),
                             [*self.recordings.values(), *self.others()], death.publications)


@pytest.fixture
def scene():
    return Scene()


def test_a_death_in_order_is_accepted(scene):
    death = Death(scene.view, scene.recordings).judge()
    assert not death.complaints
    assert (death.judged, death.exact) == (4, 4)
    assert not scene.final_complaints()


def deflate_the_next(scene):
    """The subscriber in doubt takes compressed messages, and received part of them."""
    batch = b"".join(server_frame(TEXT, json.dumps({"push": {
        "channel": "news", "pub": publication(offset, 7, number)}}).encode() + b" " * 200, True)
        for offset, number in ((4, 9), (5, 10)))
    assert len(batch) < len(scene.batch) + 200
    recording = scene.recordings[NEXT]
    recording.deflate = True
    del recording.received[len(b"".join(scene.replies())):]
    recording.received += batch[:len(batch) // 2 + 10]
    scene.view["fanout"]["deflated"] = batch.hex()
    scene.passport(NEXT)["takes_deflated"] = True


def test_a_compressed_frame_in_doubt_is_accepted(scene):
    deflate_the_next(scene)
    death = Death(scene.view, scene.recordings).judge()
    assert (death.complaints, death.exact) == ([], 4)
    assert not scene.final_complaints()


def test_bytes_lost_on_the_way_are_no_disorder(scene):
    for recording in scene.recordings.values():
        recording.reset = True
        del recording.received[len(recording.received) // 2:]
    death = Death(scene.view, scene.recordings).judge()
    assert (death.complaints, death.exact) == ([], 0)


PLANTS = []


def plant(rule):
    """Registers a function that brings disorder into a scene which must break this rule."""
    def register(function):
        PLANTS.append(pytest.param(rule, function, id=function.__name__))
        return function
    return register


@plant("arena")
def a_violation_of_the_arena(scene):
    scene.view |= {"violations": 1, "report": "chunk 5 has two owners"}


@plant("arena")
def an_impossible_reader(scene):
    scene.passport(ECHO)["reader_valid"] = False


@plant("stranger")
def a_passport_of_nobody(scene):
    del scene.recordings[ECHO]


@plant("input")
def more_read_than_sent(scene):
    scene.recordings[API].sent -= 1


@plant("input")
def more_consumed_than_read(scene):
    scene.passport(API)["in_end"] = 159


@plant("output")
def received_more_than_committed(scene):
    scene.recordings[ECHO].received += b"x" * 500


@plant("output")
def counted_and_not_written(scene):
    del scene.recordings[CLIENT].received[-1:]


@plant("output")
def written_without_being_named(scene):
    scene.view |= {"syscall": 0, "syscall_ref": 0}


@plant("output")
def read_named_instead_of_write(scene):
    scene.view["syscall"] = 1


@plant("output")
def frame_at_a_settled_subscriber(scene):
    scene.view["fanout"]["settled"] = True


@plant("output")
def frame_at_a_counted_subscriber(scene):
    scene.view["fanout"]["base"] -= 1


@plant("output")
def frame_ahead_of_the_cursor(scene):
    scene.view["fanout"]["index"] = 0


@plant("output")
def frame_without_a_batch(scene):
    scene.view["fanout"]["batch"] = 0


@plant("output")
def frame_before_the_batch_began(scene):
    scene.view["fanout"]["begun"] = False


@plant("prefix")
def other_bytes_than_committed(scene):
    scene.recordings[ECHO].received[-1] ^= 1


@plant("prefix")
def another_frame_than_the_batchs(scene):
    scene.view["fanout"]["frame"] = push("news", 4, 7, 8).hex() * 2


@plant("prefix")
def the_plain_frame_instead_of_the_compressed(scene):
    deflate_the_next(scene)
    scene.recordings[NEXT].received[:] = b"".join(scene.replies()) + scene.batch[:20]


@plant("prefix")
def the_compressed_frame_instead_of_the_plain(scene):
    deflate_the_next(scene)
    scene.passport(NEXT)["takes_deflated"] = False


@plant("echo")
def echo_of_something_else(scene):
    scene.recordings[ECHO].events[1].data = b"eno"


@plant("echo")
def echo_not_committed_with_its_message(scene):
    passport = scene.passport(ECHO)
    size = len(echo_of(scene.recordings[ECHO].events[-1]))
    passport["out_queued"] = passport["out_queued"][:-2 * size]
    passport["out_end"] -= size


@plant("echo")
def echo_committed_ahead_of_its_message(scene):
    scene.passport(ECHO)["in_done"] -= 1


@plant("echo")
def echo_after_the_close(scene):
    scene.recordings[ECHO].events[2].what = CLOSE


@plant("requests")
def consumed_before_the_upgrade(scene):
    scene.passport(ECHO)["state"] = "http"


@plant("requests")
def client_consumed_before_the_upgrade(scene):
    scene.passport(CLIENT)["state"] = "http"


@plant("replies")
def reply_without_consumption(scene):
    scene.passport(CLIENT)["command_number"] = 2


@plant("replies")
def consumption_without_reply(scene):
    scene.passport(CLIENT)["command_number"] = 4


@plant("replies")
def consumed_commands_that_were_not_sent(scene):
    scene.passport(CLIENT)["in_done"] = 50 + 2 * 60


@plant("replies")
def reply_received_twice(scene):
    recording = scene.recordings[CLIENT]
    recording.received += text({"id": 3, "publish": {}})
    scene.passport(CLIENT)["out_done"] = scene.passport(CLIENT)["out_end"] = \
        len(recording.received)


@plant("order")
def replies_in_another_order(scene):
    events = scene.recordings[CLIENT].events
    events[2].data, events[3].data = events[3].data, events[2].data


def resend(scene, *parts):
    """Lets the client have received these bytes, all counted."""
    passport = scene.passport(CLIENT)
    scene.recordings[CLIENT].received = bytearray(b"".join(parts))
    passport["out_done"] = passport["out_end"] = len(scene.recordings[CLIENT].received)


@plant("offsets")
def a_publication_missing(scene):
    resend(scene, *scene.replies()[:3], *scene.replies()[4:], scene.batch)


@plant("offsets")
def a_publication_twice(scene):
    resend(scene, *scene.replies()[:4], *scene.replies()[3:], scene.batch)


@plant("offsets")
def a_batch_twice(scene):
    resend(scene, *scene.replies(), scene.batch, scene.batch)


@plant("offsets")
def a_publication_for_no_subscriber(scene):
    resend(scene, *scene.replies(), push("sport", 1, 7, 8), scene.batch)


@plant("offsets")
def a_subscription_given_up(scene):
    resend(scene, *scene.replies(), scene.batch,
           text({"push": {"channel": "news", "unsubscribe": {"code": 2500, "reason": "gap"}}}))


@plant("position")
def served_subscriber_without_the_batch(scene):
    resend(scene, *scene.replies())


@plant("position")
def channel_ahead_of_its_subscribers(scene):
    scene.view["fanout"]["batch"] = 0
    scene.view["channels"][0]["offset"] = 6
    scene.recordings.pop(NEXT)
    scene.view["passports"].remove(scene.passport(NEXT))


@plant("position")
def subscriber_ahead_of_its_channel(scene):
    scene.passport(CLIENT)["subscriptions"][0]["position"] = 2


@plant("subscriptions")
def subscription_only_the_client_knows(scene):
    scene.passport(CLIENT)["subscriptions"] = []


@plant("subscriptions")
def subscription_only_the_worker_knows(scene):
    scene.view["channels"].append({"ref": 2, "name": "sport", "offset": 0, "last_sequence": 0})
    scene.passport(CLIENT)["subscriptions"].append(
        {"channel": "sport", "position": 0, "start_sequence": 20})


@plant("requests")
def response_without_consumption(scene):
    scene.passport(API).update(command_number=1, in_done=80)


@plant("requests")
def consumption_without_response(scene):
    scene.passport(API).update(command_number=3, in_done=240)


@plant("requests")
def request_consumed_in_part(scene):
    scene.passport(API)["in_done"] += 1


def test_late_subscriber_may_be_ahead(scene):
    subscriber_ahead_of_its_channel(scene)
    scene.passport(CLIENT)["subscriptions"][0]["start_sequence"] = 31
    assert not scene.complaints()


def test_records_of_a_connect_that_is_not_answered(scene):
    """They count for nothing as long as the client is not connected."""
    recording, passport = scene.add("client", 15, "new", UPGRADE)
    recording.plan("upgrade", None, 50)
    recording.plan(TEXT, [{"id": 1, "connect": {"subs": {"news": {}}}}], 60)
    scene.all_consumed(recording, passport)
    passport["subscriptions"] = [{"channel": "news", "position": 2, "start_sequence": 40}]
    scene.view["passports"].append(passport)
    assert not scene.complaints()
    passport["state"] = "connected"
    assert "subscriptions" in [rule for rule, _ in scene.complaints()]


def test_cut_without_a_passport():
    early, late = Recording("client", 1, 2001), Recording("client", 2, 2002)
    late.received += UPGRADE
    assert not judge_cut([early, late], {2})
    (rule, told), = judge_cut([early, late], {1})
    assert rule == "no-passport" and "2002" in told


# The streams at the end; each change works on [(offset, mark)] of "news".

def without(place):
    def change(stream):
        del stream[place]
        return [(offset, what) for offset, (_, what) in enumerate(stream, 1)]
    return change


def with_more(*key):
    def change(stream):
        return stream + [(len(stream) + 1, mark(data(*key)))]
    return change


@pytest.mark.parametrize("rule, change", [
    pytest.param("lost", without(2), id="acknowledged and lost"),
    pytest.param("lost", without(5), id="answered by the API and lost"),
    pytest.param("twice", with_more(12, 4), id="the one under way twice"),
    pytest.param("twice", with_more(12, 3), id="acknowledged one twice"),
    pytest.param("phantom", with_more(12, 5), id="one behind the one under way"),
    pytest.param("phantom", with_more(12, 2), id="a command that publishes nothing"),
    pytest.param("phantom", with_more(99, 1), id="by nobody"),
    pytest.param("order", with_more(7, 7), id="out of order"),
    pytest.param("offsets", lambda stream: stream[:6] + [(9, stream[6][1])], id="a gap"),
    pytest.param("content", lambda stream: stream[:3] + [(4, (7, 9, 12345))] + stream[4:],
                 id="other data than received"),
])
def test_disorder_in_a_stream_is_caught(scene, rule, change):
    stream = change(copy.copy(scene.streams()["news"]))
    complaints = scene.final_complaints({"news": stream})
    assert rule in {caught for caught, _ in complaints}, complaints


def test_publication_under_way_may_be_in_or_out(scene):
    assert not scene.final_complaints({"news": scene.streams()["news"][:6]})
    assert not scene.final_complaints({"news": with_more(13, 4)(scene.streams()["news"])})


@pytest.mark.parametrize("rule, disturb", PLANTS)
def test_disorder_is_caught(scene, rule, disturb):
    disturb(scene)
    complaints = scene.complaints()
    assert rule in {caught for caught, _ in complaints}, complaints


def test_transcript_takes_any_cut():
    """Byte by byte it finds the same as in one piece."""
    scene = Scene()
    commands = scene.recordings[CLIENT].commands_within(10**9)
    whole, pieces = Transcript(commands), Transcript(commands)
    stream = bytes(scene.recordings[CLIENT].received)
    whole.read(stream)
    for at in range(len(stream)):
        pieces.read(stream[at:at + 1])
    assert whole.publications == pieces.publications and len(whole.publications) == 4
    assert whole.replies == pieces.replies == [1, 2, 3]
