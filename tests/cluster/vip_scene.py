# SPDX-License-Identifier: ISC
"""Run by test_pair_vip.py in a network namespace of its own: a supervisor with an address. Prints a
line for each fact; asserts nothing."""

import signal
import subprocess

from keepsock import DurableRedis, wait_until
from pair import Pair

ADDRESS = "10.9.9.9"
NETWORK = [["link", "set", "lo", "up"],
           ["link", "add", "vip0", "type", "veth", "peer", "name", "vip1"],
           ["link", "set", "vip1", "up"], ["addr", "add", "10.9.9.1/24", "dev", "vip0"],
           ["link", "set", "vip0", "up"]]


def has_address():
    shown = subprocess.run(["ip", "-4", "addr", "show", "dev", "vip0"], capture_output=True,
                           text=True, check=True)
    return f"{ADDRESS}/" in shown.stdout


def tell(fact, node):
    print(f"{fact}: {node.state()}, {'address' if has_address() else 'no address'}", flush=True)


def scene(node):
    node.wait_for("primary")
    tell("promoted", node)
    node.say("demote", "force")
    tell("demoted", node)
    node.wait_for("primary")
    node.kill_supervisor()
    wait_until(lambda: not has_address(), "the kernel takes it away")
    print("killed: no address", flush=True)
    node.supervise()
    node.wait_for("primary")
    tell("again", node)
    node.kill_supervisor(signal.SIGSTOP)
    wait_until(lambda: not has_address(), "the kernel takes it away")
    print("stopped: no address", flush=True)
    node.kill_supervisor(signal.SIGCONT)
    wait_until(lambda: node.is_in("standby", "primary"), "it is awake")
    node.wait_for("primary")
    tell("awake", node)
    node.stop_supervisor()
    print(f"ended: {'address' if has_address() else 'no address'}", flush=True)


def main():
    for words in NETWORK:
        subprocess.run(["ip", *words], check=True)
    redis = DurableRedis().start()
    pair = Pair(redis.url, count=1, cluster={"vip": [f"{ADDRESS}/32"], "vip_interface": "vip0",
                                               "min_change_interval": "4s"})
    try:
        node = pair.nodes["a"].supervise()
        scene(node)
    finally:
        try:
            pair.end()
        finally:
            redis.stop()


if __name__ == "__main__":
    main()
