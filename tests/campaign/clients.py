# SPDX-License-Identifier: ISC
"""The processes that act as clients: the crowd of raw ones and one for each official SDK."""

import collections
import json
import os
import subprocess
import tempfile
import threading

from keepsock import API_KEY, DEADLINE, ROOT, wait_until
from sdk_judge import SdkJudge

HERE = os.path.dirname(os.path.abspath(__file__))
CLIENTS = ROOT / "tests/clients"
READY_WITHIN, READY_EACH = 90, 0.03
QUIET_WITHIN = 60


class Entrance:
    """Where clients connect: a port, by TLS if it has the path of an authority's certificate, which
    signed for localhost."""

    def __init__(self, port, authority=None):
        self.port, self.authority = port, authority and str(authority)
        scheme, host = ("wss", "localhost") if authority else ("ws", "127.0.0.1")
        self.url = f"{scheme}://{host}:{port}/connection/websocket"

    def environment(self):
        """What has Node and everybody else trust it."""
        if not self.authority:
            return {}
        return {"NODE_EXTRA_CA_CERTS": self.authority, "SSL_CERT_FILE": self.authority}


class Clients:
    """One process, whose reports a thread reads; told[what] are the latest."""

    def __init__(self, title, command, cwd, environment, **wish):
        self.title = title
        self.told = {}
        self.reports = collections.deque()
        self.errors = tempfile.TemporaryFile("w+")
        environment = os.environ | {"PYTHONPATH": str(ROOT / "tests/node"),
                                    "PYTHONDONTWRITEBYTECODE": "1"} | environment
        self.process = subprocess.Popen([*command, json.dumps(wish)], cwd=cwd, env=environment,
                                        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            report = json.loads(line)
            self.reports.append(report)
            self.told[report["what"]] = report

    def is_running(self):
        if self.process.poll() is None:
            return True
        self.errors.seek(0)
        raise AssertionError(f"{self.title} ended with {self.process.returncode}:\n"
                             f"{self.errors.read()[-3000:]}")

    def wait_for(self, what, deadline):
        return wait_until(lambda: self.is_running() and self.told.get(what),
                          f"{self.title}: {what}", deadline)

    def wait_ready(self, clients=0):
        """Handshakes of thousands take their time."""
        self.wait_for("ready", READY_WITHIN + clients * READY_EACH)
        return self

    def say(self, word):
        if self.is_running():
            self.process.stdin.write(word + "\n")
            self.process.stdin.flush()

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(DEADLINE)
        finally:
            self.process.kill()
            self.process.wait()
            self.reader.join()
            self.process.stdout.close()
            self.errors.close()


class Crowd(Clients):
    """members raw clients that subscribe to two of the channels each, and who publishes to those at
    a steady rate (crowd.py)."""

    def __init__(self, entrance, seed, members, rate, channels):
        super().__init__("the crowd", ["/usr/bin/python3", "crowd.py"], HERE, {},
                         port=entrance.port, authority=entrance.authority, key=API_KEY, seed=seed,
                         members=members, rate=rate, channels=channels)
        self.complaints = []

    def judge(self):
        while self.reports:
            report = self.reports.popleft()
            if report["what"] == "wrong":
                self.complaints.append((report["rule"], report["text"]))
        return self.complaints

    def settle(self):
        """Nothing more is sent, and all has arrived or is complained of; returns the last word."""
        self.say("enough")
        return self.wait_for("quiet", QUIET_WITHIN)

    def gap(self):
        """The longest time a publication took to a member since this was asked last, in seconds."""
        self.told.pop("gap", None)
        self.say("gap")
        return self.wait_for("gap", DEADLINE)["seconds"]


class SdkClients(Clients):
    """Clients of one SDK at default settings (tests/clients/campaign_clients.mjs and its like)."""

    def __init__(self, name, command, cwd, entrance, **wish):
        super().__init__(f"the {name} clients", command, cwd, entrance.environment(), name=name,
                         url=entrance.url, **wish)
        self.judged = SdkJudge(wish["channels"])

    def judge(self):
        while self.reports:
            self.judged.take(self.reports.popleft())
        return self.judged.complaints

    def have_all(self, tops):
        self.judge()
        return self.judged.has_all(tops)

    def acknowledged(self):
        return sum(map(len, self.judged.acknowledged.values()))


def python():
    found = ROOT / "var/python/bin/python"
    assert found.exists(), f"{found} is missing: tools/check makes it, with the Python SDK in it"
    return str(found)


def go_program(directory):
    """Builds the Go SDK's clients."""
    path = f"{directory}/campaign-go"
    subprocess.run(["go", "build", "-o", path, "./campaign"], cwd=CLIENTS / "go", check=True)
    return path


def sdk_clients(directory, counts, entrance, rate, channels):
    """Starts counts = {"js": …, "go": …, "py": …} clients, which all together publish at that rate,
    and waits until they have subscribed."""
    commands = {
        "js": (["node", "campaign_clients.mjs"], CLIENTS),
        "go": ([go_program(directory)], CLIENTS),
        "py": ([python(), "campaign_clients.py"], CLIENTS / "python"),
    }
    total = sum(counts.values())
    started = [SdkClients(name, *commands[name], entrance, clients=count,
                          rate=rate * count / total, channels=channels)
               for name, count in counts.items()]
    return [clients.wait_ready() for clients in started]
