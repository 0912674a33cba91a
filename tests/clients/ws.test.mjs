// SPDX-License-Identifier: ISC
// The widely used ws library as an independent RFC 6455 client, on /echo.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import WebSocket from 'ws';
import { Server } from './server.mjs';

let server;

before(async () => {
  server = await Server.start({ websocket: { message_size_limit: 1 << 20 },
    client: { input_queue_max_size: 2 << 20 } });
});
after(() => server?.stop());

async function open(options) {
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}/echo`, options);
  await once(socket, 'open');
  return socket;
}

async function echo(socket, payload) {
  const arrived = once(socket, 'message');
  socket.send(payload);
  const [data, isBinary] = await arrived;
  return isBinary ? data : data.toString();
}

test('echoes text of every size class', async () => {
  const socket = await open();
  for (const size of [0, 1, 125, 126, 65535, 65536, 1 << 20])
    assert.equal(await echo(socket, 'x'.repeat(size)), 'x'.repeat(size));
  assert.equal(await echo(socket, 'ß € 😀 \u0000'), 'ß € 😀 \u0000');
  socket.terminate();
});

test('echoes binary of every size class', async () => {
  const socket = await open();
  for (const size of [0, 1, 125, 126, 65535, 65536, 1 << 20]) {
    const payload = randomBytes(size);
    assert.deepEqual(await echo(socket, payload), payload);
  }
  socket.terminate();
});

test('puts fragments together', async () => {
  const socket = await open();
  const arrived = once(socket, 'message');
  for (let i = 0; i < 100; i++)
    socket.send(`${i} `, { fin: i === 99 });
  const [data] = await arrived;
  assert.equal(data.toString(), Array.from({ length: 100 }, (_, i) => `${i} `).join(''));
  socket.terminate();
});

test('answers pings, between fragments too', async () => {
  const socket = await open();
  socket.send('first ', { fin: false });
  const pong = once(socket, 'pong');
  socket.ping('are you there');
  assert.equal((await pong)[0].toString(), 'are you there');
  const arrived = once(socket, 'message');
  socket.send('second');
  assert.equal((await arrived)[0].toString(), 'first second');
  socket.terminate();
});

test('answers a thousand messages in flight in order', async () => {
  const socket = await open();
  const received = [];
  const all = new Promise((resolve) => {
    socket.on('message', (data) => {
      received.push(Number(data));
      if (received.length === 1000)
        resolve();
    });
  });
  for (let i = 0; i < 1000; i++)
    socket.send(String(i));
  await all;
  assert.deepEqual(received, Array.from({ length: 1000 }, (_, i) => i));
  socket.terminate();
});

for (const [code, reason] of [[1000, 'done'], [1001, ''], [3000, 'own'], [4999, 'own']]) {
  test(`closes with ${code}`, async () => {
    const socket = await open();
    const closed = once(socket, 'close');
    socket.close(code, reason);
    assert.equal((await closed)[0], code);
  });
}

test('refuses a message beyond the limit with 1009', async () => {
  const socket = await open();
  const closed = once(socket, 'close');
  socket.send('x'.repeat((1 << 20) + 1));
  assert.equal((await closed)[0], 1009);
});

test('does not agree to compression unless it is configured', async () => {
  const socket = await open({ perMessageDeflate: true });
  assert.equal(socket.extensions, '');
  assert.equal(await echo(socket, 'plain'), 'plain');
  socket.terminate();
});

test('refuses a foreign origin', async () => {
  const socket = new WebSocket(server.url(), { origin: 'https://elsewhere.example' });
  const [, response] = await once(socket, 'unexpected-response');
  assert.equal(response.statusCode, 403);
});
