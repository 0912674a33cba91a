# SPDX-License-Identifier: ISC
"""The official Python SDK, unchanged, in JSON mode: its feature set against a node."""

import asyncio
import contextlib
import functools

from centrifuge import (Client, ClientEventHandler, ClientState, ReplyError,
                        StreamPosition, SubscriptionEventHandler, SubscriptionState,
                        UnauthorizedError)
import pytest

from conftest import KEY
import tokens

DEADLINE = 20


def asynchronous(test):
    @functools.wraps(test)
    def run(*arguments, **named):
        asyncio.run(asyncio.wait_for(test(*arguments, **named), 3 * DEADLINE))
    return run


class Events:
    """What callbacks told, as text, in order."""

    def __init__(self):
        self.queue = asyncio.Queue()

    def add(self, text):
        self.queue.put_nowait(text)

    async def expect(self, *wanted):
        for one in wanted:
            assert await asyncio.wait_for(self.queue.get(), DEADLINE) == one

    async def wait_for(self, wanted):
        async with asyncio.timeout(DEADLINE):
            while await self.queue.get() != wanted:
                pass


class OfClient(ClientEventHandler):
    def __init__(self):
        self.told = Events()

    async def on_connecting(self, ctx):
        if ctx.code:
            self.told.add(f"connecting {ctx.code}")

    async def on_connected(self, ctx):
        self.told.add("connected")

    async def on_disconnected(self, ctx):
        self.told.add(f"disconnected {ctx.code}")

    async def on_subscribed(self, ctx):
        self.told.add(f"subscribed {ctx.channel}")

    async def on_unsubscribed(self, ctx):
        self.told.add(f"unsubscribed {ctx.channel}")

    async def on_publication(self, ctx):
        self.told.add(f"publication {ctx.channel} {ctx.pub.data}")


class OfSubscription(SubscriptionEventHandler):
    def __init__(self):
        self.told = Events()

    async def on_subscribed(self, ctx):
        self.told.add(f"recovered {ctx.recovered}" if ctx.was_recovering else "subscribed")

    async def on_unsubscribed(self, ctx):
        self.told.add(f"unsubscribed {ctx.code}")

    async def on_publication(self, ctx):
        self.told.add(f"publication {ctx.pub.data}")

    async def on_join(self, ctx):
        self.told.add(f"join {ctx.info.user}")

    async def on_leave(self, ctx):
        self.told.add(f"leave {ctx.info.user}")


@contextlib.asynccontextmanager
async def connecting(node, port=None, **options):
    """A client that connects, and its events; disconnected at the end."""
    events = OfClient()
    client = Client(f"ws://127.0.0.1:{port or node.port}/connection/websocket", events=events,
                    proxy=None, **options)
    await client.connect()
    try:
        yield client, events.told
    finally:
        await client.disconnect()


@contextlib.asynccontextmanager
async def connected(node, user, **claims):
    async with connecting(node, token=tokens.hmac({"sub": user, **claims}, KEY)) as (client, told):
        await told.expect("connected")
        yield client, told


async def subscribe(client, channel, **options):
    events = OfSubscription()
    subscription = client.new_subscription(channel, events=events, **options)
    await subscription.subscribe()
    return subscription, events.told


async def api(node, method, **request):
    answer = await asyncio.to_thread(functools.partial(node.api, method, **request))
    assert "result" in answer, answer


@asynchronous
async def test_channel(node):
    async with connected(node, "ann", info={"name": "Ann"}) as (client, _):
        subscription, told = await subscribe(client, "channel")
        await told.expect("subscribed")
        for number in (1, 2, 3):
            await subscription.publish({"number": number})
            await told.expect(f"publication {{'number': {number}}}")
        history = await subscription.history(limit=2, reverse=True)
        assert [p.offset for p in history.publications] == [3, 2]
        assert history.offset == 3 and history.publications[0].info.user == "ann"
        history = await subscription.history(
            limit=-1, since=StreamPosition(offset=1, epoch=history.epoch))
        assert [p.offset for p in history.publications] == [2, 3]
        presence = await subscription.presence()
        assert [(i.user, i.conn_info) for i in presence.clients.values()] == [
            ("ann", {"name": "Ann"})]
        stats = await subscription.presence_stats()
        assert (stats.num_clients, stats.num_users) == (1, 1)
        await subscription.unsubscribe()
        await told.expect("unsubscribed 0")


@asynchronous
async def test_refusals(node):
    async with connected(node, "ann") as (client, _):
        for channel, code in (("closed:x", 103), ("nowhere:x", 102), ("$private", 103)):
            _, told = await subscribe(client, channel)
            await told.expect(f"unsubscribed {code}")
        with pytest.raises(ReplyError) as refused:
            await client.rpc("anything", {})
        assert refused.value.code == 108
        with pytest.raises(ReplyError) as refused:
            await client.publish("refusals", 1)
        assert refused.value.code == 103


@asynchronous
async def test_a_forged_token_ends_the_client(node):
    forged = tokens.hmac({"sub": "ann"}, "another key")
    async with connecting(node, token=forged) as (client, told):
        await told.wait_for("disconnected 3500")
        assert client.state == ClientState.DISCONNECTED


@asynchronous
async def test_connection_tokens_are_refreshed(node):
    asked = asyncio.Queue()

    async def get_token():
        asked.put_nowait(True)
        if asked_before[0] == 3:
            raise UnauthorizedError("no more")
        asked_before[0] += 1
        return tokens.hmac({"sub": "ann", "exp": tokens.later(2)}, KEY)

    asked_before = [0]
    expired = tokens.hmac({"sub": "ann", "exp": tokens.later(-10)}, KEY)
    async with connecting(node, token=expired, get_token=get_token) as (_, told):
        await told.expect("connected")
        for _ in range(4):
            await asyncio.wait_for(asked.get(), DEADLINE)
        await told.wait_for("disconnected 1")


@asynchronous
async def test_subscription_tokens_are_refreshed(node):
    asked = asyncio.Queue()

    async def get_token(channel):
        asked.put_nowait(channel)
        return tokens.hmac({"sub": "ann", "channel": channel, "exp": tokens.later(2)}, KEY)

    async with connected(node, "ann") as (client, _):
        subscription, told = await subscribe(client, "$private", get_token=get_token)
        await told.expect("subscribed")
        for _ in range(3):
            assert await asyncio.wait_for(asked.get(), DEADLINE) == "$private"
        await api(node, "publish", channel="$private", data=1)
        await told.expect("publication 1")
        assert subscription.state == SubscriptionState.SUBSCRIBED


@asynchronous
async def test_join_and_leave(node):
    async with connected(node, "ann") as (ann, _), connected(node, "bob") as (bob, _):
        _, told = await subscribe(ann, "room", join_leave=True)
        await told.expect("subscribed", "join ann")
        other, _ = await subscribe(bob, "room")
        await told.expect("join bob")
        await other.unsubscribe()
        await told.expect("leave bob")
        await other.subscribe()
        await told.expect("join bob")
        await bob.disconnect()
        await told.expect("leave bob")


class Line:
    """A TCP line to the node that can be cut."""

    def __init__(self, node):
        self.node = node
        self.writers = []
        self.up = asyncio.Event()
        self.up.set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        self.cut()

    async def serve(self, reader, writer):
        await self.up.wait()
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.node.port)
        self.writers += [writer, there_writer]
        await asyncio.gather(self.copy(reader, there_writer), self.copy(there_reader, writer))

    @staticmethod
    async def copy(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def cut(self):
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()


@asynchronous
async def test_recovery(node):
    token = tokens.hmac({"sub": "ann"}, KEY)
    async with Line(node) as line, connecting(node, port=line.port, token=token) as (client, life):
        await life.expect("connected")
        _, told = await subscribe(client, "recovery", recoverable=True)
        _, lost = await subscribe(client, "flood", recoverable=True)
        await told.expect("subscribed")
        await lost.expect("subscribed")
        await api(node, "publish", channel="recovery", data=0)
        await told.expect("publication 0")
        line.up.clear()
        line.cut()
        for number in range(1, 6):
            await api(node, "publish", channel="recovery", data=number)
        # More than the history holds.
        for number in range(101):
            await api(node, "publish", channel="flood", data=number)
        line.up.set()
        await told.expect("recovered True", *(f"publication {n}" for n in range(1, 6)))
        await lost.expect("recovered False")
        await api(node, "publish", channel="recovery", data=6)
        await told.expect("publication 6")


@asynchronous
async def test_cache_recovery(node):
    await api(node, "publish", channel="cache:price", data=1)
    await api(node, "publish", channel="cache:price", data=2)
    async with connected(node, "ann") as (client, _):
        _, told = await subscribe(client, "cache:price")
        await told.wait_for("publication 2")
        await api(node, "publish", channel="cache:price", data=3)
        await told.expect("publication 3")


@asynchronous
async def test_server_side_subscriptions(node):
    async with connecting(node, token=tokens.hmac({"sub": "sue", "channels": ["feed"]}, KEY)) as (
            _, told):
        await told.wait_for("subscribed feed")
        await api(node, "publish", channel="feed", data={"a": 1})
        await told.wait_for("publication feed {'a': 1}")
        await api(node, "subscribe", user="sue", channel="alerts")
        await told.expect("subscribed alerts")
        await api(node, "publish", channel="alerts", data=2)
        await told.expect("publication alerts 2")
        await api(node, "unsubscribe", user="sue", channel="feed")
        await told.expect("unsubscribed feed")
        # What the API subscribed comes back with the user's next connection.
        await api(node, "disconnect", user="sue",
                  disconnect={"code": 4000, "reason": "come again"})
        await told.wait_for("connecting 4000")
        await told.wait_for("subscribed alerts")
        await api(node, "publish", channel="alerts", data=3)
        await told.wait_for("publication alerts 3")
        await api(node, "disconnect", user="sue")
        await told.wait_for("disconnected 3503")


@asynchronous
async def test_an_expired_subscription_token_without_another_ends_it(node):
    async with connected(node, "ann") as (client, _):
        token = tokens.hmac({"sub": "ann", "channel": "$once", "exp": tokens.later(-1)}, KEY)
        _, told = await subscribe(client, "$once", token=token)
        # 109 makes the SDK ask for another token, and there is nobody to ask.
        await told.expect("unsubscribed 1")


@asynchronous
async def test_a_long_lived_token_is_asked_for_once(node):
    asked = []

    async def get_token():
        asked.append(True)
        return tokens.hmac({"sub": "ann", "exp": tokens.later(3600)}, KEY)

    async with connecting(node, get_token=get_token) as (client, told):
        await told.expect("connected")
        with pytest.raises(ReplyError) as refused:
            await client.history("closed:x", limit=1)
        assert refused.value.code == 108
    assert len(asked) == 1
