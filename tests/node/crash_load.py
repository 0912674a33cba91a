# SPDX-License-Identifier: ISC
"""The load under which workers are killed: clients of every kind in one event loop.

Actors live for the whole test; each has one connection at a time and opens another as soon as that
one ends. Everything received is judged as it comes. Randomness decides sizes, fragments, where a
write is cut, who does what and who reads slowly. A third of the connections each is plain, has TLS
1.2, and has TLS 1.3, if the node has that: then it is ciphertext that is cut.
"""

import base64
import itertools
import json
import os
import selectors
import socket
import ssl
import time

from crash_judge import JUDGES
from crash_record import Event, Recording
from keepsock import API_KEY
from tls_records import Records, both_contexts
from wire import BINARY, CLOSE, PING, PONG, TEXT, close_payload, deflate, frame

CHANNELS = ("news", "sport", "weather", "talk")
ECHO_IN_FLIGHT = 100_000
COMMANDS_IN_FLIGHT = 4
REQUESTS_IN_FLIGHT = 3
GARBAGE_SHARE = 0.003         # of what clients do
GARBAGE = b'{"id":1,"publish":{'


class Connection:
    """A non-blocking socket with its recording."""

    def __init__(self, load, actor, kind, slow):
        self.load, self.actor, self.slow = load, actor, slow
        context = next(load.contexts)
        self.tls = Records(context) if context else None
        self.out = bytearray(self.tls.rest() if self.tls else b"")
        self.interest = 0
        self.socket = socket.socket()
        if slow:
            # Small segments keep the server's send buffer small, so that queues build up soon.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1000)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", load.tls_port if self.tls else load.port))
        self.recording = load.new_recording(kind, self.socket.getsockname()[1])
        self.recording.slow = slow
        self.judge = JUDGES[kind](self.recording)
        self.update_interest()

    def plan(self, what, data, *pieces):
        """Queues the bytes of something whole; its answer is awaited from now on."""
        for piece in pieces:
            self.add(piece)
        self.judge.expect(Event(what, data))
        self.write()

    def add(self, data):
        self.out += self.tls.seal(data) if self.tls else data

    def write(self):
        """Writes some of what is queued: all of it, or cut anywhere."""
        rng = self.load.rng
        while self.out:
            size = len(self.out) if rng.random() < 0.7 else rng.randrange(len(self.out)) + 1
            try:
                sent = self.socket.send(self.out[:size])
            except BlockingIOError:
                break
            except OSError:
                self.recording.reset = True
                self.out.clear()
                break
            self.recording.sent += sent
            del self.out[:sent]
            if rng.random() < 0.5:
                break
        self.update_interest()

    def update_interest(self):
        if self.recording.ended:
            return
        idle = self.slow and (not self.tls or self.tls.shaken)
        interest = (0 if idle else selectors.EVENT_READ) | \
            (selectors.EVENT_WRITE if self.out else 0)
        if interest == self.interest:
            return
        if not self.interest:
            self.load.selector.register(self.socket, interest, self)
        elif not interest:
            self.load.selector.unregister(self.socket)
        else:
            self.load.selector.modify(self.socket, interest, self)
        self.interest = interest

    def read(self, size=65536):
        try:
            data = self.socket.recv(size)
        except BlockingIOError:
            return
        except OSError:
            self.recording.reset = True
            data = b""
        if data:
            self.take(data)
        else:
            self.close()
            self.actor.on_end(self)

    def take(self, data):
        if self.tls:
            try:
                data = self.tls.open(data)
            except ssl.SSLError as error:
                self.load.complaints.append(("bytes", f"{self.recording}: {error}"))
                return
            if sealed := self.tls.rest():
                self.out += sealed
                self.write()
            self.update_interest()
        if data:
            self.recording.received += len(data)
            self.actor.on_data(self, data)

    def read_fast(self):
        self.slow = False
        self.update_interest()

    def leave(self):
        """Ends the connection as a broken network would."""
        self.recording.leaving = self.recording.gone = True
        self.close()
        self.actor.on_end(self)

    def close(self):
        if self.interest:
            self.load.selector.unregister(self.socket)
            self.interest = 0
        self.socket.close()
        self.recording.ended = True
        self.load.connections.discard(self)
        if not self.load.ending:
            self.judge.end()
        self.load.take(self)


class Actor:
    kind = None
    close_event = CLOSE           # /echo answers it like everything else

    def __init__(self, load, slow=False):
        self.load, self.rng, self.slow = load, load.rng, slow
        self.connect()

    def connect(self):
        self.connection = Connection(self.load, self, self.kind, self.slow)
        self.load.connections.add(self.connection)
        self.begin()

    def begin(self):
        raise NotImplementedError

    def act(self):
        raise NotImplementedError

    def on_data(self, connection, data):
        connection.judge.feed(data)

    def on_end(self, connection):
        self.load.on_end(connection)
        if connection is self.connection and not self.load.ending:
            self.connect()

    def has_everything(self, _):
        return True

    def is_subscribed(self):
        return False

    def upgrade(self, path):
        key = base64.b64encode(os.urandom(16)).decode()
        recording = self.connection.recording
        recording.deflate = self.rng.random() < 0.5
        offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if recording.deflate else ""
        self.connection.plan("upgrade", None, (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Version: 13\r\n{offer}\r\n").encode())

    def send_message(self, opcode, payload, data):
        """A message in one frame or several, compressed or not; pings may come between
        fragments."""
        rsv = 4 if self.connection.recording.deflate and self.rng.random() < 0.5 else 0
        if rsv:
            payload = deflate(payload, level=self.rng.randrange(10))
        if self.rng.random() < 0.8 or not payload:
            self.connection.plan(opcode, data, frame(opcode, payload, rsv=rsv))
            return
        pieces, first = [], True
        while payload:
            size = self.rng.randrange(len(payload)) + 1
            piece, payload = payload[:size], payload[size:]
            pieces.append(frame(opcode if first else 0, piece, fin=not payload, rsv=rsv))
            first, rsv = False, 0
            if payload and self.rng.random() < 0.2:
                self.send_pieces(pieces)
                pieces = []
                self.send_ping()
        self.connection.plan(opcode, data, *pieces)

    def send_pieces(self, pieces):
        """Bytes of something that is not whole yet."""
        for piece in pieces:
            self.connection.add(piece)

    def send_ping(self):
        payload = self.rng.randbytes(self.rng.randrange(126))
        self.connection.plan(PING, payload, frame(PING, payload))

    def send_close(self):
        self.closed = self.connection.recording.leaving = True
        self.connection.plan(self.close_event, close_payload(1000),
                             frame(CLOSE, close_payload(1000, b"bye")))


class EchoActor(Actor):
    kind = "echo"

    def begin(self):
        self.upgrade("/echo")

    def act(self):
        if self.connection.recording.leaving or len(self.connection.judge.due) > ECHO_IN_FLIGHT:
            return
        dice = self.rng.random()
        if dice < 0.01:
            self.send_close()
        elif dice < 0.02:
            self.connection.leave()
        elif dice < 0.1:
            self.send_ping()
        else:
            self.send_random_message()

    def send_random_message(self):
        size = self.rng.randrange(1 << self.rng.randrange(1, 16))
        if self.rng.random() < 0.5:
            payload = self.rng.randbytes(size)
            self.send_message(BINARY, payload, payload)
        else:
            payload = ("aé€😀" * (size // 10 + 1)).encode()
            self.send_message(TEXT, payload, payload)


class ClientActor(Actor):
    kind = "client"
    close_event = "close"

    def begin(self):
        self.closed = False
        self.commands, self.transcript = [], self.connection.judge.transcript
        self.known = getattr(self, "known", {})
        self.upgrade("/connection/websocket?cf_ws_frame_ping_pong=true")
        # The server must keep what comes before its 101.
        if self.rng.random() < 0.5:
            self.send_connect()

    def on_data(self, connection, data):
        if connection is not self.connection:
            return
        for message in connection.judge.feed(data):
            self.on_message(message)
        while self.transcript.pings:
            self.connection.plan("pong", None, frame(PONG, self.transcript.pings.pop()))
        if self.transcript.upgraded and not self.commands:
            self.send_connect()
        if self.transcript.close_code and not self.closed:
            self.send_close()

    def send_connect(self):
        """Sometimes with channels for the server to subscribe it to."""
        wishes = {}
        if self.rng.random() < 0.3:
            for channel in self.rng.sample(CHANNELS, self.rng.randrange(1, len(CHANNELS) + 1)):
                wishes[channel] = {}
                if channel in self.known:
                    epoch, offset = self.known[channel]
                    wishes[channel] = {"recover": True, "epoch": epoch, "offset": offset}
        self.send_command("connect", subs=wishes)

    def on_message(self, message):
        channel = message.get("push", {}).get("channel")
        if channel in self.transcript.positions:
            self.known[channel] = (self.transcript.epochs[channel],
                                   self.transcript.positions[channel])

    def is_subscribed(self):
        return bool(self.transcript.positions)

    def in_flight(self):
        return len(self.commands) - len(self.transcript.replies)

    def has_everything(self, tops):
        return all(position == tops[channel]
                   for channel, position in self.transcript.positions.items())

    def act(self):
        if self.connection.recording.leaving or not self.transcript.replies or \
                self.in_flight() >= COMMANDS_IN_FLIGHT:
            return
        dice = self.rng.random()
        if dice < self.load.garbage:
            self.send_garbage()
        elif dice < self.load.garbage + 0.003:
            self.send_close()
        elif dice < self.load.garbage + 0.009:
            self.connection.leave()
        elif dice < 0.2 or not self.transcript.positions:
            self.change_subscription()
        elif dice < 0.35 or self.slow:
            self.send_command(self.rng.choice(("presence", "presence_stats", "history")),
                              channel=self.rng.choice(CHANNELS), limit=3)
        else:
            self.send_publications()

    def change_subscription(self):
        channel = self.rng.choice(CHANNELS)
        waiting = [c for c in self.commands[len(self.transcript.replies):]
                   if "subscribe" in c or "unsubscribe" in c]
        if waiting:
            return
        if channel in self.transcript.positions:
            if self.rng.random() < 0.3:
                self.send_command("unsubscribe", channel=channel)
            return
        if channel in self.known and self.rng.random() < 0.5:
            epoch, offset = self.known[channel]
            self.send_command("subscribe", channel=channel, recover=True, epoch=epoch,
                              offset=offset)
        else:
            self.send_command("subscribe", channel=channel)

    def send_publications(self):
        commands = []
        for _ in range(1 if self.rng.random() < 0.8 else 2):
            number = len(self.commands) + 1
            pad = "p" * self.rng.randrange(1 << self.rng.randrange(4, 12))
            commands.append(self.make_command("publish", channel=self.rng.choice(CHANNELS), data={
                "by": self.connection.recording.serial, "n": number, "pad": pad}))
        self.send_commands(commands)

    def make_command(self, method, **parameters):
        self.commands.append({"id": len(self.commands) + 1, method: parameters})
        return self.commands[-1]

    def send_command(self, method, **parameters):
        self.send_commands([self.make_command(method, **parameters)])

    def send_commands(self, commands):
        payload = "\n".join(json.dumps(command) for command in commands).encode()
        self.send_message(TEXT, payload, commands)

    def send_garbage(self):
        """What gets 3501."""
        self.connection.recording.leaving = True
        self.connection.recording.ends_with = 3501
        self.connection.plan(TEXT, [None], frame(TEXT, GARBAGE))


class ApiActor(Actor):
    kind = "api"

    def begin(self):
        pass

    def act(self):
        judge = self.connection.judge
        if judge.requests - judge.answered >= REQUESTS_IN_FLIGHT:
            return
        dice, channel = self.rng.random(), self.rng.choice(CHANNELS)
        if dice < 0.01:
            self.connection.leave()
        elif dice < 0.7:
            data = {"by": self.connection.recording.serial, "n": judge.requests + 1,
                    "pad": "a" * self.rng.randrange(300)}
            self.send_request("publish", channel, {"channel": channel, "data": data})
        else:
            self.send_request("history", None, {"channel": channel, "limit": 2})

    def send_request(self, method, published, body):
        body = json.dumps(body).encode()
        if self.rng.random() < 0.3:
            cut = self.rng.randrange(1, len(body))
            length = "Transfer-Encoding: chunked"
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part)
                            for part in (body[:cut], body[cut:])) + b"0\r\n\r\n"
        else:
            length = f"Content-Length: {len(body)}"
        head = (f"POST /api/{method} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {API_KEY}\r\n"
                f"Content-Type: application/json\r\n{length}\r\n\r\n").encode()
        self.connection.plan("request", published, head + body)


class Load:
    """All actors and their event loop."""

    def __init__(self, node, rng, authority=None):
        """authority: of the node's certificate for TLS."""
        self.port, self.tls_port, self.rng = node.port, node.tls_port, rng
        self.contexts = itertools.cycle(
            [None, *(both_contexts(authority.path) if node.tls_port else [])])
        self.selector = selectors.DefaultSelector()
        self.connections = set()
        self.recordings = []      # of the whole test, by serial
        self.complaints = []
        self.publications = []    # (channel, offset, mark) that clients received
        self.unanswered = 0       # connections cut before their first answer
        self.ending = False
        self.starving = False     # subscribers that read slowly do not read at all
        self.garbage = GARBAGE_SHARE
        self.actors = [kind(self, **options) for kind, count, options in (
            (EchoActor, 6, {}), (EchoActor, 2, {"slow": True}), (ClientActor, 10, {}),
            (ClientActor, 6, {"slow": True}), (ApiActor, 3, {})) for _ in range(count)]

    def new_recording(self, kind, port):
        self.recordings.append(Recording(kind, len(self.recordings), port))
        return self.recordings[-1]

    def take(self, connection):
        """What the judge of a connection has found so far."""
        judge = connection.judge
        self.complaints += judge.complaints
        judge.complaints.clear()
        if connection.recording.kind == "client":
            self.publications += judge.transcript.publications
            judge.transcript.publications.clear()

    def on_end(self, connection):
        recording = connection.recording
        self.unanswered += not recording.leaving and recording.received == 0

    def churn(self):
        """Somebody goes and comes back, so that workers see new connections."""
        self.rng.choice(self.actors).connection.leave()

    def turn(self, acts):
        for key, mask in self.selector.select(0.002):
            connection = key.data
            if mask & selectors.EVENT_WRITE:
                connection.write()
            if mask & selectors.EVENT_READ and not connection.recording.ended:
                connection.read()
        for actor in self.rng.choices(self.actors, k=acts):
            actor.act()
        slow = [c for c in self.connections
                if c.slow and not (self.starving and c.actor.is_subscribed())]
        if slow and self.rng.random() < 0.3:
            self.rng.choice(slow).read(2048)

    def run_until(self, condition, what, deadline=30, acts=2):
        """Keeps the load up until condition() is true, which is asked after every turn."""
        end = time.monotonic() + deadline
        while not (value := condition()):
            if time.monotonic() > end:
                raise AssertionError(f"not within {deadline} s: {what}")
            self.turn(acts)
        return value

    def settle(self, tops_of):
        """Ends the load: everything sent is answered, every subscriber has everything. Returns the
        connections that stay."""
        for connection in self.connections:
            connection.read_fast()
        staying = [a for a in self.actors if not a.connection.recording.leaving]
        self.run_until(lambda: all(a.connection.judge.is_answered() for a in staying),
                       "everything is answered", acts=0)
        tops = tops_of()
        self.run_until(lambda: all(a.has_everything(tops) for a in staying),
                       "every subscriber has every publication", acts=0)
        return [a.connection for a in staying]

    def close(self):
        if not self.ending:
            self.ending = True
            for connection in list(self.connections):
                connection.close()
            self.selector.close()
