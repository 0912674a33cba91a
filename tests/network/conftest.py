# SPDX-License-Identifier: ISC
"""Fixtures of the tests in network namespaces, and the driver of a VIP."""

import os
import pathlib
import queue
import signal
import subprocess
import threading

import pytest

from network import PATH, PATIENCE, Network, boottime_ms, why_not

ROOT = pathlib.Path(__file__).resolve().parents[2]
REASON = why_not()


def driver_path():
    keepsockd = os.environ.get("KEEPSOCKD", ROOT / "var/build/test/keepsockd")
    return pathlib.Path(keepsockd).parent / "tests/network/vip_driver"


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="the same tests; none is long")


def pytest_collection_modifyitems(items):
    if REASON:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=REASON))


def pytest_sessionstart():
    if not os.access(driver_path(), os.X_OK):
        pytest.exit(f"{driver_path()} is missing: `make check TESTS=` builds it", 1)


class Vip:
    """A process that holds a VIP on a host: vip_driver.c."""

    def __init__(self, host, address, before=(), announce_ms=1000, announce_every_ms=50,
                 tickles_per_second=1000, interface="eth0", program=None):
        self.host = host
        if "/" not in address:
            address += "/128" if ":" in address else "/32"
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", host.name, *before, str(program or driver_path()), interface,
             address, str(announce_ms), str(announce_every_ms), str(tickles_per_second)],
            env={**os.environ, "PATH": PATH}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, bufsize=1)
        self.lines, self.log = queue.Queue(), []
        self.readers = [threading.Thread(target=self._read), threading.Thread(target=self._log)]
        for reader in self.readers:
            reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.strip())

    def _log(self):
        for line in self.process.stderr:
            self.log.append(line.strip())

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def line(self):
        try:
            return self.lines.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"no word; log: {self.log}") from None

    def expect(self, *beginnings):
        """The next lines begin like this, in this order; gives back the last of them."""
        for beginning in beginnings:
            line = self.line()
            assert line.startswith(beginning), f"{line!r} for {beginning!r}; log: {self.log}"
        return line

    def take(self, ttl_ms=10000):
        until = boottime_ms() + ttl_ms
        self.say(f"take {until}")
        return until

    def renew(self, ttl_ms=10000):
        until = boottime_ms() + ttl_ms
        self.say(f"renew {until}")
        return until

    def drop(self):
        self.say("drop")
        self.expect("dropped")

    def state(self):
        self.say("state")
        return self.expect("state").split()[1]

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.signal(signal.SIGCONT)
        self.process.stdin.close()
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            for reader in self.readers:
                reader.join()
            self.process.stdout.close()
            self.process.stderr.close()
        return self.process.returncode


@pytest.fixture
def network():
    made = Network()
    yield made
    made.close()


@pytest.fixture
def hosts(network):
    """Two hosts that may hold the VIP, and a client."""
    return network.host("a"), network.host("b"), network.host("client")


@pytest.fixture
def start_vip():
    started = []

    def start(host, address, **options):
        vip = Vip(host, address, **options)
        started.append(vip)
        vip.expect("open")
        return vip

    yield start
    codes = [(vip.close(), vip) for vip in started]
    for code, vip in codes:
        assert code in (0, -signal.SIGKILL), f"the driver ended with {code}; log: {vip.log}"
