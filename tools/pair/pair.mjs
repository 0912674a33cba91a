// SPDX-License-Identifier: ISC
// The pair as it runs: its Redis, and a supervisor with its node on each of two hosts. A supervisor
// that dies is started again, as systemd would; a host whose power was cut boots after a while.
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { ask } from './admin.mjs';
import { freePort, makeSecrets, writeFence, writeNode, writeRedis } from './files.mjs';
import { Redis } from './redis.mjs';
import { Sessions, signal } from './processes.mjs';

// Longer than a lease, so that the other node is the primary by then.
const BOOT_MS = 8000;
const READY_MS = 60000;
const END_MS = 20000;
const SHORT_LIFE_MS = 1000;
const HAND_OVER_MS = 40000;

export class Pair {
  // tlsPort: 0 = none.
  constructor({ state, build, port, tlsPort, scene }) {
    Object.assign(this, { state, build, port, tlsPort, scene });
    this.names = Object.keys(scene.nodes);
    this.sessions = new Sessions(path.join(state, 'sessions'));
    this.off = new Map(); // name -> when it boots
    this.supervisors = new Map();
    this.ending = false;
  }

  at(name, file) {
    return path.join(this.state, name, file);
  }

  // Ends what another demo in this place has left, and makes all files.
  async prepare() {
    const { scene, state } = this;
    mkdirSync(state, { recursive: true });
    await this.clear();
    Object.assign(this, makeSecrets(state));
    scene.open(state);
    const addresses = [scene.local, ...scene.vip ? [] : Object.values(scene.nodes)];
    const ports = { port: this.port, tlsPort: this.tlsPort, peerPort: await freePort(addresses),
      redisPort: await freePort([scene.local]) };
    for (const name of this.names) {
      writeNode(state, scene, name, ports);
      execFileSync(path.join(this.build, 'keepsockd'), ['-t', '-c', this.at(name, 'keepsock.conf')]);
    }
    if (!scene.vip)
      writeFence(state);
    this.redis = new Redis({ sessions: this.sessions, log: path.join(state, 'redis.log'),
      file: writeRedis(state, scene.local, ports.redisPort, this.redisPassword),
      address: scene.local, port: ports.redisPort, password: this.redisPassword });
  }

  async start() {
    await this.redis.start();
    this.names.forEach((name) => this.boot(name));
  }

  boot(name) {
    this.off.delete(name);
    if (this.ending)
      return;
    const argv = [path.join(this.build, 'keepsock-supervisor'), '-c', this.at(name, 'keepsock.conf')];
    const began = Date.now();
    const child = this.sessions.start(name, this.scene.command(name, argv), this.at(name, 'log'));
    this.supervisors.set(name, child);
    child.once('exit', () => {
      if (!this.off.has(name))
        setTimeout(() => this.boot(name), Date.now() - began < SHORT_LIFE_MS ? SHORT_LIFE_MS : 0);
    });
  }

  // {name: the supervisor's status, null without an answer}
  async statuses() {
    const answers = await Promise.allSettled(
      this.names.map((name) => ask(this.at(name, 'supervisor.sock'), 'status')));
    return Object.fromEntries(this.names.map((name, i) => [name, answers[i].value ?? null]));
  }

  async events() {
    for (const name of this.names) {
      try {
        return (await ask(this.at(name, 'supervisor.sock'), 'show events')).rows;
      } catch {
        continue;
      }
    }
    return [];
  }

  async primary() {
    const statuses = await this.statuses();
    return this.names.find((name) => statuses[name]?.state === 'primary') ?? null;
  }

  async isReady() {
    try {
      const response = await fetch(`http://${this.scene.primary}:${this.port}/ready`,
        { signal: AbortSignal.timeout(2000) });
      return response.status === 200;
    } catch {
      return false;
    }
  }

  // One is the primary and takes clients, the other could follow.
  async settled() {
    const statuses = await this.statuses();
    const states = this.names.map((name) => statuses[name]?.state).sort().join();
    return states === 'primary,standby' && await this.isReady();
  }

  async waitSettled() {
    for (const end = Date.now() + READY_MS; !await this.settled();) {
      if (Date.now() > end)
        throw new Error('the pair did not become ready');
      await sleep(50);
    }
  }

  // Everything of that host at once, the supervisor too. It boots after a while.
  async cutPower(name) {
    this.off.set(name, Date.now() + BOOT_MS);
    const killed = await this.sessions.kill(name);
    setTimeout(() => this.boot(name), this.off.get(name) - Date.now());
    return killed;
  }

  killWorkers(name) {
    return signal(this.sessions.members(name, /^keepsockd: worker /), 'SIGKILL');
  }

  // Answered when it is done; the supervisor waits for the other one to be able to follow.
  handOver(name) {
    return ask(this.at(name, 'supervisor.sock'), 'demote', HAND_OVER_MS);
  }

  // Without handing over: a demo that ends has nobody to hand over to.
  async stop() {
    this.ending = true;
    if (this.redis)
      this.redis.ending = true;
    await this.clear();
  }

  // Supervisors first, so that none does anything about what happens to its node.
  async clear() {
    await this.sessions.kill(null, /supervisor/);
    await Promise.all(this.names.map((name) => this.endNode(name)));
    await this.endInTime('redis', 'SIGTERM');
    await this.sessions.kill(null);
    rmSync(this.sessions.path, { force: true });
    this.scene.close(this.state);
  }

  // A master ends its node in good order. One that died has left keepers and workers.
  async endNode(name) {
    await this.endInTime(name, 'SIGTERM', /^keepsockd: master |keepsockd -c /);
    await this.sessions.kill(name);
  }

  async endInTime(name, number, title) {
    const end = Date.now() + END_MS;
    signal(this.sessions.members(name, title), number);
    while (this.sessions.members(name, title).length > 0) {
      if (Date.now() > end)
        return;
      await sleep(20);
    }
  }

  isThere() {
    return existsSync(this.sessions.path) && this.sessions.members(null).length > 0;
  }
}
