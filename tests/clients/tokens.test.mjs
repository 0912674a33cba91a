// SPDX-License-Identifier: ISC
// The official JavaScript SDK with tokens, expiry, server-side subscriptions, joins and leaves,
// cache recovery: what a node that is not open to everybody offers.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Centrifuge, SubscriptionState, UnauthorizedError } from 'centrifuge';
import WebSocket from 'ws';
import { nextEvent, Server, waitUntil } from './server.mjs';

const KEY = 'key-of-the-token-tests';

let server;
const clients = new Set();

before(async () => {
  server = await Server.start({
    client: { insecure: false },
    token: { hmac_secret_file: 'token-key' },
    channel: {
      allow_subscribe_for_client: true, allow_publish_for_client: false,
      allow_publish_for_subscriber: true, allow_presence_for_client: false,
      allow_presence_for_subscriber: true, force_recovery: false, join_leave: true,
    },
    namespaces: [
      { name: 'closed' },
      { name: 'users', allow_user_limited_channels: true },
      { name: 'cache', allow_subscribe_for_client: true, history_size: 1, history_ttl: '5m',
        force_recovery: true, force_recovery_mode: 'cache', auto_cache_recover: true },
    ],
  }, { 'token-key': KEY });
});

after(async () => {
  for (const client of clients)
    client.disconnect();
  await server?.stop();
});

// A JSON Web Token (RFC 7519), HS256.
function token(claims, key = KEY) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`;
  return `${text}.${createHmac('sha256', key).update(text).digest('base64url')}`;
}

const later = (seconds) => Math.floor(Date.now() / 1000) + seconds;

function makeClient(options) {
  const client = new Centrifuge(server.url(), { websocket: WebSocket, ...options });
  clients.add(client);
  return client;
}

async function connect(claims) {
  const client = makeClient({ token: token(claims) });
  client.connect();
  await client.ready(20000);
  return client;
}

async function subscribe(client, channel, options) {
  const subscription = client.newSubscription(channel, options);
  subscription.received = [];
  subscription.told = [];
  subscription.on('publication', (context) => subscription.received.push(context.data));
  subscription.on('join', (context) => subscription.told.push(`join ${context.info.user}`));
  subscription.on('leave', (context) => subscription.told.push(`leave ${context.info.user}`));
  subscription.subscribe();
  await subscription.ready(20000);
  return subscription;
}

test('a token names the user and what others see of it', async () => {
  const client = await connect({ sub: 'ann', info: { name: 'Ann' } });
  const subscription = await subscribe(client, 'who');
  const publication = nextEvent(subscription, 'publication');
  await subscription.publish({ a: 1 });
  const { info } = await publication;
  assert.deepEqual([info.user, info.connInfo], ['ann', { name: 'Ann' }]);
  const { clients: present } = await subscription.presence();
  assert.deepEqual(Object.values(present).map((info) => [info.user, info.connInfo]),
    [['ann', { name: 'Ann' }]]);
});

test('a forged token ends the client', async () => {
  const client = makeClient({ token: token({ sub: 'ann' }, 'another key') });
  const disconnected = nextEvent(client, 'disconnected');
  client.connect();
  assert.equal((await disconnected).code, 3500);
});

test('an expired token is replaced, then refreshed as long as there is another', async () => {
  let asked = 0;
  const client = makeClient({
    token: token({ sub: 'ann', exp: later(-10) }),
    getToken: async () => {
      if (++asked === 4)
        throw new UnauthorizedError('no more');
      return token({ sub: 'ann', exp: later(2) });
    },
  });
  const disconnected = nextEvent(client, 'disconnected');
  client.connect();
  await client.ready(20000);
  assert.equal((await disconnected).code, 1);
  assert.equal(asked, 4);
});

test('a subscription token opens a private channel and is refreshed', async () => {
  const client = await connect({ sub: 'ann' });
  let asked = 0;
  const subscription = await subscribe(client, '$private', {
    getToken: async ({ channel }) => {
      asked++;
      return token({ sub: 'ann', channel, info: { seat: 1 }, exp: later(2) });
    },
  });
  await waitUntil(() => asked >= 3, 'the token is refreshed twice');
  await server.publish('$private', 'x');
  await waitUntil(() => subscription.received.length === 1, 'the publication');
  assert.equal(subscription.state, SubscriptionState.Subscribed);
});

test('user-limited channels are for who is named', async () => {
  const ann = await connect({ sub: 'ann' });
  await subscribe(ann, 'users:x#ann,bob');
  const stranger = await connect({ sub: 'eve' });
  const refused = stranger.newSubscription('users:x#ann,bob');
  const unsubscribed = nextEvent(refused, 'unsubscribed');
  refused.subscribe();
  assert.equal((await unsubscribed).code, 103);
});

test('joins and leaves are told', async () => {
  const [ann, bob] = [await connect({ sub: 'ann' }), await connect({ sub: 'bob' })];
  const { told } = await subscribe(ann, 'room', { joinLeave: true });
  const other = await subscribe(bob, 'room');
  other.unsubscribe();
  await waitUntil(() => told.length === 3, 'bob comes and goes');
  other.subscribe();
  await waitUntil(() => told.length === 4, 'bob is back');
  bob.disconnect();
  await waitUntil(() => told.length === 5, 'bob is gone');
  assert.deepEqual(told, ['join ann', 'join bob', 'leave bob', 'join bob', 'leave bob']);
});

test('a cache channel gives its latest publication at once', async () => {
  await server.publish('cache:price', 1);
  await server.publish('cache:price', 2);
  const subscription = await subscribe(await connect({ sub: 'ann' }), 'cache:price');
  await waitUntil(() => subscription.received.length === 1, 'the latest');
  await server.publish('cache:price', 3);
  await waitUntil(() => subscription.received.length === 2, 'the next');
  assert.deepEqual(subscription.received, [2, 3]);
});

test('server-side subscriptions come with the token, by the API, and come back', async () => {
  const told = [];
  const client = makeClient({ token: token({ sub: 'sue', channels: ['feed'] }) });
  client.on('subscribed', ({ channel }) => told.push(`subscribed ${channel}`));
  client.on('unsubscribed', ({ channel }) => told.push(`unsubscribed ${channel}`));
  client.on('publication', ({ channel, data }) => told.push(`${channel} ${data}`));
  const heard = (text) => waitUntil(() => told.includes(text), text);
  client.connect();
  await heard('subscribed feed');
  await server.publish('feed', 1);
  await heard('feed 1');
  await server.api('subscribe', { user: 'sue', channel: 'alerts' });
  await heard('subscribed alerts');
  await server.publish('alerts', 2);
  await heard('alerts 2');
  await server.api('unsubscribe', { user: 'sue', channel: 'feed' });
  await heard('unsubscribed feed');
  told.length = 0;
  const connecting = nextEvent(client, 'connecting');
  await server.api('disconnect',
    { user: 'sue', disconnect: { code: 4000, reason: 'come again' } });
  assert.equal((await connecting).code, 4000);
  await heard('subscribed alerts');
  await server.publish('alerts', 3);
  await heard('alerts 3');
  const disconnected = nextEvent(client, 'disconnected');
  await server.api('disconnect', { user: 'sue' });
  assert.equal((await disconnected).code, 3503);
});

// The SDK has no ear for a refresh push: it learns of the end when it comes.
test('the API ends a connection, and the SDK comes back with another token', async () => {
  const asked = [];
  const client = makeClient({
    getToken: async () => {
      asked.push(true);
      return token({ sub: 'rob', exp: later(3600) });
    },
  });
  client.connect();
  await client.ready(20000);
  const connecting = nextEvent(client, 'connecting');
  await server.api('refresh', { user: 'rob', expired: true });
  assert.equal((await connecting).code, 3005);
  await client.ready(20000);
  assert.ok(asked.length >= 1);
});
