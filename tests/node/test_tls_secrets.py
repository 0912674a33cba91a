# SPDX-License-Identifier: ISC
"""The keys of TLS connections are in their passports and nowhere else: in no log, view or core, and
in nobody's memory once the connection is closed. The client tells what they are."""

import hashlib
import hmac
import os
import resource
import signal
import ssl
import struct
import subprocess

import pytest

from certificates import Authority, put
from keepsock import free_port, wait_until
from tls_client import TlsClient, TlsWebSocket, context
from wire import BINARY

AES_256 = {"hash": hashlib.sha384, "key": 32}


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


@pytest.fixture
def node(make_node, authority):
    node = make_node(
        node={"workers": 1}, log={"level": "debug"},
        listeners=[{"address": "127.0.0.1", "port": free_port()},
                   {"address": "127.0.0.1", "port": free_port(), "tls": {
                       "certificates": [{"certificate": "a.pem", "key": "a.key"}],
                       "cipher_suites": ["TLS_AES_256_GCM_SHA384",
                                         "ECDHE-ECDSA-AES256-GCM-SHA384"]}}])
    put(node.directory, "a", *authority.issue("localhost", "localhost"))
    node.tls_port = node.settings["listeners"][1]["port"]
    return node.start()


def expand(secret, label, length):
    """HKDF-Expand-Label (RFC 8446 §7.1) for one block of output."""
    label = b"tls13 " + label
    info = struct.pack(">HB", length, len(label)) + label + b"\0"
    return hmac.new(secret, info + b"\x01", AES_256["hash"]).digest()[:length]


class Watched:
    """A context whose client writes down the secrets of the one connection made with it."""

    def __init__(self, authority, path, version=ssl.TLSVersion.TLSv1_3):
        self.path = path
        self.context = context(authority, version)
        self.context.keylog_filename = str(path)

    def secrets(self):
        lines = [line.split() for line in self.path.read_text().splitlines()
                 if line and not line.startswith("#")]
        return {name: bytes.fromhex(secret) for name, _, secret in lines}

    def traffic(self):
        """What the record layer needs: {name: bytes}."""
        found = {}
        for side in ("CLIENT", "SERVER"):
            secret = self.secrets()[f"{side}_TRAFFIC_SECRET_0"]
            found[f"{side} secret"] = secret
            found[f"{side} key"] = expand(secret, b"key", AES_256["key"])
            found[f"{side} iv"] = expand(secret, b"iv", 12)
        return found

    def passing(self):
        """What only the handshake needs."""
        return {name: secret for name, secret in self.secrets().items()
                if "TRAFFIC_SECRET_0" not in name}


def mappings(pid):
    """(start, end, name) of what a process can write to."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps:
        for line in maps:
            words = line.split(maxsplit=5)
            if words[1].startswith("rw"):
                start, end = (int(word, 16) for word in words[0].split("-"))
                yield start, end, words[5].strip() if len(words) > 5 else ""


def search(pid, secrets):
    """{(name of a secret, name of a mapping)}: where in a process's memory they are."""
    found = set()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, end, mapping in mappings(pid):
            memory.seek(start)
            try:
                content = memory.read(end - start)
            except OSError:
                continue                # not backed
            found |= {(name, mapping) for name, secret in secrets.items() if secret in content}
    return found


def exchange(websocket):
    websocket.send(BINARY, b"hello")
    assert websocket.receive_message() == (BINARY, b"hello")


def need_to_read_memory(node):
    pid = node.workers()[0]
    try:
        with open(f"/proc/{pid}/mem", "rb"):
            pass
    except PermissionError:
        pytest.skip("may not read the memory of others")
    if any(end - start > 1 << 36 for start, end, _ in mappings(pid)):
        pytest.skip("a sanitizer keeps what was freed, and has too much memory to search")


def test_memory(node, authority, tmp_path):
    need_to_read_memory(node)
    worker = node.workers()[0]
    watched = Watched(authority, tmp_path / "first")
    with TlsWebSocket(node.tls_port, watched.context, "/echo") as websocket:
        exchange(websocket)
        keys = watched.traffic()
        found = search(worker, keys)
        in_arena = {name for name, mapping in found if "keepsock-arena" in mapping}
        assert in_arena == set(keys), "or the search finds nothing"
        # A cipher context remembers whom it worked for last, and nothing else does.
        assert {name for name, mapping in found if "keepsock-arena" not in mapping} <= \
            {"CLIENT key", "SERVER key"}
        assert not search(worker, watched.passing())
        for process in node.everybody():
            if process.pid != worker:
                assert not {where for where in search(process.pid, keys)
                            if "keepsock-arena" not in where[1]}
    with TlsWebSocket(node.tls_port, context(authority), "/echo") as websocket:
        exchange(websocket)
        wait_until(lambda: node.metrics()["keepsock_tls_connections"] == 1, "the first is gone")
        exchange(websocket)
        assert not search(worker, keys)


def test_memory_of_1_2(node, authority, tmp_path):
    """The master secret made the keys and is of no more use."""
    need_to_read_memory(node)
    watched = Watched(authority, tmp_path / "first", ssl.TLSVersion.TLSv1_2)
    with TlsWebSocket(node.tls_port, watched.context, "/echo") as websocket:
        exchange(websocket)
        assert watched.secrets()
        assert not search(node.workers()[0], watched.secrets())


def test_texts(node, authority, tmp_path):
    watched = Watched(authority, tmp_path / "first")
    with TlsClient(node.tls_port, watched.context) as client:
        client.result("subscribe", channel="c")
        client.websocket.stream.send_raw(b"\x17\x03\x03\0\x20" + os.urandom(32))
        shown = [node.ctl("show", *words).stdout for words in (
            ["connections"], ["connection", client.id], ["workers"], ["config"], ["events"],
            ["certificates"])]
        shown += [node.ctl("--json", "show", "connections").stdout]
        assert "TLSv1.3" in shown[0] and client.id in shown[1]
    text = "".join(shown) + node.log()
    squeezed = "".join(text.lower().split()).replace(":", "")
    for name, secret in {**watched.traffic(), **watched.passing()}.items():
        assert secret.hex() not in squeezed, name
        assert secret.decode("latin-1") not in text, name


def flags(pid, name):
    """The kernel's flags of the mappings of that name."""
    current = ""
    with open(f"/proc/{pid}/smaps", encoding="ascii") as lines:
        for line in lines:
            words = line.split()
            if not words[0].endswith(":"):
                current = line
            elif words[0] == "VmFlags:" and name in current:
                yield words[1:]


def test_arenas_are_in_no_core(node):
    found = list(flags(node.workers()[0], "keepsock-arena"))
    assert found and all("dd" in words for words in found)


def makes_cores(directory):
    """True when a process that dies here leaves a core here."""
    directory.mkdir()
    subprocess.run(["sh", "-c", "kill -ABRT $$"], cwd=directory, check=False)
    return any(path.name.startswith("core") for path in directory.iterdir())


def test_a_worker_that_dies_leaves_no_core(make_node, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
        if not makes_cores(tmp_path / "probe"):
            pytest.skip("nobody leaves cores in the own directory here")
        node = make_node(node={"workers": 1}).start()
        victim = node.workers()[0]
        place = os.readlink(f"/proc/{victim}/cwd")
        before = set(os.listdir(place))
        with open(f"/proc/{victim}/limits", encoding="ascii") as limits:
            if any(line.split()[:5] == ["Max", "core", "file", "size", "0"] for line in limits):
                pytest.skip("a sanitizer forbids cores itself")
        os.kill(victim, signal.SIGABRT)
        wait_until(lambda: node.workers().get(0) not in (None, victim), "the next worker")
        assert not {name for name in set(os.listdir(place)) - before if name.startswith("core")}
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
