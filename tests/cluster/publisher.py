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


def begin(history, channel, mark, by):
    """A publication whose outcome nobody knows yet; it is in the history."""
    publication = Publication(channel, mark, by, time.time())
    history.publications.append(publication)
    return publication


def end(publication, answer):
    """With the API's answer; returns it."""
    result = answer.get("result", {})
    publication.epoch, publication.offset = result.get("epoch"), result.get("offset")
    publication.code = answer["error"]["code"] if "error" in answer else 0
    publication.answered = time.time()
    return publication


def request_of(publication):
    return json.dumps({"channel": publication.channel, "data": publication.mark}).encode()


def publish(history, node, channel, mark):
    """One publication; its outcome is in the history, and returned."""
    publication = begin(history, channel, mark, node.name)
    try:
        answer = http(node.port, "POST", "/api/publish", HEADERS, request_of(publication)).json()
    except OSError:
        return publication
    return end(publication, answer)


class Publishers:
    """A thread for each name, which publishes to all channels until it is stopped."""

    def __init__(self, history, names, channels, rng, mean_pause):
        self.history, self.channels, self.mean_pause = history, list(channels), mean_pause
        self.running = True
        self.threads = [threading.Thread(target=self._run, daemon=True,
                                         args=(name, random.Random(rng.getrandbits(64))))
                        for name in names]

    def prepare(self):
        """What a thread begins with."""

    def publish(self, name, channel, mark):
        """One publication by that name."""
        raise NotImplementedError

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def _run(self, name, rng):
        self.prepare()
        number = 0
        while self.running:
            number += 1
            self.publish(name, rng.choice(self.channels), f"{name}-{number}")
            time.sleep(rng.expovariate(1 / self.mean_pause))

    def stop(self):
        self.running = False
        for thread in self.threads:
            thread.join()


class Publisher(Publishers):
    """Some threads for each node."""

    def __init__(self, history, nodes, channels, rng):
        self.nodes = list(nodes)
        self.by_name = {f"{node.name}{number}": node
                        for node in self.nodes for number in range(PUBLISHERS)}
        super().__init__(history, self.by_name, channels, rng, MEAN_PAUSE)

    def publish(self, name, channel, mark):
        publish(self.history, self.by_name[name], channel, mark)

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
