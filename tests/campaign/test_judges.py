# SPDX-License-Identifier: ISC
"""The judges find what is planted, and nothing else."""

import json

import pytest

from crowd_judge import MemberJudge, data_of
from sdk_judge import SdkJudge

CHANNELS = {"h": True, "plain": False}
PING, PONG = 0x89, 0x8A


def raw(first, payload):
    size = len(payload)
    head = bytes([first, size]) if size < 126 else bytes([first, 126]) + size.to_bytes(2, "big")
    return head + payload


def text(*messages):
    return raw(0x81, b"\n".join(m if isinstance(m, bytes) else json.dumps(m).encode()
                                for m in messages))


def pub(channel, number, offset=None, more=""):
    place = f',"offset":{offset or number}' if CHANNELS[channel] else ""
    return (f'{{"push":{{"channel":"{channel}","pub":{{"data":{data_of(channel, number)}{place}'
            f"{more}}}}}}}").encode()


class Member:
    """A judge whose member has subscribed; sent() is what it sent and awaits an answer to."""

    def __init__(self):
        self.judge = MemberJudge("m", CHANNELS)
        self.judge.feed(b"HTTP/1.1 101 Switching\r\nA: b\r\n\r\n")
        self.judge.feed(text({"id": 1, "connect": {"client": "C"}}))
        self.judge.feed(text({"id": 2, "subscribe": {"offset": 4}}, {"id": 3, "subscribe": {}}))
        self.judge.pongs.extend((b"one", b"two"))
        self.judge.replies.append(b'{"id":4,"publish":{}}')

    def rules(self):
        return [rule for rule, _ in self.judge.complaints]


GOOD = [text(pub("h", 5)), text(pub("plain", 1), pub("plain", 2)), raw(PONG, b"one"),
        text(b'{"id":4,"publish":{}}'), text(b"{}"), text(pub("h", 6)), raw(PONG, b"two")]
TOPS = {"h": 6, "plain": 2}


@pytest.fixture
def member():
    return Member()


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 100000])
def test_who_gets_everything_complains_of_nothing(member, cut):
    stream = b"".join(GOOD)
    assert member.judge.is_subscribed() and member.judge.client == "C"
    for at in range(0, len(stream), cut):
        member.judge.feed(stream[at:at + cut])
    assert member.judge.pings == 1
    assert member.judge.has_all(TOPS) and member.judge.is_answered()
    member.judge.judge_rest(TOPS)
    assert member.judge.complaints == []
    assert member.judge.arrivals == [("h", 5), ("plain", 1), ("plain", 2), ("h", 6)]


def test_the_first_publication_tells_the_epoch(member):
    member.judge.places["h"] = 0
    member.judge.feed(text(pub("h", 1, more=',"epoch":"abc"')))
    assert member.rules() == []
    member.judge.feed(text(pub("h", 2, more=',"epoch":"abc"')))
    assert member.rules() == ["bytes"]


@pytest.mark.parametrize("frames, rule", [
    ([text(pub("h", 6))], "places"),                             # 5 is lost
    ([text(pub("h", 5)), text(pub("h", 5))], "places"),          # twice
    ([text(pub("plain", 2)), text(pub("plain", 1))], "places"),  # another order
    ([text(pub("h", 5, offset=7))], "bytes"),
    ([text(pub("h", 5).replace(b'"pad":"h.5', b'"pad":"h.x'))], "bytes"),
    ([text(pub("h", 5, more=',"delta":true'))], "bytes"),
    ([text(pub("h", 5).replace(b'"channel":"h"', b'"channel":"i"'))], "bytes"),
    ([raw(PONG, b"two")], "bytes"),
    ([raw(PONG, b"one"), raw(PONG, b"two"), raw(PONG, b"two")], "bytes"),
    ([text(b'{"id":5,"publish":{}}')], "bytes"),
    ([text(b'{"id":4,"error":{"code":100,"message":"x"}}')], "bytes"),
    ([text(b'{"id":4,"publish":{}}', b'{"id":4,"publish":{}}')], "bytes"),
    ([text(b"{}", b"")], "bytes"),
    ([raw(0x88, b"\x03\xe8bye")], "bytes"),
    ([raw(0x01, b"{}")], "bytes"),                               # half a message
    ([raw(0xC1, b"{}")], "bytes"),                               # compressed, unasked for
    ([b"\x00" + text(b"{}")], "bytes"),                          # a byte too many
])
def test_the_crowd_judge_finds(member, frames, rule):
    for frame in frames:
        member.judge.feed(frame)
    assert rule in member.rules()


def test_a_lost_byte_in_the_middle(member):
    stream = b"".join(GOOD)
    at = len(GOOD[0]) + 9
    member.judge.feed(stream[:at] + stream[at + 1:])
    assert "bytes" in member.rules()


@pytest.mark.parametrize("missing", range(len(GOOD)))
def test_whatever_is_missing_at_the_end(member, missing):
    for frame in GOOD[:missing] + GOOD[missing + 1:]:
        member.judge.feed(frame)
    member.judge.judge_rest(TOPS)
    found = member.rules()
    # A ping of the server's may be missing; nothing else.
    assert (not found) == (GOOD[missing] == text(b"{}"))


def test_half_a_frame_at_the_end(member):
    for frame in GOOD:
        member.judge.feed(frame)
    member.judge.feed(text(b"{}")[:3])
    member.judge.judge_rest(TOPS)
    assert member.rules() == ["missing"]


def test_a_connection_that_ends(member):
    member.judge.end()
    assert member.rules() == ["closed"]


def test_no_upgrade():
    judge = MemberJudge("m", CHANNELS)
    judge.feed(b"HTTP/1.1 503 Full\r\n\r\n")
    assert [rule for rule, _ in judge.complaints] == ["bytes"]


def test_subscriptions_that_are_refused():
    judge = MemberJudge("m", CHANNELS)
    judge.feed(b"HTTP/1.1 101 x\r\n\r\n" + text({"id": 1, "connect": {"client": "C"}},
                                               {"id": 2, "error": {"code": 100}}))
    assert [rule for rule, _ in judge.complaints] == ["bytes"]


# SDK clients

def report(what, **facts):
    return {"what": what, "client": "js0", **facts}


def publication(channel, number, offset=None):
    return report("publication", channel=channel, n=number,
                  offset=(offset or number) if CHANNELS[channel] else 0)


def asked(what, number, **more):
    return report(what, channel="asked-js0", n=number, **more)


HISTORY = [
    report("connecting", code=0, reason="connect called"), report("connected", id="C"),
    report("subscribing", channel="h", code=0, reason="subscribe called"),
    report("subscribed", channel="h", offset=4),
    report("subscribing", channel="plain", code=0, reason="subscribe called"),
    report("subscribed", channel="plain", offset=0),
    {"what": "ready"},
    publication("h", 5), publication("plain", 7), asked("published", 1), publication("plain", 8),
    asked("acknowledged", 1), publication("h", 6), asked("published", 2), asked("acknowledged", 2),
    {"what": "quiet"},
]
SDK_TOPS = {"h": 6, "plain": 8}
STREAM = [{"by": "js0", "n": 1}, {"by": "js0", "n": 2}]


def rules(history, tops=None, stream=None):
    judge = SdkJudge(CHANNELS)
    for one in history:
        judge.take(one)
    judge.judge_rest(tops or SDK_TOPS, {"asked-js0": STREAM if stream is None else stream})
    return {rule for rule, _ in judge.complaints}


def test_nothing_is_wrong_with_that():
    assert rules(HISTORY) == set()


@pytest.mark.parametrize("planted, expected", [
    (report("connecting", code=1, reason="transport closed"), {"noticed"}),
    (report("connected", id="D"), {"noticed"}),
    (report("disconnected", code=3012, reason="no pong"), {"noticed"}),
    (report("error", code=2, reason="timeout"), {"noticed"}),
    (report("error", channel="h", code=2, reason="timeout"), {"noticed"}),
    (report("subscribing", channel="h", code=2, reason="transport closed"), {"noticed"}),
    (report("unsubscribed", channel="h", code=2500, reason="insufficient"), {"noticed"}),
    (report("subscribed", channel="plain", offset=0), {"noticed", "missing"}),
    (publication("h", 6), {"places"}),
    (publication("plain", 8), {"places"}),
    (publication("h", 8), {"places", "missing"}),
    (publication("plain", 10), {"places", "missing"}),
    (publication("h", 7, offset=8), {"places", "missing"}),
    (asked("refused", 3, code=100, reason="x"), {"refused"}),
    (asked("published", 3), {"missing"}),
    (asked("acknowledged", 3), {"missing", "stored"}),
])
def test_the_sdk_judge_finds(planted, expected):
    assert rules([*HISTORY, planted]) == expected


@pytest.mark.parametrize("missing, expected", [
    (publication("h", 5), {"places"}), (publication("h", 6), {"missing"}),
    (publication("plain", 8), {"missing"}), (asked("acknowledged", 1), {"missing", "stored"}),
])
def test_what_never_came(missing, expected):
    assert rules([one for one in HISTORY if one != missing]) == expected


@pytest.mark.parametrize("stream", [
    STREAM[:1], STREAM[1:], [*STREAM, STREAM[1]], STREAM[::-1], [*STREAM, {"by": "js0", "n": 3}],
    [*STREAM, {"by": "js1", "n": 1}], [],
])
def test_streams_that_hold_something_else(stream):
    assert rules(HISTORY, stream=stream) == {"stored"}


def test_the_end_of_a_channel_nobody_heard_of():
    assert rules(HISTORY, tops={"h": 7, "plain": 8}) == {"missing"}
