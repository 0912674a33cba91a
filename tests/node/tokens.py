# SPDX-License-Identifier: ISC
"""JSON Web Tokens for tests, made without keepsock's code: HMAC with the standard library, RSA and
ECDSA through the openssl command.

    tokens.hmac({"sub": "alice", "exp": tokens.later(60)}, "secret")
    key = tokens.Key("RSA")                     # or "P-256", "P-384", "P-521"
    key.write_public(tmp_path / "rsa.pem")      # for token.rsa_public_key_file
    key.sign({"sub": "alice"})
    tokens.forge("none", {"sub": "admin"})      # any header, any signature
"""

import base64
import contextlib
import hashlib
import hmac as stdlib_hmac
import json
import os
import subprocess
import time

ALGORITHMS = {"RSA": "RS256", "P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
NUMBER_BYTES = {"ES256": 32, "ES384": 48, "ES512": 66}


SECRET = "secret-of-the-nodes-under-test"


def user(name, secret=SECRET, **claims):
    """A connection token of that user."""
    return hmac({"sub": name, **claims}, secret)


def subscription(name, channel, secret=SECRET, **claims):
    """A subscription token of that user for that channel."""
    return hmac({"sub": name, "channel": channel, **claims}, secret)


def later(seconds):
    """Seconds since 1970, that many from now."""
    return int(time.time()) + seconds


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signing_input(header, claims):
    """Claims as an object, or as bytes that are taken as they are."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return f"{base64url(json.dumps(header).encode())}.{base64url(payload)}"


def hmac(claims, secret, algorithm="HS256", **header):
    """A token signed with a shared secret."""
    text = signing_input({"alg": algorithm, "typ": "JWT", **header}, claims)
    digest = getattr(hashlib, f"sha{algorithm[-3:]}")
    signature = stdlib_hmac.new(secret.encode(), text.encode(), digest).digest()
    return f"{text}.{base64url(signature)}"


def forge(algorithm, claims, signature=b"", **header):
    """A token with any algorithm's name and any bytes as its signature."""
    return f"{signing_input({'alg': algorithm, **header}, claims)}.{base64url(signature)}"


def tampered(token, claims):
    """The token with other claims under the same header and signature."""
    header, _, signature = token.split(".")
    return f"{header}.{base64url(json.dumps(claims).encode())}.{signature}"


def openssl(*arguments, **options):
    return subprocess.run(["openssl", *arguments], check=True, stdout=subprocess.PIPE,
                          **options).stdout


@contextlib.contextmanager
def memory_file(data):
    """A path at which a child that inherits the descriptor reads data; nothing is on a disk."""
    fd = os.memfd_create("key")
    try:
        os.write(fd, data)
        yield f"/dev/fd/{fd}"
    finally:
        os.close(fd)


class Key:
    """A key pair on openssl's command line; the private half stays in this object."""

    def __init__(self, kind):
        self.algorithm = ALGORITHMS[kind]
        choice = (["RSA", "-pkeyopt", "rsa_keygen_bits:2048"] if kind == "RSA"
                  else ["EC", "-pkeyopt", f"ec_paramgen_curve:{kind}"])
        self.private = openssl("genpkey", "-quiet", "-algorithm", *choice)
        self.public = openssl("pkey", "-pubout", input=self.private).decode()

    def write_public(self, path, *others):
        """The public half as PEM, before those of other keys; returns the path."""
        path.write_text("".join(key.public for key in (self, *others)))
        return path

    def sign(self, claims, algorithm=None, **header):
        algorithm = algorithm or self.algorithm
        text = signing_input({"alg": algorithm, "typ": "JWT", **header}, claims)
        with memory_file(self.private) as key:
            signature = openssl("dgst", "-binary", f"-sha{algorithm[-3:]}", "-sign", key,
                                input=text.encode(), pass_fds=[int(key.rsplit("/")[-1])])
        if self.algorithm in NUMBER_BYTES:
            signature = raw_numbers(signature, NUMBER_BYTES[self.algorithm])
        return f"{text}.{base64url(signature)}"


def raw_numbers(der, size):
    """ECDSA's SEQUENCE of two INTEGERs (DER) as two numbers of size bytes (RFC 7518 3.4)."""
    def integer(at):
        assert der[at] == 2 and der[at + 1] < 128
        end = at + 2 + der[at + 1]
        return int.from_bytes(der[at + 2:end], "big"), end

    assert der[0] == 0x30
    r, at = integer(3 if der[1] == 0x81 else 2)
    s, at = integer(at)
    assert at == len(der)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")
