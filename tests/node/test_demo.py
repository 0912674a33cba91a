# SPDX-License-Identifier: ISC
"""tools/demo, as a user would run it: background and foreground, twice, stopped, found dead."""

import os
import pathlib
import signal
import ssl
import stat
import subprocess
import urllib.error
import urllib.request

import pytest

from client import Client
from keepsock import ROOT, free_port, is_running, wait_until
from wire import http

# The first run may have to build and to ask npm for the SDK.
PATIENCE = 280


class Demo:
    def __init__(self, state):
        self.state, self.port = pathlib.Path(state), free_port()

    def command(self, *arguments):
        return [str(ROOT / "tools/demo"), "--state", str(self.state), "--port", str(self.port),
                *arguments]

    def run(self, *arguments):
        return subprocess.run(self.command(*arguments), text=True, capture_output=True,
                              timeout=PATIENCE, cwd="/", stdin=subprocess.DEVNULL)

    def pid(self):
        return int((self.state / "a/keepsockd.pid").read_text())

    def is_reachable(self):
        try:
            return http(self.port, "GET", "/ready").status == 200
        except OSError:
            return False


def fetch(port, authority, path="/ready"):
    """By TLS, with a certificate that is good for 127.0.0.1: the status."""
    context = ssl.create_default_context(cafile=str(authority))
    with urllib.request.urlopen(f"https://127.0.0.1:{port}{path}", timeout=20,
                                context=context) as answer:
        return answer.status


@pytest.fixture
def demo(tmp_path):
    demo = Demo(tmp_path / "demo")
    yield demo
    assert demo.run("--stop").returncode == 0
    assert not demo.is_reachable()


def test_detached(demo):
    assert demo.run("--status").returncode == 1
    start = demo.run("--detach")
    assert start.returncode == 0, start
    assert f"http://127.0.0.1:{demo.port}/" in start.stdout
    assert http(demo.port, "GET", "/ready").status == 200
    page = http(demo.port, "GET", "/")
    assert page.status == 200 and b"<title>keepsock</title>" in page.body
    for name in ("app.js", "style.css", "centrifuge.js"):
        assert http(demo.port, "GET", f"/{name}").status == 200

    key = (demo.state / "api-key").read_text()
    assert stat.S_IMODE(os.stat(demo.state / "api-key").st_mode) == 0o600
    with Client(demo.port) as client:
        assert client.result("subscribe", channel="c")["recoverable"] is True
        answer = http(demo.port, "POST", "/api/publish", {"X-API-Key": key},
                      b'{"channel":"c","data":"hello"}')
        assert answer.json()["result"]["offset"] == 1
        assert client.publication("c")["data"] == "hello"
        client.result("publish", channel="c", data=2)

    pid = demo.pid()
    again = demo.run("--detach")
    assert again.returncode == 0 and "Already running" in again.stdout and demo.pid() == pid
    assert demo.run("--status").returncode == 0
    assert demo.run("--stop").returncode == 0
    assert not is_running(pid)
    assert demo.run("--status").returncode == 1
    assert demo.run("--detach").returncode == 0
    assert (demo.state / "api-key").read_text() == key


def test_the_master_found_dead(demo):
    """Its workers serve on; the next start adopts them. A number left by a crash is not taken for
    the node, whoever has it now."""
    assert demo.run("--detach").returncode == 0
    with Client(demo.port) as client:
        os.kill(demo.pid(), signal.SIGKILL)
        wait_until(lambda: not is_running(demo.pid()), "it is dead")
        status = demo.run("--status")
        assert status.returncode == 1 and "master is dead" in status.stdout
        (demo.state / "a/keepsockd.pid").write_text(str(os.getpid()))
        assert demo.run("--status").returncode == 1
        assert demo.run("--detach").returncode == 0
        assert demo.run("--status").returncode == 0
        assert client.result("subscribe", channel="c")["recoverable"] is True


def test_stop_without_a_master(demo):
    assert demo.run("--detach").returncode == 0
    os.kill(demo.pid(), signal.SIGKILL)
    wait_until(lambda: not is_running(demo.pid()), "it is dead")
    assert demo.is_reachable()
    stop = demo.run("--stop")
    assert stop.returncode == 0 and "its master was dead" in stop.stdout
    assert not demo.is_reachable()
    assert demo.run("--status").returncode == 1


def test_tls(demo):
    tls_port = free_port()
    start = demo.run("--detach", "--tls", "--tls-port", str(tls_port))
    assert start.returncode == 0, start
    assert f"https://127.0.0.1:{tls_port}/" in start.stdout
    authority = demo.state / "ca.pem"
    assert fetch(tls_port, authority) == 200
    assert fetch(tls_port, authority, "/") == 200
    with pytest.raises(urllib.error.URLError):
        fetch(tls_port, demo.state / "a/tls.pem")
    assert http(demo.port, "GET", "/ready").status == 200
    assert stat.S_IMODE((demo.state / "a/tls.key").stat().st_mode) == 0o600
    assert not list(demo.state.glob("**/ca.key"))
    assert f"https://127.0.0.1:{tls_port}/" in demo.run("--status").stdout
    # The same authority the next time: whoever trusts it need not do so again.
    before = authority.read_text()
    assert demo.run("--stop").returncode == 0
    assert demo.run("--detach", "--tls", "--tls-port", str(tls_port)).returncode == 0
    assert authority.read_text() == before
    assert fetch(tls_port, authority) == 200


def test_port_in_use_is_told(demo, node):
    demo.port = node.port
    start = demo.run("--detach")
    assert start.returncode == 1 and str(node.port) in start.stderr and "in use" in start.stderr
    demo.port = free_port()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_foreground_stops_all_it_started(demo, number):
    # A shell can't catch what was ignored at its start, as by a run in the background.
    command = ["env", "--default-signal=INT,HUP,TERM", *demo.command()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               stdin=subprocess.DEVNULL, text=True, start_new_session=True)
    try:
        for line in process.stdout:
            if line.startswith("Ready"):
                break
        assert demo.is_reachable()
        pid = demo.pid()
        os.killpg(process.pid, number)
        assert process.wait(60) == 0
        assert not is_running(pid)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_wrong_usage():
    assert subprocess.run([ROOT / "tools/demo", "--nonsense"], capture_output=True).returncode == 2
