# SPDX-License-Identifier: ISC
"""The node tests' fixtures, and an authority that speaks ACME (Pebble) with a DNS of its own."""

import importlib.util
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import tempfile
import urllib.request

import pytest

import certificates
from keepsock import ROOT, free_port, wait_until

# Of the same name as this file, so not to be had by an import.
_SPEC = importlib.util.spec_from_file_location("node_conftest", ROOT / "tests/node/conftest.py")
_NODE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_NODE)
pytest_addoption = _NODE.pytest_addoption
pytest_sessionstart = _NODE.pytest_sessionstart
make_node = _NODE.make_node

TOOLS = pathlib.Path(os.environ.get("ACME_TOOLS", ROOT / "var/acme"))


class Pebble:
    """Every name is 127.0.0.1 to it; challenges are asked for on http_port."""

    def __init__(self, directory, http_port):
        self.directory, self.port, self.processes = directory, free_port(), []
        dns = free_port()
        # Its own face: clients have to trust this authority to talk to it at all.
        authority = certificates.Authority(directory / "face", "Face of Pebble")
        certificates.put(directory, "face", *authority.issue("face", "localhost"))
        self.trust = authority.path
        (directory / "config.json").write_text(json.dumps({"pebble": {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{free_port()}",
            "certificate": str(directory / "face.pem"), "privateKey": str(directory / "face.key"),
            "httpPort": http_port, "tlsPort": free_port(),
        }}))
        self._start("pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
                    "-dns01", f"127.0.0.1:{dns}", "-http01", "", "-https01", "", "-tlsalpn01", "",
                    "-management", f"127.0.0.1:{free_port()}")
        self._start("pebble", "-config", directory / "config.json", "-dnsserver",
                    f"127.0.0.1:{dns}")
        wait_until(self._answers, "Pebble answers")

    def _start(self, program, *arguments):
        # Pauses and refusals at random are for tests of ACME clients.
        environment = os.environ | {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
        with open(self.directory / f"{program}.log", "wb") as log:
            self.processes.append(subprocess.Popen([TOOLS / program, *arguments], stdout=log,
                                                   stderr=log, env=environment))

    @property
    def url(self):
        return f"https://localhost:{self.port}/dir"

    def _answers(self):
        context = ssl.create_default_context(cafile=self.trust)
        try:
            return urllib.request.urlopen(self.url, context=context, timeout=5).status == 200
        except OSError:
            return False

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def start_pebble():
    """A function that starts one for a port of challenges."""
    directory, started = pathlib.Path(tempfile.mkdtemp(prefix="keepsock-acme-")), []

    def start(http_port):
        started.append(Pebble(directory, http_port))
        return started[-1]

    yield start
    for pebble in started:
        pebble.stop()
    shutil.rmtree(directory, ignore_errors=True)
