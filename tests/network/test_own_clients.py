# SPDX-License-Identifier: ISC
"""What the clients of a primary notice that gives its addresses up, and of one that gets them again
without anybody else having had them. They say nothing for an hour, and there is no other node that
could wake them."""

import os
import signal

import pytest

from hosted import VIP4, VIP6, Hosted, client_at, is_tickle, names, redis_on, sockets
from network import Network, is_dead, wait_until

TIMING = {"cluster": {"lease_ttl": "4s", "check_timeout": "1s", "restart_timeout": "5s"}}
RST = 4


@pytest.fixture(scope="module")
def site():
    """(network, Redis's host, the node, the clients' host)"""
    network = Network()
    try:
        store, crowd = network.host("redis"), network.host("client")
        with redis_on(store) as url:
            node = Hosted(network.host("a"), [], url, **TIMING)
            node.supervise()
            yield network, store, node, crowd
            node.end()
            node.remove()
    finally:
        network.close()


@pytest.fixture
def idle(site):
    """Clients of the primary, in the registry."""
    node = site[2]
    node.wait_for("primary")
    clients = [client_at(site[3], VIP4) for _ in range(30)] + \
              [client_at(site[3], VIP6) for _ in range(10)]
    wait_until(lambda: len(node.ctl_json("show", "sessions")["rows"]) == 40, "all are registered")
    return clients


def all_told(clients):
    wait_until(lambda: all(map(is_dead, sockets(clients))), "every client has been told")


def test_told_when_the_node_fails(site, idle):
    """The node hangs; its supervisor, which has the lease, steps down."""
    network, _, node, _ = site
    sent = network.capture(node.host)
    for pid in node.node_processes():
        os.kill(pid, signal.SIGSTOP)
    all_told(idle)
    assert {is_dead(socket) for socket in sockets(idle)} <= {"ECONNRESET", "EPIPE", True}
    frames = [f for f in sent.up_to_now() if f.kind == "tcp" and f.source in (VIP4, VIP6)]
    assert {(f.source, f.ports[1]) for f in frames if f.flags & RST} == names(idle)
    assert not any(map(is_tickle, frames))
