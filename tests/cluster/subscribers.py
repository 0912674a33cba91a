# SPDX-License-Identifier: ISC
"""SDK clients in a process of their own (tests/clients/fault_subscribers.mjs), whose reports become
a History."""

import json
import subprocess
import tempfile
import threading

from fault_record import Command, Event, Subscription
from keepsock import DEADLINE, ROOT, wait_until

CLIENTS = ROOT / "tests/clients"


class Subscribers:
    """nodes: {name: port or URL}. channels: {name: whether it has positions}. ask: a
    channel, or None. before: words before the command line."""

    def __init__(self, history, nodes, channels, clients, ask, before=()):
        self.history, self.channels = history, channels
        self.ready = False
        self.commands = {}
        self.strange = []
        self.quiet = False
        self.taken_away = 0  # how often a subscription was
        self.received = set()  # (client, channel, mark)
        what = {"nodes": nodes, "clients": clients, "channels": list(channels), "ask": ask,
                "pause": 400}
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [*before, "node", "fault_subscribers.mjs", json.dumps(what)], cwd=CLIENTS, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def wait_ready(self):
        wait_until(lambda: self.ready or self.process.poll() is not None, "all have subscribed")
        self._assert_running()
        return self

    def _assert_running(self):
        assert self.process.poll() is None, \
            f"the clients ended with {self.process.returncode}:\n{self._said()}"

    def _said(self):
        self.errors.seek(0)
        return self.errors.read()

    def all_subscribed(self):
        """Whether nobody is on the way back from a loss that was announced."""
        return all(subscription.events[-1].what not in ("subscribing", "unsubscribed")
                   for subscription in self.history.subscriptions.values())

    def have(self, marks):
        """Whether all subscribers of their channels have these publications; {mark: channel}."""
        return all((client, channel, mark) in self.received
                   for mark, wanted in marks.items()
                   for client, channel in self.history.subscriptions if channel == wanted)

    def ask_no_more(self):
        """No new commands; quiet is set when all have come to something."""
        self._assert_running()
        self.process.stdin.write("enough\n")
        self.process.stdin.flush()

    def stop(self):
        """Ends the clients; what they told until then is in the history."""
        if self.process.poll() is None:
            self.process.stdin.close()
        assert self.process.wait(DEADLINE) == 0, self._said()
        self.reader.join()
        self.process.stdout.close()
        self.errors.close()
        assert not self.strange, self.strange[:3]

    def _read(self):
        for line in self.process.stdout:
            report = json.loads(line)
            handler = getattr(self, "_on_" + report["what"].replace(" ", "_"), None)
            if handler:
                handler(report)
            elif "channel" in report:
                self._on_subscription(report)
            else:
                self.strange.append(line)

    def _on_ready(self, _):
        self.ready = True

    def _on_quiet(self, _):
        self.quiet = True

    # Connections. The SDK's first `connecting` is the one we wanted.

    def _on_connecting(self, report):
        if report["code"] != 0:
            self._on_connected(report)

    def _on_connected(self, report):
        self.history.connections.append((report["at"], report["client"], report["what"],
                                         report.get("code"), report.get("reason")))

    _on_disconnected = _on_error = _on_connected

    # Commands

    def _on_asked(self, report):
        command = Command(report["node"], report["kind"], report["at"])
        self.commands[report["number"]] = command
        self.history.commands.append(command)

    def _on_answered(self, report):
        command = self.commands.pop(report["number"])
        command.answered, command.code = report["at"], report["code"]

    def _on_wanted(self, report):
        self.history.wanted[report["channel"]] = False

    def _on_came_through(self, report):
        self.history.wanted[report["channel"]] = True

    # Subscriptions

    def _on_subscription(self, report):
        what, channel = report["what"], report["channel"]
        if what == "subscribing" and report["code"] == 0:
            return
        key = report["client"], channel
        subscription = self.history.subscriptions.setdefault(
            key, Subscription(report["client"], report["node"], channel, self.channels[channel]))
        event = Event(report["at"], what, report.get("code"), report.get("epoch"),
                      report.get("offset"), report.get("wasRecovering", False),
                      report.get("recovered", False), report.get("data"))
        subscription.events.append(event)
        if what == "subscribing":
            self.taken_away += 1
        if event.mark:
            self.received.add((*key, event.mark))
