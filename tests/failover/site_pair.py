# SPDX-License-Identifier: ISC
"""Two hosts with a supervised node each, a host for Redis and one for clients, on one switch: network
namespaces. Faults happen to them, and all of it becomes an HaHistory."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

from certificates import Authority, put
from ha_judge import HaJudge
from ha_publisher import HaPublisher
from ha_record import HaHistory, Standing
from jumping_clock import JumpingClock
from keepsock import DurableRedis, Redis, merge, wait_until
from network import PATH, Network, in_namespace
from pair import Supervised
from sentinels import NAME, Group, Sentinel
from subscribers import Subscribers
from watch import LogWatch, Pulse, Watch

VIP, VIP6 = "10.9.0.100", "fd09::100"
PORT, PEER_PORT, TLS_PORT = 8000, 8001, 8443
NODES = ("a", "b")
CHANNELS = {"news": True, "sport": True, "live:a": False}
CLIENTS = 2     # at each address
PAGE = 10000
SETTLE = 45
# Quick enough for a test, slow enough for a machine with much else to do.
TIMING = {"lease_ttl": "4s", "lease_renew": "300ms", "check_interval": "300ms",
          "check_timeout": "2s", "start_grace": "500ms", "min_change_interval": "1s",
          "restart_timeout": "10s", "restart_window": "15s", "demote_timeout": "10s"}
SETTINGS = {
    "node": {"workers": 1},
    "listeners": [{"address": "0.0.0.0", "port": PORT}, {"address": "::", "port": PORT},
                  {"address": "::", "port": TLS_PORT, "tls": {"certificates": [
                      {"certificate": "vip.pem", "key": "vip.key"}]}}],
    "channel": {"history_size": 100000, "history_ttl": "1h",
                "history_max_publication_limit": PAGE, "recovery_max_publication_limit": PAGE},
    "namespaces": [{"name": "live", "allow_subscribe_for_client": True}],
    "drain": {"window": "1s"},
}


class HostGroup(Group):
    """Sentinels' group whose servers change roles."""

    def master_place(self):
        """What most Sentinels say."""
        places = [place for place in map(self._ask, self.sentinels) if place]
        return max(set(places), key=places.count) if places else None

    @staticmethod
    def _ask(sentinel):
        try:
            return int(sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])
        except (OSError, AssertionError):
            return None

    def server_at(self, port):
        return next(s for s in (self.master, *self.replicas) if s.port == port)


class OnHost:
    """A server of Redis's on another host."""

    host, judged = None, True

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.clock = JumpingClock(self.directory) if self.judged else None

    def command_line(self):
        variables = self.clock.environment() if self.clock else {}
        environment = (f"{name}={value}" for name, value in variables.items())
        return [*self.host.command("env", *environment, *super().command_line()),
                "--protected-mode", "no"]

    def command(self, *words):
        return in_namespace(self.host.name, lambda: super(OnHost, self).command(*words))


def on_host(host, kind, judged):
    return type(kind.__name__, (OnHost, kind),
                {"host": host, "address": host.ipv4, "judged": judged})


class HaNode(Supervised):
    def __init__(self, name, host, peers, redis, timing, judged, /, **overrides):
        super().__init__(name, PEER_PORT, {}, redis, **merge(merge(SETTINGS, {"cluster": {
            **timing, "peers": [f"{peer}={at.ipv4}:{PEER_PORT}" for peer, at in peers.items()],
            "peer_listen": f"{host.ipv4}:{PEER_PORT}", "vip": [f"{VIP}/32", f"{VIP6}/128"],
            "vip_interface": "eth0"}}), overrides))
        self.host = host
        self.before = host.command()
        self.clock = JumpingClock(self.directory) if judged else None
        self.environment = {**os.environ, "PATH": PATH,
                            **(self.clock.environment() if judged else {})}
        self.powered = True

    def addresses(self):
        """Those of the pair that its host has."""
        return [a for a in (VIP, VIP6) if self.powered and self.host.address(a) is not None]

    def lose_power(self):
        self.powered = False
        self.host.lose_power()
        self.supervisor.wait()

    def start_again(self):
        """What was in memory is gone: the run directory is one of a tmpfs."""
        shutil.rmtree(self.directory / "run", ignore_errors=True)
        self.powered = True
        self.supervise()


class Site:
    """sentinels: Redis is a master and a replica, watched by three Sentinels. timing: of the
    group cluster. judged=False leaves out what only a judge needs and all others pay for: every
    frame on the switch is seen, and clocks can be made to jump."""

    def __init__(self, rng, sentinels=False, longest=2, clients=CLIENTS, timing=TIMING, judged=True,
                 **overrides):
        self.rng, self.longest, self.clients, self.judged = rng, longest, clients, judged
        self.history = HaHistory()
        self.network = Network()
        self.nodes, self.subscribers, self.publisher = {}, None, None
        self.directory = tempfile.mkdtemp(prefix="keepsock-")
        self.watch, self.watches, self.redis, self.group = None, [], None, None
        try:
            hosts = {name: self.network.host(name) for name in NODES}
            self.store, self.client = self.network.host("redis"), self.network.host("client")
            url = self._start_redis(sentinels)
            self.authority = Authority(pathlib.Path(self.directory) / "authority")
            certificate = self.authority.issue("vip", VIP, VIP6)
            for name, host in hosts.items():
                peers = {other: at for other, at in hosts.items() if other != name}
                self.nodes[name] = HaNode(name, host, peers, url, timing, judged, **overrides)
                put(self.nodes[name].directory, "vip", *certificate)
        except BaseException:
            self.close()
            raise

    def _start_redis(self, sentinels):
        if not sentinels:
            self.redis = on_host(self.store, DurableRedis, self.judged)().start()
            return self.redis.url
        kinds = {name: on_host(self.store, kind, self.judged)
                 for name, kind in (("server", Redis), ("sentinel", Sentinel))}
        self.group = type("Servers", (HostGroup,), kinds)().start()
        return self.group.url()

    def start(self):
        hosts = {name: node.host for name, node in self.nodes.items()}
        self.log_watch = LogWatch(self.history, {name: node.supervisor_log_path
                                                 for name, node in self.nodes.items()})
        self.watches = [self.log_watch]
        if self.judged:
            self.watch = Watch(self.history, self.network, hosts, (VIP, VIP6))
            self.watches += [self.watch, Pulse(self.history)]
        for node in self.nodes.values():
            node.supervise()
        self.wait_settled()
        if self.clients:
            ways = {"vip": f"ws://{VIP}:{PORT}", "vip6": f"wss://[{VIP6}]:{TLS_PORT}"}
            trust = self.client.command("env", f"NODE_EXTRA_CA_CERTS={self.authority.path}")
            self.subscribers = Subscribers(self.history, ways, CHANNELS, self.clients, None,
                                           trust).wait_ready()
            places = {"vip": VIP, "vip6": VIP6,
                      **{name: node.host.ipv4 for name, node in self.nodes.items()}}
            self.publisher = HaPublisher(self.history, self.client, places, CHANNELS,
                                         self.rng).start()
        return self

    # How it stands

    def states(self):
        return {name: node.state() if node.powered else None for name, node in self.nodes.items()}

    def primary(self):
        states = self.states()
        found = [self.nodes[name] for name, state in states.items() if state == "primary"]
        return found[0] if len(found) == 1 else None

    def other(self, node):
        return next(n for n in self.nodes.values() if n is not node)

    def is_settled(self):
        states = self.states()
        if sorted(states.values(), key=str) != ["primary"] + ["standby"] * (len(states) - 1):
            return False
        primary = next(self.nodes[name] for name, state in states.items() if state == "primary")
        run = primary.say("show", "cluster", "--json")
        return run.returncode == 0 and all(
            row["promotable"] and row["sees_redis"] and row["connected"]
            for row in json.loads(run.stdout)["rows"][1:]) and \
            all(self.hears_redis(node) for node in self.nodes.values())

    @staticmethod
    def hears_redis(node):
        """Until then what is published without a history reaches none of its clients."""
        try:
            run = node.ctl("show", "redis", "--json")
        except subprocess.TimeoutExpired:
            return False
        return run.returncode == 0 and all(row["subscription"] == "live"
                                           for row in json.loads(run.stdout)["rows"])

    def wait_settled(self):
        try:
            wait_until(self.is_settled, "one primary, all others standbys", SETTLE, 0.1)
        except AssertionError as failure:
            raise AssertionError(f"{failure}: {self.states()}\n{self.logs()}") from None

    # Faults

    def pause(self, least, most):
        time.sleep(self.rng.uniform(least, most))

    def suffer(self, fault, impose, heal=None, until=None):
        """One fault: impose(primary) at a random moment; heal(primary) a while after until() is
        true, which is at once where it is not given. Then everything is back."""
        primary = self.primary()
        self.pause(0.2, 1.2)
        fault.begin = time.time()
        self.history.faults.append(fault)
        impose(primary)
        if until:
            self.go_on_until(lambda: until(primary))
        if heal:
            self.pause(0.2, self.longest)
            heal(primary)
        fault.healed = time.time()
        self.go_on_until(self.is_settled)
        self.settle(fault.kind)
        self.history.standings.append(Standing(time.time(), self.states(), self.holders(),
                                               primary.name))
        fault.end = time.time()
        return fault

    def holders(self):
        """Of all addresses, or with those that they have."""
        have = {name: node.addresses() for name, node in self.nodes.items()}
        return tuple(name if found == [VIP, VIP6] else " ".join([name, *found])
                     for name, found in have.items() if found)

    def checks_made(self, node):
        """Counts on while the supervisor lives; a lease is renewed as often."""
        run = node.say("show", "checks", "--json")
        return json.loads(run.stdout)["rows"][0]["runs"] if run.returncode == 0 else 0

    def other_is_primary(self, primary):
        return self.other(primary).state() == "primary"

    def peer_is_heard(self, node):
        run = node.say("show", "cluster", "--json")
        return run.returncode != 0 or json.loads(run.stdout)["rows"][1]["connected"]

    def lose_power(self, node):
        if self.watch:
            self.watch.close_host(node.name)
        node.lose_power()

    def gain_power(self, node):
        node.host.build()
        if self.watch:
            self.watch.open_host(node.name)
        node.start_again()

    def settle(self, label):
        """All that is published after a fault has arrived everywhere."""
        if not self.subscribers:
            return
        for attempt in range(3):
            self.go_on_until(self.subscribers.all_subscribed)
            before = self.subscribers.taken_away
            marks = self.publisher.publish_more(f"{len(self.history.faults)}-{label}-{attempt}",
                                                SETTLE)
            self.go_on_until(lambda m=marks, b=before: self.subscribers.have(m) or
                             self.subscribers.taken_away > b)
            if self.subscribers.taken_away == before:
                break
        self.history.finals.update(marks)

    @staticmethod
    def go_on_until(condition, patience=SETTLE):
        """Ends after a while whatever happens: the judge sees more than a wait that failed."""
        try:
            wait_until(condition, "", patience, 0.1)
            return True
        except AssertionError:
            return False

    # The end

    def judge(self):
        """Ends what goes on, and what is wrong as [(rule, text)]."""
        self.publisher.stop()
        self.settle("end")
        self.subscribers.stop()
        primary = self.primary()
        for channel in (name for name, positioned in CHANNELS.items() if positioned):
            result = in_namespace(primary.host.name, lambda c=channel: primary.api(
                "history", channel=c, limit=PAGE))["result"]
            self.history.streams[channel] = (
                result["epoch"], [(p["offset"], p["data"]) for p in result["publications"]])
        for watch in self.watches:
            watch.stop()
        self.watches = []
        if self.group:
            self.history.failovers = self.group.failovers()
        return HaJudge(self.history).judge()

    def end(self):
        """Ends the nodes and judges their ends, then everything."""
        failures = []
        try:
            for node in self.nodes.values():
                if node.powered and node.supervisor:
                    node.host.signal_all(signal.SIGCONT)
                try:
                    node.end()
                except AssertionError as failure:
                    failures.append(str(failure))
        finally:
            self.close()
        assert not failures, "\n".join(failures)
        for node in self.nodes.values():
            node.remove()

    def close(self):
        for watch in self.watches:
            watch.running = False
        if self.publisher:
            self.publisher.running = False
        if self.subscribers and self.subscribers.process.poll() is None:
            self.subscribers.process.kill()
        for server in (self.redis, self.group):
            if server:
                server.stop()
        for host in self.network.hosts:
            host.signal_all(signal.SIGKILL)
        self.network.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def logs(self):
        return "".join(f"--- {name}\n{node.logs()}" for name, node in self.nodes.items())
