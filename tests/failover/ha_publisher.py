# SPDX-License-Identifier: ISC
"""Publishes from the client's host, by the address and by each node's own, and keeps every
outcome."""

import http.client
import json
import os
import random
import threading
import time

from fault_record import Publication
from keepsock import API_KEY, wait_until
from network import CLONE_NEWNET, LIBC

PATIENCE = 4
MEAN_PAUSE = 0.12
PORT = 8000


def enter(host):
    """The calling thread goes into the host's namespace, and stays there."""
    handle = os.open(f"/run/netns/{host.name}", os.O_RDONLY)
    try:
        assert LIBC.setns(handle, CLONE_NEWNET) == 0
    finally:
        os.close(handle)


def publish(history, name, address, channel, mark, patience=PATIENCE):
    """One publication; its outcome is in the history, and returned."""
    publication = Publication(channel, mark, name, time.time())
    history.publications.append(publication)
    connection = http.client.HTTPConnection(address, PORT, timeout=patience)
    try:
        connection.request("POST", "/api/publish", json.dumps({"channel": channel, "data": mark}),
                           {"X-API-Key": API_KEY, "Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read()) if response.status == 200 else \
            {"error": {"code": response.status}}
    except (OSError, http.client.HTTPException):
        return publication
    finally:
        connection.close()
    result = answer.get("result", {})
    publication.epoch, publication.offset = result.get("epoch"), result.get("offset")
    publication.code = answer["error"]["code"] if "error" in answer else 0
    publication.answered = time.time()
    return publication


class HaPublisher:
    """A thread for each place, {name: address}; "vip" is the address that moves."""

    def __init__(self, history, host, places, channels, rng):
        self.history, self.host, self.places = history, host, places
        self.channels = list(channels)
        self.running = True
        self.threads = [threading.Thread(target=self._run, daemon=True,
                                         args=(name, random.Random(rng.getrandbits(64))))
                        for name in places]

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def _run(self, name, rng):
        enter(self.host)
        number = 0
        while self.running:
            number += 1
            publish(self.history, name, self.places[name], rng.choice(self.channels),
                    f"{name}-{number}")
            time.sleep(rng.expovariate(1 / MEAN_PAUSE))

    def stop(self):
        self.running = False
        for thread in self.threads:
            thread.join()

    def publish_more(self, label, patience):
        """One to each channel, by the address, and again until it is acknowledged; returns
        {mark: channel} of the acknowledged ones."""
        marks = {}

        def body():
            enter(self.host)
            for channel in self.channels:
                attempts = iter(range(1000000))

                def acknowledged(channel=channel, attempts=attempts):
                    mark = f"after-{label}-{channel}-{next(attempts)}"
                    p = publish(self.history, "vip", self.places["vip"], channel, mark)
                    return mark if p.acknowledged else None

                try:
                    marks[wait_until(acknowledged, "", patience, 0.1)] = channel
                except AssertionError:
                    return

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        return marks
