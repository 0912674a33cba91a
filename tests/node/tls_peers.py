# SPDX-License-Identifier: ISC
"""Other people's TLS clients, kept open: openssl s_client, Python's ssl, Node, curl, Chromium.

Each one of them connects by connect(name, port, …) as often as it is asked to; ask(name, number)
sends something without waiting, and answer(name, number) waits for what must come of it.
"""

import base64
import hashlib
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading

from tls_client import TlsStream, context
from wire import BINARY, WebSocket

DEADLINE = 30
REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


class SClientProcess:
    """openssl s_client kept open: its single letters K, k and R are commands to it."""

    def __init__(self, port, *words):
        self.process = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.said = b""
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while data := self.process.stdout.read1(65536):
            with self.changed:
                self.said += data
                self.changed.notify_all()

    def write(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def wait(self, text, count=1):
        with self.changed:
            assert self.changed.wait_for(lambda: self.said.count(text) >= count, DEADLINE), \
                self.said

    def end(self):
        self.process.kill()
        self.process.wait()


class SClient(SClientProcess):
    """One that trusts the authority, and is connected."""

    def __init__(self, port, authority, *words):
        super().__init__(port, "-servername", "localhost", "-CAfile", str(authority.path), *words)
        # With tickets said before it reads what we write.
        self.wait(b"Verify return code")


class SClients:
    program = "openssl"

    def __init__(self, authority):
        self.authority, self.clients = authority, {}
        self.directory = tempfile.mkdtemp(prefix="keepsock-tls-")

    def connect(self, name, port, resume=False, certificate=None, groups=None):
        words = ["-groups", groups] if groups else []
        if certificate:
            words += ["-cert", certificate[0], "-key", certificate[1]]
        if resume:
            ticket = os.path.join(self.directory, "ticket")
            first = SClient(port, self.authority, *words, "-sess_out", ticket)
            first.write(REQUEST)
            first.wait(b"200 OK")
            first.write(b"Q\n")
            first.process.wait(DEADLINE)
            words += ["-sess_in", ticket]
        client = SClient(port, self.authority, *words)
        self.clients[name] = client
        assert (b"Reused" in client.said) == resume, client.said

    def ask(self, name, number):
        self.clients[name].write(REQUEST)

    def answer(self, name, number):
        self.clients[name].wait(b"200 OK", number)

    def close(self):
        for client in self.clients.values():
            client.end()
        shutil.rmtree(self.directory)


class Python:
    program = "/usr/bin/python3"

    def __init__(self, authority):
        self.authority, self.sockets = authority, {}

    def connect(self, name, port, resume=False, certificate=None, **_):
        tls = context(self.authority)
        session = None
        if certificate:
            tls.load_cert_chain(*certificate)
        if resume:
            with TlsStream(port, tls) as stream:
                stream.send(REQUEST)
                assert stream.read_response().status == 200
                session = stream.tls.session
        stream = TlsStream(port, tls, session=session)
        assert stream.tls.session_reused == resume
        self.sockets[name] = WebSocket(port, "/echo", stream=stream)

    def ask(self, name, number):
        self.sockets[name].send(BINARY, b"%d" % number * 5000)

    def answer(self, name, number):
        assert self.sockets[name].receive_message(DEADLINE) == (BINARY, b"%d" % number * 5000)

    def close(self):
        for connection in self.sockets.values():
            connection.close()


class Said:
    """What a program says of each name, in the order in which it says it."""

    def __init__(self):
        self.queues = {}
        self.lock = threading.Lock()

    def of(self, name):
        with self.lock:
            return self.queues.setdefault(name, queue.Queue())

    def expect(self, name, text):
        try:
            said = self.of(name).get(timeout=DEADLINE)
        except queue.Empty:
            said = "nothing"
        assert said == text, (name, said)


NODE = r"""
const tls = require('tls'), fs = require('fs'), readline = require('readline');
const say = (name, text) => console.log(JSON.stringify([name, text]));
const sockets = {};
function start(options) {
    const socket = tls.connect({host: '127.0.0.1', servername: 'localhost',
        ca: fs.readFileSync(process.argv[1]), ...options});
    socket.setNoDelay(true);
    return socket;
}
function resume(options, then) {
    let session;
    const first = start(options);
    first.on('session', made => { session = made; });
    first.on('secureConnect', () => first.write(
        'GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'));
    first.resume();
    first.on('close', () => then({...options, session}));
}
function upgrade(name, options) {
    const socket = sockets[name] = start(options);
    let heard = Buffer.alloc(0), upgraded = false;
    socket.on('secureConnect', () => socket.write('GET /echo HTTP/1.1\r\nHost: localhost\r\n' +
        'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n' +
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'));
    socket.on('data', data => {
        heard = Buffer.concat([heard, data]);
        const end = heard.indexOf('\r\n\r\n');
        if (!upgraded && end >= 0) {
            upgraded = true;
            heard = heard.subarray(end + 4);
            say(name, socket.isSessionReused() ? 'resumed' : 'connected');
        }
        while (upgraded && heard.length >= 2 && heard.length >= 2 + heard[1]) {
            say(name, heard.subarray(2, 2 + heard[1]).toString());
            heard = heard.subarray(2 + heard[1]);
        }
    });
    socket.on('error', error => say(name, 'error ' + error.message));
    socket.on('close', () => say(name, 'closed'));
}
readline.createInterface({input: process.stdin}).on('line', line => {
    const {name, options, text} = JSON.parse(line);
    if (options) {
        for (const file of ['key', 'cert'])
            if (options[file])
                options[file] = fs.readFileSync(options[file]);
        if (options.resume)
            resume(options, more => upgrade(name, more));
        else
            upgrade(name, options);
        return;
    }
    const payload = Buffer.from(text);
    sockets[name].write(Buffer.concat([Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0]),
                                       payload]));
});
"""


class Node:
    program = "node"

    def __init__(self, authority):
        self.process = subprocess.Popen(["node", "-e", NODE, str(authority.path)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.said = Said()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            name, text = json.loads(line)
            self.said.of(name).put(text)

    def _tell(self, **words):
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()

    def connect(self, name, port, resume=False, certificate=None, **_):
        options = {"port": port, "resume": resume}
        if certificate:
            options |= {"cert": str(certificate[0]), "key": str(certificate[1])}
        self._tell(name=name, options=options)
        self.said.expect(name, "resumed" if resume else "connected")

    def ask(self, name, number):
        self._tell(name=name, text=f"message {number}")

    def answer(self, name, number):
        self.said.expect(name, f"message {number}")

    def close(self):
        self.process.kill()
        self.process.wait()


class Curl:
    """One request after another on a connection that waits between them."""
    program = "curl"

    def __init__(self, authority):
        self.authority, self.processes, self.said = authority, [], Said()
        self.heard = {}

    def connect(self, name, port, resume=False, certificate=None, **_):
        words = ["curl", "-sS", "--cacert", str(self.authority.path), "-o", os.devnull,
                 "-w", "%{stderr}%{http_code} %{num_connects}\n", "--resolve",
                 f"localhost:{port}:127.0.0.1"]
        if certificate:
            words += ["--cert", str(certificate[0]), "--key", str(certificate[1])]
        url = f"https://localhost:{port}/health"
        if resume:
            words += ["-H", "Connection: close", url, "--next", *words[1:]]
        process = subprocess.Popen([*words, "--rate", "4/s", f"{url}?[1-10000]"], text=True,
                                   stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.processes.append(process)
        threading.Thread(target=self._read, args=(name, process), daemon=True).start()
        for _ in range(2 if resume else 1):
            self.said.expect(name, "200 1")

    def _read(self, name, process):
        for line in process.stderr:
            self.said.of(name).put(line.strip())

    def ask(self, name, number):
        """It asks by itself. What came up to now is no answer to what is cut."""
        while not self.said.of(name).empty():
            self.said.expect(name, "200 0")

    def answer(self, name, number):
        self.said.expect(name, "200 0")

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()


PAGE = r"""
sockets = {}; heard = {};
open = (name, port) => new Promise((opened, failed) => {
    const socket = sockets[name] = new WebSocket(`wss://localhost:${port}/echo`);
    const waiting = heard[name] = {lines: [], wake: null};
    const put = text => { waiting.lines.push(text); if (waiting.wake) waiting.wake(); };
    socket.onopen = () => opened('connected');
    socket.onmessage = event => put(event.data);
    socket.onclose = event => { put(`closed ${event.code}`); opened('closed'); };
});
next = async name => {
    while (heard[name].lines.length === 0)
        await new Promise(wake => { heard[name].wake = wake; });
    return heard[name].lines.shift();
};
"""


class Chromium:
    """By the DevTools protocol, over pipes."""
    program = "chromium"

    def __init__(self, authority, certificate):
        self.directory = tempfile.mkdtemp(prefix="keepsock-chromium-")
        down, up = os.pipe(), os.pipe()
        self.process = subprocess.Popen(
            ["bash", "-c", 'in=$1 out=$2; shift 2; exec "$@" 3<&"$in" 4>&"$out"', "bash",
             str(down[0]), str(up[1]), "chromium", "--headless", "--no-sandbox", "--disable-gpu",
             "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", f"--user-data-dir={self.directory}",
             "--remote-debugging-pipe", "--host-resolver-rules=MAP localhost 127.0.0.1",
             f"--ignore-certificate-errors-spki-list={','.join(map(_spki, certificate))}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=(down[0], up[1]))
        os.close(down[0])
        os.close(up[1])
        self.input, self.output = os.fdopen(down[1], "wb"), os.fdopen(up[0], "rb")
        self.session, self.last_id, self.answers = None, 0, {}
        self.changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target,
                                 flatten=True)["sessionId"]
        self.evaluate(PAGE + "0")

    def _read(self):
        text = b""
        while data := self.output.read1(65536):
            *messages, text = (text + data).split(b"\0")
            with self.changed:
                for message in map(json.loads, messages):
                    self.answers[message.get("id")] = message
                self.changed.notify_all()

    def call(self, method, **parameters):
        self.last_id += 1
        message = {"id": self.last_id, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.input.write(json.dumps(message).encode() + b"\0")
        self.input.flush()
        with self.changed:
            assert self.changed.wait_for(lambda: message["id"] in self.answers, DEADLINE), method
            answer = self.answers.pop(message["id"])
        assert "result" in answer, answer
        return answer["result"]

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True,
                           returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def connect(self, name, port, resume=False, **_):
        if resume:
            # A later one of the same origin.
            assert self.evaluate(f"open('first', {port})") == "connected"
            assert self.evaluate("sockets.first.close(), next('first')") == "closed 1005"
        assert self.evaluate(f"open({json.dumps(name)}, {port})") == "connected"

    def ask(self, name, number):
        self.evaluate(f"sockets[{json.dumps(name)}].send('message {number}')")

    def answer(self, name, number):
        assert self.evaluate(f"next({json.dumps(name)})") == f"message {number}"

    def close(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def _spki(certificate):
    """The hash of a certificate's key, by which Chromium may be told to trust it."""
    key = subprocess.run(["openssl", "x509", "-noout", "-pubkey"], input=certificate.encode(),
                         capture_output=True, check=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"], input=key,
                         capture_output=True, check=True).stdout
    return base64.b64encode(hashlib.sha256(der).digest()).decode()
