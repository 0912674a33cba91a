# SPDX-License-Identifier: ISC
"""The judge of test_crash.py: it accepts clients that noticed nothing, and catches each kind of
disorder planted into what they saw. Nothing here runs a node."""

import json

import pytest

from crash_judge import ClientJudge, EchoJudge, RequestJudge, judge_arena, judge_end, judge_streams
from crash_record import Event, Recording, echo_of, mark, server_frame
from wire import BINARY, CLOSE, PING, TEXT, close_payload

UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
ECHO, CLIENT, API, OTHER = 1, 2, 3, 7  # serials


def text(message):
    return server_frame(TEXT, json.dumps(message).encode())


def data(by, number):
    return {"by": by, "n": number, "pad": "x" * number}


def publication(offset, by, number):
    return {"data": data(by, number), "offset": offset}


def push(channel, *arguments):
    return text({"push": {"channel": channel, "pub": publication(*arguments)}})


def response(body, status=200):
    return b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


class Scene:
    """What three clients saw whose workers died; a plant changes it before it is judged."""

    def __init__(self):
        self.view = {"violations": 0, "report": "",
                     "passports": [{"reader_valid": True, "peer_port": 1}]}
        self.recordings = {ECHO: Recording("echo", ECHO), CLIENT: Recording("client", CLIENT),
                           API: Recording("api", API)}
        self.messages = [Event(TEXT, b"one"), Event(BINARY, b"2" * 200), Event(PING, b"?"),
                         Event(TEXT, b"four")]
        self.answers = [UPGRADE, *map(echo_of, self.messages)]
        self.commands = [{"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "news"}},
                         {"id": 3, "publish": {"channel": "news", "data": data(CLIENT, 3)}},
                         {"id": 4, "publish": {"channel": "news", "data": data(CLIENT, 4)}}]
        self.replies = [UPGRADE, text({"id": 1, "connect": {"client": "me"}}),
                        text({"id": 2, "subscribe": {"epoch": "e", "offset": 1}}),
                        push("news", 2, CLIENT, 3), text({"id": 3, "publish": {}}),
                        push("news", 3, OTHER, 9), push("news", 4, CLIENT, 4),
                        text({"id": 4, "publish": {}})]
        self.responses = [response(b'{"result":{}}')] * 2
        self.streams = {"news": [(offset, mark(data(*key))) for offset, key in enumerate(
            [(OTHER, 8), (CLIENT, 3), (OTHER, 9), (CLIENT, 4), (API, 1)], 1)]}
        self.told = {}

    def other(self):
        """One that only publishes."""
        other = Recording("client", OTHER)
        other.published = {8: "news", 9: "news", 10: "news"}
        other.acknowledged = {8, 9}
        return other

    def judge_echo(self):
        judge = EchoJudge(self.recordings[ECHO])
        for event in (Event("upgrade", None), *self.messages):
            judge.expect(event)
        stream = b"".join(self.answers)
        for at in range(0, len(stream), 7):
            judge.feed(stream[at:at + 7])
        judge.end()
        assert judge.complaints or judge.is_answered() or self.recordings[ECHO].gone
        return judge.complaints

    def judge_client(self):
        judge = ClientJudge(self.recordings[CLIENT])
        judge.expect(Event("upgrade", None))
        for command in self.commands:
            judge.expect(Event(TEXT, [command]))
        for piece in self.replies:
            for _ in judge.feed(piece):
                pass
        judge.end()
        self.publications = judge.transcript.publications
        if not judge.is_answered():
            judge.complaints.append(("replies", "one is missing"))
        return judge.complaints

    def judge_api(self):
        judge = RequestJudge(self.recordings[API])
        judge.expect(Event("request", "news"))
        judge.expect(Event("request", None))
        for piece in self.responses:
            judge.feed(piece)
        judge.end()
        if not judge.is_answered():
            judge.complaints.append(("requests", "one is not answered"))
        return judge.complaints

    def complaints(self):
        found = judge_arena(self.view) + self.judge_echo() + self.judge_client() + self.judge_api()
        for recording in self.recordings.values():
            recording.received = 1
            if recording.ended:
                found += judge_end(recording, self.told)
        return found + judge_streams(self.streams, [*self.recordings.values(), self.other()],
                                     self.publications)


@pytest.fixture
def scene():
    return Scene()


def test_what_nobody_noticed_is_accepted(scene):
    assert not scene.complaints()
    assert scene.recordings[CLIENT].client == "me"
    assert scene.recordings[CLIENT].acknowledged == {1, 2, 3, 4}
    assert scene.recordings[API].acknowledged == {1, 2}
    assert len(scene.publications) == 3


def test_who_leaves_may_miss_answers(scene):
    for recording in scene.recordings.values():
        recording.leaving = recording.gone = recording.ended = True
    del scene.answers[3:]
    assert not scene.complaints()


def test_who_reads_slowly_may_be_told_so(scene):
    recording = scene.recordings[CLIENT]
    recording.slow = recording.ended = True
    scene.replies.append(server_frame(CLOSE, close_payload(3008)))
    assert not scene.complaints()


def test_what_it_was_told_may_be_cut_off(scene):
    recording = scene.recordings[CLIENT]
    recording.slow = recording.ended = recording.reset = True
    scene.told = {"me": 3012}
    assert not scene.complaints()


def test_nobody_needs_an_answer_to_know_that_it_was_not_there():
    cut = Recording("client", 1)
    cut.ended = True
    assert not judge_end(cut, {})


def test_garbage_has_its_own_end(scene):
    recording = scene.recordings[CLIENT]
    recording.leaving = recording.ended = True
    recording.ends_with = 3501
    scene.replies.append(server_frame(CLOSE, close_payload(3501)))
    assert not scene.complaints()


def test_an_unacknowledged_publication_may_be_there_or_not(scene):
    scene.streams["news"].append((6, mark(data(OTHER, 10))))
    assert not scene.complaints()


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
    scene.view["passports"][0]["reader_valid"] = False


@plant("closed")
def a_connection_that_ends(scene):
    scene.recordings[ECHO].ended = True


@plant("closed")
def a_reset(scene):
    scene.recordings[API].ended = scene.recordings[API].reset = True


@plant("closed")
def too_slow_who_reads_fast(scene):
    scene.recordings[CLIENT].ended = True
    scene.replies.append(server_frame(CLOSE, close_payload(3008)))


@plant("closed")
def blamed_who_reads_slowly(scene):
    scene.recordings[CLIENT].ended = scene.recordings[CLIENT].slow = True
    scene.replies.append(server_frame(CLOSE, close_payload(1011)))


@plant("closed")
def garbage_with_another_end(scene):
    recording = scene.recordings[CLIENT]
    recording.leaving = recording.ended = True
    recording.ends_with = 3501
    scene.replies.append(server_frame(CLOSE, close_payload(1011)))


@plant("echo")
def another_byte(scene):
    scene.answers[2] = scene.answers[2].replace(b"2", b"3", 1)


@plant("echo")
def an_answer_twice(scene):
    scene.answers.insert(2, scene.answers[1])


@plant("echo")
def an_answer_too_few(scene):
    del scene.answers[2]


@plant("echo")
def answers_in_another_order(scene):
    scene.answers[1:3] = scene.answers[2:0:-1]


@plant("echo")
def no_upgrade(scene):
    scene.answers[0] = response(b"", 503)


@plant("echo")
def missing_at_a_close_handshake(scene):
    scene.recordings[ECHO].leaving = scene.recordings[ECHO].ended = True
    del scene.answers[-1]


@plant("replies")
def a_reply_too_few(scene):
    del scene.replies[-1]


@plant("replies")
def a_reply_twice(scene):
    scene.replies.append(scene.replies[-1])


@plant("replies")
def redis_is_away(scene):
    scene.replies[-1] = text({"id": 4, "error": {"code": 100, "message": "internal server error",
                                                 "temporary": True}})


@plant("order")
def replies_in_another_order(scene):
    scene.replies[4], scene.replies[7] = scene.replies[7], scene.replies[4]


@plant("offsets")
def a_publication_too_few(scene):
    del scene.replies[5]


@plant("offsets")
def a_publication_twice(scene):
    scene.replies.insert(5, scene.replies[5])


@plant("offsets")
def publications_in_another_order(scene):
    scene.replies[5:7] = scene.replies[6:4:-1]


@plant("offsets")
def a_subscription_given_up(scene):
    scene.replies.append(text({"push": {"channel": "news", "unsubscribe": {"code": 2500}}}))


@plant("offsets")
def a_publication_for_no_subscriber(scene):
    scene.replies.append(push("sport", 1, OTHER, 8))


@plant("identity")
def another_client_id(scene):
    scene.recordings[CLIENT].client = "somebody else"


@plant("requests")
def a_request_without_answer(scene):
    del scene.responses[-1]


@plant("requests")
def a_request_answered_twice(scene):
    scene.responses = [*scene.responses, scene.responses[0]]


@plant("requests")
def a_request_that_failed(scene):
    scene.responses = [scene.responses[0], response(b'{"error":{"code":100}}')]


@plant("lost")
def an_acknowledged_publication_too_few(scene):
    scene.streams["news"].pop()


@plant("lost")
def one_in_another_channel(scene):
    scene.streams["sport"] = [(1, scene.streams["news"].pop()[1])]


@plant("twice")
def a_publication_stored_twice(scene):
    scene.streams["news"].append((6, scene.streams["news"][-1][1]))


@plant("phantom")
def one_that_nobody_sent(scene):
    scene.streams["news"].append((6, mark(data(OTHER, 11))))


@plant("order")
def stored_in_another_order(scene):
    (_, first), (_, second) = scene.streams["news"][1], scene.streams["news"][3]
    scene.streams["news"][1], scene.streams["news"][3] = (2, second), (4, first)


@plant("offsets")
def a_hole_in_the_stream(scene):
    scene.streams["news"][-1] = (6, scene.streams["news"][-1][1])


@plant("content")
def other_content_than_stored(scene):
    scene.streams["news"][2] = (3, mark(data(OTHER, 9) | {"pad": "y"}))


@pytest.mark.parametrize("rule, disorder", PLANTS)
def test_disorder_is_caught(scene, rule, disorder):
    disorder(scene)
    assert rule in {name for name, _ in scene.complaints()}
