# SPDX-License-Identifier: ISC
"""A node with clients of every kind, whose processes are killed and replaced. The clients may not
notice."""

import os
import signal
import threading
import time

from clients import Crowd, sdk_clients
from crash_watch import SETTINGS as WATCHED, Watch
from keepsock import config_text, merge, wait_until
from node_state import NodeState

# A keeper starts the next worker at once only if the last one lived for a second.
LIFE = 1
LOOK_EVERY = 0.03
# Who follows a dead process runs after about so many seconds, on a machine that has other work.
REPLACED = 0.03
# Descriptors and memory settle soon after the last change.
SETTLE = 30
SETTINGS = merge(WATCHED, {
    "namespaces": [{"name": "plain", "allow_subscribe_for_client": True}],
})


class Rig:
    """entrance: where the clients connect. members: of the crowd, which gets `rate` publications a second in `channels` channels with
    positions and as many without. sdks: {"js": …, "go": …, "py": …}, how many clients of each SDK;
    all together they publish `asked` a second."""

    def __init__(self, node, rng, entrance, members, rate, channels, sdks, asked):
        self.node, self.rng = node, rng
        names = [f"h{n}" for n in range(channels)], [f"plain:{n}" for n in range(channels)]
        self.channels = {name: where == 0 for where, some in enumerate(names) for name in some}
        self.sdks, self.crowd, self.watch = [], None, None
        self.sdks = sdk_clients(str(node.directory), sdks, entrance, asked, self.channels)
        self.crowd = Crowd(entrance, rng.getrandbits(32), members, rate,
                           self.channels).wait_ready(members)
        self.watch = Watch(node, rng)
        self.next_look = 0.0
        self.counts = {}          # kind of change: how often
        self.freezes = []         # of takeovers, in microseconds
        self.gaps = {}            # kind of change: the longest times a publication took, in seconds
        # What this leaves with the allocator is nothing that leaks: finish() does it, too.
        self.node.ctl_json("show", "connections")
        self.before = self.settle_state()

    # The node

    def rows(self):
        """The rows of `show workers` if every slot could lose its worker or keeper now."""
        if time.monotonic() < self.next_look:
            return None
        self.next_look = time.monotonic() + LOOK_EVERY
        try:
            answer, _ = self.watch.admin("show", "workers")
        except OSError:
            return None           # there is no master
        rows = answer["rows"] if answer else []
        return rows if rows and all(row["protected"] and row["state"] == "ready"
                                    for row in rows) else None

    def is_ours(self, process):
        return str(self.node.directory) in process.title and process.name != "campaign-go"

    def settle_state(self):
        """The node's state once it has nothing under way."""
        last = None

        def settled():
            nonlocal last
            rows = self.rows()
            if not rows:
                return None
            try:
                before, last = last, NodeState(rows, self.is_ours)
            except OSError:
                last = None       # somebody is about to end
                return None
            return before and last.is_like(before) and last
        return wait_until(settled, "the node settles", SETTLE, 0.3)

    # What happens to it

    def count(self, kind):
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.watch.gather(f"{kind} {self.counts[kind]}")
        self.gaps.setdefault(kind, []).append(self.crowd.gap())

    def run_until(self, condition, what):
        return self.watch.load.run_until(condition, what, SETTLE)

    def wait_protected(self):
        return self.run_until(self.rows, "all slots are protected")

    def meanwhile(self, what, action, *arguments):
        """The load goes on while a thread does something; returns the outcome of that."""
        found = []
        thread = threading.Thread(target=lambda: found.append(action(*arguments)), daemon=True)
        thread.start()
        self.run_until(lambda: not thread.is_alive(), what)
        assert found, f"{what}: failed"
        return found[0]

    def kill_one(self):
        """A worker, a keeper, the master, or one of them and the master that is about to look after
        that, at a random moment after all slots are protected."""
        kind = self.rng.choice(("worker", "worker", "keeper", "master", "worker and master",
                                "keeper and master"))
        moment = self.rng.uniform(0, 0.2)
        if kind == "master":
            self.wait_protected()
            self.meanwhile("the master is killed", self.kill_master, moment)
        elif kind.endswith(" and master"):
            victim = self.mature_row()["pid" if kind.startswith("worker") else "keeper"]
            self.meanwhile("both are killed", self.kill_with_master, victim, moment,
                           self.rng.uniform(0, REPLACED))
        else:
            self.kill_in_slot("pid" if kind == "worker" else "keeper", moment)
        self.wait_protected()
        self.count(f"{kind} killed")

    def kill_master(self, moment):
        time.sleep(moment)
        self.node.kill_master()
        time.sleep(moment)
        return self.node.launch()

    def kill_with_master(self, victim, moment, between):
        time.sleep(moment)
        os.kill(victim, signal.SIGKILL)
        time.sleep(between)
        return self.kill_master(0)

    def mature_row(self):
        """Of any slot whose worker is followed by another one at once."""
        return self.rng.choice(self.run_until(
            lambda: [row for row in self.rows() or [] if row["uptime_s"] > LIFE],
            "all slots are protected"))

    def kill_in_slot(self, column, moment):
        row = self.mature_row()
        killer = threading.Timer(moment, os.kill, (row[column], signal.SIGKILL))
        killer.start()
        self.run_until(lambda: not killer.is_alive(), "it is killed")
        self.run_until(lambda: any(after["worker"] == row["worker"] and
                                   after[column] != row[column] for after in self.rows() or []),
                       f"another {column} in slot {row['worker']}")

    def reload(self):
        """A changed configuration: each slot's worker is followed by one that takes over."""
        self.wait_protected()
        settings = self.node.settings["node"]
        settings["loop_lag_warning"] = f"{100 + len(self.freezes)}ms"
        self.node.config.write_text(config_text(self.node.settings))
        self.change("reload")

    def upgrade(self, program):
        """Every process goes over to another program."""
        self.wait_protected()
        self.change("upgrade", str(program))
        # It is what the next master has to be, too.
        self.node.program = str(program)

    def change(self, *command):
        end = self.meanwhile(command[0], self.node.ctl, *command)
        assert end.returncode == 0, end.stderr
        rows = self.wait_protected()
        rows = self.watch.admin("show", "takeovers")[0]["rows"][-len(rows):]
        self.freezes += [row["freeze_us"] for row in rows]
        for row in rows:
            if row["lost"] or row["late"] or row["outcome"] != "done":
                self.watch.complain(command[0], [("closed", str(row))])
        self.count(command[0])

    def acknowledged(self):
        """How many publications the SDK clients made."""
        for clients in self.sdks:
            clients.judge()
        return sum(clients.acknowledged() for clients in self.sdks)

    # The end

    def finish(self):
        """Ends everything that goes on and fails the test if anything was noticed."""
        complaints = []
        self.wait_protected()
        told = [self.watch.finish(), *self.settle_clients(complaints)]
        found, memory = self.settle_state().leaked_since(self.before)
        complaints += found
        for kind, count in self.counts.items():
            gaps = sorted(self.gaps[kind])
            told.append(f"{count} × {kind}: slowest delivery {gaps[-1] * 1000:.0f} ms, "
                        f"{gaps[len(gaps) // 2] * 1000:.0f} ms in the middle")
        if self.freezes:
            told.append(f"frozen for {max(self.freezes) / 1000:.1f} ms at most")
        print(*told, memory, sep="\n")
        complaints = [*self.watch.complaints, *complaints]
        assert not complaints, "\n".join(map(str, [len(complaints), *complaints[:50]]))
        # Only in the moment between accept() and its deposit a connection is nobody's.
        assert self.watch.load.unanswered <= sum(self.counts.values())

    def settle_clients(self, complaints):
        quiet = self.crowd.settle()
        for clients in self.sdks:
            clients.say("enough")
        for clients in self.sdks:
            clients.wait_for("quiet", SETTLE)
            tops = quiet["tops"]
            self.go_on_until(lambda c=clients: c.have_all(tops))
            streams = {channel: [data for _, data in self.watch.history(channel)]
                       for channel in clients.judged.published}
            clients.judged.judge_rest(tops, streams)
            complaints += clients.judge()
            yield (f"{clients.title}: {clients.acknowledged()} published, "
                   f"{clients.judged.arrived} received")
        complaints += self.crowd.judge() + self.judge_mass(quiet["published"])
        known = {row["id"] for row in self.node.ctl_json("show", "connections")["rows"]}
        ids = [*quiet["clients"], *(id for c in self.sdks for id in c.judged.ids.values())]
        complaints += [("identity", f"nobody knows {id}") for id in ids if id not in known]
        yield (f"the crowd: {sum(quiet['tops'].values())} published, {quiet['arrived']} received, "
               f"{sum(quiet['published'].values())} published by members")

    @staticmethod
    def go_on_until(condition):
        """The judge says more than a wait that failed."""
        try:
            wait_until(condition, "", SETTLE)
        except AssertionError:
            pass

    def judge_mass(self, published):
        """Members publish to one channel, each with numbers of its own."""
        stored = {}
        for _, data in self.watch.history("mass"):
            stored.setdefault(data["by"], []).append(data["n"])
        return [("stored", f"mass: {stored.get(by, [])} of {by}, who published {count}")
                for by, count in published.items()
                if stored.get(by, []) != list(range(1, count + 1))] + [
               ("stored", f"mass: {by} published nothing") for by in stored.keys() - published.keys()]

    def close(self):
        # Who reads this wants to know what master and keepers did last.
        lines = [line for line in self.node.log().splitlines() if " process=worker" not in line]
        print("\n".join(lines[-80:]))
        if self.watch:
            self.watch.close()
        for clients in (*self.sdks, *([self.crowd] if self.crowd else [])):
            clients.stop()


__all__ = ["SETTINGS", "Rig"]
