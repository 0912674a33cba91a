# SPDX-License-Identifier: ISC
"""What a worker's memory comes back to after it had much to do."""

import os

import pytest

from keepsock import wait_until

LARGE = 12 << 20
# The arena keeps 64 pages of 64 KiB, and there is what is always there.
SLACK = 10 << 20


def resident(pid):
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def start_frugal_node(monkeypatch, start_node):
    """One whose sanitizer, if it has one, keeps no freed memory back."""
    options = os.environ.get("ASAN_OPTIONS", "")
    frugal = "quarantine_size_mb=0:thread_local_quarantine_size_kb=0"
    monkeypatch.setenv("ASAN_OPTIONS", f"{options}:{frugal}" if options else frugal)
    return start_node


def test_memory_of_a_large_publication_is_given_back(start_frugal_node, make_client):
    """A dozen buffers of a worker come to hold it in one form or another."""
    node = start_frugal_node(node={"workers": 1}, http={"body_size_limit": LARGE + 4096},
                             client={"queue_max_size": 2 * LARGE},
                             websocket={"compression": True})
    clients = [make_client(node, deflate=deflate) for deflate in (False, True)]
    for client in clients:
        client.result("subscribe", channel="large")
    pid = node.workers()[0]
    before = resident(pid)
    node.publish("large", "x" * LARGE)
    for client in clients:
        client.publication("large")
    node.api("history_remove", channel="large")
    wait_until(lambda: resident(pid) < before + SLACK, "the worker has given its memory back")
    # What is left serves as before.
    node.publish("large", "small")
    for client in clients:
        assert client.publication("large")["data"] == "small"
