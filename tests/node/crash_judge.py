# SPDX-License-Identifier: ISC
"""Judges what a killed worker left: its arena, as arena_checker prints it, beside what the clients
on the other side of its sockets sent and received.

Every complaint is (rule, text). The rules, and what they rest on:

  arena          the arena's own invariants; the reader of each passport is a possible one
  stranger       each passport belongs to a connection that exists
  input          consumed <= read <= sent
  output         received <= committed, and only where the work slot names a write, or the fan-out's
                 cursor an unsettled subscriber, more than was counted as written; never less but
                 after a reset
  prefix         what was received beyond the counted bytes is the front of what was committed
  echo           the committed answers of /echo are exactly those to the consumed messages
  replies        as many replies committed as commands consumed; none received beyond those
  order          replies come in the order of their commands
  offsets        publications come with consecutive offsets, once each
  position       who received everything committed stands where the channel does, or where the batch
                 under way does for those it has served
  subscriptions  both sides agree on what is subscribed
  requests       HTTP: as many responses as requests consumed, input cut at a request's border
  no-passport    whoever was cut and has no passport received nothing
  lost, twice, phantom, content
                 at the end, of the streams in Redis: acknowledged and consumed publications are in
                 exactly once, unconsumed ones are not, but for the one under way; subscribers saw
                 what the stream holds
"""

from crash_record import Transcript, body_of_stream, echo_of, responses

WRITE = 2
PROTOCOL_STATES = ("new", "connected", "unusable")


def note_replies(recording, transcript):
    for number in range(1, len(transcript.replies) + 1):
        refused = number in transcript.errors
        (recording.refused if refused else recording.acknowledged).add(number)


def note_responses(recording, found):
    for number, response in enumerate(found, 1):
        succeeded = response.status == 200 and b'"error"' not in response.body
        (recording.acknowledged if succeeded else recording.refused).add(number)


class Death:
    """One dead worker. recordings: {ref of the passport: Recording of its connection}."""

    def __init__(self, view, recordings):
        self.view, self.recordings = view, recordings
        self.complaints = []
        self.exact = 0            # connections of which all that was written arrived
        self.judged = 0
        self.publications = []    # (channel, offset, mark) that clients received

    def complain(self, rule, text):
        self.complaints.append((rule, text))

    def judge(self):
        if self.view["violations"]:
            self.complain("arena", self.view["report"])
            return self
        self.channels = {c["name"]: c for c in self.view["channels"]}
        for passport in self.view["passports"]:
            if passport["kind"] == 1:
                self._judge_connection(passport)
        return self

    # One connection

    def _judge_connection(self, passport):
        recording = self.recordings.get(passport["ref"])
        if not recording:
            self.complain("stranger", f"port {passport['peer_port']}, {passport['state']}")
            return
        self.judged += 1
        if not passport["reader_valid"]:
            self.complain("arena", f"{self._name(passport)}: reader")
        if not passport["in_done"] <= passport["in_end"] <= recording.sent:
            self.complain("input", f"{self._name(passport)}: consumed {passport['in_done']}, read "
                          f"{passport['in_end']}, sent {recording.sent}")
        stream = self._committed(passport, recording)
        if recording.kind == "echo":
            self._judge_echo(passport, recording, stream)
        elif recording.kind == "api":
            self._judge_requests(passport, recording, stream)
        else:
            self._judge_client(passport, recording, stream)

    @staticmethod
    def _name(passport):
        return f"port {passport['peer_port']} ({passport['state']})"

    def _in_doubt(self, passport):
        """True when the fan-out's send to this connection may or may not have happened."""
        return self._cursor_names(passport) and not self.view["fanout"]["settled"] and \
            passport["out_done"] % 2**32 == self.view["fanout"]["base"]

    def _cursor_names(self, passport):
        fanout = self.view["fanout"]
        return fanout["batch"] != 0 and fanout["begun"] and any(
            sub["position"] == fanout["index"] and self._is_of_batch(sub)
            for sub in passport["subscriptions"])

    def _is_of_batch(self, subscription):
        return self.channels[subscription["channel"]]["ref"] == self.view["fanout"]["channel"]

    def _committed(self, passport, recording):
        """All bytes committed to this connection's output; None if some were lost on the way. The
        frame in doubt counts as far as it was received."""
        done, received = passport["out_done"], len(recording.received)
        queued = bytes.fromhex(passport["out_queued"])
        written = done
        if (self.view["syscall"], self.view["syscall_ref"]) == (WRITE, passport["ref"]):
            written = passport["out_end"]
        if self._in_doubt(passport):
            queued = bytes.fromhex(self.view["fanout"]["deflated" if passport["takes_deflated"]
                                                       else "frame"])
            written = done + len(queued)
        if received > written:
            self.complain("output", f"{self._name(passport)}: received {received}, written {done} "
                          f"to {written}")
            return None
        beyond = bytes(recording.received[done:])
        if not queued.startswith(beyond):
            self.complain("prefix", f"{self._name(passport)}: {len(beyond)} bytes beyond {done} "
                          "are not what was committed")
            return None
        if received < done:
            # Without a reset the kernel delivers all that was written before the death.
            if not recording.reset and not recording.gone:
                self.complain("output", f"{self._name(passport)}: received {received} of {done} "
                              "counted as written")
            return None
        self.exact += 1
        if self._in_doubt(passport):
            return bytes(recording.received)
        return bytes(recording.received) + queued[received - done:]

    # /echo

    def _judge_echo(self, passport, recording, stream):
        if passport["state"] == "http":
            self._judge_no_upgrade(passport)
            return
        expected = b"".join(echo_of(event, recording.deflate)
                            for event in recording.events_within(passport["in_done"])
                            if event.what != "upgrade")
        body = body_of_stream(recording.received)
        if body is not None:
            head = len(recording.received) - len(body)
            if not expected.startswith(bytes(body)):
                self.complain("echo", f"{self._name(passport)}: received what was not sent")
            if passport["out_end"] != head + len(expected):
                self.complain("echo", f"{self._name(passport)}: {passport['out_end'] - head} bytes "
                              f"committed instead of {len(expected)}")
        elif recording.received and not recording.received.startswith(b"HTTP/1.1 101"[
                :len(recording.received)]):
            self.complain("echo", f"{self._name(passport)}: no upgrade")
        if stream is not None and body_of_stream(stream) != expected:
            self.complain("echo", f"{self._name(passport)}: other bytes committed than expected")

    def _judge_no_upgrade(self, passport):
        if passport["in_done"] or passport["out_end"] or passport["command_number"]:
            self.complain("requests", f"{self._name(passport)}: consumed before the upgrade")

    # HTTP

    def _judge_requests(self, passport, recording, stream):
        number = passport["command_number"]
        ends = [event.end for event in recording.events]
        recording.consumed = number
        received = responses(recording.received)
        note_responses(recording, received)
        if passport["state"] == "http" and (
                number > len(ends) or passport["in_done"] != ([0] + ends)[number]):
            self.complain("requests", f"{self._name(passport)}: {number} requests consumed do not "
                          f"end at {passport['in_done']}")
        if len(received) > number:
            self.complain("requests", f"{self._name(passport)}: {len(received)} responses to "
                          f"{number} requests consumed")
        if stream is not None:
            committed = responses(stream)
            note_responses(recording, committed)
            if len(committed) != number:
                self.complain("requests", f"{self._name(passport)}: {len(committed)} responses "
                              f"committed for {number} requests consumed")

    # The publish/subscribe protocol

    def _judge_client(self, passport, recording, stream):
        if passport["state"] == "http":
            self._judge_no_upgrade(passport)
            return
        number = passport["command_number"]
        commands = recording.commands_within(passport["in_done"])
        received = Transcript(commands).read(recording.received)
        self._take_transcript(received)
        recording.consumed = number
        note_replies(recording, received)
        if len(received.replies) > number or number > len(commands):
            self.complain("replies", f"{self._name(passport)}: {len(received.replies)} replies "
                          f"received, {number} commands consumed of {len(commands)}")
        if stream is None:
            self._judge_positions(passport, received, exact=False)
            return
        committed = Transcript(commands).read(stream)
        note_replies(recording, committed)
        self._take_transcript(committed)
        if len(committed.replies) != number:
            self.complain("replies", f"{self._name(passport)}: {len(committed.replies)} replies "
                          f"committed for {number} commands consumed")
        if passport["state"] in PROTOCOL_STATES:
            # Who is gone may be half cleaned up.
            if not recording.gone:
                self._judge_subscriptions(passport, committed)
            self._judge_positions(passport, committed, exact=True)

    def _take_transcript(self, transcript):
        self.complaints += [c for c in transcript.complaints if c not in self.complaints]
        self.publications += transcript.publications
        for channel in transcript.lost:
            self.complain("offsets", f"{channel}: the server gave up a subscription")

    def _judge_subscriptions(self, passport, transcript):
        # Those of a connect that is not committed are live only with its reply.
        own = {sub["channel"] for sub in passport["subscriptions"] if passport["state"] != "new"}
        if own != set(transcript.positions):
            self.complain("subscriptions", f"{self._name(passport)}: {sorted(own)}, the client "
                          f"knows {sorted(transcript.positions)}")

    def _judge_positions(self, passport, transcript, exact):
        for sub in passport["subscriptions"]:
            position = transcript.positions.get(sub["channel"])
            if position is None:
                continue
            offset, sequence, doubtful = self._served(passport, sub)
            started_later = sub["start_sequence"] > sequence
            low = offset if exact else 0
            high = doubtful if doubtful is not None else offset
            if position < low or (position > high and not started_later):
                self.complain("position", f"{self._name(passport)}: {sub['channel']} at {position}"
                              f" instead of {low} to {high}")

    def _served(self, passport, sub):
        """(offset, sequence, offset in doubt or None) up to which a subscriber was served."""
        channel, fanout = self.channels[sub["channel"]], self.view["fanout"]
        if not fanout["batch"] or not self._is_of_batch(sub) or not fanout["begun"] or \
                sub["position"] > fanout["index"]:
            return channel["offset"], channel["last_sequence"], None
        if sub["position"] == fanout["index"] and self._in_doubt(passport):
            return channel["offset"], channel["last_sequence"], fanout["last_offset"]
        return fanout["last_offset"], fanout["last_sequence"], None


def judge_cut(recordings, known):
    """Complaints about connections that were cut without a passport in any arena; known: serials
    of those that had one."""
    return [("no-passport", f"port {recording.port} received {len(recording.received)} bytes")
            for recording in recordings
            if recording.serial not in known and recording.received]


# The end

def publications_of(recording):
    """{number: channel} of what a connection published, by the number of its command."""
    if recording.kind == "api":
        return {number: event.data for number, event in enumerate(recording.events, 1)
                if event.data}
    if recording.kind == "echo":
        return {}
    commands = recording.commands_within(recording.planned)
    return {number: command["publish"]["channel"] for number, command in enumerate(commands, 1)
            if command and "publish" in command}


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
    for key in places:
        if not _may_be_there(by_serial.get(key[0]), key[1], places[key]):
            complaints.append(("phantom", f"{key} in {places[key]}"))
    for recording in recordings:
        for number, channel in publications_of(recording).items():
            if _must_be_there(recording, number) and \
                    places.get((recording.serial, number)) != channel:
                complaints.append(("lost", f"{(recording.serial, number)} of {channel}"))
    return complaints + _judge_content(streams, received)


def _may_be_there(recording, number, channel):
    if not recording or publications_of(recording).get(number) != channel:
        return False
    return recording.consumed is None or number <= recording.consumed + 1


def _must_be_there(recording, number):
    if number in recording.refused:
        return False
    if number in recording.acknowledged:
        return True
    # Consumed, and its reply was lost on the way: only a failure of Redis could excuse it.
    return recording.consumed is not None and number <= recording.consumed


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
