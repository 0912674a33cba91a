# SPDX-License-Identifier: ISC
"""A host that holds the primary loses its power: what the clients it leaves behind, who say nothing
for an hour, notice of it, and what becomes of their presence and sessions."""

import os
import shutil
import signal
import subprocess
import tempfile

import pytest

from client import Client
from network import PATH, in_namespace, is_dead, wait_until
from pair import Supervised, supervisor_binary
from wire import Http

VIP4, VIP6 = "10.9.0.100", "fd09::100"
PORT, PEER_PORT = 8000, 8500
RATE = 50
NEAR = {"node": {"workers": 2},
        "listeners": [{"address": "0.0.0.0", "port": PORT}, {"address": "::", "port": PORT}],
        # No word of their own tells them.
        "client": {"ping_interval": "1h"},
        # The pair must not change sides by itself on a machine with much else to do.
        "cluster": {"lease_ttl": "8s", "vip": [f"{VIP4}/32", f"{VIP6}/128"], "vip_interface": "eth0",
                    "tickle_rate": RATE}}


class Hosted(Supervised):
    """A supervisor and its node on a host."""

    def __init__(self, host, other, redis):
        names = [h.name.rsplit("-", 1)[1] for h in (host, other)]
        peers = {"peers": [f"{names[1]}={other.ipv4}:{PEER_PORT}"],
                 "peer_listen": f"{host.ipv4}:{PEER_PORT}"}
        super().__init__(names[0], PEER_PORT, {}, redis,
                         **{**NEAR, "cluster": {**NEAR["cluster"], **peers}})
        self.host = host

    def supervise(self):
        with open(self.supervisor_log_path, "ab") as log:
            self.supervisor = subprocess.Popen(
                ["ip", "netns", "exec", self.host.name, supervisor_binary(), "-c",
                 str(self.config)], env={**os.environ, "PATH": PATH}, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True)
        self.sessions.append(self.supervisor.pid)
        return self

    def call(self, method, **body):
        return in_namespace(self.host.name, lambda: self.api(method, **body))

    def power_off(self):
        self.host.network.cut(self.host)
        self.signal_all(signal.SIGSTOP)
        self.kill_everybody()
        self.supervisor.wait()


@pytest.fixture
def redis(network):
    host = network.host("redis")
    directory = tempfile.mkdtemp(prefix="keepsock-")
    server = subprocess.Popen(
        ["ip", "netns", "exec", host.name, "redis-server", "--bind", host.ipv4, "--port", "6379",
         "--protected-mode", "no", "--save", "", "--dir", directory, "--loglevel", "warning"],
        env={**os.environ, "PATH": PATH}, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    yield f"redis://{host.ipv4}:6379"
    server.kill()
    server.wait()
    shutil.rmtree(directory)


@pytest.fixture
def pair(network, redis):
    """The primary and its standby."""
    hosts = network.host("a"), network.host("b")
    nodes = [Hosted(hosts[0], hosts[1], redis), Hosted(hosts[1], hosts[0], redis)]
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


def client_at(host, address):
    """A client that is present in a channel."""
    stream = in_namespace(host.name, lambda: Http(PORT, host=address))
    client = Client(PORT, stream=stream)
    client.local_port = stream.socket.getsockname()[1]
    client.result("subscribe", channel="room", join_leave=True)
    return client


def sockets(clients):
    return [client.websocket.stream.socket for client in clients]


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
    tickles = [f for f in sent.up_to_now() if f.kind == "tcp" and f.source in (VIP4, VIP6)
               and f.flags == 0x10 and f.ports[0] == PORT]
    woken = {(f.source, f.ports[1]) for f in tickles}
    assert woken == {(VIP4 if client.websocket.stream.socket.family == 2 else VIP6,
                      client.local_port) for client in clients}
