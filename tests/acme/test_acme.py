# SPDX-License-Identifier: ISC
"""A certificate from an authority by ACME, and its renewal: certbot does both alone, by the webroot
and a deploy hook that copies files, while clients stay connected."""

import os
import ssl
import subprocess

import certificates
from conftest import TOOLS
from keepsock import free_port, wait_until
from wire import Http

NAME = "ws.keepsock.test"


class Certbot:
    def __init__(self, directory, pebble, webroot, hook):
        self.directory, self.pebble, self.webroot, self.hook = directory, pebble, webroot, hook

    def run(self, command, *more):
        places = [word for what in ("config", "work", "logs")
                  for word in (f"--{what}-dir", self.directory / what)]
        run = subprocess.run([TOOLS / "venv/bin/certbot", command, "--non-interactive", *places,
                              *more], text=True, capture_output=True, timeout=120,
                             env=os.environ | {"REQUESTS_CA_BUNDLE": str(self.pebble.trust)})
        assert run.returncode == 0, run.stdout + run.stderr

    def issue(self):
        self.run("certonly", "--server", self.pebble.url, "--agree-tos",
                 "--register-unsafely-without-email", "--webroot", "-w", self.webroot, "-d", NAME,
                 "--deploy-hook", self.hook)

    def renew(self):
        self.run("renew", "--force-renewal", "--no-random-sleep-on-renew")


def connect(node):
    """A connection that stays, and the serial of the certificate it met. Nobody trusts Pebble's
    authority, which is made anew each time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = Http(node.tls_port)
    connection.socket = context.wrap_socket(connection.socket, server_hostname=NAME)
    certificate = ssl.DER_cert_to_PEM_cert(connection.socket.getpeercert(True))
    said = subprocess.run(["openssl", "x509", "-noout", "-serial"], input=certificate, text=True,
                          capture_output=True, check=True).stdout
    return connection, int(said.strip().partition("=")[2], 16)


def serial_in_force(node):
    return int(node.ctl_json("show", "certificates")["rows"][0]["serial"], 16)


def test_certbot_gets_and_renews_a_certificate(make_node, start_pebble, tmp_path):
    challenges = free_port()
    # Connections are held for as long as certbot takes.
    patient = {"header_timeout": "10m", "idle_timeout": "10m"}
    node = make_node(http={"acme_webroot": "webroot"} | patient, listeners=[
        {"address": "127.0.0.1", "port": free_port()},
        {"address": "127.0.0.1", "port": challenges, "https_redirect_port": 443},
        {"address": "127.0.0.1", "port": free_port(),
         "tls": {"certificates": [{"certificate": "a.pem", "key": "a.key"}]}}])
    node.tls_port = node.settings["listeners"][2]["port"]
    webroot = node.directory / "webroot"
    webroot.mkdir()
    # Something to start with, as every installation has it.
    authority = certificates.Authority(tmp_path / "first")
    certificates.put(node.directory, "a", *authority.issue("first", NAME))
    node.start()
    hook = (f'install -m 600 "$RENEWED_LINEAGE/privkey.pem" {node.directory}/a.key && '
            f'install -m 644 "$RENEWED_LINEAGE/fullchain.pem" {node.directory}/a.pem')
    certbot = Certbot(tmp_path, start_pebble(challenges), webroot, hook)
    workers = node.workers()
    held = [connect(node)]
    for step in (certbot.issue, certbot.renew):
        before = serial_in_force(node)
        assert before == held[-1][1]
        step()
        wait_until(lambda: serial_in_force(node) != before, "the new certificate is in force")
        wait_until(lambda: connect(node)[1] != before, "clients get it")
        held.append(connect(node))
    assert len({serial for _, serial in held}) == 3
    assert "Pebble" in node.ctl_json("show", "certificates")["rows"][0]["issuer"]
    for connection, _ in held:
        assert connection.request("GET", "/health").status == 200
        connection.close()
    assert node.workers() == workers
