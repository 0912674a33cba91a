# SPDX-License-Identifier: ISC
"""Publishes through the HTTP API of all nodes at random moments and keeps every outcome."""

import json
import random
import threading
import time

from fault_record import Publication
from keepsock import API_KEY
from wire import http

HEADERS = {"X-API-Key": API_KEY, "Content-Type": "application/json"}
PUBLISHERS = 2
MEAN_PAUSE = 0.06


def publish(history, node, channel, mark):
    """One publication; its outcome is in the history, and returned."""
    publication = Publication(channel, mark, node.name, time.time())
    history.publications.append(publication)
    body = json.dumps({"channel": channel, "data": mark}).encode()
    try:
        answer = http(node.port, "POST", "/api/publish", HEADERS, body).json()
    except OSError:
        return publication
    result = answer.get("result", {})
    publication.epoch, publication.offset = result.get("epoch"), result.get("offset")
    publication.code = answer["error"]["code"] if "error" in answer else 0
    publication.answered = time.time()
    return publication


class Publisher:
    """Some threads for each node; all publish to all channels."""

    def __init__(self, history, nodes, channels, rng):
        self.history, self.nodes, self.channels = history, nodes, list(channels)
        self.running = True
        self.threads = []
        for node in nodes:
            for number in range(PUBLISHERS):
                seeded = random.Random(rng.getrandbits(64))
                self.threads.append(threading.Thread(
                    target=self._run, args=(node, f"{node.name}{number}", seeded), daemon=True))

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def _run(self, node, name, rng):
        number = 0
        while self.running:
            number += 1
            publish(self.history, node, rng.choice(self.channels), f"{name}-{number}")
            time.sleep(rng.expovariate(1 / MEAN_PAUSE))

    def stop(self):
        self.running = False
        for thread in self.threads:
            thread.join()

    def publish_more(self, label):
        """Some to each channel, by every node; returns {mark: channel}."""
        marks = {}
        for node in self.nodes:
            for channel in self.channels:
                for number in range(3):
                    mark = f"after-{label}-{node.name}-{channel}-{number}"
                    publish(self.history, node, channel, mark)
                    marks[mark] = channel
        return marks
