// SPDX-License-Identifier: ISC
// The demo page's view of the pair: both nodes, what happened, the counter, and the buttons that
// kill. It asks the demo itself (pair.json tells where), not the nodes: these may be dead.
'use strict';

const POLL_MS = 300;
const COUNTER_CHANNEL = 'demo:counter';
const STATES = { primary: 'connected', standby: 'connected', off: 'disconnected',
  silent: 'disconnected', fault: 'disconnected' };

let demo = null;

async function findDemo() {
  const found = await (await fetch('pair.json', { cache: 'no-store' })).json();
  demo = found.url ? found : null;
  return demo;
}

async function callDemo(method, path) {
  const response = await fetch(demo.url + path,
    { method, cache: 'no-store', headers: { Authorization: `Bearer ${demo.token}` } });
  const answer = await response.json();
  if (!response.ok)
    throw new Error(answer.error);
  return answer;
}

function showPairError(text) {
  byId('pair-error').hidden = !text;
  byId('pair-error').textContent = text ?? '';
}

// Nodes and events

function nodeView(node) {
  const dot = element('span', { className: 'dot' });
  dot.dataset.state = STATES[node.state] ?? 'connecting';
  const why = node.state === 'off' ? `boots in ${Math.ceil(node.boots_ms / 1000)} s` :
    node.state === 'silent' ? 'its supervisor does not answer' : node.reason;
  const item = element('li', {}, dot, ' ', element('b', {}, `node ${node.name}`), ' ',
    element('span', { className: 'role' }, node.state),
    node.state === 'primary' ? element('span', { className: 'epoch' }, `, epoch ${node.epoch}`) : '',
    element('span', { className: 'why' }, `${node.address} – ${why}`));
  item.dataset.node = node.name;
  item.dataset.state = node.state;
  item.dataset.epoch = node.epoch ?? '';
  return item;
}

function eventView(event) {
  return element('li', {},
    element('time', { dateTime: event.at }, new Date(event.at).toLocaleTimeString([], { hour12: false })),
    ` node ${event.node}: ${event.from} → ${event.to}`, event.to === 'primary' ? `, epoch ${event.epoch}` : '',
    ` (${event.reason})`);
}

function showPair(pair) {
  byId('nodes').replaceChildren(...pair.nodes.map(nodeView));
  byId('events').replaceChildren(...pair.events.map(eventView).reverse());
  const hasPrimary = pair.nodes.some((node) => node.state === 'primary');
  for (const id of Object.keys(ACTIONS))
    byId(id).disabled = !hasPrimary;
}

async function watchPair() {
  for (;;) {
    if (!document.hidden) {
      try {
        if (demo ?? await findDemo())
          showPair(await callDemo('GET', '/pair'));
        byId('nodes').dataset.stale = 'no';
      } catch {
        // Restarted, it is elsewhere and has another token.
        demo = null;
        byId('nodes').dataset.stale = 'yes';
      }
    }
    await new Promise((resolve) => {
      setTimeout(resolve, demo ? POLL_MS : 2000);
    });
  }
}

const ACTIONS = { 'kill-primary': '/kill/primary', 'kill-workers': '/kill/workers', 'hand-over': '/handover' };

for (const [id, path] of Object.entries(ACTIONS)) {
  byId(id).addEventListener('click', async () => {
    byId(id).disabled = true;
    try {
      await callDemo('POST', path);
      showPairError(null);
    } catch (error) {
      showPairError(error.message);
    }
  });
}

// The counter: each number must follow the one before.

const counter = { run: null, last: 0, received: 0, lost: 0, repeated: 0, pause: 0, at: null };

function onNumber({ run, n }) {
  const now = performance.now();
  if (run !== counter.run)
    Object.assign(counter, { run, last: n - 1, at: now });
  if (n <= counter.last)
    counter.repeated++;
  else
    counter.lost += n - counter.last - 1;
  counter.last = Math.max(counter.last, n);
  counter.received++;
  counter.pause = Math.max(counter.pause, now - counter.at);
  counter.at = now;
  byId('counter').dataset.verdict = counter.lost + counter.repeated > 0 ? 'lost' : 'good';
  for (const name of ['received', 'lost', 'repeated', 'last'])
    byId(`counter-${name}`).textContent = counter[name];
  byId('counter-pause').textContent = (counter.pause / 1000).toFixed(1);
}

async function startPair() {
  if (!await findDemo())
    return;
  byId('pair').hidden = false;
  const numbers = client.newSubscription(COUNTER_CHANNEL);
  numbers.on('publication', (context) => onNumber(context.data));
  numbers.subscribe();
  watchPair();
}

startPair();
