// SPDX-License-Identifier: ISC
// The publisher behind the page's counter: numbers, one after the other, each until it is
// acknowledged. The idempotency key makes repeating one safe, on whichever node.
import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';

const EVERY_MS = 200;
const PATIENCE_MS = 2000;
// Nobody looks: nothing is published.
const IDLE_MS = 10000;

export const COUNTER_CHANNEL = 'demo:counter';

export class Counter {
  constructor(url, apiKey) {
    Object.assign(this, { url, apiKey });
    this.run = randomUUID();
    this.acknowledged = 0;
    this.wantedUntil = 0;
    this.running = false;
  }

  want() {
    this.wantedUntil = Date.now() + IDLE_MS;
    if (!this.running)
      this.publishAll();
  }

  async publishAll() {
    this.running = true;
    while (Date.now() < this.wantedUntil) {
      const began = Date.now();
      if (await this.publish(this.acknowledged + 1))
        this.acknowledged++;
      await sleep(Math.max(0, began + EVERY_MS - Date.now()));
    }
    this.running = false;
  }

  // On a connection of its own: one that is kept would stay with a node that was the primary.
  publish(n) {
    return new Promise((resolve) => {
      const request = http.request(this.url, { method: 'POST', agent: false, timeout: PATIENCE_MS,
        headers: { 'X-API-Key': this.apiKey } });
      request.on('response', async (response) => {
        try {
          const answer = JSON.parse(await text(response));
          resolve(response.statusCode === 200 && 'result' in answer);
        } catch {
          resolve(false);
        }
      });
      request.on('timeout', () => request.destroy());
      request.on('error', () => resolve(false));
      request.end(JSON.stringify({ channel: COUNTER_CHANNEL, data: { run: this.run, n },
        idempotency_key: `${this.run}-${n}` }));
    });
  }
}
