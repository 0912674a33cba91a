// SPDX-License-Identifier: ISC
// permessage-deflate with peers that are not ours: the ws library, the official SDK on it, and a
// real browser.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { Centrifuge } from 'centrifuge';
import { chromium } from 'playwright-core';
import WebSocket from 'ws';
import { Server, nextEvent, waitUntil } from './server.mjs';

const LIMIT = 65536;
const TEXT = JSON.stringify(Array.from({ length: 60 }, (_, i) => ({ id: i, text: `message ${i}` })));

let server;

before(async () => {
  server = await Server.start({ websocket: { compression: true } });
});
after(() => server?.stop());

async function metrics() {
  const response = await fetch(`http://127.0.0.1:${server.port}/metrics`);
  const lines = (await response.text()).split('\n').filter((line) => line.startsWith('keepsock_'));
  return Object.fromEntries(lines.map((line) => {
    const [name, value] = line.split(' ');
    return [name.replace('keepsock_', '').replace('deflate_', ''), Number(value)];
  }));
}

async function open(perMessageDeflate) {
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}/echo`, { perMessageDeflate });
  await once(socket, 'open');
  return socket;
}

async function echo(socket, payload) {
  const arrived = once(socket, 'message');
  socket.send(payload);
  const [data, isBinary] = await arrived;
  return isBinary ? data : data.toString();
}

const OPTIONS = {
  'as it comes': { threshold: 0 },
  'without context takeover': { threshold: 0, serverNoContextTakeover: true,
    clientNoContextTakeover: true },
  'with a small window of ours': { threshold: 0, serverMaxWindowBits: 9 },
  'with a small window of its own': { threshold: 0, clientMaxWindowBits: 9 },
  'compressing only what is long': { threshold: 1024 },
};

for (const [name, options] of Object.entries(OPTIONS)) {
  test(`ws ${name}`, async () => {
    const before = await metrics();
    const socket = await open(options);
    assert.match(socket.extensions, /^permessage-deflate/);
    for (const size of [0, 1, 127, 128, 500, 513, 5000, LIMIT]) {
      const text = TEXT.repeat(40).slice(0, size);
      assert.equal(await echo(socket, text), text);
      const noise = randomBytes(size);
      assert.deepEqual(await echo(socket, noise), noise);
    }
    socket.terminate();
    const after = await metrics();
    assert.ok(after.inflate_messages_total > before.inflate_messages_total);
    assert.ok(after.messages_total > before.messages_total);
  });
}

test('ws puts compressed fragments together, with pings between', async () => {
  const socket = await open({ threshold: 0 });
  const arrived = once(socket, 'message');
  for (let i = 0; i < 50; i++) {
    socket.send(TEXT.slice(i * 20, i * 20 + 20), { fin: i === 49 });
    socket.ping();
  }
  assert.equal((await arrived)[0].toString(), TEXT.slice(0, 1000));
  socket.terminate();
});

test('ws is told 1009 for what is too big once decompressed', async () => {
  const socket = await open({ threshold: 0 });
  const closed = once(socket, 'close');
  socket.send('x'.repeat(LIMIT + 1));
  assert.equal((await closed)[0], 1009);
});

// The SDK, on a WebSocket that compresses everything.
class Compressing extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { perMessageDeflate: { threshold: 0 } });
  }
}

async function connect(options = {}) {
  const client = new Centrifuge(server.url(), { websocket: Compressing, ...options });
  const connected = nextEvent(client, 'connected');
  client.connect();
  await connected;
  return client;
}

test('the SDK subscribes, publishes, batches and reads history', async () => {
  const before = await metrics();
  const client = await connect();
  const plain = await connect({ websocket: WebSocket });
  const received = { client: [], plain: [] };

  for (const [name, sdk] of [['client', client], ['plain', plain]]) {
    const subscription = sdk.newSubscription('deflate');
    subscription.on('publication', ({ data }) => received[name].push(data));
    const subscribed = nextEvent(subscription, 'subscribed');
    subscription.subscribe();
    await subscribed;
  }
  const data = Array.from({ length: 30 }, (_, i) => ({ n: i, text: TEXT.slice(0, i * 50) }));
  client.startBatching();
  const published = data.map((item) => client.publish('deflate', item));
  client.stopBatching();
  await Promise.all(published);
  await waitUntil(() => received.client.length === 30 && received.plain.length === 30,
    'all arrived');
  assert.deepEqual(received.client, data);
  assert.deepEqual(received.plain, data);
  const history = await client.history('deflate', { limit: 30 });
  assert.deepEqual(history.publications.map((publication) => publication.data), data);
  const after = await metrics();
  assert.ok(after.saved_bytes_total > before.saved_bytes_total);
  client.disconnect();
  plain.disconnect();
});

test('a browser compresses and decompresses', async () => {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync'] });
  try {
    const page = await browser.newPage();
    const before = await metrics();
    await page.goto(`http://127.0.0.1:${server.port}/health`);
    const result = await page.evaluate(async ([url, text]) => {
      const socket = new WebSocket(url);
      await new Promise((resolve, reject) => {
        socket.onopen = resolve;
        socket.onerror = () => reject(new Error('not open'));
      });
      const echoes = [];
      for (const size of [1, 127, 128, 3000, 60000]) {
        socket.send(text.repeat(40).slice(0, size));
        echoes.push(await new Promise((resolve) => { socket.onmessage = (e) => resolve(e.data); }));
      }
      socket.close(1000);
      return { extensions: socket.extensions, echoes };
    }, [`ws://127.0.0.1:${server.port}/echo`, TEXT]);
    assert.match(result.extensions, /^permessage-deflate/);
    assert.deepEqual(result.echoes,
      [1, 127, 128, 3000, 60000].map((size) => TEXT.repeat(40).slice(0, size)));
    const after = await metrics();
    assert.ok(after.messages_total >= before.messages_total + 3);
    assert.ok(after.inflate_messages_total > before.inflate_messages_total);
  } finally {
    await browser.close();
  }
});
