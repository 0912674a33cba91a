// SPDX-License-Identifier: ISC
// SDK clients for the fault campaign of tests/cluster: they subscribe, they ask, and they tell
// everything that happens to them, one JSON object a line on stdout. They end with their stdin.
//
//   node fault_subscribers.mjs '{"nodes": {"a": 8000, …}, "clients": 2, "channels": ["news", …],
//                                "ask": "asked", "pause": 400}'
//
// A node is a port of 127.0.0.1, or "ws://address:port" or "wss://address:port". On each node `clients` clients subscribe to all
// channels. With `ask` one more on each node publishes to it, reads its history and subscribes to a
// channel of its own, all at once and again and again. Upon a line on stdin they ask no more, and
// tell when everything came to something.
// The timing of the SDK is its default, but for how often the asking one tries to subscribe.
import { scheduler } from 'node:timers/promises';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

const { nodes, clients, channels, ask, pause } = JSON.parse(process.argv[2]);

function tell(what, facts) {
  process.stdout.write(`${JSON.stringify({ what, at: Date.now() / 1000, ...facts })}\n`);
}

function makeClient(node, name) {
  const place = typeof nodes[node] === 'number' ? `ws://127.0.0.1:${nodes[node]}` : nodes[node];
  const client = new Centrifuge(`${place}/connection/websocket`, { websocket: WebSocket });
  for (const event of ['connecting', 'connected', 'disconnected'])
    client.on(event, ({ code, reason }) => tell(event, { client: name, node, code, reason }));
  client.on('error', ({ error }) => tell('error', { client: name, node, ...error }));
  client.connect();
  return client;
}

function subscribe(client, node, name, channel) {
  const subscription = client.newSubscription(channel);
  const id = { client: name, node, channel };
  subscription.on('subscribing', ({ code, reason }) => tell('subscribing', { ...id, code, reason }));
  subscription.on('unsubscribed', ({ code, reason }) => tell('unsubscribed', { ...id, code, reason }));
  subscription.on('subscribed', ({ streamPosition, wasRecovering, recovered }) =>
    tell('subscribed', { ...id, ...streamPosition, wasRecovering, recovered }));
  subscription.on('publication', ({ data, offset }) => tell('publication', { ...id, data, offset }));
  subscription.subscribe();
  return subscription.ready(20000);
}

// Tells of a command when it is sent, and of its answer: code 0 or that of the error.
async function asked(node, kind, answer) {
  const number = ++asked.last;
  tell('asked', { node, kind, number });
  const code = await answer.then(() => 0, (error) => error?.code ?? -1);
  tell('answered', { number, code });
}
asked.last = 0;

// The first attempt is the command; where it fails the SDK tries again until it succeeds.
function subscribeOnce(client, node, channel) {
  const subscription = client.newSubscription(channel, { maxResubscribeDelay: 1000 });
  const first = new Promise((resolve, reject) => {
    subscription.once('subscribed', resolve);
    subscription.once('error', ({ error }) => reject(error));
    subscription.once('unsubscribed', reject);
  });
  subscription.once('subscribed', () => {
    tell('came through', { channel });
    client.removeSubscription(subscription);
  });
  tell('wanted', { node, channel });
  asked(node, 'subscribe', first);
  const through = new Promise((resolve) => {
    subscription.once('subscribed', resolve);
  });
  subscription.subscribe();
  return through;
}

async function keepAsking(client, node) {
  const answers = [];
  for (let i = 1; !enough; i++) {
    answers.push(asked(node, 'publish', client.publish(ask, i)),
      asked(node, 'history', client.history(ask, { limit: 1 })),
      subscribeOnce(client, node, `${ask}-${node}-${i}`));
    await scheduler.wait(pause);
  }
  await Promise.all(answers);
}

let enough = false;
process.stdin.on('data', () => {
  enough = true;
});
process.stdin.on('end', () => process.exit(0));

const subscribed = [];
const asking = [];
for (const node of Object.keys(nodes)) {
  for (let i = 0; i < clients; i++) {
    const name = `${node}${i}`;
    const client = makeClient(node, name);
    for (const channel of channels)
      subscribed.push(subscribe(client, node, name, channel));
  }
  if (ask) {
    const client = makeClient(node, `${node}-asks`);
    asking.push([client, node]);
    subscribed.push(client.ready(20000));
  }
}
await Promise.all(subscribed);
tell('ready', {});
await Promise.all(asking.map(([client, node]) => keepAsking(client, node)));
tell('quiet', {});
