# SPDX-License-Identifier: ISC
"""The API's commands on users, on two nodes that share a Redis: subscribe, unsubscribe, disconnect
and refresh."""

import pytest

from keepsock import Keepsock, Redis, wait_until

SECRET = "a-secret-of-the-tests-and-their-nodes-alone"
METHODS = ("subscribe", "unsubscribe", "disconnect", "refresh")


def settings(redis, directory, **more):
    path = directory / "hmac-secret"
    if not path.exists():
        path.write_text(SECRET)
        path.chmod(0o600)
    base = {"redis": {"server": redis.url}, "client": {"insecure": False},
            "channel": {"join_leave": True},
            "token": {"hmac_secret_file": str(path)}}
    return {name: base.get(name, {}) | more.get(name, {}) for name in {**base, **more}}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two nodes on one Redis."""
    redis = Redis().start()
    directory = tmp_path_factory.mktemp("pair")
    nodes = [Keepsock(**settings(redis, directory, node={"name": name})) for name in ("a", "b")]
    try:
        for node in nodes:
            node.start()
        yield nodes
    finally:
        for node in nodes:
            node.stop()
            node.remove()
        redis.stop()


@pytest.fixture
def user(channel):
    """A user nobody else has; with what JSON and keys could stumble over."""
    return f'u "{channel}"\u00e9'


def command(node, method, **body):
    """The API's answer must be {"result": {}}."""
    answer = node.api(method, **body)
    assert answer == {"result": {}}, answer


def code(node, method, **body):
    return node.api(method, **body)["error"]["code"]


# What is wrong with a command

@pytest.mark.parametrize("method", METHODS)
def test_a_command_needs_a_user(pair, method):
    assert code(pair[0], method, channel="c") == 107
    assert code(pair[0], method, channel="c", user="") == 107
    assert code(pair[0], method, channel="c", user="u" * 5000) == 107
    assert code(pair[0], method, channel="c", user="u", client="c" * 300) == 107


@pytest.mark.parametrize("method", ["subscribe", "unsubscribe"])
def test_channels_are_checked(pair, method):
    assert code(pair[0], method, user="u", channel="none:x") == 102
    assert code(pair[0], method, user="u", channel="x" * 256) == 107
    assert code(pair[0], method, user="u", channel="\u00e9") == 107
    assert code(pair[0], "subscribe", user="u") == 107


def test_payloads_are_checked(pair):
    for field in ("b64data", "b64info"):
        assert code(pair[0], "subscribe", user="u", channel="c", **{field: "!"}) == 107
    for method, field in (("subscribe", "info"), ("subscribe", "data"), ("refresh", "info")):
        assert code(pair[0], method, user="u", channel="c", **{field: "x" * 20000}) == 107


@pytest.mark.parametrize("disconnect", [{"code": 2999}, {"code": 5000}, {"code": 1000},
                                        {"code": 4000, "reason": "x" * 124},
                                        {"code": 4000, "reason": '{"reconnect":true}'},
                                        {"code": 4000, "reason": "7"}])
def test_what_sdks_could_not_read_is_refused(pair, disconnect):
    assert code(pair[0], "disconnect", user="u", disconnect=disconnect) == 107


def test_whitelists_have_a_limit(pair, user):
    command(pair[0], "disconnect", user=user, whitelist=["x"] * 1024)
    assert code(pair[0], "disconnect", user=user, whitelist=["x"] * 1025) == 107


@pytest.mark.parametrize("method", METHODS)
def test_a_user_who_is_nowhere(pair, user, method):
    command(pair[0], method, user=user, channel="c", client="no-such-client")


# Subscriptions stay

def test_as_many_as_a_client_may_have(pair, user):
    for i in range(128):
        command(pair[0], "subscribe", user=user, channel=f"c{i}")
    assert code(pair[0], "subscribe", user=user, channel="c128") == 106
    command(pair[0], "subscribe", user=user, channel="c5")
    command(pair[0], "unsubscribe", user=user, channel="c7")
    command(pair[0], "subscribe", user=user, channel="c128")
    command(pair[0], "unsubscribe", user=user)
    command(pair[0], "subscribe", user=user, channel="c129")


# What an acknowledgement means

def test_without_redis_nothing_is_acknowledged(start_node, redis, tmp_path):
    node = start_node(**settings(redis, tmp_path))
    redis.kill()
    wait_until(lambda: not node.is_ready(), "the node noticed")
    for method in METHODS:
        assert code(node, method, user="u", channel="c") == 100
