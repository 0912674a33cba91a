# SPDX-License-Identifier: ISC
"""Watches a pair from outside: which host's frames bear the addresses, which host has them, and what
the supervisors' logs say of their states."""

import re
import select
import socket
import struct
import threading
import time
from datetime import datetime

from ha_record import Address, Change, Frame
from network import Frame as Packet
from network import in_namespace

SO_TIMESTAMPNS = 35
PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC, SOL_PACKET, ETH_P_ALL = 1, 1, 263, 3
RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x10, 0x100
RTM_NEWADDR, RTM_DELADDR, IFA_ADDRESS = 20, 21, 1
# What the tests make clocks jump by is a multiple of this.
JUMP = 600
# Longer than a supervisor waits between two renewals of its lease.
STALL = 0.5
STATE = re.compile(r'^time=(?:"([^"]+)"|(\S+)).* event=state change=(\w+)->(\w+) '
                   r'reason=("(?:[^"\\]|\\.)*"|\S+) epoch=(\d+)')


class Watch:
    """hosts: {name: Host}. One thread reads everything."""

    def __init__(self, history, network, hosts, addresses):
        self.history, self.hosts, self.addresses = history, hosts, addresses
        self.names = {host.mac: name for name, host in hosts.items()}
        self.bridge = in_namespace(network.switch, lambda: self._open_bridge())
        self.events, self.there = {}, {}
        self.running, self.failure = True, None
        self.lock = threading.Lock()
        for name in hosts:
            self.open_host(name)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @staticmethod
    def _open_bridge():
        """Everything that the switch forwards passes it, whether it arrives or is lost."""
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        index = socket.if_nametoindex("br0")
        sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP,
                        struct.pack("iHH8s", index, PACKET_MR_PROMISC, 0, b""))
        sock.bind(("br0", ETH_P_ALL))
        return sock

    def open_host(self, name):
        """From its start on; a namespace with a socket of ours would not end."""
        def make():
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            sock.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
            return sock

        made = in_namespace(self.hosts[name].name, make)
        with self.lock:
            self.events[name] = made

    def close_host(self, name):
        """It is about to lose its power."""
        with self.lock:
            self._read_events(name)
            self.events.pop(name).close()
        for address in self.addresses:
            self._note(name, address, False)

    def _note(self, name, address, there):
        """A renewal is an event, too."""
        if self.there.get((name, address), False) != there:
            self.there[name, address] = there
            self.history.addresses.append(Address(time.time(), name, there, address))

    def _run(self):
        try:
            while self.running:
                self.look()
        except Exception as failure:  # pylint: disable=broad-except
            self.failure = failure

    def look(self, timeout=0.05):
        with self.lock:
            sockets = [self.bridge, *self.events.values()]
        for sock in select.select(sockets, [], [], timeout)[0]:
            if sock is self.bridge:
                self._read_frames()
        with self.lock:
            for name in self.events:
                self._read_events(name)

    def _read_frames(self):
        while select.select([self.bridge], [], [], 0)[0]:
            data, ancillary, *_ = self.bridge.recvmsg(2048, 64)
            packet = Packet(data)
            if packet.source not in self.addresses:
                continue
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
            name = self.names.get(packet.source_mac, packet.source_mac)
            self.history.frames.append(Frame(seconds + nanoseconds / 1e9, name, packet.kind,
                                              packet.source))

    def _read_events(self, name):
        sock = self.events[name]
        while select.select([sock], [], [], 0)[0]:
            data = sock.recv(65536)
            while len(data) >= 16:
                length, kind = struct.unpack_from("IH", data)
                address = kind in (RTM_NEWADDR, RTM_DELADDR) and self._find(data[24:length])
                if address in self.addresses:
                    self._note(name, address, kind == RTM_NEWADDR)
                data = data[length + 3 & ~3:]

    @staticmethod
    def _find(attributes):
        """The address, of an event's attributes."""
        while len(attributes) >= 4:
            length, kind = struct.unpack_from("HH", attributes)
            if kind == IFA_ADDRESS:
                family = socket.AF_INET if length == 8 else socket.AF_INET6
                return socket.inet_ntop(family, attributes[4:length])
            attributes = attributes[max(length, 4) + 3 & ~3:]
        return None

    def drops(self):
        """Frames that were not seen because we were too slow. Asking forgets them."""
        return struct.unpack("II", self.bridge.getsockopt(SOL_PACKET, 6, 8))[1]

    def stop(self):
        self.running = False
        self.thread.join()
        assert not self.failure, self.failure
        self.look(0)
        drops = self.drops()
        self.bridge.close()
        for sock in self.events.values():
            sock.close()
        assert not drops, f"{drops} frames were not captured"


class Pulse:
    """Notes when the machine kept us from running: what counts on the clock can't be judged then."""

    def __init__(self, history):
        self.history = history
        self.running = True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        before = time.monotonic()
        while self.running:
            time.sleep(0.05)
            now = time.monotonic()
            if now - before > STALL:
                self.history.stalls.append(time.time())
            before = now

    def stop(self):
        self.running = False
        self.thread.join()


class LogWatch:
    """Follows the supervisors' logs. Their clock may have been made to jump: then what they say is
    brought back to ours."""

    def __init__(self, history, logs):
        self.history, self.logs = history, dict(logs)   # {node: path}
        self.read = dict.fromkeys(self.logs, 0)
        self.running = True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while self.running:
            self.look()
            time.sleep(0.1)

    def look(self):
        for node, path in self.logs.items():
            if not path.exists():
                continue
            with open(path, "rb") as log:
                log.seek(self.read[node])
                data = log.read()
            whole = data[:data.rfind(b"\n") + 1]
            self.read[node] += len(whole)
            for line in whole.decode(errors="replace").splitlines():
                self._on_line(node, line)

    def _on_line(self, node, line):
        found = STATE.match(line)
        if found:
            at = datetime.fromisoformat((found[1] or found[2]).replace("Z", "+00:00")).timestamp()
            at -= round((at - time.time()) / JUMP) * JUMP
            self.history.changes.append(Change(at, node, found[3], found[4], int(found[6]),
                                               found[5].strip('"')))

    def stop(self):
        self.running = False
        self.thread.join()
        self.look()
        self.history.changes.sort(key=lambda change: change.at)


__all__ = ["LogWatch", "Pulse", "Watch"]
