# SPDX-License-Identifier: ISC
"""The node tests' fixtures, for the tests of the Python SDK."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "node"))

# pylint: disable=wrong-import-position,unused-import
from keepsock import Keepsock  # noqa: E402
import pytest  # noqa: E402

KEY = "key-of-the-python-tests"

SETTINGS = {
    "client": {"insecure": False},
    "token": {"hmac_secret_file": "token-key"},
    "channel": {
        "allow_subscribe_for_client": True,
        "allow_publish_for_client": False,
        "allow_publish_for_subscriber": True,
        "allow_presence_for_client": False,
        "allow_presence_for_subscriber": True,
        "allow_history_for_client": False,
        "allow_history_for_subscriber": True,
        "presence": True,
        "join_leave": True,
        "history_size": 100,
        "history_ttl": "5m",
        "force_recovery": False,
    },
    "namespaces": [
        {"name": "closed"},
        {"name": "cache", "allow_subscribe_for_client": True, "history_size": 1,
         "history_ttl": "5m", "force_recovery": True, "force_recovery_mode": "cache",
         "auto_cache_recover": True},
    ],
}


@pytest.fixture(scope="module")
def node():
    """One started node for all tests; every test has channels and users of its own."""
    shared = Keepsock(**SETTINGS)
    key = shared.directory / "token-key"
    key.write_text(KEY)
    key.chmod(0o600)
    try:
        yield shared.start()
    finally:
        shared.stop()
    shared.remove()
