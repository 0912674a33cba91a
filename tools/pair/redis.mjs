// SPDX-License-Identifier: ISC
// The Redis that both nodes share: the demo's own, with what it holds in a file. One that dies is
// started again.
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const PATIENCE_MS = 15000;

export class Redis {
  constructor({ sessions, log, file, address, port, password }) {
    Object.assign(this, { sessions, log, file, address, port, password });
    this.ending = false;
  }

  async start() {
    const child = this.sessions.start('redis', ['redis-server', this.file], this.log);
    const failed = once(child, 'error').then(([error]) => {
      throw error;
    });
    failed.catch(() => {});
    child.once('exit', () => this.ending || this.again());
    this.child = child;
    for (const end = Date.now() + PATIENCE_MS; !await Promise.race([this.answers(), failed]);) {
      if (Date.now() > end || child.exitCode !== null)
        throw new Error(`redis-server does not answer; the end of ${this.log} may say why`);
      await sleep(20);
    }
  }

  async again() {
    while (!this.ending) {
      try {
        await this.start();
        return;
      } catch (error) {
        console.error(error.message);
        await sleep(1000);
      }
    }
  }

  answers() {
    return new Promise((resolve) => {
      const socket = net.connect(this.port, this.address);
      let answer = '';
      socket.setTimeout(1000, () => socket.destroy());
      socket.on('connect', () => socket.write(`AUTH ${this.password}\r\nPING\r\n`));
      socket.on('data', (text) => {
        answer += text;
        if (answer.includes('+PONG\r\n'))
          socket.destroy();
      });
      socket.on('error', () => {});
      socket.on('close', () => resolve(answer.includes('+PONG\r\n')));
    });
  }
}
