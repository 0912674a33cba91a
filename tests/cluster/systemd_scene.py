# SPDX-License-Identifier: ISC
"""Run by test_systemd.py in a network namespace of its own: docs/deploy-pair.md on three machines with a
real systemd, two nodes and a witness. Arguments: the installed tree, a directory for the machines."""

import json
import pathlib
import sys

from certificates import Authority
from client import Client
from keepsock import wait_until
from machine import Machine, make_switch
from tls_client import TlsStream, context
from wire import Http

VIP, PORT = "10.0.0.10", 8000
PREFIX = "/usr/local"
CONFIG = f"{PREFIX}/etc/keepsock"
EXAMPLES = f"{PREFIX}/share/doc/keepsock/examples"
# A busy machine is not a lost host.
PATIENCE = 'lease_ttl = "8s"; check_timeout = "4s"; restart_timeout = "15s";'
PASSWORD, API_KEY = "password-of-redis", "key-of-the-api"
NAME = "ws.example.com"
# The example's listeners with TLS, and the plain one beside them.
LISTENERS = r"/^listeners = /d; /^#listeners = (/,/^#);/ s/^#//; s/^listeners = (/&\n{ address = \"0.0.0.0\"; port = 8000; },/"


def tell(fact):
    print(fact, flush=True)


def set_up_redis(machine, first, witness):
    role = "" if first else "replicaof 10.0.0.11 6379\\n"
    role += "replica-priority 0\\n" if witness else ""
    machine.shell(f"""
        sed 's/PASSWORD/{PASSWORD}/' {EXAMPLES}/redis-pair.conf >/etc/redis/keepsock.conf
        printf '{role}' >>/etc/redis/keepsock.conf
        echo include /etc/redis/keepsock.conf >>/etc/redis/redis.conf
        sed 's/PASSWORD/{PASSWORD}/' {EXAMPLES}/sentinel.conf >/etc/redis/sentinel.conf
        chown redis:redis /etc/redis/*.conf
        chmod 640 /etc/redis/*.conf
        systemctl start redis-server redis-sentinel""")


def set_up_tls(machine, certificate, key):
    machine.run("tee", "/tmp/chain", input=certificate)
    machine.run("tee", "/tmp/key", input=key)
    machine.shell(f"""
        umask 077
        cd {CONFIG}
        sed -i '{LISTENERS}' keepsock.conf
        install -d -g keepsock -m 750 tls
        install -m 644 /tmp/chain tls/chain.pem
        install -g keepsock -m 640 /tmp/key tls/key.pem
        echo secret-of-the-tickets-of-both-nodes >tls/tickets
        chown keepsock tls/tickets""")


def set_up_keepsock(machine, certificate, key):
    machine.shell(f"""
        systemd-sysusers
        systemd-tmpfiles --create {PREFIX}/lib/tmpfiles.d/keepsock.conf
        install -g keepsock -m 640 {EXAMPLES}/keepsock-pair-{machine.name}.conf {CONFIG}/keepsock.conf
        sed -i 's/^cluster: {{/&\\n{PATIENCE}/' {CONFIG}/keepsock.conf
        umask 077
        echo {PASSWORD} >{CONFIG}/redis-password
        echo secret-of-the-supervisors >{CONFIG}/cluster-secret
        echo {API_KEY} >{CONFIG}/api-key
        chown keepsock {CONFIG}/redis-password {CONFIG}/cluster-secret {CONFIG}/api-key""")
    set_up_tls(machine, certificate, key)
    machine.shell(f"""
        runuser -u keepsock -- keepsockd -t -c {CONFIG}/keepsock.conf
        runuser -u keepsock -- keepsock-supervisor -t -c {CONFIG}/keepsock.conf
        systemctl enable --now keepsockd keepsock-supervisor""")


def status(machine):
    run = machine.try_run("keepsockctl", "-s", "/run/keepsock/supervisor.sock", "status", "--json")
    return json.loads(run.stdout) if run.returncode == 0 else {}


def settle(nodes):
    """(primary, others), once one is the primary, with the address, and the others are standbys."""
    def settled():
        states = sorted(str(status(node).get("state")) for node in nodes)
        return states == ["primary"] + ["standby"] * (len(nodes) - 1)
    try:
        wait_until(settled, "one primary", 60, 0.1)
    except AssertionError:
        for node in nodes:
            print(node.name, status(node), node.journal(), flush=True)
        raise
    primary = next(node for node in nodes if status(node)["state"] == "primary")
    others = [node for node in nodes if node is not primary]
    assert primary.has_address(VIP) and not any(node.has_address(VIP) for node in others)
    return primary, others


def publish(data):
    """Until it is acknowledged: while Sentinel is busy it may take some times."""
    body = json.dumps({"channel": "c", "data": data, "idempotency_key": str(data)}).encode()

    def once():
        try:
            with Http(PORT, VIP) as connection:
                answer = connection.request("POST", "/api/publish", {"X-API-Key": API_KEY}, body)
                return answer.status == 200 and "result" in answer.json()
        except OSError:
            return False
    wait_until(once, f"{data} is published", 60, 0.1)


def a_master_is_killed(primary, client):
    master = primary.main_pid("keepsockd")
    primary.run("systemctl", "kill", "--kill-whom=main", "-s", "KILL", "keepsockd")
    wait_until(lambda: primary.main_pid("keepsockd") not in (0, master) and
               primary.try_run("systemctl", "is-active", "keepsockd").returncode == 0, "another", 60)
    publish(2)
    assert client.publication("c")["data"] == 2
    tell("a killed master is replaced, connections stay")


def a_supervisor_is_killed(primary, epoch):
    pid = primary.main_pid("keepsock-supervisor")
    primary.run("systemctl", "kill", "--kill-whom=main", "-s", "KILL",
                "keepsock-supervisor")
    wait_until(lambda: primary.main_pid("keepsock-supervisor") not in (0, pid), "another", 60)
    wait_until(lambda: status(primary).get("state") == "primary", "it goes on", 60)
    assert status(primary)["epoch"] == epoch and status(primary)["node_adopted"]
    tell("a killed supervisor goes on")


def secured(tls, session=None):
    """By the address that clients use."""
    return TlsStream(443, tls, VIP, NAME, session=session)


def session_of(client):
    """What a client can resume, its connection's ticket."""
    session = client.websocket.stream.tls.session
    assert session and session.has_ticket
    return session


def sessions_are_resumed(tls, session):
    with secured(tls, session) as stream:
        assert stream.tls.session_reused
        assert stream.request("GET", "/ready").status == 200
    with Http(80, VIP) as plain:
        answer = plain.request("GET", "/connection/websocket", {"Host": NAME})
        assert answer.status == 308 and answer.header("Location") == f"https://{NAME}/connection/websocket"
    tell("TLS sessions are resumed on the other node")


def scene(installed, directory):
    make_switch()
    authority = Authority(directory / "authority")
    certificate, key = authority.issue("pair", NAME)
    tls = context(authority)
    machines = [Machine(name, number, installed, directory)
                for name, number in (("a", 11), ("b", 12), ("w", 13))]
    a, b, witness = machines
    try:
        for machine in machines:
            machine.wait_booted()
        for machine in machines:
            set_up_redis(machine, machine is a, machine is witness)
        for machine in (a, b):
            set_up_keepsock(machine, certificate, key)
        primary, (standby,) = settle([a, b])
        epoch = status(primary)["epoch"]
        tell("a pair")
        with Client(443, stream=secured(tls)) as client:
            client.result("subscribe", channel="c")
            publish(1)
            assert client.publication("c")["data"] == 1
            a_master_is_killed(primary, client)
            settle([a, b])
            a_supervisor_is_killed(primary, epoch)
            primary.run("systemctl", "reload", "keepsockd")
            publish(3)
            assert client.publication("c")["data"] == 3
            tell("systemctl reload keeps connections")
            primary.run("keepsockctl", "upgrade")
            publish(3.5)
            assert client.publication("c")["data"] == 3.5
            tell("an upgrade keeps connections")
            session = session_of(client)
        primary.run("systemctl", "stop", "keepsock-supervisor")
        wait_until(lambda: status(standby).get("state") == "primary", "handed over", 60)
        assert standby.has_address(VIP) and not primary.has_address(VIP)
        assert status(standby)["epoch"] == epoch + 1
        primary.run("systemctl", "start", "keepsock-supervisor")
        primary, (standby,) = settle([a, b])
        tell("systemctl stop of a supervisor hands over")
        sessions_are_resumed(tls, session)
        publish(4)
        primary.cut_power()
        wait_until(lambda: status(standby).get("state") == "primary", "taken over", 60)
        wait_until(lambda: standby.has_address(VIP), "the address has moved")
        publish(5)
        assert status(standby)["epoch"] == epoch + 2
        tell("a host without power is taken over from")
        standby.run("systemctl", "stop", "keepsock-supervisor", "keepsockd")
        assert standby.try_run("pgrep", "-f", "^keepsock").returncode == 1
        tell("systemctl stop leaves nothing")
    finally:
        for machine in machines:
            machine.cut_power()


if __name__ == "__main__":
    scene(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
