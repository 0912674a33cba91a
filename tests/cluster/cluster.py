# SPDX-License-Identifier: ISC
"""Two nodes on one Redis, watched all the time, with subscribers and publishers; faults happen to
them one after the other, and all of it becomes one History."""

import threading
import time

from fault_judge import Judge, probe_tells
from fault_record import History, Sample
from keepsock import Keepsock, wait_until
from publisher import Publisher
from subscribers import Subscribers
from wire import http

PAGE = 10000
CHANNELS = {"news": True, "sport": True, "live:a": False, "live:b": False}
ASK = "asked"
CLIENTS = 3
LOOK_EVERY = 0.15
SETTLE = 30

# All that has to do with Redis's faults is left at its default.
SETTINGS = {
    "channel": {"history_size": 100000, "history_ttl": "1h",
                "history_max_publication_limit": PAGE},
    "namespaces": [{"name": "live", "allow_subscribe_for_client": True}],
}


class Monitor:
    """Looks at a node's /ready, /health and probe again and again, while it runs."""

    def __init__(self, history, node):
        self.history, self.node = history, node
        self.running = True
        self.last = None
        self.failure = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while self.running:
                self._look()
                time.sleep(LOOK_EVERY)
        except Exception as failure:  # pylint: disable=broad-except
            self.failure = failure

    def _look(self):
        port = self.node.port
        at = time.time()
        ready, health = http(port, "GET", "/ready"), http(port, "GET", "/health")
        took = time.time() - at
        age = self.node.metrics()["keepsock_redis_probe_age_milliseconds"]
        reason = ready.body.decode() if ready.status != 200 else ""
        self.last = Sample(self.node.name, at, ready.status, reason, health.status, took,
                           age / 1000)
        self.history.samples.append(self.last)

    def says(self, status, since):
        """A look that began later than since and found this status at /ready."""
        assert not self.failure, self.failure
        return self.last and self.last.at >= since and self.last.ready == status

    def probe_tells(self, since):
        assert not self.failure, self.failure
        return self.last.at >= since and probe_tells(self.last)

    def stop(self):
        self.running = False
        self.thread.join()
        assert not self.failure, self.failure


class Cluster:
    """redis: {name of the node: URL}. longest: how many seconds a fault may go on after it was
    noticed. more: of the group redis."""

    def __init__(self, redis, rng, longest=3, **more):
        self.rng, self.longest, self.history = rng, longest, History()
        self.nodes = {name: Keepsock(**SETTINGS, node={"name": name}, redis={"server": url, **more})
                      for name, url in redis.items()}
        for name, node in self.nodes.items():
            node.name = name
            node.launch()
        self.monitors, self.subscribers, self.publisher = {}, None, None

    def start(self):
        for node in self.nodes.values():
            wait_until(node.are_all_ready, "ready")
        ports = {name: node.port for name, node in self.nodes.items()}
        self.subscribers = Subscribers(self.history, ports, CHANNELS, CLIENTS, ASK).wait_ready()
        self.monitors = {name: Monitor(self.history, node) for name, node in self.nodes.items()}
        self.publisher = Publisher(self.history, self.nodes.values(), CHANNELS, self.rng).start()
        return self

    # Faults

    def pause(self, least, most):
        time.sleep(self.rng.uniform(least, most))

    def suffer(self, fault, impose, heal=None):
        """One fault: impose() at a random moment, heal() a random while after the nodes it
        concerns have noticed; without heal they help themselves."""
        self.pause(0.5, 2.5)
        self.history.faults.append(fault)
        fault.begin = time.time()
        impose()
        if not fault.brief:
            self._wait(fault.nodes, 503, fault.begin)
        if fault.hangs:
            for name in fault.nodes:
                _wait_or_go_on(lambda m=self.monitors[name]: m.probe_tells(fault.begin))
        if heal:
            self.pause(1, self.longest)
            heal()
        if heal or fault.brief:
            fault.healed = time.time()
        self._wait(self.nodes, 200, fault.healed or fault.begin)
        fault.end = time.time()
        fault.healed = fault.healed or fault.end
        self.settle(fault.kind)

    def _wait(self, names, status, since):
        """Ends after a while whatever happens: the judge sees more than a wait that failed."""
        for name in names:
            _wait_or_go_on(lambda m=self.monitors[name]: m.says(status, since))

    def settle(self, label):
        """All that is published after a fault has arrived everywhere. A node may be ready some
        moments before all its clients were told of a loss: then once more, when they are back."""
        for attempt in range(3):
            _wait_or_go_on(self.subscribers.all_subscribed)
            before = self.subscribers.taken_away
            marks = self.publisher.publish_more(f"{len(self.history.faults)}-{label}-{attempt}")
            _wait_or_go_on(lambda: self.subscribers.have(marks)
                           or self.subscribers.taken_away > before)
            if self.subscribers.taken_away == before:
                break
        self.history.finals.update(marks)

    # The end

    def judge(self):
        """Ends what goes on, and what is wrong as [(rule, text)]."""
        self.publisher.stop()
        self.settle("end")
        self.subscribers.ask_no_more()
        _wait_or_go_on(lambda: self.subscribers.quiet)
        self.subscribers.stop()
        for monitor in self.monitors.values():
            monitor.stop()
        node = next(iter(self.nodes.values()))
        for channel in (name for name, positioned in CHANNELS.items() if positioned):
            result = node.api("history", channel=channel, limit=PAGE)["result"]
            self.history.streams[channel] = (
                result["epoch"], [(p["offset"], p["data"]) for p in result["publications"]])
        return Judge(self.history).judge()

    def stop(self):
        failures = []
        for end in [*(node.stop for node in self.nodes.values())]:
            try:
                end()
            except AssertionError as failure:
                failures.append(str(failure))
        if self.subscribers and self.subscribers.process.poll() is None:
            self.subscribers.process.kill()
        assert not failures, "\n".join(failures)
        for node in self.nodes.values():
            node.remove()

    def logs(self):
        return "".join(f"--- {name}\n{node.log()[-8000:]}" for name, node in self.nodes.items())


def _wait_or_go_on(condition):
    try:
        wait_until(condition, "", SETTLE)
    except AssertionError:
        pass
