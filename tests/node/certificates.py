# SPDX-License-Identifier: ISC
"""A certificate authority for tests, by the openssl program."""

import ipaddress
import os
import subprocess
import time

KEYS = {
    "ec": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "rsa": ["-newkey", "rsa:2048"],
    "weak": ["-newkey", "rsa:1024"],
}

CONFIG = """
[ca]
default_ca = own
[own]
dir = .
database = index
new_certs_dir = .
serial = serial
crlnumber = crlnumber
certificate = ca.pem
private_key = ca.key
default_md = sha256
default_days = 30
default_crl_days = 30
policy = anything
copy_extensions = copy
unique_subject = no
[anything]
commonName = supplied
"""


def run(directory, *words):
    subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True, timeout=60)


def stamp(days):
    """Days from now as openssl ca wants a time."""
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + days * 86400))


def alternative(host):
    try:
        return f"IP:{ipaddress.ip_address(host)}"
    except ValueError:
        return f"DNS:{host}"


def write_as_one(path, text, mode):
    """Replaces a file as ACME clients do: nobody sees half of it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.chmod(mode)
    os.replace(fresh, path)


class Authority:
    """Files below a directory of its own; names are those of the files it is asked for."""

    def __init__(self, directory, name="Test CA"):
        self.directory = directory
        directory.mkdir(parents=True)
        (directory / "conf").write_text(CONFIG)
        (directory / "index").touch()
        (directory / "serial").write_text("1000\n")
        (directory / "crlnumber").write_text("01\n")
        run(directory, "req", "-x509", *KEYS["ec"], "-nodes", "-days", "30", "-subj", f"/CN={name}",
            "-keyout", "ca.key", "-out", "ca.pem")
        self.path = directory / "ca.pem"

    def issue(self, name, *hosts, key="ec", starts=-1, ends=30, common_name=None):
        """(certificate, key) as texts; hosts become DNS names, or IP addresses."""
        extension = ["-addext", "subjectAltName=" + ",".join(map(alternative, hosts))]
        run(self.directory, "req", "-new", *KEYS[key], "-nodes", "-keyout", f"{name}.key", "-out",
            f"{name}.csr", "-subj", f"/CN={common_name or (hosts or [name])[0]}",
            *(extension if hosts else []))
        run(self.directory, "ca", "-batch", "-config", "conf", "-notext", "-in", f"{name}.csr",
            "-out", f"{name}.pem", "-startdate", stamp(starts), "-enddate", stamp(ends))
        return ((self.directory / f"{name}.pem").read_text(),
                (self.directory / f"{name}.key").read_text())

    def revoke(self, name):
        run(self.directory, "ca", "-config", "conf", "-revoke", f"{name}.pem")

    def revocations(self):
        """The list as text."""
        run(self.directory, "ca", "-config", "conf", "-gencrl", "-out", "crl.pem")
        return (self.directory / "crl.pem").read_text()


def put(directory, name, certificate, key):
    """Writes both where a node's settings look for them."""
    write_as_one(directory / f"{name}.key", key, 0o600)
    write_as_one(directory / f"{name}.pem", certificate, 0o644)
