# SPDX-License-Identifier: ISC
"""What the clients of a primary notice that gives its addresses up, and of one that gets them again
without anybody else having had them. They say nothing for an hour, and there is no other node that
could wake them."""

import os
import signal

import pytest

from hosted import VIP4, VIP6, Hosted, client_at, is_tickle, names, redis_on, sockets
from network import Network, is_dead, wait_until

# It must not lose its role by itself on a machine with much else to do.
TIMING = {"drain": {"window": "1s"},
          "cluster": {"lease_ttl": "8s", "check_timeout": "1s", "restart_timeout": "5s"}}
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
    wait_until(node.is_ready, "it has its Redis again")
    clients = [client_at(site[3], VIP4) for _ in range(30)] + \
              [client_at(site[3], VIP6) for _ in range(10)]
    wait_until(lambda: {row["client"] for row in node.ctl_json("show", "sessions")["rows"]} ==
               {client.id for client in clients}, "they are registered, and no others")
    return clients


def all_told(clients):
    wait_until(lambda: all(map(is_dead, sockets(clients))), "every client has been told")


def looks(node):
    """How often its supervisor has asked Redis whose clients to wake."""
    return node.supervisor_log_path.read_text(errors="replace").count("event=clients_found")


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


def test_woken_when_the_addresses_were_lost(site, idle):
    """Without Redis nobody renews the lease; the node lives, and takes its clients out of the
    registry as soon as it can."""
    network, store, node, _ = site
    network.cut(store)
    wait_until(lambda: not node.host.address(VIP4) and not node.host.address(VIP6), "both are gone")
    wait_until(lambda: node.state() == "standby", "it has stepped down")
    assert not any(map(is_dead, sockets(idle))), "nothing tells them"
    sent = network.capture(node.host)
    network.plug_in(store)
    all_told(idle)
    node.wait_for("primary")
    assert names(idle) <= {(f.source, f.ports[1]) for f in sent.up_to_now() if is_tickle(f)}


def test_woken_when_the_host_lost_its_power_for_a_moment(site, idle):
    network, _, node, crowd = site
    before = looks(node)
    node.lose_power()
    node.start_again()
    sent = network.capture(node.host)
    node.wait_for("primary")
    new = [client_at(crowd, VIP4) for _ in range(10)]
    all_told(idle)
    wait_until(lambda: looks(node) > before, "it has looked for its clients of before")
    assert not any(map(is_dead, sockets(new)))
    woken = {(f.source, f.ports[1]) for f in sent.up_to_now() if is_tickle(f)}
    assert woken >= names(idle)
    for client in new:
        client.result("presence", channel="room")
