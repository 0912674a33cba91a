# SPDX-License-Identifier: ISC
"""Python SDK clients at default settings for tests/campaign: the same as
tests/clients/campaign_clients.mjs, which says what they do and tell."""

import asyncio
import json
import os
import random
import sys

from centrifuge import (CentrifugeError, Client, ClientEventHandler, ReplyError,
                        SubscriptionEventHandler)

READY_WITHIN = 60


def tell(what, **facts):
    sys.stdout.write(json.dumps({"what": what, **facts}) + "\n")
    sys.stdout.flush()


class OfClient(ClientEventHandler):
    def __init__(self, name):
        self.name = name

    async def on_connecting(self, ctx):
        tell("connecting", client=self.name, code=ctx.code, reason=ctx.reason)

    async def on_connected(self, ctx):
        tell("connected", client=self.name, id=ctx.client)

    async def on_disconnected(self, ctx):
        tell("disconnected", client=self.name, code=ctx.code, reason=ctx.reason)

    async def on_error(self, ctx):
        tell("error", client=self.name, code=ctx.code, reason=str(ctx.error))


class OfSubscription(SubscriptionEventHandler):
    def __init__(self, name, channel):
        self.who = {"client": name, "channel": channel}

    async def on_subscribing(self, ctx):
        tell("subscribing", **self.who, code=ctx.code, reason=ctx.reason)

    async def on_unsubscribed(self, ctx):
        tell("unsubscribed", **self.who, code=ctx.code, reason=ctx.reason)

    async def on_error(self, ctx):
        tell("error", **self.who, code=ctx.code, reason=str(ctx.error))

    async def on_subscribed(self, ctx):
        position = ctx.stream_position
        tell("subscribed", **self.who, offset=position.offset if position else 0)

    async def on_publication(self, ctx):
        tell("publication", **self.who, n=ctx.pub.data["n"], offset=ctx.pub.offset or 0)


async def publish(client, name, pause, enough):
    channel = f"asked-{name}"
    loop = asyncio.get_running_loop()
    due, number = loop.time() + random.uniform(0, pause), 0
    while True:
        await asyncio.sleep(max(due - loop.time(), 0))
        if enough.is_set():
            return
        due, number = due + pause, number + 1
        what = {"client": name, "channel": channel, "n": number}
        tell("published", **what)
        try:
            await client.publish(channel, {"by": name, "n": number})
            tell("acknowledged", **what)
        except (CentrifugeError, asyncio.TimeoutError) as error:
            code = error.code if isinstance(error, ReplyError) else -1
            tell("refused", **what, code=code, reason=repr(error))


async def main(url, name, clients, rate, channels):
    enough = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_stdin():
        if sys.stdin.readline():
            enough.set()
        else:
            os._exit(0)

    loop.add_reader(0, on_stdin)
    positioned = [channel for channel, is_positioned in channels.items() if is_positioned]
    others = [channel for channel, is_positioned in channels.items() if not is_positioned]
    everyone = []
    for i in range(clients):
        mine = f"{name}{i}"
        client = Client(url, events=OfClient(mine))
        await client.connect()
        everyone.append((client, mine))
        for channel in (positioned[i % len(positioned)], others[i % len(others)]):
            subscription = client.new_subscription(channel, OfSubscription(mine, channel))
            await subscription.subscribe()
            await subscription.ready(READY_WITHIN)
    tell("ready")
    await asyncio.gather(*(publish(client, mine, clients / rate, enough)
                           for client, mine in everyone))
    tell("quiet")
    await asyncio.Event().wait()


asyncio.run(main(**json.loads(sys.argv[1])))
