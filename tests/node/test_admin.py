# SPDX-License-Identifier: ISC
"""The admin socket and keepsockctl: every command as text and as JSON, refusals, privileges."""

import json
import os
import pwd
import socket
import stat
import subprocess

import pytest

from client import Client
from keepsock import keepsockctl, wait_until

VIEWS = [["status"], ["show", "workers"], ["show", "connections"], ["show", "channels"],
         ["show", "redis"], ["show", "config"], ["show", "metrics"],
         ["show", "events"], ["show", "sessions"], ["show", "nodes"]]


def texts_in(value):
    """All strings and keys inside a parsed JSON value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from texts_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_in(inner)
    else:
        yield str(value)


@pytest.mark.parametrize("command", VIEWS, ids=" ".join)
def test_views_as_text_and_json(node, client, channel, command):
    client.result("subscribe", channel=channel)
    run = node.ctl(*command)
    assert run.returncode == 0 and run.stdout.strip() and not run.stderr, run
    assert node.ctl_json(*command)


def test_help_names_every_command(node):
    text = node.ctl("help").stdout
    for word in ("status", "show workers", "show connections", "show connection", "show channels",
                 "show channel", "show redis", "show config", "show events", "disconnect", "publish",
                 "purge", "log level"):
        assert word in text, word


def test_show_workers_lists_every_slot(node):
    text = " ".join(texts_in(node.ctl_json("show", "workers")))
    for pid in node.workers().values():
        assert str(pid) in text
        assert str(pid) in node.ctl("show", "workers").stdout


def test_show_connections_and_one_connection(node, client, channel):
    client.result("subscribe", channel=channel)
    for run in (node.ctl("show", "connections"), node.ctl("show", "connection", client.id)):
        assert client.id in run.stdout, run
    assert channel in texts_in(node.ctl_json("show", "connection", client.id))


def test_show_channels_and_one_channel(node, client, make_client, channel):
    for member in (client, make_client(node)):
        member.result("subscribe", channel=channel)
    assert channel in texts_in(node.ctl_json("show", "channels"))
    run = node.ctl("show", "channel", channel)
    assert run.returncode == 0 and channel in run.stdout
    assert "2" in texts_in(node.ctl_json("show", "channel", channel))


def test_show_many_connections(start_node, make_client):
    """More than one message of the internal socket can hold."""
    node = start_node()
    ids = {make_client(node).id for _ in range(400)}
    assert ids <= set(texts_in(node.ctl_json("show", "connections")))


def test_show_config_tells_the_running_values(node):
    text = node.ctl("show", "config").stdout
    assert "history_size" in text and "100" in text
    assert "ping_interval" in text
    assert "test-key-of-the-api" not in text


def test_disconnect(node, make_client):
    client = make_client(node)
    assert node.ctl("disconnect", client.id).returncode == 0
    client.expect_disconnect(3503)
    wait_until(lambda: client.id not in node.ctl("show", "connections").stdout, "it is gone")


def test_disconnect_with_code_and_reason(node, make_client):
    client = make_client(node)
    assert node.ctl("disconnect", client.id, "4001", "gone fishing").returncode == 0
    end = client.read_to_close()
    assert (end.code, end.reason) == (4001, "gone fishing")


def test_publish(node, client, channel):
    client.result("subscribe", channel=channel)
    assert node.ctl("publish", channel, '{"from": "operator"}').returncode == 0
    assert client.publication(channel)["data"] == {"from": "operator"}


def test_log_level(start_node, make_client):
    node = start_node()
    make_client(node)
    quiet = node.log().count("level=debug")
    assert quiet == 0
    assert node.ctl("log", "level", "debug").returncode == 0

    def speaks():
        with Client(node.port) as client:
            client.result("unsubscribe", channel="c")
        return node.log().count("level=debug")
    wait_until(speaks, "debug lines appear")


REFUSED = [["no-such-command"], ["show"], ["show", "no-such-thing"], ["show", "connection"],
           ["show", "connection", "00000000-0000-4000-8000-000000000000"],
           ["show", "connection", "not-an-id"], ["disconnect"], ["disconnect", "not-an-id"],
           ["disconnect", "00000000-0000-4000-8000-000000000000"], ["publish", "c"],
           ["publish", "c", "{bad"], ["publish", "news:x", "1"], ["log", "level", "loud"],
           ["log", "level"], ["status", "of", "what"]]


@pytest.mark.parametrize("command", REFUSED, ids=" ".join)
def test_refusals(node, command):
    run = node.ctl(*command)
    assert run.returncode == 1, run
    assert run.stderr.strip() and not run.stdout, run


@pytest.mark.parametrize("code", ["0", "1000", "2999", "70000", "x"])
def test_disconnect_refuses_codes_no_client_understands(node, client, code):
    assert node.ctl("disconnect", client.id, code, "reason").returncode == 1
    client.expect_quiet()


def test_no_socket(node, tmp_path):
    run = subprocess.run([keepsockctl(), "-s", str(tmp_path / "none"), "status"],
                         capture_output=True, text=True, timeout=20)
    assert run.returncode == 1 and run.stderr.strip()


# The protocol under keepsockctl: one line in, a verdict line and a body out

def ask(path, data):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer.decode()


def test_line_protocol(node):
    verdict, body = ask(node.socket, b"status\n").split("\n", 1)
    assert verdict == "OK" and body
    verdict, body = ask(node.socket, b"status --json\n").split("\n", 1)
    assert verdict == "OK" and json.loads(body)
    assert ask(node.socket, b"nonsense\n").startswith("ERROR ")


@pytest.mark.parametrize("data", [b"\n", b"\0\n", b"x" * 1000000 + b"\n", b"show \xff\xfe\n", b""],
                         ids=["newline", "NUL", "long", "not UTF-8", "nothing"])
def test_nonsense_on_the_socket(node, data):
    try:
        answer = ask(node.socket, data)
        assert answer == "" or answer.startswith("ERROR "), answer
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert node.ctl("status").returncode == 0


def test_idle_admin_connections_block_nobody(node):
    idle = []
    for _ in range(5):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(node.socket))
        idle.append(connection)
    assert node.ctl("status").returncode == 0
    for connection in idle:
        connection.close()


# Privileges

def test_socket_is_private_by_default(node):
    assert stat.S_IMODE(os.stat(node.socket).st_mode) == 0o600


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as another user")


@needs_root
def test_other_users_cannot_connect(node):
    run = node.ctl("status", user=pwd.getpwnam("nobody").pw_uid)
    assert run.returncode == 1 and run.stderr.strip()


@needs_root
def test_other_users_may_only_look(start_node, make_client):
    node = start_node(admin={"mode": "0666"})
    nobody = pwd.getpwnam("nobody").pw_uid
    client = make_client(node)
    client.result("subscribe", channel="c")
    for command in VIEWS:
        assert node.ctl(*command, user=nobody).returncode == 0, command
    for command in (["disconnect", client.id], ["publish", "c", "1"], ["log", "level", "debug"]):
        run = node.ctl(*command, user=nobody)
        assert run.returncode == 1 and "privilege" in run.stderr, run
    client.expect_quiet()
