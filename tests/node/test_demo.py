# SPDX-License-Identifier: ISC
"""tools/demo, as a user would run it: background and foreground, twice, stopped, with its parts and
itself killed."""

import json
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
from keepsock import ROOT, free_port, is_running, keepsockctl, processes, wait_until
from wire import http

# The first run may have to build and to ask npm for the SDK.
PATIENCE = 280


def ask(socket, *command):
    run = subprocess.run([keepsockctl(), "-s", str(socket), *command, "--json"], text=True,
                         capture_output=True, timeout=30)
    return json.loads(run.stdout) if run.returncode == 0 else None


class Demo:
    def __init__(self, state):
        self.state, self.port, self.tls_port = pathlib.Path(state), free_port(), free_port()

    def command(self, *arguments):
        return [str(ROOT / "tools/demo"), "--state", str(self.state), "--port", str(self.port),
                *arguments]

    def run(self, *arguments):
        return subprocess.run(self.command(*arguments), text=True, capture_output=True,
                              timeout=PATIENCE, cwd="/", stdin=subprocess.DEVNULL)

    def start(self):
        run = self.run("--detach", "--tls", "--tls-port", str(self.tls_port))
        assert run.returncode == 0, run
        return run.stdout

    def pid(self):
        return int((self.state / "pid").read_text())

    def supervisor(self, name):
        """Its status; None when it does not answer."""
        return ask(self.state / name / "supervisor.sock", "status")

    def told(self, name, key):
        """What its supervisor's status says of key; None when it does not answer."""
        return (self.supervisor(name) or {}).get(key)

    def primary(self):
        return next((name for name in "ab" if self.told(name, "state") == "primary"), None)

    def is_reachable(self):
        try:
            return http(self.port, "GET", "/ready").status == 200
        except OSError:
            return False

    def members(self):
        """The pids of all that it started, whoever has them now."""
        sessions = self.state / "sessions"
        if not sessions.exists():
            return []
        numbers = {int(line.split()[1]) for line in sessions.read_text().splitlines()}
        return [process.pid for process in processes() if process.session in numbers]

    def clean(self):
        assert self.run("--stop").returncode == 0
        assert not self.is_reachable() and self.members() == []


def fetch(port, authority, path="/ready"):
    """By TLS, with a certificate that is good for 127.0.0.1: the status."""
    context = ssl.create_default_context(cafile=str(authority))
    with urllib.request.urlopen(f"https://127.0.0.1:{port}{path}", timeout=20,
                                context=context) as answer:
        return answer.status


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """One for all, so that npm is asked once."""
    return tmp_path_factory.mktemp("demo") / "state"


@pytest.fixture
def demo(state):
    demo = Demo(state)
    yield demo
    demo.clean()


def check_tls(demo):
    authority = demo.state / "ca.pem"
    assert fetch(demo.tls_port, authority) == 200
    assert fetch(demo.tls_port, authority, "/") == 200
    with pytest.raises(urllib.error.URLError):
        fetch(demo.tls_port, demo.state / "tls.pem")
    assert not list(demo.state.glob("ca.key"))
    assert f"https://127.0.0.1:{demo.tls_port}/" in demo.run("--status").stdout
    return authority.read_text()


def test_detached(demo):
    assert demo.run("--status").returncode == 1
    assert f"http://127.0.0.1:{demo.port}/" in demo.start()
    assert http(demo.port, "GET", "/ready").status == 200
    page = http(demo.port, "GET", "/")
    assert page.status == 200 and b"<title>keepsock</title>" in page.body
    for name in ("app.js", "pair.js", "pair.json", "style.css", "centrifuge.js"):
        assert http(demo.port, "GET", f"/{name}").status == 200
    assert sorted(demo.supervisor(name)["state"] for name in "ab") == ["primary", "standby"]

    key = (demo.state / "api-key").read_text()
    authority = check_tls(demo)
    for secret in ("api-key", "tls.key", "ticket-secret", "secret", "redis/password", "redis/redis.conf"):
        assert stat.S_IMODE(os.stat(demo.state / secret).st_mode) == 0o600
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
    assert not is_running(pid) and demo.members() == []
    assert demo.run("--status").returncode == 1
    demo.start()
    assert (demo.state / "api-key").read_text() == key
    # Whoever trusts the authority need not do so again.
    assert check_tls(demo) == authority
    with Client(demo.port) as client:
        assert client.result("history", channel="c", limit=0)["offset"] == 2


def ask_api(demo, method, **body):
    """The result; None while nobody serves."""
    headers = {"X-API-Key": (demo.state / "api-key").read_text()}
    try:
        answer = http(demo.port, "POST", f"/api/{method}", headers, json.dumps(body).encode())
    except OSError:
        return None
    return answer.json().get("result") if answer.status == 200 else None


def publish(demo, channel, text):
    """Whether it was acknowledged; once, however often it is asked."""
    return ask_api(demo, "publish", channel=channel, data=text, idempotency_key=text) is not None


def a_master_dies(demo, name):
    """Its clients stay connected."""
    with Client(demo.port) as client:
        client.result("subscribe", channel="d")
        master = demo.told(name, "node_pid")
        os.kill(master, signal.SIGKILL)
        wait_until(lambda: demo.told(name, "node_up") and demo.told(name, "node_pid") != master,
                   "another master", 40)
        wait_until(lambda: publish(demo, "d", "master"), "it publishes", 40)
        assert client.publication("d")["data"] == "master"


def a_supervisor_dies(demo, name):
    supervisor = demo.told(name, "pid")
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: demo.told(name, "pid") not in (None, supervisor), "another supervisor", 40)


def redis_dies(demo):
    for process in processes():
        if process.pid in demo.members() and "redis-server" in process.title:
            os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: publish(demo, "d", "redis"), "Redis is back", 40)
    history = wait_until(lambda: ask_api(demo, "history", channel="d", limit=10), "it tells", 40)
    assert [told["data"] for told in history["publications"]] == ["master", "redis"]


def a_supervisor_hangs(demo):
    name = wait_until(demo.primary, "a primary", 40)
    supervisor = demo.supervisor(name)
    os.kill(supervisor["pid"], signal.SIGSTOP)
    try:
        other = "ab".replace(name, "")
        wait_until(lambda: demo.told(other, "state") == "primary", "the other one", 40)
        assert not is_running(supervisor["node_pid"])
        wait_until(demo.is_reachable, "it serves", 40)
    finally:
        os.kill(supervisor["pid"], signal.SIGCONT)
    wait_until(lambda: demo.told(name, "state") == "standby", "it is back", 40)
    assert demo.is_reachable()


def test_its_parts_are_killed(demo):
    """Whatever dies is started again: a master, a supervisor, Redis. The node of a supervisor that
    hangs is ended by the other one, since it has the port of the primary."""
    demo.start()
    name = demo.primary()
    a_master_dies(demo, name)
    a_supervisor_dies(demo, "ab".replace(name, ""))
    redis_dies(demo)
    a_supervisor_hangs(demo)


def test_the_demo_itself_is_killed(demo):
    """The pair goes on; --stop ends it."""
    demo.start()
    os.kill(demo.pid(), signal.SIGKILL)
    wait_until(lambda: not is_running(demo.pid()), "it is dead")
    assert demo.is_reachable()
    status = demo.run("--status")
    assert status.returncode == 1 and "was killed" in status.stdout
    left = demo.members()
    stop = demo.run("--stop")
    assert stop.returncode == 0 and "had left" in stop.stdout
    assert not any(is_running(pid) for pid in left) and not demo.is_reachable()


def test_killed_while_it_starts(demo, rng):
    """At any moment: the next command finds nothing in its way, be it a start or --stop."""
    for number in range(4):
        process = subprocess.Popen(demo.command(), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0.1, 3))
        process.kill()
        process.wait()
        if number % 2 == 0:
            demo.clean()
    left = demo.members()
    demo.start()
    assert not any(is_running(pid) for pid in left)


def test_port_in_use_is_told(demo, node):
    demo.port = node.port
    start = demo.run("--detach")
    assert start.returncode == 1 and str(node.port) in start.stderr and "in use" in start.stderr
    demo.port = free_port()


def test_foreground_stops_all_it_started(demo):
    # A shell can't catch what was ignored at its start, as by a run in the background.
    command = ["env", "--default-signal=INT", *demo.command()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               stdin=subprocess.DEVNULL, text=True, start_new_session=True)
    try:
        for line in process.stdout:
            if line.startswith("Ready"):
                break
        assert demo.is_reachable()
        members = demo.members()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 0
        assert len(members) > 6 and not any(is_running(pid) for pid in members)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# In a network of its own, so that it meets no other.
NETNS = """
set -e
mkdir -p /run/netns
mount -t tmpfs none /run/netns
ip link set lo up
"$@" --netns --detach
for name in a b; do ip -n keepsock-demo-$name -4 -o addr show dev eth0; done
curl -fsS http://10.77.0.100:$PORT/ready
"$@" --stop
ip netns list
ip -br link
"""


@pytest.mark.skipif(os.getuid() != 0, reason="network namespaces need root")
def test_an_address_that_moves(demo):
    run = subprocess.run(["unshare", "--net", "--mount", "sh", "-c", NETNS, "sh", *demo.command()],
                         text=True, capture_output=True, timeout=PATIENCE,
                         env={**os.environ, "PORT": str(demo.port)})
    assert run.returncode == 0, run
    assert run.stdout.count("10.77.0.100/24") == 1 and '"ready":true' in run.stdout
    assert "10.77.0.11/24" in run.stdout and "10.77.0.12/24" in run.stdout
    after = run.stdout[run.stdout.index("stopped"):]
    assert "keepsock" not in after and "ksdemo" not in after


def test_wrong_usage():
    for words in (["--nonsense"], ["--port", "eight"], ["--tls-port", "0"]):
        run = subprocess.run([ROOT / "tools/demo", *words], capture_output=True)
        assert run.returncode == 2
