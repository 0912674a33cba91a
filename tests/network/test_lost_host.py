# SPDX-License-Identifier: ISC
"""A host that holds the primary loses its power: what the clients it leaves behind, who say nothing
for an hour, notice of it, and what becomes of their presence and sessions."""

import pytest

from hosted import VIP4, VIP6, Hosted, client_at, is_tickle, names, redis_on, sockets
from network import is_dead, wait_until

RATE = 50
# The pair must not change sides by itself on a machine with much else to do.
NEAR = {"cluster": {"lease_ttl": "8s", "tickle_rate": RATE}}


@pytest.fixture
def redis(network):
    with redis_on(network.host("redis")) as url:
        yield url


@pytest.fixture
def pair(network, redis):
    """The primary and its standby."""
    hosts = network.host("a"), network.host("b")
    nodes = [Hosted(hosts[0], hosts[1:], redis, **NEAR), Hosted(hosts[1], hosts[:1], redis, **NEAR)]
    for node in nodes:
        node.supervise()
    wait_until(lambda: sorted(str(node.state()) for node in nodes) == ["primary", "standby"],
               "one primary, one standby", 90)
    primary = next(node for node in nodes if node.state() == "primary")
    standby = next(node for node in nodes if node is not primary)
    wait_until(lambda: standby.status()["node_up"], "the standby's node is up")
    yield primary, standby
    for node in nodes:
        node.end()
        node.remove()


def test_idle_clients_are_woken_and_presence_is_gone(network, pair):
    lost, heir = pair
    crowd = network.host("client")
    clients = [client_at(crowd, VIP4) for _ in range(60)] + \
              [client_at(crowd, VIP6) for _ in range(20)]
    wait_until(lambda: len(lost.call("presence", channel="room")["result"]["presence"]) == 80,
               "all are present")
    wait_until(lambda: len(lost.ctl_json("show", "sessions")["rows"]) == 80,
               "all are registered")
    sent = network.capture(heir.host)
    lost.power_off()
    assert not any(map(is_dead, sockets(clients)))
    heir.wait_for("primary")
    wait_until(lambda: all(map(is_dead, sockets(clients))), "every client has been told")
    assert {is_dead(socket) for socket in sockets(clients)} <= {"ECONNRESET", True, "EPIPE"}
    presence = heir.call("presence", channel="room")["result"]["presence"]
    assert presence == {}, "only the clients of the lost host were there"
    assert heir.ctl_json("show", "sessions")["rows"] == []
    assert "event=purged" in heir.logs()
    wait_until(lambda: heir.said("show", "metrics")["clients_woken_total"] == 80, "all counted")
    assert {(f.source, f.ports[1]) for f in sent.up_to_now() if is_tickle(f)} == names(clients)
