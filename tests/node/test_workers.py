# SPDX-License-Identifier: ISC
"""Several workers, and what happens when a process of the node, or Redis, goes away."""

import os
import signal
import time

from client import Client
from keepsock import Keepsock, Redis, wait_until
from wire import http


def clients_of_each_worker(node, make_client):
    """{worker pid: [clients]} with at least two clients in every worker."""
    found = {}

    def enough():
        client = make_client(node)
        found.setdefault(worker_of(node, client), []).append(client)
        return len(found) == len(node.workers()) and min(map(len, found.values())) >= 2
    wait_until(enough, "every worker has two clients", interval=0)
    return found


def worker_of(node, client):
    """The pid of the worker that holds this client's connection."""
    slot, = (row["worker"] for row in node.ctl_json("show", "connections")["rows"]
             if row["id"] == client.id)
    return node.workers()[slot]


def test_publications_cross_workers(node, make_client, channel):
    found = clients_of_each_worker(node, make_client)
    everyone = [client for clients in found.values() for client in clients]
    for client in everyone:
        client.result("subscribe", channel=channel)
    for number, publisher in enumerate(everyone, 1):
        publisher.result("publish", channel=channel, data=publisher.id)
        for client in everyone:
            publication = client.publication(channel)
            assert (publication["data"], publication["offset"]) == (publisher.id, number)


def test_surveys_sum_over_workers(start_node, make_client):
    node = start_node(node={"workers": 3})
    found = clients_of_each_worker(node, make_client)
    everyone = [client for clients in found.values() for client in clients]
    for client in everyone:
        client.result("subscribe", channel="c")
    assert node.api("channels")["result"]["channels"] == {"c": {"num_clients": len(everyone)}}
    info, = node.api("info")["result"]["nodes"]
    assert info["num_clients"] == len(everyone) and info["num_channels"] == 1


def test_a_killed_workers_clients_notice_nothing(start_node, make_client):
    """Another worker goes on with their connections: same ids, same subscriptions, nothing missed."""
    node = start_node()
    found = clients_of_each_worker(node, make_client)
    everyone = [client for clients in found.values() for client in clients]
    victim = node.workers()[0]
    for client in everyone:
        client.result("subscribe", channel="c")
    wait_until(node.are_protected, "the keepers have everything")
    os.kill(victim, signal.SIGKILL)
    node.publish("c", "meanwhile")
    for client in everyone:
        assert client.publication("c")["data"] == "meanwhile"
    successor = node.workers()[0]
    assert successor != victim
    for client in found[victim]:
        assert worker_of(node, client) == successor
        client.result("publish", channel="c", data=client.id)
        for each in everyone:
            assert each.publication("c")["data"] == client.id
    assert node.metrics()["keepsock_takeover_connections_total"] >= len(found[victim])
    assert not node.metrics()["keepsock_takeover_connections_lost_total"]


def test_a_dead_workers_clients_stay_present(start_node, make_client):
    """Its successor is the same worker to Redis: nobody is purged, nobody leaves or joins."""
    node = start_node(channel={"join_leave": True, "force_push_join_leave": True})
    found = clients_of_each_worker(node, make_client)
    everyone = [client for clients in found.values() for client in clients]
    victim = node.workers()[0]
    for number, client in enumerate(everyone, 1):
        client.result("subscribe", channel="c")
        for each in everyone[:number]:
            assert each.push()["join"]["info"]["client"] == client.id
    wait_until(node.are_protected, "the keepers have everything")
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: node.workers().get(0) not in (None, victim), "another worker in slot 0")
    wait_until(node.are_all_ready, "it is ready")
    assert set(node.api("presence", channel="c")["result"]["presence"]) == {c.id for c in everyone}
    # What its client does is seen as before.
    found[victim][0].leave()
    others = [client for client in everyone if client is not found[victim][0]]
    for client in others:
        assert client.push()["leave"]["info"]["client"] == found[victim][0].id


def test_worker_killed_again_and_again(start_node, make_client):
    node = start_node()
    for _ in range(5):
        victim = node.workers()[1]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: node.workers().get(1) not in (None, victim), "another worker in slot 1")
    wait_until(node.is_ready, "ready again")
    clients_of_each_worker(node, make_client)


def test_hung_worker_does_not_hang_the_admin_socket(start_node):
    node = start_node()
    hung = node.workers()[0]
    os.kill(hung, signal.SIGSTOP)
    try:
        run = node.ctl("show", "workers")
        assert run.returncode == 0 and "not answering" in run.stdout, run
        assert node.ctl("show", "connections").returncode == 0
    finally:
        os.kill(hung, signal.SIGCONT)
    wait_until(lambda: "not answering" not in node.ctl("show", "workers").stdout, "it answers")


def test_interrupt_ends_it_like_terminate(make_node):
    for number in (signal.SIGINT, signal.SIGTERM):
        node = make_node().start()
        process = node.process
        process.send_signal(number)
        assert process.wait(20) == 0


def test_second_node_in_the_same_run_directory_is_refused(make_node):
    first = make_node().start()
    second = Keepsock(node={"run_dir": str(first.directory / "run")},
                      admin={"socket": str(first.directory / "second.sock")})
    assert second.launch().wait() == 1
    assert "run" in second.log()
    second.remove()
    assert first.is_ready()


# Redis goes away

def assert_stays_connected(client):
    """Any answer will do, as long as it is one."""
    assert client.result("unsubscribe", channel="never") == {}


def test_embedded_redis_is_restarted(start_node, make_client):
    """What was acknowledged before is still there, and subscriptions go on."""
    node = start_node()
    client = make_client(node)
    epoch = client.result("subscribe", channel="c")["epoch"]
    assert node.publish("c", 1)["offset"] == 1
    assert client.publication("c")["offset"] == 1
    dead = node.redis_pid()
    os.kill(dead, signal.SIGKILL)

    def publish():
        reply = client.call("publish", channel="c", data=2)
        assert "publish" in reply or reply["error"]["code"] == 100, reply
        return "publish" in reply
    wait_until(publish, "publishing works again")
    assert node.redis_pid() != dead
    wait_until(node.is_ready, "ready again")
    history = client.result("history", channel="c", limit=-1)
    if history["epoch"] == epoch:
        assert history["publications"][0]["data"] == 1

    def heard():
        push = client.push()
        if "unsubscribe" in push:
            assert push["unsubscribe"]["code"] == 2500
            client.result("subscribe", channel="c", recover=True, offset=1, epoch=epoch)
            return True
        return push["pub"]["data"] == 2
    wait_until(heard, "the client hears of it")
    assert_stays_connected(client)


def test_away_redis_is_error_100_and_nobody_is_disconnected(start_node, make_client, redis):
    node = start_node(redis={"server": redis.url})
    clients = [make_client(node) for _ in range(6)]
    for client in clients:
        client.result("subscribe", channel="c")
    redis.kill()
    for client in clients:
        assert client.error("publish", channel="c", data=1) == 100
        assert client.error("subscribe", channel="other") == 100
        assert client.error("history", channel="c", limit=1) == 100
        assert client.error("presence", channel="c") == 100
        assert_stays_connected(client)
    assert node.api("publish", channel="c", data=1)["error"]["code"] == 100
    wait_until(lambda: http(node.port, "GET", "/ready").status == 503, "/ready tells the truth")
    assert http(node.port, "GET", "/health").status == 200
    with Client(node.port) as newcomer:
        assert newcomer.error("subscribe", channel="c") == 100

    redis.start()
    wait_until(node.is_ready, "ready again")
    wait_until(lambda: "result" in node.api("publish", channel="c", data="back"), "publishing works")
    for client in clients:
        assert_stays_connected(client)


def test_subscribers_hear_again_after_redis_was_away(start_node, make_client, redis):
    """Subscriptions of the workers are renewed by themselves; an SDK follows a 2500 by itself."""
    node = start_node(redis={"server": redis.url})
    clients = [make_client(node) for _ in range(4)]
    for client in clients:
        client.result("subscribe", channel="c")
    redis.kill()
    redis.start()
    wait_until(lambda: "result" in node.api("publish", channel="c", data="probe"), "publish works")
    for client in clients:
        hear(node, client)


def hear(node, client):
    """Publishes until the client hears it, answering a 2500 as an SDK would. A publish may meet a
    worker that has not found back to Redis yet."""
    def published():
        return "result" in node.api("publish", channel="c", data="again")
    wait_until(published, "publish works")
    push = client.push()
    while "pub" not in push or push["pub"]["data"] != "again":
        if "unsubscribe" in push:
            assert push["unsubscribe"]["code"] == 2500
            wait_until(lambda: "subscribe" in client.call("subscribe", channel="c"), "subscribed")
            wait_until(published, "publish works")
        push = client.push()


def test_hung_redis_is_error_100_in_time(start_node, make_client, redis):
    """Before any SDK's own command timeout of five seconds."""
    node = start_node(redis={"server": redis.url, "command_timeout": "1s"})
    client = make_client(node)
    client.result("subscribe", channel="c")
    redis.pause()
    try:
        assert client.error("publish", channel="c", data=1) == 100
        assert client.error("subscribe", channel="other") == 100
        assert_stays_connected(client)
    finally:
        redis.resume()
    wait_until(lambda: "result" in node.api("publish", channel="c", data=2), "publishing works")
    assert_stays_connected(client)


def test_node_waits_for_redis_at_start(make_node, redis):
    redis.kill()
    node = make_node(redis={"server": redis.url}).launch()

    def alive():
        try:
            return http(node.port, "GET", "/health").status == 200
        except OSError:
            return False
    wait_until(alive, "alive without Redis")
    assert http(node.port, "GET", "/ready").status == 503
    redis.start()
    wait_until(node.is_ready, "ready")


def test_redis_with_a_password(start_node, make_client):
    server = Redis(password="redis-secret").start()
    try:
        node = start_node(redis={"server": server.url})
        client = make_client(node)
        client.result("subscribe", channel="c")
        client.result("publish", channel="c", data=1)
        assert client.publication("c")["data"] == 1
        for run in (node.ctl("show", "config"), node.ctl("show", "redis")):
            assert "redis-secret" not in run.stdout
        assert "redis-secret" not in node.log()
    finally:
        server.stop()


def test_a_late_loop_says_what_held_it_up(start_node):
    node = start_node(node={"workers": 1, "loop_lag_warning": "100ms"})
    assert node.metrics()["keepsock_loop_lag_warnings_total"] == 0
    worker, = node.workers().values()
    os.kill(worker, signal.SIGSTOP)
    try:
        # How long it stands still, not what is waited for.
        time.sleep(0.5)
    finally:
        os.kill(worker, signal.SIGCONT)
    wait_until(lambda: "loop_lag ms=" in node.log(), "the warning")
    line = next(line for line in node.log().splitlines() if "loop_lag ms=" in line)
    # It was not the worker's own doing.
    assert " cause=outside " in line, line
    assert node.metrics()["keepsock_loop_lag_warnings_total"] >= 1
