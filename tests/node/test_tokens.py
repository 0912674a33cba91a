# SPDX-License-Identifier: ISC
"""Tokens as clients bring them: who a connection is, who may subscribe, and what each bad one
gets. The verifier's own rules have unit tests; here it is the codes on the wire."""

import json

import pytest

import tokens
from client import Client
from conftest import give_secret
from wire import TEXT


def connect_only(node, **parameters):
    client = Client(node.port, connect=False)
    client.send(client.command("connect", **parameters))
    return client


# Connection tokens

def test_user_and_info(auth_node, make_client, channel):
    alice = make_client(auth_node, connect={"token": tokens.user("alice", info={"name": "Alice"})})
    assert not {"expires", "ttl", "subs"} & alice.connected.keys()
    alice.result("subscribe", channel=channel)
    entry = alice.result("presence", channel=channel)["presence"][alice.id]
    assert entry == {"user": "alice", "client": alice.id, "conn_info": {"name": "Alice"}}
    alice.result("publish", channel=channel, data=1)
    assert alice.publication(channel)["info"] == entry


def test_info_passes_byte_for_byte(auth_node, make_client, channel):
    raw = b'{"a": 1.50,\t"b":"\\u0041\\/", "a":[ ]}'
    token = tokens.hmac(b'{"sub":"x","info":' + raw + b"}", tokens.SECRET)
    client = make_client(auth_node, connect={"token": token})
    client.result("subscribe", channel=channel)
    client.send(client.command("presence", channel=channel))
    assert raw.decode() in client.next_raw()


def test_anonymous_token(auth_node, start_auth_node, make_client):
    assert make_client(auth_node, connect={"token": tokens.user("")}).id
    strict = start_auth_node(client={"disallow_anonymous_connection_tokens": True})
    with connect_only(strict, token=tokens.user("")) as client:
        client.expect_disconnect(3507)


INVALID = {
    "not a token": "hello",
    "two parts": "a.b",
    "other secret": tokens.user("alice", secret="another"),
    "none": tokens.forge("none", {"sub": "alice"}),
    "no signature": tokens.user("alice").rsplit(".", 1)[0] + ".",
    "algorithm without a key": tokens.forge("RS256", {"sub": "alice"}, b"x" * 256),
    "user is no string": tokens.hmac({"sub": 5}, tokens.SECRET),
    "a channel claim": tokens.hmac({"sub": "alice", "channel": "c"}, tokens.SECRET),
    "claims are no object": tokens.hmac(b"[]", tokens.SECRET),
    "claims are no JSON": tokens.hmac(b"{", tokens.SECRET),
    "other claims under the signature": tokens.tampered(tokens.user("alice"), {"sub": "admin"}),
    "too long": tokens.user("alice", info="x" * 20000),
    "unknown namespace in its channels": tokens.user("alice", channels=["nowhere:x"]),
    "a channel that is no name": tokens.user("alice", channels=["x" * 256]),
    "an empty channel": tokens.user("alice", channels=[""]),
}


@pytest.mark.parametrize("token", INVALID.values(), ids=INVALID.keys())
def test_invalid_connection_token_is_3500(auth_node, token):
    with connect_only(auth_node, token=token) as client:
        client.expect_disconnect(3500)


def test_no_token_is_3501(auth_node):
    for token in ({}, {"token": ""}, {"token": None}):
        with connect_only(auth_node, **token) as client:
            client.expect_disconnect(3501)


def test_expired_connection_token_is_109(auth_node):
    for claims in ({"exp": tokens.later(-60)}, {"nbf": tokens.later(60)}):
        with connect_only(auth_node, token=tokens.user("alice", **claims)) as client:
            error = client.reply(1)["error"]
            assert error["code"] == 109 and "temporary" not in error


def test_expired_credential_is_110(auth_node):
    with connect_only(auth_node, token=tokens.user("alice", expire_at=tokens.later(-60))) as client:
        assert client.reply(1)["error"]["code"] == 110


def test_after_a_refused_connect_nothing_is_served(auth_node):
    with connect_only(auth_node, token=tokens.user("alice", exp=1)) as client:
        assert client.reply(1)["error"]["code"] == 109
        client.send(client.command("subscribe", channel="c"))
        client.expect_disconnect(3501)
    with connect_only(auth_node, token=tokens.user("alice", exp=1)) as client:
        assert client.reply(1)["error"]["code"] == 109
        client.send(client.command("connect", token=tokens.user("alice")))
        client.expect_disconnect(3501)


def test_refused_connect_is_closed_in_the_end(start_auth_node):
    node = start_auth_node(client={"close_timeout": "200ms"})
    with connect_only(node, token=tokens.user("alice", exp=1)) as client:
        assert client.reply(1)["error"]["code"] == 109
        with pytest.raises((ConnectionError, EOFError)):
            client.next_raw()


def test_token_with_insecure(start_auth_node, make_client):
    """Who brings a token is who it says, and does not expire; a bad one is not forgiven."""
    node = start_auth_node(client={"insecure": True})
    token = tokens.user("alice", expire_at=tokens.later(-60))
    client = make_client(node, connect={"token": token})
    assert "expires" not in client.connected
    client.result("subscribe", channel="c")
    assert client.result("presence", channel="c")["presence"][client.id]["user"] == "alice"
    with connect_only(node, token="bad") as client:
        client.expect_disconnect(3500)


@pytest.mark.parametrize("kind, setting", [("RSA", "rsa"), ("P-256", "ecdsa")])
def test_public_keys_and_their_rotation(make_node, make_client, kind, setting):
    old, new, other = (tokens.Key(kind) for _ in range(3))
    node = make_node(client={"insecure": False}, token={f"{setting}_public_key_file": "keys"})
    new.write_public(node.directory / "keys", old)
    node.start()
    for key in (old, new):
        assert make_client(node, connect={"token": key.sign({"sub": "alice"})}).id
    with connect_only(node, token=other.sign({"sub": "alice"})) as client:
        client.expect_disconnect(3500)
    # The public key must not serve as a shared secret.
    confused = tokens.hmac({"sub": "alice"}, (node.directory / "keys").read_text())
    with connect_only(node, token=confused) as client:
        client.expect_disconnect(3500)


def test_previous_secret(make_node, make_client):
    node = give_secret(make_node(client={"insecure": False}, token={
        "hmac_secret_file": "hmac", "hmac_previous_secret_file": "old",
        "hmac_previous_secret_valid_until": tokens.later(3600)}))
    (node.directory / "old").write_text("previous-secret\n")
    (node.directory / "old").chmod(0o600)
    node.start()
    for secret in (tokens.SECRET, "previous-secret"):
        assert make_client(node, connect={"token": tokens.user("alice", secret=secret)}).id


def test_audience_issuer_and_claim_name(start_auth_node, make_client):
    node = start_auth_node(token={"hmac_secret_file": "hmac", "audience": "us",
                                  "issuer_regex": "^them$", "user_id_claim": "uid"})
    good = {"uid": "alice", "aud": ["others", "us"], "iss": "them"}
    client = make_client(node, connect={"token": tokens.hmac(good, tokens.SECRET)})
    client.result("subscribe", channel="c")
    assert client.result("presence", channel="c")["presence"][client.id]["user"] == "alice"
    for name, value in (("aud", "others"), ("iss", "xthemx"), ("iss", None)):
        with connect_only(node, token=tokens.hmac(good | {name: value}, tokens.SECRET)) as client:
            client.expect_disconnect(3500)


# Subscription tokens

@pytest.fixture
def alice(start_auth_node, make_client):
    node = start_auth_node(channel={"allow_subscribe_for_client": False})
    return make_client(node, connect={"token": tokens.user("alice", info={"c": 1})})


def test_subscription_token(alice):
    token = tokens.subscription("alice", "$secret", info={"s": 2}, b64data="eyJkIjozfQ==")
    result = alice.result("subscribe", channel="$secret", token=token)
    assert result["data"] == {"d": 3} and not {"expires", "ttl"} & result.keys()
    info = {"user": "alice", "client": alice.id, "conn_info": {"c": 1}, "chan_info": {"s": 2}}
    assert alice.result("presence", channel="$secret")["presence"] == {alice.id: info}
    alice.result("publish", channel="$secret", data=1)
    assert alice.publication("$secret")["info"] == info


def test_without_a_token(alice):
    assert alice.error("subscribe", channel="c") == 103
    assert alice.error("subscribe", channel="$c") == 103


BAD_FOR_C = {
    "garbage": ("garbage", 103),
    "another secret": (tokens.subscription("alice", "c", secret="x"), 103),
    "expired": (tokens.subscription("alice", "c", exp=1), 109),
    "no channel": (tokens.user("alice"), 103),
    "credential expired": (tokens.subscription("alice", "c", expire_at=1), 110),
}


@pytest.mark.parametrize("token, code", BAD_FOR_C.values(), ids=BAD_FOR_C.keys())
def test_bad_subscription_token_is_an_error(alice, token, code):
    assert alice.error("subscribe", channel="c", token=token) == code
    alice.result("subscribe", channel="c", token=tokens.subscription("alice", "c"))


@pytest.mark.parametrize("token", [
    tokens.subscription("bob", "c"), tokens.subscription("alice", "d"),
    tokens.subscription("alice", "c", client="12345678-1234-4123-8123-123456789012")],
    ids=["user", "channel", "client"])
def test_token_of_somebody_else_is_3500(alice, token):
    alice.send(alice.command("subscribe", channel="c", token=token))
    alice.expect_disconnect(3500)


def test_token_for_this_client(alice):
    token = tokens.subscription("alice", "c", client=alice.id)
    alice.result("subscribe", channel="c", token=token)


def test_overrides(start_auth_node, make_client):
    node = start_auth_node(channel={"allow_subscribe_for_client": False, "force_recovery": False})
    alice = make_client(node, connect={"token": tokens.user("alice")})
    on = {"force_recovery": {"value": True}, "presence": {"value": False}}
    result = alice.result("subscribe", channel="a",
                          token=tokens.subscription("alice", "a", override=on))
    assert result["recoverable"] and result["positioned"]
    assert alice.result("presence", channel="a")["presence"] == {}
    plain = alice.result("subscribe", channel="b", token=tokens.subscription("alice", "b"))
    assert "recoverable" not in plain
    assert alice.id in alice.result("presence", channel="b")["presence"]


def test_separate_keys_for_subscriptions(make_node, make_client):
    node = give_secret(make_node(
        client={"insecure": False}, token={"hmac_secret_file": "hmac"},
        channel={"allow_subscribe_for_client": False},
        subscription_token={"enabled": True, "hmac_secret_file": "subscriptions"}))
    (node.directory / "subscriptions").write_text("other-secret\n")
    (node.directory / "subscriptions").chmod(0o600)
    alice = make_client(node.start(), connect={"token": tokens.user("alice")})
    assert alice.error("subscribe", channel="c", token=tokens.subscription("alice", "c")) == 103
    alice.result("subscribe", channel="c",
                 token=tokens.subscription("alice", "c", secret="other-secret"))


def test_secrets_are_not_logged(auth_node, make_client):
    make_client(auth_node, connect={"token": tokens.user("alice")})
    with connect_only(auth_node, token=tokens.user("alice", secret="x")) as client:
        client.expect_disconnect(3500)
    log = auth_node.log()
    assert tokens.SECRET not in log and tokens.user("alice") not in log


def test_connect_in_a_batch_with_subscribes(auth_node):
    """As centrifuge-js sends it: the subscribes are served as the user that the token says."""
    with Client(auth_node.port, connect=False) as client:
        client.send(json.dumps({"connect": {"token": tokens.user("zoe"), "name": "js"}, "id": 1}),
                    json.dumps({"subscribe": {"channel": "batch", "flag": 1}, "id": 2}),
                    json.dumps({"presence": {"channel": "batch"}, "id": 3}), opcode=TEXT)
        own = client.reply(1)["connect"]["client"]
        assert "subscribe" in client.reply(2)
        assert client.reply(3)["presence"]["presence"][own]["user"] == "zoe"
