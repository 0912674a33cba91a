# SPDX-License-Identifier: ISC
"""Real Sentinels around a master and a replica, all of the test's own."""

import pathlib
import re
import time

from keepsock import Redis, wait_until

NAME = "keepsock"
# A Sentinel sends a server that has just become the master its first PING after a second, so with a
# second or less it may take that one for dead, too, before it has asked.
DOWN_AFTER_MS = 2000


class Sentinel(Redis):
    """One Sentinel; master_login: (user or None, password) with which it signs in to the servers."""

    def __init__(self, master, quorum, password=None, master_login=None):
        super().__init__(password)
        lines = [f"port {self.port}", f"bind {self.address}", f"dir {self.directory}",
                 f"sentinel monitor {NAME} {master.address} {master.port} {quorum}",
                 f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}",
                 f"sentinel failover-timeout {NAME} 3000"]
        if password:
            lines += [f"requirepass {password}", f"sentinel sentinel-pass {password}"]
        if master_login:
            user, secret = master_login
            lines += [f"sentinel auth-user {NAME} {user}"] if user else []
            lines += [f"sentinel auth-pass {NAME} {secret}"]
        self.log = pathlib.Path(self.directory) / "log"
        lines.append(f"logfile {self.log}")
        self.config = pathlib.Path(self.directory) / "sentinel.conf"
        self.config.write_text("\n".join(lines) + "\n")

    def command_line(self):
        return ["redis-server", str(self.config), "--sentinel"]

    def switches(self):
        """[(seconds of the wall clock, the new master's port)] of all failovers that it saw."""
        if not self.log.exists():
            return []
        found = re.findall(r"^\d+:X (.+)\.(\d{3}) # \+switch-master \S+ \S+ \d+ \S+ (\d+)$",
                           self.log.read_text(errors="replace"), re.MULTILINE)
        return [(time.mktime(time.strptime(at, "%d %b %Y %H:%M:%S")) + int(ms) / 1000, int(port))
                for at, ms, port in found]


class Group:
    """A master, replicas of it and three Sentinels; password: of the servers."""

    server, sentinel = Redis, Sentinel

    def __init__(self, password=None, sentinel_password=None, replicas=1):
        login = ["--masterauth", password] if password else []
        options = ["--repl-diskless-sync-delay", "0", *login]
        self.master = self.server(password, options).start()
        follow = ["--replicaof", self.master.address, str(self.master.port)]
        self.replicas = [self.server(password, [*options, *follow]).start() for _ in range(replicas)]
        self.replica = self.replicas[0]
        self.sentinels = [self.sentinel(self.master, 2, sentinel_password,
                                        (None, password) if password else None) for _ in range(3)]

    def start(self):
        for sentinel in self.sentinels:
            sentinel.start()
        for sentinel in self.sentinels:
            wait_until(lambda s=sentinel: self._is_complete(s), "they know each other")
        return self

    def _is_complete(self, sentinel):
        facts = sentinel.facts("SENTINEL", "MASTER", NAME)
        return (facts["num-slaves"], facts["num-other-sentinels"]) == \
            (str(len(self.replicas)), "2") and facts["flags"] == "master"

    def failovers(self):
        """When they made another server the master, as seconds of the wall clock: of what they all
        tell, the first word of each."""
        times, master = [], self.master.port
        for at, port in sorted(switch for s in self.sentinels for switch in s.switches()):
            if port != master:
                times.append(at)
                master = port
        return times

    def stop(self):
        for server in [*self.sentinels, *self.replicas, self.master]:
            server.stop()

    def url(self, *others, login=""):
        """others: more Sentinels, as host:port, named before the real ones."""
        places = [*others, *(f"{sentinel.address}:{sentinel.port}" for sentinel in self.sentinels)]
        return f"sentinel://{login}{','.join(places)}/{NAME}"
