# SPDX-License-Identifier: ISC
"""Starts and judges a keepsockd node.

A node gets a directory of its own, a free port and a configuration made from a few overrides. Its
end is part of every test: it must exit with 0, leave no process behind and no sanitizer report.
"""

import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from wire import http

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEADLINE = 20
STARTED_PORTS = set()
REPORTS = re.compile(r"ERROR: (Address|Leak|Undefined\w*)Sanitizer|runtime error:|SUMMARY: \w+Sanitizer")

# What most tests want: everything allowed, history and presence on. The rest are defaults.
OPEN_CHANNEL = {
    "allow_subscribe_for_client": True,
    "allow_publish_for_client": True,
    "allow_presence_for_client": True,
    "allow_history_for_client": True,
    "presence": True,
    "history_size": 100,
    "history_ttl": "5m",
    "force_recovery": True,
}
API_KEY = "test-key-of-the-api"


def keepsockd():
    return os.path.abspath(os.environ.get("KEEPSOCKD", ROOT / "var/build/test/keepsockd"))


def keepsockctl():
    return os.path.join(os.path.dirname(keepsockd()), "keepsockctl")


def wait_until(condition, what, deadline=DEADLINE, interval=0.02):
    """Polls condition until it returns something true, which is returned."""
    end = time.monotonic() + deadline
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} s: {what}")
        pause.wait(interval)


def free_port():
    """A TCP port nobody listens on, outside the range the kernel gives to outgoing connections:
    listeners here set SO_REUSEPORT, so two nodes on one port would not even notice."""
    while True:
        port = random.randrange(10000, 32000)
        if port in STARTED_PORTS:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        STARTED_PORTS.add(port)
        return port


def config_text(sections):
    """libconfig text of {group: {name: value}}; a list of dicts becomes a list of groups."""
    return "".join(f"{name} = {_config_value(value)};\n" for name, value in sections.items())


def _config_value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if -2**31 <= value < 2**31 else f"{value}L"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, dict):
        return "{ " + " ".join(f"{k} = {_config_value(v)};" for k, v in value.items()) + " }"
    items = ", ".join(_config_value(item) for item in value)
    return f"( {items} )" if value and isinstance(value[0], dict) else f"[ {items} ]"


def merge(base, overrides):
    merged = dict(base)
    for name, value in overrides.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = merge(merged[name], value) if both else value
    return merged


class Process:
    """What /proc says about one process."""

    def __init__(self, pid):
        self.pid = pid
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
        self.name = stat[stat.index("(") + 1:stat.rindex(")")]
        fields = stat[stat.rindex(")") + 2:].split()
        self.state, self.parent, self.session = fields[0], int(fields[1]), int(fields[3])
        self.title = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def is_running(pid):
    """Whether the process exists; one that only waits to be reaped does not count."""
    return any(process.pid == pid for process in processes())


def processes():
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                process = Process(int(entry))
            except (OSError, ValueError):
                continue
            if process.state not in "ZX":
                yield process


class Keepsock:
    """One node. overrides: {group: {setting: value}}, laid over open channels, two workers and a
    listener on a free port of 127.0.0.1."""

    def __init__(self, **overrides):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="keepsock-"))
        self.directory.chmod(0o755)
        self.log_path = self.directory / "keepsockd.log"
        self.socket = self.directory / "admin.sock"
        self.key_path = self.directory / "api-key"
        self.key_path.write_text(API_KEY + "\n")
        self.key_path.chmod(0o600)
        self.settings = merge({
            "node": {"name": "a", "run_dir": "run", "state_dir": "state", "workers": 2},
            "listeners": [{"address": "127.0.0.1", "port": free_port()}],
            "client": {"insecure": True},
            "channel": OPEN_CHANNEL,
            "http_api": {"key_file": "api-key"},
            "admin": {"socket": "admin.sock"},
        }, overrides)
        self.port = self.settings["listeners"][0]["port"]
        self.tls_port = None            # of the listener that serve_tls() adds
        self.config = self.directory / "keepsock.conf"
        self.config.write_text(config_text(self.settings))
        self.process = None
        self.program = None             # None: the one under test
        self.sessions = []              # of all masters it had
        self.descriptor_limit = None    # of each process; None: as ours

    def change_settings(self, overrides):
        """For the next start, or a reload."""
        self.settings = merge(self.settings, overrides)
        self.config.write_text(config_text(self.settings))

    # Life and end

    def launch(self):
        """Starts the process without waiting for anything."""
        log = open(self.log_path, "ab")
        with log:
            self.process = subprocess.Popen([self.program or keepsockd(), "-c", str(self.config)],
                                            stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            start_new_session=True,
                                            preexec_fn=self._limit_descriptors)
        self.sessions.append(self.process.pid)
        return self

    def _limit_descriptors(self):
        if self.descriptor_limit:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.descriptor_limit,) * 2)

    def start(self):
        self.launch()
        try:
            wait_until(self.are_all_ready, "every worker is ready")
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.log()}") from None
        return self

    def start_standby(self):
        """A node with peers: ready for a promotion, not for clients."""
        self.launch()
        try:
            wait_until(self.are_all_healthy, "every worker is healthy")
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.log()}") from None
        return self

    def are_all_healthy(self):
        assert self.process.poll() is None, f"keepsockd ended early:\n{self.log()}"
        try:
            return self.metrics()["keepsock_healthy"] == 1
        except OSError:
            return False

    def are_all_ready(self):
        """/ready speaks for the worker that answers it; a client may meet another one."""
        return self.is_ready() and self.metrics()["keepsock_ready"] == 1

    def is_ready(self):
        assert self.process.poll() is None, f"keepsockd ended early:\n{self.log()}"
        try:
            return http(self.port, "GET", "/ready").status == 200
        except OSError:
            return False

    def are_protected(self):
        """Every worker could be killed now: its keeper has all that a successor needs."""
        rows = self.ctl_json("show", "workers")["rows"]
        return all(row["protected"] for row in rows)

    def stop(self):
        """Ends the node and judges its end."""
        if self.process is None:
            return
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill_everybody()
            process.wait()
            raise AssertionError(f"keepsockd did not end after SIGTERM:\n{self.log()}") from None
        log = self.log()
        left = self.everybody()
        self.kill_everybody()
        assert not left, f"left running: {[p.title for p in left]}"
        assert not REPORTS.search(log), log
        assert code == 0, f"exit code {code}:\n{log}"

    def wait(self):
        """Waits for a node that ends by itself, kills what it left; returns its exit code."""
        process, self.process = self.process, None
        try:
            return process.wait(DEADLINE)
        finally:
            self.kill_everybody()
            process.wait()

    def kill_master(self):
        """The master dies, nobody else does."""
        self.process.kill()
        self.process.wait()

    def everybody(self):
        """All its processes, whichever master started them."""
        return [p for p in processes() if p.session in self.sessions]

    def kill_everybody(self):
        # Those who start others first.
        for session in self.sessions:
            self.kill_all(session)

    @staticmethod
    def kill_all(session):
        """Until nobody is left: a keeper that dies after its worker has started another one."""
        while members := Keepsock.members(session):
            for process in members:
                try:
                    os.kill(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)

    # Looking inside

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @staticmethod
    def members(session):
        return [p for p in processes() if p.session == session]

    def workers(self):
        """{slot: pid} of the running workers, by their process titles."""
        found = {}
        for process in self.everybody():
            title = re.match(r"keepsockd: worker (\d+) of ", process.title)
            if title:
                found[int(title.group(1))] = process.pid
        return found

    def keepers(self):
        """{slot: pid} of the running keepers."""
        found = {}
        for process in self.everybody():
            title = re.match(r"keepsockd: keeper (\d+) of ", process.title)
            if title:
                found[int(title.group(1))] = process.pid
        return found

    def worker_rows(self):
        """{slot: its row of `show workers`}"""
        return {row["worker"]: row for row in self.ctl_json("show", "workers")["rows"]}

    def all_protected(self):
        """The rows if every slot is protected and kept and open connections are the same number."""
        rows = self.worker_rows()
        agree = all(row["protected"] and row["kept"] == row["connections"] + 1
                    for row in rows.values())
        return rows if agree else None

    def redis_pid(self):
        for process in self.everybody():
            if process.name == "redis-server":
                return process.pid
        return None

    # Talking to it

    def api(self, method, headers=None, **body):
        """Calls the HTTP API; returns the parsed answer ({"result"…} or {"error"…})."""
        response = self.api_raw(method, json.dumps(body).encode(), headers)
        assert response.status == 200, response
        return response.json()

    def api_raw(self, method, body, headers=None):
        head = {"X-API-Key": API_KEY, "Content-Type": "application/json"}
        return http(self.port, "POST", f"/api/{method}", head | (headers or {}), body)

    def publish(self, channel, data, **more):
        answer = self.api("publish", channel=channel, data=data, **more)
        assert "result" in answer, answer
        return answer["result"]

    def ctl(self, *arguments, user=None):
        """Runs keepsockctl; returns the finished process with stdout and stderr as text."""
        return subprocess.run([keepsockctl(), "-s", str(self.socket), *arguments], text=True,
                              capture_output=True, timeout=DEADLINE, user=user,
                              group=user, extra_groups=None if user is None else [])

    def ctl_json(self, *arguments):
        run = self.ctl(*arguments, "--json")
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)

    def try_status(self):
        """Of the node, None when its master does not answer."""
        run = self.ctl("status", "--json")
        return json.loads(run.stdout) if run.returncode == 0 else None

    def metrics(self):
        """{sample name with labels: value}"""
        text = http(self.port, "GET", "/metrics").body.decode()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
                for line in text.splitlines() if line and not line.startswith("#")}


class Redis:
    """A redis-server of the test's own, for nodes that use an external one."""

    address = "127.0.0.1"

    def __init__(self, password=None, options=()):
        """options: more of redis-server's, as words of its command line."""
        self.options = options
        self.directory = tempfile.mkdtemp(prefix="keepsock-redis-")
        self.port = free_port()
        self.password = password
        self.process = None

    @property
    def url(self):
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}{self.address}:{self.port}"

    def command_line(self):
        command = ["redis-server", "--port", str(self.port), "--bind", self.address, "--save", "",
                   "--dir", self.directory, "--daemonize", "no"]
        if self.password:
            command += ["--requirepass", self.password]
        return [*command, *self.options]

    def start(self):
        self.process = subprocess.Popen(self.command_line(), stdout=subprocess.DEVNULL)
        wait_until(lambda: self._try_ping(), "redis-server answers")
        return self

    def _try_ping(self):
        try:
            return self.command("PING") == "PONG"
        except (OSError, AssertionError):  # not there yet, or still loading its data
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        self.resume()
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def command(self, *words):
        """Sends one command; returns its reply, an array as a list."""
        with socket.create_connection((self.address, self.port), timeout=DEADLINE) as connection:
            reader = connection.makefile("rb")
            if self.password:
                connection.sendall(self._encode("AUTH", self.password))
                assert reader.readline() == b"+OK\r\n"
            connection.sendall(self._encode(*words))
            return self._read_reply(reader)

    def facts(self, *words):
        """The reply of a command that answers with names and values, as a dictionary."""
        reply = self.command(*words)
        return dict(zip(reply[::2], reply[1::2]))

    @classmethod
    def _read_reply(cls, reader):
        line = reader.readline().rstrip()
        if line[:1] == b"*":
            return [cls._read_reply(reader) for _ in range(int(line[1:]))]
        if line[:1] == b"$":
            size = int(line[1:])
            return None if size < 0 else reader.read(size + 2)[:-2].decode()
        if line[:1] == b":":
            return int(line[1:])
        assert line[:1] == b"+", line
        return line[1:].decode()

    @staticmethod
    def _encode(*words):
        parts = [str(word).encode() for word in words]
        return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


class DurableRedis(Redis):
    """One that keeps every write; its data can be put aside and brought back."""

    def __init__(self):
        super().__init__(options=("--appendonly", "yes", "--appendfsync", "always"))

    @property
    def data(self):
        return f"{self.directory}/appendonlydir"

    def keep(self):
        shutil.rmtree(f"{self.directory}/kept", ignore_errors=True)
        shutil.copytree(self.data, f"{self.directory}/kept")

    def rewind(self):
        """Stopped: to what was kept."""
        shutil.rmtree(self.data)
        shutil.copytree(f"{self.directory}/kept", self.data)

    def forget(self):
        """Stopped: to nothing."""
        shutil.rmtree(self.data)
