# SPDX-License-Identifier: ISC
"""Publishes from the client's host, by the address and by each node's own, and keeps every
outcome."""

import http.client
import json
import os
import threading

from keepsock import wait_until
from network import CLONE_NEWNET, LIBC
from publisher import HEADERS, Publishers, begin, end, request_of

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
    publication = begin(history, channel, mark, name)
    connection = http.client.HTTPConnection(address, PORT, timeout=patience)
    try:
        connection.request("POST", "/api/publish", request_of(publication), HEADERS)
        response = connection.getresponse()
        answer = json.loads(response.read()) if response.status == 200 else \
            {"error": {"code": response.status}}
    except (OSError, http.client.HTTPException):
        return publication
    finally:
        connection.close()
    return end(publication, answer)


class HaPublisher(Publishers):
    """A thread for each place, {name: address}; "vip" is the address that moves."""

    def __init__(self, history, host, places, channels, rng):
        self.host, self.places = host, places
        super().__init__(history, places, channels, rng, MEAN_PAUSE)

    def prepare(self):
        enter(self.host)

    def publish(self, name, channel, mark):
        publish(self.history, name, self.places[name], channel, mark)

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
