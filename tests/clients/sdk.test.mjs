// SPDX-License-Identifier: ISC
// The official JavaScript SDK, unchanged and with its default timing, against a node.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Centrifuge, State, SubscriptionState } from 'centrifuge';
import WebSocket from 'ws';
import { CutProxy } from './cut_proxy.mjs';
import { nextEvent, Server, waitUntil } from './server.mjs';

let server;
let proxy;
const clients = new Set();

before(async () => {
  server = await Server.start();
  proxy = await CutProxy.start(server.port);
});

after(async () => {
  for (const client of clients)
    client.disconnect();
  proxy?.stop();
  await server?.stop();
});

function makeClient(port = server.port, options = {}) {
  const client = new Centrifuge(server.url(port), { websocket: WebSocket, ...options });
  clients.add(client);
  return client;
}

async function connect(port, options) {
  const client = makeClient(port, options);
  client.connect();
  await client.ready(20000);
  return client;
}

// A subscription whose publications are collected in .received.
async function subscribe(client, channel, options) {
  const subscription = client.newSubscription(channel, options);
  subscription.received = [];
  subscription.on('publication', (context) => subscription.received.push(context));
  subscription.subscribe();
  await subscription.ready(20000);
  return subscription;
}

test('connects and tells its client id', async () => {
  const client = makeClient();
  const connected = nextEvent(client, 'connected');
  client.connect();
  const context = await connected;
  assert.match(context.client, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  assert.equal(context.transport, 'websocket');
  assert.equal(client.state, State.Connected);
});

test('subscribes, publishes, receives', async () => {
  const [publisher, subscriber] = [await connect(), await connect()];
  const subscription = await subscribe(subscriber, 'basic');
  const arrived = nextEvent(subscription, 'publication');
  await publisher.publish('basic', { text: 'grüße 😀', n: 1.5 });
  const context = await arrived;
  assert.deepEqual(context.data, { text: 'grüße 😀', n: 1.5 });
  assert.equal(context.channel, 'basic');
  assert.equal(context.offset, 1);
  assert.equal(context.info.user, '');
});

test('a subscription publishes and hears itself', async () => {
  const subscription = await subscribe(await connect(), 'own');
  const arrived = nextEvent(subscription, 'publication');
  await subscription.publish('mine');
  assert.equal((await arrived).data, 'mine');
});

test('receives what the HTTP API publishes', async () => {
  const subscription = await subscribe(await connect(), 'from-api');
  const arrived = nextEvent(subscription, 'publication');
  const { offset } = await server.publish('from-api', [1, 2]);
  const context = await arrived;
  assert.deepEqual([context.data, context.offset], [[1, 2], offset]);
});

test('keeps the order of many publications', async () => {
  const [publisher, subscriber] = [await connect(), await connect()];
  const subscription = await subscribe(subscriber, 'order');
  const numbers = Array.from({ length: 500 }, (_, i) => i);
  await Promise.all(numbers.map((i) => publisher.publish('order', i)));
  await waitUntil(() => subscription.received.length === 500, 'all arrived');
  assert.deepEqual(subscription.received.map((context) => context.data), numbers);
  assert.deepEqual(subscription.received.map((context) => context.offset), numbers.map((i) => i + 1));
});

test('reads the history', async () => {
  const subscription = await subscribe(await connect(), 'history');
  for (let i = 1; i <= 5; i++)
    await subscription.publish(i);
  const all = await subscription.history({ limit: 100 });
  assert.deepEqual(all.publications.map((p) => p.data), [1, 2, 3, 4, 5]);
  assert.equal(all.offset, 5);
  const since = { offset: 3, epoch: all.epoch };
  const later = await subscription.history({ limit: 100, since });
  assert.deepEqual(later.publications.map((p) => p.data), [4, 5]);
  const backwards = await subscription.history({ limit: 2, reverse: true });
  assert.deepEqual(backwards.publications.map((p) => p.data), [5, 4]);
  const top = await subscription.history({ limit: 0 });
  assert.deepEqual([top.publications, top.offset, top.epoch], [[], 5, all.epoch]);
  await assert.rejects(subscription.history({ limit: 1, since: { offset: 1, epoch: 'elsewhere' } }),
    { code: 112 });
});

test('reads presence', async () => {
  const [one, two] = [await connect(), await connect()];
  const subscription = await subscribe(one, 'presence');
  const other = await subscribe(two, 'presence');
  const { clients: present } = await subscription.presence();
  assert.equal(Object.keys(present).length, 2);
  for (const [id, info] of Object.entries(present))
    assert.deepEqual([info.client, info.user], [id, '']);
  const stats = await subscription.presenceStats();
  assert.equal(stats.numClients, 2);
  other.unsubscribe();
  await waitUntil(async () => (await subscription.presenceStats()).numClients === 1, 'one left');
});

test('unsubscribes, and subscribes again', async () => {
  const client = await connect();
  const subscription = await subscribe(client, 'again');
  subscription.unsubscribe();
  assert.equal(subscription.state, SubscriptionState.Unsubscribed);
  await server.publish('again', 'unheard');
  await client.history('again', { limit: 1 });
  assert.deepEqual(subscription.received, []);
  subscription.subscribe();
  await subscription.ready(20000);
  await server.publish('again', 'heard');
  await waitUntil(() => subscription.received.length > 0, 'heard');
});

for (const [channel, code] of [['x'.repeat(256), 107], ['$private', 103], ['nowhere:x', 102]]) {
  test(`subscribing to ${channel.slice(0, 20)} fails with ${code}`, async () => {
    const subscription = (await connect()).newSubscription(channel);
    const ended = nextEvent(subscription, 'unsubscribed');
    subscription.subscribe();
    assert.equal((await ended).code, code);
  });
}

test('calls that are not available say so', async () => {
  const client = await connect();
  await assert.rejects(client.rpc('method', {}), { code: 108 });
  await assert.rejects(client.publish('nowhere:x', 1), { code: 102 });
  await assert.rejects(client.history('nowhere:x', { limit: 1 }), { code: 102 });
  await assert.rejects(client.presence('nowhere:x'), { code: 102 });
  assert.equal(client.state, State.Connected);
});

test('features that are off are 108, permissions that are missing 103', async () => {
  const plain = await Server.start({
    client: { insecure: false, allow_anonymous: true },
    channel: {
      history_size: 0, history_ttl: 0, force_recovery: false, presence: false,
      allow_publish_for_client: false,
    },
  });
  const client = await connect(plain.port);
  try {
    await assert.rejects(client.history('c', { limit: 1 }), { code: 108 });
    await assert.rejects(client.presence('c'), { code: 108 });
    await assert.rejects(client.publish('c', 1), { code: 103 });
  } finally {
    client.disconnect();
    await plain.stop();
  }
});

test('recovers what it missed while it was cut off', async () => {
  const client = await connect(proxy.port);
  const subscription = await subscribe(client, 'cut');
  await server.publish('cut', 0);
  await waitUntil(() => subscription.received.length === 1, 'the first arrived');
  const away = nextEvent(client, 'connecting');
  const back = nextEvent(subscription, 'subscribed');
  proxy.fail();
  await away;
  for (let i = 1; i <= 10; i++)
    await server.publish('cut', i);
  proxy.heal();
  const context = await back;
  assert.deepEqual([context.wasRecovering, context.recovered], [true, true]);
  await waitUntil(() => subscription.received.length === 11, 'all arrived');
  await server.publish('cut', 11);
  await waitUntil(() => subscription.received.length === 12, 'the live one arrived');
  assert.deepEqual(subscription.received.map((p) => p.data), Array.from({ length: 12 }, (_, i) => i));
});

test('learns that it cannot recover', async () => {
  const short = await Server.start({ channel: { history_size: 3 } });
  const cut = await CutProxy.start(short.port);
  const client = await connect(cut.port);
  try {
    const subscription = await subscribe(client, 'short');
    const away = nextEvent(client, 'connecting');
    const back = nextEvent(subscription, 'subscribed');
    cut.fail();
    await away;
    for (let i = 0; i < 10; i++)
      await short.publish('short', i);
    cut.heal();
    const context = await back;
    assert.deepEqual([context.wasRecovering, context.recovered], [true, false]);
    assert.deepEqual(subscription.received, []);
  } finally {
    client.disconnect();
    cut.stop();
    await short.stop();
  }
});

test('subscribes from a known position', async () => {
  for (let i = 1; i <= 4; i++)
    await server.publish('since', i);
  const { epoch } = await server.api('history', { channel: 'since' });
  const subscription = await subscribe(await connect(), 'since', { since: { offset: 2, epoch } });
  await waitUntil(() => subscription.received.length === 2, 'both arrived');
  assert.deepEqual(subscription.received.map((p) => p.data), [3, 4]);
});

test('answers pings and stays connected', async () => {
  const pinging = await Server.start({ client: { ping_interval: '1s', pong_timeout: '800ms' } });
  let pings = 0;
  class CountingWebSocket extends WebSocket {
    constructor(...args) {
      super(...args);
      this.on('message', (data) => {
        pings += data.toString() === '{}';
      });
    }
  }
  const client = await connect(pinging.port, { websocket: CountingWebSocket });
  const lost = [];
  client.on('connecting', (context) => lost.push(context));
  try {
    await waitUntil(() => pings >= 4, 'four pings');
    assert.deepEqual(lost, []);
    assert.equal(client.state, State.Connected);
  } finally {
    client.disconnect();
    await pinging.stop();
  }
});

test('obeys a disconnect by the operator', async () => {
  const client = makeClient();
  const connected = nextEvent(client, 'connected');
  client.connect();
  const ended = nextEvent(client, 'disconnected');
  await server.ctl('disconnect', (await connected).client);
  assert.equal((await ended).code, 3503);
  assert.equal(client.state, State.Disconnected);
});

test('returns by itself after a restart of the node, with everything it missed', async () => {
  const restarted = await Server.start();
  const client = await connect(restarted.port);
  const subscription = await subscribe(client, 'restart');
  await restarted.publish('restart', 1);
  await waitUntil(() => subscription.received.length === 1, 'the first arrived');
  const away = nextEvent(client, 'connecting');
  await restarted.halt();
  assert.equal((await away).code, 3001);
  const back = nextEvent(subscription, 'subscribed');
  await restarted.launch();
  await restarted.publish('restart', 2);
  assert.equal((await back).recovered, true);
  await waitUntil(() => subscription.received.length === 2, 'the second arrived');
  assert.deepEqual(subscription.received.map((p) => p.data), [1, 2]);
  client.disconnect();
  await restarted.stop();
});

test('many subscriptions come back in one go after a cut', async () => {
  const client = await connect(proxy.port);
  const subscriptions = [];
  for (let i = 0; i < 50; i++)
    subscriptions.push(await subscribe(client, `many-${i}`));
  const back = Promise.all(subscriptions.map((s) => nextEvent(s, 'subscribed')));
  proxy.cut();
  for (const context of await back)
    assert.equal(context.recovered, true);
  await Promise.all(subscriptions.map((s, i) => server.publish(`many-${i}`, i)));
  await waitUntil(() => subscriptions.every((s, i) => s.received.at(-1)?.data === i), 'all hear');
});
