# SPDX-License-Identifier: ISC
"""Supervised nodes on hosts of a Network, with addresses that follow the primary, and their clients."""

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager

from client import Client
from keepsock import merge
from network import PATH, in_namespace
from pair import Supervised
from wire import Http

VIP4, VIP6 = "10.9.0.100", "fd09::100"
PORT, PEER_PORT = 8000, 8500
SETTINGS = {"node": {"workers": 2},
            "listeners": [{"address": "0.0.0.0", "port": PORT}, {"address": "::", "port": PORT}],
            # No word of their own tells them.
            "client": {"ping_interval": "1h"},
            "cluster": {"vip": [f"{VIP4}/32", f"{VIP6}/128"], "vip_interface": "eth0"}}


class Hosted(Supervised):
    """A supervisor and its node on a host; others: the hosts of its peers."""

    def __init__(self, host, others, redis, /, **overrides):
        def name(of):
            return of.name.rsplit("-", 1)[1]

        peers = {"peers": [f"{name(other)}={other.ipv4}:{PEER_PORT}" for other in others],
                 "peer_listen": f"{host.ipv4}:{PEER_PORT}"}
        super().__init__(name(host), PEER_PORT, {}, redis,
                         **merge(merge(SETTINGS, {"cluster": peers}), overrides))
        self.host = host
        self.before = host.command()
        self.environment = {**os.environ, "PATH": PATH}

    def call(self, method, **body):
        return in_namespace(self.host.name, lambda: self.api(method, **body))

    def is_ready(self):
        """All of its workers are."""
        return in_namespace(self.host.name, self.metrics)["keepsock_ready"] == 1

    def power_off(self):
        """The host stays, with its addresses: nobody looks at it any more."""
        self.host.network.cut(self.host)
        self.signal_all(signal.SIGSTOP)
        self.kill_everybody()
        self.supervisor.wait()

    def lose_power(self):
        self.host.lose_power()
        self.supervisor.wait()

    def start_again(self):
        """What was in memory is gone: the run directory is one of a tmpfs."""
        self.host.build()
        shutil.rmtree(self.directory / "run", ignore_errors=True)
        self.supervise()


@contextmanager
def redis_on(host):
    """Its URL."""
    directory = tempfile.mkdtemp(prefix="keepsock-")
    server = subprocess.Popen(
        host.command("redis-server", "--bind", host.ipv4, "--port", "6379", "--protected-mode",
                     "no", "--save", "", "--dir", directory, "--loglevel", "warning"),
        env={**os.environ, "PATH": PATH}, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    yield f"redis://{host.ipv4}:6379"
    server.kill()
    server.wait()
    shutil.rmtree(directory)


def client_at(host, address):
    """A client that is present in a channel."""
    stream = in_namespace(host.name, lambda: Http(PORT, host=address))
    client = Client(PORT, stream=stream)
    client.local_port = stream.socket.getsockname()[1]
    client.address = address
    client.result("subscribe", channel="room", join_leave=True)
    return client


def sockets(clients):
    return [client.websocket.stream.socket for client in clients]


def names(clients):
    """Their ends of the connections, as (address they came to, port)."""
    return {(client.address, client.local_port) for client in clients}


def is_tickle(frame):
    """An ACK from one of the addresses, without anything else."""
    return frame.kind == "tcp" and frame.source in (VIP4, VIP6) and frame.flags == 0x10 and \
        frame.ports[0] == PORT
