# SPDX-License-Identifier: ISC
"""Supervised nodes on one machine: supervisors with the nodes they start, one Redis, no address that
moves. Their ends are judged like a node's: exit status, processes left, sanitizer reports."""

import json
import os
import signal
import subprocess

from keepsock import (DEADLINE, REPORTS, Keepsock, config_text, free_port, keepsockctl, keepsockd,
                      merge, wait_until)

SECRET = "a-secret-of-the-test"
# Quick enough for a test, slow enough for a machine with much else to do.
TIMING = {"lease_ttl": "3s", "lease_renew": "250ms", "check_interval": "250ms",
          "check_timeout": "2s", "start_grace": "500ms", "min_change_interval": "1s",
          "restart_timeout": "15s"}


def supervisor_binary():
    return os.path.join(os.path.dirname(keepsockd()), "keepsock-supervisor")


class Supervised(Keepsock):
    """A node and its supervisor. peers: {name: port} of the others; port: its own."""

    def __init__(self, name, port, peers, redis, /, **overrides):
        cluster = {"peers": [f"{peer}=127.0.0.1:{at}" for peer, at in peers.items()],
                   "peer_listen": f"127.0.0.1:{port}", "secret_file": "secret",
                   "state_dir": "supervisor", "socket": "supervisor.sock"}
        super().__init__(**merge({"node": {"name": name, "workers": 1},
                                  "redis": {"server": redis},
                                  "cluster": {**TIMING, **cluster}}, overrides))
        self.name = name
        secret = self.directory / "secret"
        secret.write_text(SECRET + "\n")
        secret.chmod(0o600)
        self.supervisor_log_path = self.directory / "supervisor.log"
        self.supervisor = None
        self.sessions = []
        self.before = []   # words before its command line
        self.environment = None

    def supervise(self):
        with open(self.supervisor_log_path, "ab") as log:
            self.supervisor = subprocess.Popen(
                [*self.before, supervisor_binary(), "-c", str(self.config)], stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, env=self.environment, start_new_session=True)
        self.sessions.append(self.supervisor.pid)
        return self

    def set_listeners(self, listeners):
        """In the configuration file, for whoever reads it next."""
        self.config.write_text(config_text(self.settings | {"listeners": listeners}))

    def asking(self, *arguments):
        """The command line of keepsockctl on the supervisor's socket."""
        return [keepsockctl(), "-s", str(self.directory / "supervisor.sock"), *arguments]

    def say(self, *arguments):
        """Runs it; the finished process. A hand-over may take 33 s."""
        return subprocess.run(self.asking(*arguments), text=True, capture_output=True,
                              timeout=2 * DEADLINE)

    def said(self, *arguments):
        run = self.say(*arguments, "--json")
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)

    def status(self):
        """Of the supervisor, None when it does not answer."""
        run = self.say("status", "--json")
        return json.loads(run.stdout) if run.returncode == 0 else None

    def state(self):
        status = self.status()
        return status and status["state"]

    def is_in(self, *states):
        assert self.supervisor.poll() is None, f"the supervisor ended:\n{self.logs()}"
        return self.state() in states

    def wait_for(self, *states, deadline=40):
        try:
            wait_until(lambda: self.is_in(*states), f"{self.name} is {states}", deadline, 0.05)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.status()}\n{self.logs()}") from None

    def logs(self):
        text = self.supervisor_log_path
        return text.read_text(errors="replace")[-6000:] if text.exists() else ""

    def node_pid(self):
        return self.status()["node_pid"]

    def signal_node(self, number):
        os.kill(self.node_pid(), number)

    def node_processes(self):
        """Pids of master, keepers and workers."""
        return [p.pid for p in self.everybody() if p.title.startswith("keepsockd: ")]

    def signal_all(self, number):
        """The supervisor and all of its node, as far as it started it."""
        for process in self.everybody():
            os.kill(process.pid, number)

    def kill_supervisor(self, number=signal.SIGKILL):
        self.supervisor.send_signal(number)
        if number == signal.SIGKILL:
            self.supervisor.wait()

    def stop_supervisor(self):
        """Ends it as systemd would; returns its exit status."""
        self.supervisor.send_signal(signal.SIGTERM)
        return self.supervisor.wait(DEADLINE + 10)

    def end(self):
        """Ends all of it and judges it."""
        code = 0
        if self.supervisor and self.supervisor.poll() is None:
            self.supervisor.send_signal(signal.SIGCONT)
            try:
                code = self.stop_supervisor()
            except subprocess.TimeoutExpired:
                code = "did not end"
        log = self.supervisor_log_path.read_text(errors="replace") if self.sessions else ""
        for session in self.sessions:
            self.kill_all(session)
        if self.supervisor:
            self.supervisor.wait()
        assert not REPORTS.search(log), log[-8000:]
        assert code == 0, f"{self.name}: {code}\n{self.logs()}"
        assert "event=node_hangs" not in log, f"the node did not end in time:\n{self.logs()}"


class Pair:
    """count supervised nodes on one Redis; overrides: of all, more: {name: of that one}."""

    def __init__(self, redis, count=2, more=None, **overrides):
        names = "abcdefgh"[:count]
        ports = {name: free_port() for name in names}
        self.nodes = {}
        for name in names:
            peers = {other: port for other, port in ports.items() if other != name}
            self.nodes[name] = Supervised(name, ports[name], peers, redis,
                                          **merge(overrides, (more or {}).get(name, {})))

    def start(self):
        for node in self.nodes.values():
            node.supervise()
        return self.settle()

    def settle(self):
        """Waits until one is primary and knows that the others could follow; returns (primary,
        standbys)."""
        def settled():
            found = {name: node.state() for name, node in self.nodes.items()}
            if sorted(found.values(), key=str) != ["primary"] + ["standby"] * (len(found) - 1):
                return False
            primary = next(n for n in self.nodes.values() if found[n.name] == "primary")
            rows = primary.said("show", "cluster")["rows"]
            return all(row["promotable"] and row["sees_redis"] for row in rows[1:])
        try:
            wait_until(settled, "one primary, all others standbys", 60, 0.05)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n" + "\n".join(
                f"{n.status()}\n{n.logs()}" for n in self.nodes.values())) from None
        primary = next(n for n in self.nodes.values() if n.state() == "primary")
        return primary, [n for n in self.nodes.values() if n is not primary]

    def end(self):
        failures = []
        for node in self.nodes.values():
            try:
                node.end()
            except AssertionError as failure:
                failures.append(str(failure))
        if not failures:
            for node in self.nodes.values():
                node.remove()
        assert not failures, "\n".join(failures)

    def epochs(self):
        """The epochs of all promotions in Redis's stream, in its order, with who had them."""
        node = next(iter(self.nodes.values()))
        return [(row["epoch"], row["node"]) for row in node.said("show", "events")["rows"]
                if row["to"] == "promoting"]
