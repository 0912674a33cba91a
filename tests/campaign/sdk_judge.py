# SPDX-License-Identifier: ISC
"""Judges what SDK clients tell of themselves while the processes of their node come and go.

Every complaint is (rule, text). The rules:

  noticed   a client connects once, subscribes once, and nothing ends or fails
  places    publications of a channel arrive one after the other, from where the subscription began:
            none lost, doubled or out of order; where there are offsets, at the right one
  missing   at the end a publication has not arrived, or a client's own one came to nothing
  refused   a publication is refused
  stored    what was acknowledged is stored exactly once, in order, and nothing else is
"""


class SdkJudge:
    """channels: {name: whether it has positions}. Takes reports in the order in which a client made
    them (tests/clients/campaign_clients.mjs)."""

    def __init__(self, channels):
        self.channels = channels
        self.complaints = []
        self.ids = {}             # client: id
        self.begun = set()        # clients that connect, (client, channel) that subscribe
        self.places = {}          # (client, channel): number of the last publication, None before
        self.published = {}       # channel: numbers
        self.acknowledged = {}    # channel: numbers
        self.arrived = 0

    def complain(self, rule, text):
        self.complaints.append((rule, text))

    def take(self, report):
        handler = getattr(self, "_on_" + report["what"], None)
        if handler:
            handler(report)

    # Connections and subscriptions

    def _begin(self, who, report):
        if who in self.begun:
            self.complain("noticed", f"{who}: {report['what']} again, {report['code']} "
                          f"{report['reason']}")
        self.begun.add(who)

    def _on_connecting(self, report):
        self._begin(report["client"], report)

    def _on_subscribing(self, report):
        self._begin((report["client"], report["channel"]), report)

    def _on_connected(self, report):
        client = report["client"]
        if client in self.ids:
            self.complain("noticed", f"{client}: was {self.ids[client]}, is {report['id']}")
        self.ids[client] = report["id"]

    def _on_subscribed(self, report):
        who = report["client"], report["channel"]
        if who in self.places:
            self.complain("noticed", f"{who}: subscribed again")
        self.places[who] = report["offset"] if self.channels[report["channel"]] else None

    def _on_error(self, report):
        where = f" in {report['channel']}" if "channel" in report else ""
        self.complain("noticed", f"{report['client']}{where}: {report['what']} {report['code']} "
                      f"{report['reason']}")

    _on_disconnected = _on_unsubscribed = _on_error

    def _on_publication(self, report):
        who = report["client"], report["channel"]
        last, number = self.places.get(who), report["n"]
        if who not in self.places:
            self.complain("places", f"{who}: {number} for no subscriber")
        elif last is not None and number != last + 1:
            self.complain("places", f"{who}: {number} after {last}")
        if report["offset"] != (number if self.channels[report["channel"]] else 0):
            self.complain("places", f"{who}: {number} at offset {report['offset']}")
        self.places[who] = number
        self.arrived += 1

    # Their own publications

    def _on_published(self, report):
        self.published.setdefault(report["channel"], []).append(report["n"])

    def _on_acknowledged(self, report):
        self.acknowledged.setdefault(report["channel"], []).append(report["n"])

    def _on_refused(self, report):
        self.complain("refused", f"{report['client']}: {report['n']}: {report['code']} "
                      f"{report['reason']}")

    # The end

    def has_all(self, tops):
        return all((place or 0) == tops[channel] for (_, channel), place in self.places.items())

    def judge_rest(self, tops, streams):
        """tops: {channel: number of its last publication}; streams: {channel of a client's own:
        [data]} as stored."""
        for (client, channel), place in self.places.items():
            if (place or 0) != tops[channel]:
                self.complain("missing", f"{client} in {channel}: {place} is the last, not "
                              f"{tops[channel]}")
        for channel, numbers in self.published.items():
            acknowledged = self.acknowledged.get(channel, [])
            if numbers != acknowledged:
                open_ones = sorted(set(numbers) - set(acknowledged))
                self.complain("missing", f"{channel}: no answer to {open_ones[:10]}")
            self._judge_stream(channel, streams.get(channel, []))

    def _judge_stream(self, channel, stream):
        by = channel.removeprefix("asked-")
        stored = [data["n"] for data in stream if data["by"] == by]
        if len(stored) != len(stream):
            self.complain("stored", f"{channel}: what {by} never published")
        if stored == self.acknowledged.get(channel, []):
            return
        acknowledged = set(self.acknowledged.get(channel, []))
        twice = sorted(number for number in set(stored) if stored.count(number) > 1)
        self.complain("stored", f"{channel}: lost {sorted(acknowledged - set(stored))[:10]}, twice "
                      f"{twice[:10]}, not acknowledged {sorted(set(stored) - acknowledged)[:10]}, "
                      f"in order {stored == sorted(stored)}")
