# SPDX-License-Identifier: ISC
"""The TLS record layer with other people's clients: openssl s_client, Python's ssl, Node.

The server is tls_echo, which has nothing but tls_handshake and tls_record. With "move" it executes
itself anew and keeps the socket, the connection's state and unread input: the OpenSSL object that
shook hands is gone for good.
"""

import os
import queue
import re
import socket
import ssl
import subprocess
import threading

import pytest

from keepsock import keepsockd

DEADLINE = 30
SUITES_1_3 = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
              "TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"]
SUITES_1_2 = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
              "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256",
              "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305",
              "DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-CHACHA20-POLY1305",
              "ECDHE-ECDSA-AES128-CCM", "ECDHE-ECDSA-AES256-CCM8",
              "ECDHE-ECDSA-ARIA128-GCM-SHA256", "ECDHE-ARIA256-GCM-SHA384", "AES128-GCM-SHA256"]
SUITES = SUITES_1_3 + SUITES_1_2


def tls_echo():
    return os.path.join(os.path.dirname(keepsockd()), "tests/node/tls_echo")


class Lines:
    """What a program says, by line, waited for."""

    def __init__(self, stream):
        self.seen = []
        self._lines = queue.Queue()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream):
        for line in stream:
            self._lines.put(line.rstrip("\r\n"))
        self._lines.put(None)

    def wait(self, pattern):
        """The match of the next line that pattern matches as a whole; lines ahead are passed by."""
        while True:
            try:
                line = self._lines.get(timeout=DEADLINE)
            except queue.Empty:
                line = None
            assert line is not None, f"{pattern} did not come: {self.seen[-20:]}"
            self.seen.append(line)
            match = re.fullmatch(pattern, line)
            if match:
                return match


class Program:
    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, bufsize=1)
        self.lines = Lines(self.process.stdout)

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Server(Program):
    def __init__(self, certificates, *options):
        words = []
        for kind in ("ec", "rsa"):
            words += ["-c", certificates[f"{kind}.pem"], "-k", certificates[f"{kind}.key"]]
        super().__init__(tls_echo(), *words, *options)
        self.port = int(self.lines.wait(r"port=(\d+)")[1])


class Client(Program):
    """openssl s_client, whose commands k, K and R work at the beginning of a line."""

    def __init__(self, server, *options):
        super().__init__("openssl", "s_client", "-connect", f"127.0.0.1:{server.port}",
                         "-servername", "shop.example", *options)

    def echo(self, line):
        """What s_client prints about tickets may be ahead of it in its line."""
        self.say(line)
        self.lines.wait(".*" + re.escape(line))


def run_openssl(directory, *words):
    subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True,
                   timeout=DEADLINE)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    assert os.access(tls_echo(), os.X_OK), f"{tls_echo()} is missing: make check TESTS="
    directory = tmp_path_factory.mktemp("tls")
    for kind, words in (("ec", ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]),
                        ("rsa", ["rsa:2048"]), ("client", ["rsa:2048"])):
        run_openssl(directory, "req", "-x509", "-newkey", *words, "-nodes", "-days", "2",
                    "-subj", f"/CN={kind}", "-addext", "subjectAltName=DNS:shop.example",
                    "-keyout", f"{kind}.key", "-out", f"{kind}.pem")
    return {path.name: str(path) for path in directory.iterdir()}


def options_of(suite):
    return ("-3", suite) if suite in SUITES_1_3 else ("-2", suite)


def client_options_of(suite):
    if suite in SUITES_1_3:
        return ("-tls1_3", "-ciphersuites", suite)
    return ("-tls1_2", "-cipher", suite + ":@SECLEVEL=0")


@pytest.mark.parametrize("suite", SUITES)
def test_s_client_moves(certificates, suite):
    """Every suite, with a new program in the middle, twice."""
    with Server(certificates, *options_of(suite)) as server, \
         Client(server, *client_options_of(suite)) as client:
        server.lines.wait(rf"connected version=\S+ suite={suite} resumed=0 .* sni=shop.example .*")
        client.echo("hello")
        for turn in range(2):
            client.echo("move")
            server.lines.wait(r"moved input=\d+")
            client.echo(f"after the move {turn}")
            client.echo("big 20000")
        client.say("Q")
        server.lines.wait(r"close_notify")
        server.lines.wait(r"end truncated=0")
        assert client.process.wait(timeout=DEADLINE) == 0


@pytest.mark.parametrize("suite", SUITES_1_3[:3])
def test_s_client_key_updates(certificates, suite):
    """KeyUpdates of both sides, asked for and not, before, between and after moves."""
    with Server(certificates, *options_of(suite)) as server, \
         Client(server, *client_options_of(suite)) as client:
        client.echo("hello")
        for _ in range(2):
            # After its own KeyUpdate s_client says nothing until it has heard something.
            client.say("k")
            server.lines.wait(r"key_update due=0")
            client.lines.wait(r".*keys changed")
            client.echo("new keys of the client")
            client.say("K")
            server.lines.wait(r"key_update due=1")
            client.lines.wait(r".*keys changed")
            client.echo("move")
            server.lines.wait(r"moved input=\d+")
            client.echo("update")
            client.echo("ask")
            client.echo("still there")
            server.lines.wait(r"key_update due=0")
        client.say("Q")
        server.lines.wait(r"end truncated=0")


def test_s_client_renegotiation(certificates):
    with Server(certificates) as server, Client(server, "-tls1_2") as client:
        client.echo("hello")
        client.say("R")
        server.lines.wait(r"refused why=renegotiation")
        client.lines.wait(r".*no renegotiation.*")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_s_client_resumption(certificates, tmp_path, version):
    ticket = str(tmp_path / "ticket")
    with Server(certificates) as server:
        with Client(server, version, "-sess_out", ticket) as client:
            server.lines.wait(r"connected .* resumed=0 .*")
            client.echo("hello")
            client.say("Q")
            server.lines.wait(r"end truncated=0")
            client.process.wait(timeout=DEADLINE)
        with Client(server, version, "-sess_in", ticket) as client:
            server.lines.wait(r"connected .* resumed=1 .*")
            client.echo("move")
            server.lines.wait(r"moved input=\d+")
            client.echo("resumed and moved")


@pytest.mark.parametrize("tickets", ["0", "1", "5"])
def test_s_client_tickets(certificates, tickets):
    with Server(certificates, "-n", tickets) as server, Client(server, "-tls1_3") as client:
        client.echo("hello")
        client.echo("move")
        client.echo("again")


def test_s_client_hello_retry_request(certificates):
    with Server(certificates, "-g", "P-384") as server, \
         Client(server, "-tls1_3", "-groups", "X25519:P-384") as client:
        client.echo("hello")
        client.echo("move")
        client.echo("again")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("length", ["512", "4096"])
def test_s_client_fragments(certificates, version, length):
    with Server(certificates) as server, Client(server, version, "-maxfraglen", length) as client:
        client.echo("hello")
        client.echo("move")
        client.echo("big 10000")
        client.echo("x" * 3000)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_s_client_certificate(certificates, version):
    with Server(certificates, "-a", certificates["client.pem"], "-r") as server:
        with Client(server, version, "-cert", certificates["client.pem"],
                    "-key", certificates["client.key"]) as client:
            server.lines.wait(r"connected .* subject=CN=client verify=0")
            client.echo("hello")
            client.echo("move")
            server.lines.wait(r"moved input=\d+")
            client.echo("again")
    with Server(certificates, "-a", certificates["client.pem"], "-r") as server:
        with Client(server, version):
            server.lines.wait(r"failed why=certificate .*")
        with Client(server, version, "-cert", certificates["rsa.pem"],
                    "-key", certificates["rsa.key"]):
            server.lines.wait(r"failed why=certificate .*")


def test_s_client_refused(certificates):
    with Server(certificates, "-2", "ECDHE+AESGCM") as server:
        with Client(server, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"):
            server.lines.wait(r"failed why=version .*")
        with Client(server, "-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA"):
            server.lines.wait(r"failed why=suite .*")
        with Client(server, "-alpn", "h2"):
            server.lines.wait(r"failed why=alpn .*")
        with socket.create_connection(("127.0.0.1", server.port)) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            server.lines.wait(r"failed why=plain_http .*")


def connect(server, version=None, **context_options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    if version:
        context.minimum_version = context.maximum_version = version
    for name, value in context_options.items():
        getattr(context, name)(value)
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain, server_hostname="shop.example")


def receive(client, length):
    data = b""
    while len(data) < length:
        piece = client.recv(65536)
        assert piece, f"the end after {len(data)} of {length} bytes"
        data += piece
    return data


def echo(client, data):
    client.sendall(data + b"\n")
    assert receive(client, len(data) + 1) == data + b"\n"


@pytest.mark.parametrize("suite", SUITES_1_3[:3] + SUITES_1_2[:6])
def test_python_cut_records(certificates, suite):
    """Reads of a prime length: the connection moves with half a record, and opens the rest."""
    version = ssl.TLSVersion.TLSv1_3 if suite in SUITES_1_3 else ssl.TLSVersion.TLSv1_2
    with Server(certificates, *options_of(suite), "-f", "211") as server, \
         connect(server, version) as client:
        assert client.selected_alpn_protocol() == "http/1.1"
        assert client.cipher()[0] == suite
        echo(client, b"hello")
        # All in one: what comes behind "move" is read with it, as far as the read goes.
        client.sendall(b"move\n" + b"a" * 50 + b"\n")
        client.sendall(b"b" * 700 + b"\n")
        client.sendall(b"c" * 40000 + b"\n")
        expected = b"move\n" + b"a" * 50 + b"\n" + b"b" * 700 + b"\n" + b"c" * 40000 + b"\n"
        assert receive(client, len(expected)) == expected
        server.lines.wait(r"moved input=\d+")
        echo(client, b"still the same connection")
        client.sendall(b"close\n")
        assert receive(client, 6) == b"close\n"
        assert client.recv(1) == b""
        client.unwrap()
        server.lines.wait(r"end truncated=0")


def test_python_half_a_record_moves(certificates):
    """A read that ends in a record's middle, for sure: the rest is sent when the move is over."""
    with Server(certificates) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE) as plain:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_hostname="shop.example")

            def step(function):
                while True:
                    try:
                        result = function()
                        plain.sendall(outgoing.read())
                        return result
                    except ssl.SSLWantReadError:
                        plain.sendall(outgoing.read())
                        incoming.write(plain.recv(65536))

            step(tls.do_handshake)
            tls.write(b"move\n")
            first = outgoing.read()
            tls.write(b"in two halves\n")
            second = outgoing.read()
            plain.sendall(first + second[:9])
            assert step(lambda: tls.read(100)) == b"move\n"
            assert server.lines.wait(r"moved input=(\d+)")[1] == "9"
            plain.sendall(second[9:])
            assert step(lambda: tls.read(100)) == b"in two halves\n"


def test_python_truncation(certificates):
    with Server(certificates) as server:
        client = connect(server)
        echo(client, b"hello")
        client.close()
        server.lines.wait(r"end truncated=1")
        client = connect(server)
        echo(client, b"hello")
        client.unwrap().close()
        server.lines.wait(r"close_notify")
        server.lines.wait(r"end truncated=0")


def test_python_forged_record(certificates):
    with Server(certificates) as server:
        client = connect(server)
        echo(client, b"hello")
        raw = socket.socket(fileno=os.dup(client.fileno()))
        raw.sendall(b"\x17\x03\x03\x00\x20" + b"\0" * 32)
        server.lines.wait(r"refused why=forged")
        with pytest.raises(ssl.SSLError, match="(?i)bad.record.mac"):
            client.recv(1)
        raw.close()
        client.close()


NODE_CLIENT = """
const tls = require("tls");
const [port, version, ciphers] = process.argv.slice(1);
const socket = tls.connect({host: "127.0.0.1", port: Number(port), rejectUnauthorized: false,
    servername: "shop.example", minVersion: version, maxVersion: version, ciphers});
const big = "x".repeat(50000);
const lines = ["hello", "move", big, "move", "end"];
let received = "";
socket.on("secureConnect", () => socket.write(lines[0] + "\\n"));
socket.on("data", (data) => {
    received += data;
    if (!received.endsWith("\\n")) return;
    if (received !== lines[0] + "\\n") throw new Error("received " + received.slice(0, 40));
    received = "";
    lines.shift();
    if (lines.length > 0) socket.write(lines[0] + "\\n");
    else socket.end(() => console.log("done", socket.getProtocol(), socket.getCipher().name));
});
socket.on("error", (error) => { console.log(String(error)); process.exit(1); });
"""


@pytest.mark.parametrize("suite", SUITES_1_3[:3] + SUITES_1_2[:3])
def test_node_moves(certificates, suite):
    version = "TLSv1.3" if suite in SUITES_1_3 else "TLSv1.2"
    with Server(certificates, *options_of(suite)) as server, \
         Program("node", "-e", NODE_CLIENT, str(server.port), version, suite) as client:
        client.lines.wait(rf"done {version} {suite}")
        server.lines.wait(r"end truncated=0")
