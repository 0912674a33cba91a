// SPDX-License-Identifier: ISC
// The promise to subscribers of channels with history: 1,000 publications at random moments while
// a client is cut off again and again; every one arrives once, in order.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { scheduler } from 'node:timers/promises';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';
import { CutProxy } from './cut_proxy.mjs';
import { Server, waitUntil } from './server.mjs';

const PUBLICATIONS = 1000;
const CHANNEL = 'cut-again-and-again';

// A small generator with a seed (mulberry32), so that a failed run can be repeated.
function randomFrom(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), seed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

test('every publication arrives once and in order', async (t) => {
  const seed = Number(process.env.KEEPSOCK_SEED ?? Math.floor(Math.random() * 2 ** 32));
  t.diagnostic(`seed ${seed}: repeat with KEEPSOCK_SEED=${seed}`);
  const random = randomFrom(seed);

  const server = await Server.start({ channel: { recovery_max_publication_limit: PUBLICATIONS } });
  const proxy = await CutProxy.start(server.port);
  const publisher = new Centrifuge(server.url(), { websocket: WebSocket });
  const client = new Centrifuge(server.url(proxy.port), { websocket: WebSocket });
  const subscription = client.newSubscription(CHANNEL);
  const received = [];
  let recoveries = 0;
  let unrecovered = 0;
  subscription.on('publication', ({ data, offset }) => received.push([data, offset]));
  subscription.on('subscribed', ({ wasRecovering, recovered }) => {
    recoveries += wasRecovering && recovered;
    unrecovered += wasRecovering && !recovered;
  });
  publisher.connect();
  client.connect();
  subscription.subscribe();
  await publisher.ready(20000);
  await subscription.ready(20000);

  let publishing = true;
  const cutting = (async () => {
    while (publishing) {
      // Connected for a random while, sometimes cut in the middle of the SDK's own first messages.
      await scheduler.wait(random() * 600);
      proxy.cut();
    }
  })();
  for (let i = 0; i < PUBLICATIONS; i++) {
    if (random() < 0.5)
      await server.publish(CHANNEL, i);
    else
      await publisher.publish(CHANNEL, i);
    await scheduler.wait(random() * 24);
  }
  publishing = false;
  await cutting;

  await waitUntil(() => received.at(-1)?.[0] === PUBLICATIONS - 1, 'the last one arrived');
  t.diagnostic(`${recoveries} recoveries`);
  const expected = Array.from({ length: PUBLICATIONS }, (_, i) => [i, i + 1]);
  assert.deepEqual(received, expected);
  assert.equal(unrecovered, 0);
  assert.ok(recoveries >= 5, `only ${recoveries} recoveries: too few cuts to prove anything`);

  client.disconnect();
  publisher.disconnect();
  proxy.stop();
  await server.stop();
});
