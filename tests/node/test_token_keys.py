# SPDX-License-Identifier: ISC
"""Keys of tokens in a running node: from files with real keys, through the master, to the verdict
on a subscription token. Which claims say what is tested elsewhere."""

import pytest

import tokens
from keepsock import Keepsock

SECRET, OLD_SECRET = "a-secret-of-the-application", "the-secret-before"
LOCKED = {"allow_subscribe_for_client": False, "allow_subscribe_for_anonymous": False}


def write_secret(node, name, secret):
    path = node.directory / name
    path.write_text(secret + "\n")
    path.chmod(0o600)


@pytest.fixture(scope="module")
def keys():
    """Two of RSA, for a rotation, and one of each curve."""
    return {"rsa": tokens.Key("RSA"), "rsa next": tokens.Key("RSA"),
            **{curve: tokens.Key(curve) for curve in ("P-256", "P-384", "P-521")}}


@pytest.fixture(scope="module")
def locked(keys):
    """A node whose channels open to tokens only, with every kind of key."""
    node = Keepsock(client={"insecure": False, "allow_anonymous": True}, channel=LOCKED,
                    token={"hmac_secret_file": "secret", "hmac_previous_secret_file": "old-secret",
                           "rsa_public_key_file": "rsa.pem", "ecdsa_public_key_file": "ec.pem"})
    write_secret(node, "secret", SECRET)
    write_secret(node, "old-secret", OLD_SECRET)
    keys["rsa"].write_public(node.directory / "rsa.pem", keys["rsa next"])
    keys["P-256"].write_public(node.directory / "ec.pem", keys["P-384"], keys["P-521"])
    node.start()
    yield node
    node.stop()
    node.remove()


def claims(channel, **more):
    return {"channel": channel, "exp": tokens.later(600), **more}


def test_without_a_token(locked, make_client):
    assert make_client(locked).error("subscribe", channel="c") == 103


@pytest.mark.parametrize("name", ["rsa", "rsa next", "P-256", "P-384", "P-521"])
def test_every_public_key_of_the_files(locked, make_client, keys, name):
    client = make_client(locked)
    client.result("subscribe", channel=name, token=keys[name].sign(claims(name)))
    locked.publish(name, {"by": name})
    assert client.publication(name)["data"] == {"by": name}


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_the_secret_and_the_one_before(locked, make_client, secret, algorithm):
    make_client(locked).result("subscribe", channel="c",
                               token=tokens.hmac(claims("c"), secret, algorithm))


def test_forgeries(locked, make_client, keys):
    """Each is refused with 103, and says nothing against the connection."""
    good = tokens.hmac(claims("c"), SECRET)
    header, payload, signature = good.split(".")
    client = make_client(locked)
    for forged in (
            "x", "..", good + ".", good[:-1], good + "=", f"{header}.{payload}.",
            tokens.forge("none", claims("c")), tokens.forge("None", claims("c"), b"x"),
            tokens.forge("HS256", claims("c"), b"\0" * 32),
            tokens.forge("ES256", claims("c"), b"\0" * 64),
            tokens.tampered(good, claims("c", client="")),
            tokens.hmac(claims("c"), "a guess"),
            tokens.hmac(claims("c"), keys["rsa"].public),
            tokens.hmac(claims("c"), keys["P-256"].public.strip()),
            tokens.hmac(claims("c"), SECRET, crit=["exp"]),
            tokens.Key("P-256").sign(claims("c")),
            tokens.hmac(b'{"channel":"c","channel":"c"}', SECRET),
            "A" * 20000):
        assert client.error("subscribe", channel="c", token=forged) == 103, forged[:200]
    client.result("subscribe", channel="c", token=good)


def test_expired_is_not_invalid(locked, make_client):
    client = make_client(locked)
    for moment in ({"exp": tokens.later(-1)}, {"nbf": tokens.later(600)}):
        assert client.error("subscribe", channel="c",
                            token=tokens.hmac({"channel": "c", **moment}, SECRET)) == 109


def test_a_secret_whose_time_is_over(make_node, make_client):
    node = make_node(client={"insecure": False, "allow_anonymous": True}, channel=LOCKED,
                     token={"hmac_secret_file": "secret", "hmac_previous_secret_file": "old-secret",
                            "hmac_previous_secret_valid_until": tokens.later(-1)})
    write_secret(node, "secret", SECRET)
    write_secret(node, "old-secret", OLD_SECRET)
    client = make_client(node.start())
    assert client.error("subscribe", channel="c",
                        token=tokens.hmac(claims("c"), OLD_SECRET)) == 103
    client.result("subscribe", channel="c", token=tokens.hmac(claims("c"), SECRET))


def test_subscriptions_with_keys_of_their_own(make_node, make_client):
    node = make_node(client={"insecure": False, "allow_anonymous": True}, channel=LOCKED,
                     token={"hmac_secret_file": "secret"},
                     subscription_token={"enabled": True, "hmac_secret_file": "other",
                                         "audience_regex": "^subs?$"})
    write_secret(node, "secret", SECRET)
    write_secret(node, "other", OLD_SECRET)
    client = make_client(node.start())
    for secret, audience, good in ((SECRET, "sub", False), (OLD_SECRET, "subs.", False),
                                   (OLD_SECRET, ["x", "subs"], True)):
        reply = client.call("subscribe", channel="c",
                            token=tokens.hmac(claims("c", aud=audience), secret))
        assert reply.get("error", {}).get("code") == (None if good else 103), reply
