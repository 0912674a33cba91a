// SPDX-License-Identifier: ISC
// Where the pair lives. On one machine without root: a loopback address for each node, and one that
// the primary's listener has. With root: a network namespace for each node, and a real address that
// moves between them; this machine is then the third host, with Redis and the clients.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';

const BRIDGE = 'keepsock-demo';
const PREFIX = 24;

const ip = (...words) => execFileSync('ip', words, { stdio: ['ignore', 'ignore', 'pipe'] });

// Whose bridge it is, null when there is none; there can be one demo of this kind on a machine. Not
// from /sys, which may be that of another network namespace.
function owner() {
  const links = JSON.parse(execFileSync('ip', ['-json', 'link', 'show', 'type', 'bridge']).toString() || '[]');
  const bridge = links.find((link) => link.ifname === BRIDGE);
  return bridge ? bridge.ifalias ?? '' : null;
}

function quiet(...words) {
  try {
    ip(...words);
  } catch {
    return;
  }
}

export const loopback = {
  name: 'loopback',
  local: '127.0.0.1',
  primary: '127.0.0.1',
  nodes: { a: '127.0.1.1', b: '127.0.1.2' },
  command: (name, argv) => argv,
  open() {},
  close() {},
};

const namespace = (name) => `keepsock-demo-${name}`;

export const namespaces = {
  name: 'netns',
  local: '10.77.0.1',
  primary: '10.77.0.100',
  vip: `10.77.0.100/${PREFIX}`,
  nodes: { a: '10.77.0.11', b: '10.77.0.12' },
  command: (name, argv) => ['ip', 'netns', 'exec', namespace(name), ...argv],

  open(state) {
    if (owner() !== null)
      throw new Error(`a demo with --netns is there already: ${owner()}`);
    ip('link', 'add', BRIDGE, 'type', 'bridge');
    ip('link', 'set', BRIDGE, 'alias', path.resolve(state));
    ip('addr', 'add', `${this.local}/${PREFIX}`, 'dev', BRIDGE);
    ip('link', 'set', BRIDGE, 'up');
    for (const [name, address] of Object.entries(this.nodes)) {
      ip('netns', 'add', namespace(name));
      ip('link', 'add', `ksdemo-${name}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace(name));
      ip('link', 'set', `ksdemo-${name}`, 'master', BRIDGE);
      ip('link', 'set', `ksdemo-${name}`, 'up');
      ip('-n', namespace(name), 'link', 'set', 'lo', 'up');
      ip('-n', namespace(name), 'addr', 'add', `${address}/${PREFIX}`, 'dev', 'eth0');
      ip('-n', namespace(name), 'link', 'set', 'eth0', 'up');
      ip('-n', namespace(name), 'route', 'add', 'default', 'via', this.local);
    }
  },

  close(state) {
    if (owner() && owner() !== path.resolve(state))
      return;
    for (const name of Object.keys(this.nodes)) {
      if (existsSync(`/run/netns/${namespace(name)}`))
        quiet('netns', 'delete', namespace(name));
      quiet('link', 'delete', `ksdemo-${name}`);
    }
    if (owner() !== null)
      quiet('link', 'delete', BRIDGE);
  },
};
