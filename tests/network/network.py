# SPDX-License-Identifier: ISC
"""A switch with hosts on it, each a network namespace, and what tests do there.

`Network` makes and removes the namespaces. Sockets of any namespace are made with
`Host.socket()` and used from the test itself; `Capture` sees what passes one port of the switch.
"""

import ctypes
import errno
import itertools
import json
import os
import select
import signal
import socket
import struct
import subprocess
import threading
import time

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
NAMES = itertools.count(1)
PATIENCE = 30


def run(*command, check=True):
    done = subprocess.run(command, env={**os.environ, "PATH": PATH}, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def why_not():
    """What this machine lacks for namespaces, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "nft"):
        if not any(os.access(f"{place}/{tool}", os.X_OK) for place in PATH.split(":")):
            return f"{tool} is missing"
    name = f"ks{os.getpid()}-try"
    try:
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        run("ip", "netns", "exec", name, "nft", "add", "table", "inet", "try")
    except RuntimeError as error:
        return f"network namespaces do not work here: {error}"
    finally:
        run("ip", "netns", "del", name, check=False)
    return None


def boottime_ms():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000000


def wait_until(condition, what, patience=PATIENCE):
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.005)


def in_namespace(name, function):
    """The result of function(), run by a thread that is in the namespace."""
    result = []

    def body():
        handle = os.open(f"/run/netns/{name}", os.O_RDONLY)
        try:
            if LIBC.setns(handle, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            result.append(("value", function()))
        except BaseException as error:  # pylint: disable=broad-except
            result.append(("error", error))
        finally:
            os.close(handle)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    kind, value = result[0]
    if kind == "error":
        raise value
    return value


class Host:
    """A namespace with one interface, eth0."""

    def __init__(self, network, name, number):
        self.network, self.name, self.number = network, f"{network.name}-{name}", number
        self.port = f"port{number}"
        self.ipv4, self.ipv6 = f"10.9.0.{number}", f"fd09::{number}"
        self.mac = f"02:09:00:00:00:{number:02x}"
        self.build()

    def build(self):
        """Makes it; again after remove(), with nothing left of what it was."""
        network = self.network
        run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        run("ip", "-n", network.switch, "link", "add", self.port, "type", "veth",
            "peer", "name", "eth0", "address", self.mac, "netns", self.name)
        run("ip", "-n", network.switch, "link", "set", self.port, "master", "br0", "up")
        self.ip("link", "set", "eth0", "up")
        self.ip("addr", "add", f"{self.ipv4}/24", "dev", "eth0")
        self.ip("addr", "add", f"{self.ipv6}/64", "dev", "eth0", "nodad")

    def command(self, *words):
        """A command line that runs there."""
        return ["ip", "netns", "exec", self.name, *words]

    def pids(self):
        return [int(pid) for pid in run("ip", "netns", "pids", self.name, check=False).split()]

    def signal_all(self, number):
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def lose_power(self):
        """Nobody has a last word, and no packet gets out; until build()."""
        self.signal_all(signal.SIGSTOP)
        run("ip", "-n", self.network.switch, "link", "del", self.port)
        while self.pids():
            self.signal_all(signal.SIGKILL)
        self.remove()

    def ip(self, *words):
        return run("ip", "-n", self.name, *words)

    def nft(self, *words):
        return run("ip", "netns", "exec", self.name, "nft", *words)

    def read(self, path):
        return run("ip", "netns", "exec", self.name, "cat", path)

    def address(self, address):
        """What `ip` says of the address, or None."""
        for interface in json.loads(self.ip("-j", "addr", "show")):
            for info in interface.get("addr_info", []):
                if info.get("local") == address:
                    return {**info, "interface": interface["ifname"]}
        return None

    def socket(self, family, kind=socket.SOCK_STREAM, protocol=0):
        return in_namespace(self.name, lambda: socket.socket(family, kind, protocol))

    def listen(self, address, port, family=None):
        family = family or (socket.AF_INET6 if ":" in address else socket.AF_INET)
        listener = self.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address, port))
        listener.listen(4096)
        listener.settimeout(PATIENCE)
        return listener

    def connect(self, address, port):
        connection = self.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        connection.settimeout(PATIENCE)
        connection.connect((address, port))
        return connection

    def neighbour(self, address):
        """The hardware address this host sends to for a neighbour's address, or None."""
        for entry in json.loads(self.ip("-j", "neigh", "show", "to", address) or "[]"):
            return entry.get("lladdr")
        return None

    def remove(self):
        run("ip", "netns", "del", self.name, check=False)


class Network:
    def __init__(self):
        self.name = f"ks{os.getpid()}-{next(NAMES)}"
        self.switch = f"{self.name}-switch"
        self.hosts, self.captures = [], []
        run("ip", "netns", "add", self.switch)
        run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge",
            "forward_delay", "0", "mcast_snooping", "0")
        run("ip", "-n", self.switch, "link", "set", "br0", "up")

    def host(self, name):
        self.hosts.append(Host(self, name, len(self.hosts) + 1))
        return self.hosts[-1]

    def capture(self, host):
        self.captures.append(Capture(self.switch, host))
        return self.captures[-1]

    def cut(self, host):
        """Takes the host off the switch, as if its power were gone."""
        run("ip", "-n", self.switch, "link", "set", host.port, "down")

    def plug_in(self, host):
        run("ip", "-n", self.switch, "link", "set", host.port, "up")

    def lose(self, *ways):
        """From now on the switch loses what goes from the first to the second of each pair of
        hosts, and nothing else."""
        rules = "".join(f'iifname "{source.port}" oifname "{target.port}" drop\n'
                        for source, target in ways)
        run("ip", "netns", "exec", self.switch, "nft",
            "table bridge lose {}\ndelete table bridge lose\ntable bridge lose {\nchain ways {\n"
            f"type filter hook forward priority 0\n{rules}}}\n}}")

    def close(self):
        for capture in self.captures:
            capture.close()
        for host in self.hosts:
            host.remove()
        run("ip", "netns", "del", self.switch, check=False)


class Frame:
    """An Ethernet frame; source is the IP source or an ARP's or advertisement's sender."""

    def __init__(self, data):
        self.target_mac, self.source_mac = (data[at:at + 6].hex(":") for at in (0, 6))
        self.type, = struct.unpack_from("!H", data, 12)
        self.payload = data[14:]
        self.source, self.kind = None, "other"
        if self.type == 0x0800 and len(self.payload) >= 20:
            self._ip(socket.AF_INET, 12, 9, 4 * (self.payload[0] & 15))
        elif self.type == 0x86DD and len(self.payload) >= 40:
            self._ip(socket.AF_INET6, 8, 6, 40)
        elif self.type == 0x0806 and len(self.payload) >= 28:
            self.kind = {1: "arp-request", 2: "arp-reply"}[self.payload[7]]
            self.source = socket.inet_ntop(socket.AF_INET, self.payload[14:18])
            self.arp_target = socket.inet_ntop(socket.AF_INET, self.payload[24:28])

    def _ip(self, family, source_at, protocol_at, header):
        size = 4 if family == socket.AF_INET else 16
        self.source = socket.inet_ntop(family, self.payload[source_at:source_at + size])
        self.inner = self.payload[header:]
        protocol = self.payload[protocol_at]
        self.kind = {6: "tcp", 17: "udp", 58: "icmp6"}.get(protocol, "ip")
        if protocol == 6:
            self.ports = struct.unpack_from("!HH", self.inner, 0)
            self.flags = self.inner[13]
        elif protocol == 58 and self.inner[0] == 136:
            self.kind = "advertisement"

    def __repr__(self):
        return f"<{self.kind} {self.source} by {self.source_mac}>"


class Capture:
    """What the host sends into the switch, from now on."""

    def __init__(self, switch, host):
        def make():
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            sock.bind((host.port, 3))  # ETH_P_ALL
            return sock

        self.host = host
        self.socket = in_namespace(switch, make)
        self.frames = []

    def read(self):
        """Every frame so far."""
        while select.select([self.socket], [], [], 0)[0]:
            data, address = self.socket.recvfrom(65536)
            if address[2] != socket.PACKET_OUTGOING:
                self.frames.append(Frame(data))
        return self.frames

    def wait(self, condition, what):
        return wait_until(lambda: next((f for f in self.read() if condition(f)), None), what)

    def up_to_now(self):
        """Every frame the host sent before this call: one of the test's own marks the end."""
        port = 20000 + next(NAMES)
        marker = self.host.socket(socket.AF_INET, socket.SOCK_DGRAM)
        marker.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        marker.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        marker.sendto(b"", ("255.255.255.255", port))
        marker.close()
        self.wait(lambda f: f.kind == "udp" and struct.unpack_from("!H", f.inner, 2)[0] == port,
                  "the test's own frame")
        return self.frames

    def close(self):
        self.socket.close()


def is_dead(connection):
    """Whether the kernel has told the socket's owner that its connection is over."""
    try:
        connection.setblocking(False)
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError as error:
        return errno.errorcode[error.errno]
