// SPDX-License-Identifier: ISC
// JavaScript SDK clients at default settings for tests/campaign, which tell everything that happens
// to them, one JSON object a line on stdout. They end with their stdin.
//
//   node campaign_clients.mjs '{"url": "ws://127.0.0.1:8000/connection/websocket", "name": "js",
//                               "clients": 30, "rate": 50,
//                               "channels": {"h0": true, "plain:0": false, …}}'
//
// Each subscribes to two channels, one with positions (true) and one without, and publishes to a
// channel of its own, `asked-NAME`, one publication after the other: all together `rate` a second.
// Upon a line on stdin they publish no more, and tell `quiet` when everything came to something.
// tests/clients/go/campaign and tests/clients/python/campaign_clients.py do the same.
import { scheduler } from 'node:timers/promises';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

const { url, name: sdk, clients, rate, channels } = JSON.parse(process.argv[2]);

function tell(what, facts) {
  process.stdout.write(`${JSON.stringify({ what, ...facts })}\n`);
}

function makeClient(name) {
  const client = new Centrifuge(url, { websocket: WebSocket });
  client.on('connecting', ({ code, reason }) => tell('connecting', { client: name, code, reason }));
  client.on('connected', (context) => tell('connected', { client: name, id: context.client }));
  client.on('disconnected', ({ code, reason }) =>
    tell('disconnected', { client: name, code, reason }));
  client.on('error', ({ error }) =>
    tell('error', { client: name, code: error.code, reason: error.message }));
  client.connect();
  return client;
}

function subscribe(client, name, channel) {
  const id = { client: name, channel };
  const subscription = client.newSubscription(channel);
  for (const event of ['subscribing', 'unsubscribed'])
    subscription.on(event, ({ code, reason }) => tell(event, { ...id, code, reason }));
  subscription.on('error', ({ error }) =>
    tell('error', { ...id, code: error.code, reason: error.message }));
  subscription.on('subscribed', ({ streamPosition }) =>
    tell('subscribed', { ...id, offset: streamPosition?.offset ?? 0 }));
  subscription.on('publication', ({ data, offset }) =>
    tell('publication', { ...id, n: data.n, offset: offset ?? 0 }));
  subscription.subscribe();
  return subscription.ready(60000);
}

// The SDK's promise is all that the application has: it was published, or an error says why not.
async function publish(client, name) {
  const channel = `asked-${name}`;
  const pause = (1000 * clients) / rate;
  let due = Date.now() + Math.random() * pause;
  for (let n = 1; ; n++) {
    await scheduler.wait(Math.max(due - Date.now(), 0));
    if (enough)
      return;
    due += pause;
    tell('published', { client: name, channel, n });
    await client.publish(channel, { by: name, n }).then(
      () => tell('acknowledged', { client: name, channel, n }),
      (error) => tell('refused', { client: name, channel, n, code: error.code, reason: error.message }));
  }
}

let enough = false;
process.stdin.on('data', () => {
  enough = true;
});
process.stdin.on('end', () => process.exit(0));

const names = Object.keys(channels);
const positioned = names.filter((channel) => channels[channel]);
const others = names.filter((channel) => !channels[channel]);
const all = [];
for (let i = 0; i < clients; i++) {
  const name = `${sdk}${i}`;
  all.push([makeClient(name), name]);
  // A few at a time, as a server with a short queue of connections to accept wants it.
  await Promise.all([positioned[i % positioned.length], others[i % others.length]]
    .map((channel) => subscribe(all[i][0], name, channel)));
}
tell('ready', {});
await Promise.all(all.map(([client, name]) => publish(client, name)));
tell('quiet', {});
