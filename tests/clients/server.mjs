// SPDX-License-Identifier: ISC
// Starts and judges a keepsockd node for a test file: a directory and a port of its own, and an end
// that must be clean (exit code 0, no sanitizer report).
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { scheduler } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const KEEPSOCKD = path.resolve(process.env.KEEPSOCKD ?? path.join(ROOT, 'var/build/test/keepsockd'));
const API_KEY = 'key-of-the-client-tests';
const DEADLINE_MS = 20000;
const REPORT = /ERROR: (Address|Leak|Undefined\w*)Sanitizer|runtime error:|SUMMARY: \w+Sanitizer/;

const DEFAULTS = {
  node: { name: 'a', run_dir: 'run', state_dir: 'state', workers: 2 },
  client: { insecure: true },
  channel: {
    allow_subscribe_for_client: true,
    allow_publish_for_client: true,
    allow_presence_for_client: true,
    allow_history_for_client: true,
    presence: true,
    history_size: 2000,
    history_ttl: '5m',
    force_recovery: true,
  },
  http_api: { key_file: 'api-key' },
  admin: { socket: 'admin.sock' },
};

export async function waitUntil(condition, what, deadline = DEADLINE_MS) {
  const end = Date.now() + deadline;
  for (;;) {
    const value = await condition();
    if (value)
      return value;
    assert.ok(Date.now() < end, `not within ${deadline} ms: ${what}`);
    await scheduler.wait(20);
  }
}

// The next event of an SDK object that fulfils the condition.
export function nextEvent(emitter, name, condition = () => true) {
  return new Promise((resolve, reject) => {
    const expired = AbortSignal.timeout(DEADLINE_MS);
    const onEvent = (context) => {
      if (!condition(context))
        return;
      emitter.removeListener(name, onEvent);
      resolve(context);
    };
    expired.addEventListener('abort', () => reject(new Error(`no ${name} event`)));
    emitter.on(name, onEvent);
  });
}

// A port outside the range of outgoing connections: nodes set SO_REUSEPORT and would share one.
export async function freePort() {
  for (;;) {
    const port = 10000 + Math.floor(Math.random() * 22000);
    const probe = net.createServer();
    try {
      probe.listen(port, '127.0.0.1');
      await once(probe, 'listening');
      return port;
    } catch {
      continue;
    } finally {
      probe.close();
    }
  }
}

function configValue(value) {
  if (Array.isArray(value)) {
    const items = value.map(configValue).join(', ');
    return value[0] instanceof Object ? `( ${items} )` : `[ ${items} ]`;
  }
  if (value instanceof Object)
    return `{ ${configText(value)} }`;
  return JSON.stringify(value);
}

function configText(settings) {
  return Object.entries(settings).map(([name, value]) => `${name} = ${configValue(value)};`).join(' ');
}

export class Server {
  // overrides: { group: { setting: value } } over what the tests need, or { list: [...] };
  // files: { name: text } to lie beside the configuration, readable by the node alone.
  static async start(overrides = {}, files = {}) {
    const server = new Server();
    server.directory = await mkdtemp(path.join(tmpdir(), 'keepsock-'));
    server.port = await freePort();
    const settings = { listeners: [{ address: '127.0.0.1', port: server.port }] };
    for (const group of new Set([...Object.keys(DEFAULTS), ...Object.keys(overrides)]))
      settings[group] = Array.isArray(overrides[group]) ? overrides[group]
        : { ...DEFAULTS[group], ...overrides[group] };
    await writeFile(path.join(server.directory, 'keepsock.conf'), configText(settings));
    for (const [name, text] of Object.entries({ 'api-key': API_KEY, ...files }))
      await writeFile(path.join(server.directory, name), text, { mode: 0o600 });
    await server.launch();
    return server;
  }

  async launch() {
    const log = await open(path.join(this.directory, 'keepsockd.log'), 'a');
    this.process = spawn(KEEPSOCKD, ['-c', path.join(this.directory, 'keepsock.conf')],
      { stdio: ['ignore', log.fd, log.fd] });
    this.exit = once(this.process, 'exit');
    await log.close();
    await waitUntil(() => this.isReady(), 'the node is ready');
  }

  // All workers, not only the one that answers.
  async isReady() {
    assert.equal(this.process.exitCode, null, await this.log());
    try {
      const ready = await fetch(`http://127.0.0.1:${this.port}/ready`);
      await ready.text(); // a body left unread keeps its connection from being used again
      const metrics = await (await fetch(`http://127.0.0.1:${this.port}/metrics`)).text();
      return ready.status === 200 && metrics.includes('\nkeepsock_ready 1\n');
    } catch {
      return false;
    }
  }

  log() {
    return readFile(path.join(this.directory, 'keepsockd.log'), 'utf8');
  }

  url(port = this.port) {
    return `ws://127.0.0.1:${port}/connection/websocket`;
  }

  async api(method, body) {
    const response = await fetch(`http://127.0.0.1:${this.port}/api/${method}`, {
      method: 'POST',
      headers: { 'X-API-Key': API_KEY, 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });
    assert.equal(response.status, 200);
    const answer = await response.json();
    assert.ok(answer.result, JSON.stringify(answer));
    return answer.result;
  }

  publish(channel, data) {
    return this.api('publish', { channel, data });
  }

  async ctl(...words) {
    const ctl = spawn(path.join(path.dirname(KEEPSOCKD), 'keepsockctl'),
      ['-s', path.join(this.directory, 'admin.sock'), ...words], { stdio: 'inherit' });
    const [code] = await once(ctl, 'exit');
    assert.equal(code, 0);
  }

  // Ends the process; its clients see a shutdown.
  async halt() {
    this.process.kill('SIGTERM');
    const [code, signal] = await this.exit;
    const log = await this.log();
    assert.equal(code, 0, `exit code ${code}, signal ${signal}\n${log}`);
    assert.doesNotMatch(log, REPORT);
  }

  async stop() {
    await this.halt();
    await rm(this.directory, { recursive: true });
  }
}
