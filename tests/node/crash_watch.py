# SPDX-License-Identifier: ISC
"""A node under the load of crash_load.py, and what all its clients have seen so far."""

import json
import re
import socket

from crash_judge import judge_end, judge_streams
from crash_load import CHANNELS, Load
from crash_record import mark
from keepsock import DEADLINE

PAGE = 5000
# What such a node needs.
SETTINGS = {
    "channel": {"history_size": 1000000, "history_ttl": "1h",
                "history_max_publication_limit": PAGE, "recovery_max_publication_limit": 300},
    "websocket": {"compression": True},
    # Who reads slowly and says goodbye gets everything all the same.
    "client": {"close_timeout": "30s"},
}


class Watch:
    def __init__(self, node, rng, authority=None):
        self.node, self.rng = node, rng
        self.load = Load(node, rng, authority)
        self.seen = {}            # (channel, offset): mark, of all clients
        self.complaints = []

    def admin(self, *words):
        """(answer, descriptors) of one admin command."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(DEADLINE)
            connection.connect(str(self.node.socket))
            connection.sendall(" ".join((*words, "--json")).encode() + b"\n")
            answer, fds, *_ = socket.recv_fds(connection, 65536, 4)
            while more := connection.recv(65536):
                answer += more
        status, _, body = answer.partition(b"\n")
        return (json.loads(body) if status == b"OK" else None), fds

    def complain(self, how, complaints):
        self.complaints += [(how, *complaint) for complaint in complaints]

    def gather(self, how):
        """What the clients have seen so far."""
        for connection in self.load.connections:
            self.load.take(connection)
        self.complain(how, self.load.complaints)
        self.load.complaints.clear()
        for channel, offset, what in self.load.publications:
            if self.seen.setdefault((channel, offset), what) != what:
                self.complain(how, [("content", f"{channel} {offset} differs among clients")])
        self.load.publications.clear()

    # The end

    def history(self, channel):
        """The channel's whole stream as [(offset, data)]."""
        found, since = [], None
        while True:
            result = self.node.api("history", channel=channel, limit=PAGE,
                                   **({"since": since} if since else {}))["result"]
            found += [(p["offset"], p["data"]) for p in result["publications"]]
            if len(result["publications"]) < PAGE:
                return found
            since = {"offset": found[-1][0], "epoch": result["epoch"]}

    def top(self, channel):
        return self.node.api("history", channel=channel, limit=0)["result"]["offset"]

    def finish(self):
        """Ends the load and judges the streams; returns a line for people."""
        staying = self.load.settle(lambda: {channel: self.top(channel) for channel in CHANNELS})
        known = {row["id"] for row in self.node.ctl_json("show", "connections")["rows"]}
        for recording in (connection.recording for connection in staying):
            if recording.client and not recording.ended and recording.client not in known:
                self.complain("end", [("identity", f"{recording}: nobody knows "
                                       f"{recording.client}")])
        self.gather("end")
        told = dict(re.findall(r"disconnect client=(\S+) code=(\d+)", self.node.log()))
        told = {client: int(code) for client, code in told.items()}
        for recording in self.load.recordings:
            if recording.ended:
                self.complain("end", judge_end(recording, told))
        self.load.close()
        streams = {channel: [(offset, mark(data)) for offset, data in self.history(channel)]
                   for channel in CHANNELS}
        seen = [(channel, offset, what) for (channel, offset), what in self.seen.items()]
        self.complain("end", judge_streams(streams, self.load.recordings, seen))
        return (f"{sum(map(len, streams.values()))} publications, "
                f"{len(self.load.recordings)} connections, {self.load.unanswered} cut before their "
                "first answer")

    def close(self):
        self.load.close()
        # What was found already says more than a deadline that was missed later.
        print(*self.complaints[:50], sep="\n")
