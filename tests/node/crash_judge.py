# SPDX-License-Identifier: ISC
"""Judges what the clients of a node saw whose workers were killed under load.

Every complaint is (rule, text). The rules:

  arena       what a dead worker left keeps the arena's own invariants
  closed      no connection ends but by its own doing; whoever has got nothing yet may be cut (its
              socket was not deposited), and who reads too slowly may be told so
  echo        /echo answers with exactly the bytes that answer what was sent, in order, once
  replies     one reply for each command, none for anything else; none says that Redis is away
  order       replies come in the order of their commands
  offsets     publications come with consecutive offsets, once each, to subscribers only; no
              subscription is given up
  identity    a client is told its id once, and keeps it
  requests    HTTP: one successful response for each request, in order
  lost, twice, phantom, content
              at the end, of the streams in Redis: acknowledged publications are in exactly once,
              no other than those that were sent; subscribers saw what the stream holds
"""

from crash_record import HEAD_END, Transcript, echo_of, responses
from wire import TEXT

SLOW, NO_PONG = 3008, 3012
TEMPORARY = 100


class EchoJudge:
    """Compares every byte as it comes."""

    def __init__(self, recording):
        self.recording = recording
        self.complaints = []
        self.head = bytearray()   # of the response to the upgrade, until it is whole
        self.upgraded = False
        self.due = bytearray()    # answers that have not come

    def expect(self, event):
        if event.what != "upgrade":
            self.due += echo_of(event, self.recording.deflate)

    def feed(self, data):
        if not self.upgraded:
            self.head += data
            if HEAD_END not in self.head:
                return
            if not self.head.startswith(b"HTTP/1.1 101 "):
                self.complain(f"no upgrade: {bytes(self.head[:60])!r}")
            data = bytes(self.head[self.head.index(HEAD_END) + len(HEAD_END):])
            self.upgraded = True
        if not self.due.startswith(data):
            at = next((i for i, (a, b) in enumerate(zip(self.due, data)) if a != b),
                      min(len(self.due), len(data)))
            self.complain(f"{data[at:at + 20]!r} instead of {bytes(self.due[at:at + 20])!r}")
        del self.due[:len(data)]

    def complain(self, text):
        if not self.complaints:
            self.complaints.append(("echo", f"{self.recording}: {text}"))

    def is_answered(self):
        return self.upgraded and not self.due

    def end(self):
        """The connection has ended; after a close handshake everything was answered before."""
        recording = self.recording
        if recording.leaving and not recording.gone and not recording.reset and self.due:
            self.complain(f"{len(self.due)} bytes of answers are missing at the end")


class ClientJudge:
    """Follows a client of the publish/subscribe protocol."""

    def __init__(self, recording):
        self.recording = recording
        self.commands = []
        self.transcript = Transcript(self.commands)
        self.complaints = self.transcript.complaints
        self.noted = 0            # replies

    def expect(self, event):
        if event.what != TEXT:
            return
        for command in event.data:
            self.commands.append(command)
            if command and "publish" in command:
                self.recording.published[len(self.commands)] = command["publish"]["channel"]

    def feed(self, data):
        """Yields the messages that became whole."""
        yield from self.transcript.feed(data)
        self.note_replies()
        self.recording.close_code = self.transcript.close_code
        for channel in self.transcript.lost:
            self.complaints.append(("offsets", f"{self.recording}: lost its subscription to "
                                    f"{channel}"))
        self.transcript.lost.clear()
        client = self.transcript.client
        if self.recording.client not in (None, client):
            self.complaints.append(("identity", f"{self.recording}: {self.recording.client} became "
                                    f"{client}"))
        self.recording.client = client

    def note_replies(self):
        while self.noted < len(self.transcript.replies):
            self.noted += 1
            code = self.transcript.errors.get(self.noted)
            if code is None:
                self.recording.acknowledged.add(self.noted)
                continue
            self.recording.refused[self.noted] = code
            if code == TEMPORARY:
                self.complaints.append(("replies", f"{self.recording}: Redis is away, says the "
                                        f"reply to {self.commands[self.noted - 1]}"))

    def is_answered(self):
        return self.transcript.replies and len(self.transcript.replies) == len(self.commands)

    def end(self):
        pass


class RequestJudge:
    """Follows requests to the HTTP API."""

    def __init__(self, recording):
        self.recording = recording
        self.complaints = []
        self.unread = bytearray()
        self.requests = self.answered = 0

    def expect(self, event):
        self.requests += 1
        if event.data:
            self.recording.published[self.requests] = event.data

    def feed(self, data):
        self.unread += data
        found = responses(self.unread)
        for response in found:
            self.take(response)
        if found:
            del self.unread[:found[-1].end]

    def take(self, response):
        self.answered += 1
        if self.answered > self.requests:
            self.complaints.append(("requests", f"{self.recording}: a response to no request"))
        elif response.status == 200 and b'"error"' not in response.body:
            self.recording.acknowledged.add(self.answered)
        else:
            self.recording.refused[self.answered] = response.status
            self.complaints.append(("requests", f"{self.recording}: request {self.answered} got "
                                    f"{response.status} {response.body[:80]!r}"))

    def is_answered(self):
        return self.answered == self.requests

    def end(self):
        pass


JUDGES = {"echo": EchoJudge, "client": ClientJudge, "api": RequestJudge}


def judge_end(recording, told):
    """Complaints about how a connection ended. told: {id: code} of the clients that the server says
    it has disconnected; what it had still to say to one that reads slowly may be cut off."""
    code = recording.close_code
    if not code and (recording.slow or recording.reset):
        code = told.get(recording.client)
    if recording.slow and code in (SLOW, NO_PONG):
        return []
    if recording.ends_with and not recording.gone and code != recording.ends_with:
        return [("closed", f"{recording}: with {code} instead of {recording.ends_with}")]
    if recording.leaving or recording.received == 0:
        return []
    how = "by a reset" if recording.reset else f"with {recording.close_code}"
    return [("closed", f"{recording}: {how}")]


def judge_arena(view):
    """Complaints about what a dead worker left, as arena_checker prints it."""
    if view["violations"]:
        return [("arena", view["report"])]
    return [("arena", f"the reader of port {passport['peer_port']}")
            for passport in view["passports"] if not passport["reader_valid"]]


# The end

def judge_streams(streams, recordings, received):
    """streams: {channel: [(offset, mark)]} as in Redis; received: what clients got, as (channel,
    offset, mark)."""
    complaints, places = [], {}
    for channel, stream in streams.items():
        complaints += _judge_order(channel, stream)
        for _, (by, number, _) in stream:
            key = (by, number)
            if key in places:
                complaints.append(("twice", f"{key} in {channel}"))
            places[key] = channel
    by_serial = {recording.serial: recording for recording in recordings}
    for (by, number), channel in places.items():
        if by not in by_serial or by_serial[by].published.get(number) != channel:
            complaints.append(("phantom", f"{(by, number)} in {channel}"))
    for recording in recordings:
        for number in recording.acknowledged & recording.published.keys():
            if places.get((recording.serial, number)) != recording.published[number]:
                complaints.append(("lost", f"{(recording.serial, number)} of "
                                   f"{recording.published[number]}"))
    return complaints + _judge_content(streams, received)


def _judge_order(channel, stream):
    complaints, last = [], {}
    for place, (offset, (by, number, _)) in enumerate(stream, 1):
        if offset != place:
            complaints.append(("offsets", f"{channel}: {offset} at place {place}"))
        if number <= last.get(by, 0):
            complaints.append(("order", f"{channel}: {by} {number} out of order"))
        last[by] = number
    return complaints


def _judge_content(streams, received):
    held = {(channel, offset): what for channel, stream in streams.items()
            for offset, what in stream}
    return [("content", f"{channel} {offset}: received {what}, the stream holds "
             f"{held.get((channel, offset))}")
            for channel, offset, what in received if held.get((channel, offset)) != what]
