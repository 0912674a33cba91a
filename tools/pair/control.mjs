// SPDX-License-Identifier: ISC
// What the page asks the demo itself: how the pair is, and to kill parts of it. For this page only:
// the address is this machine's own, each request carries a token that only the page's files have,
// and says that it comes from the page's origin and knows whom it talks to, so that neither another
// site's page nor a name that was pointed here gets anywhere.
import { randomBytes, timingSafeEqual } from 'node:crypto';
import http from 'node:http';

const EVENTS_SHOWN = 12;

export class Control {
  constructor(pair, counter) {
    Object.assign(this, { pair, counter });
    this.token = randomBytes(24).toString('hex');
    this.server = http.createServer((request, response) => this.onRequest(request, response));
    this.server.maxConnections = 100;
    this.server.headersTimeout = this.server.requestTimeout = 5000;
    this.killing = false;
  }

  async open() {
    await new Promise((resolve, reject) => {
      this.server.once('error', reject).listen(0, this.pair.scene.local, resolve);
    });
    this.place = `${this.pair.scene.local}:${this.server.address().port}`;
  }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }

  // What the page has to know; it is served with it.
  description() {
    return { url: `http://${this.place}`, token: this.token };
  }

  isOrigin(origin) {
    const { scene, port, tlsPort } = this.pair;
    const hosts = [scene.primary, ...Object.values(scene.nodes), ...scene.vip ? [] : ['localhost']];
    return hosts.some((host) => origin === `http://${host}:${port}` ||
      tlsPort && origin === `https://${host}:${tlsPort}`);
  }

  isAuthorized(request) {
    const given = Buffer.from(request.headers.authorization ?? '');
    const wanted = Buffer.from(`Bearer ${this.token}`);
    return given.length === wanted.length && timingSafeEqual(given, wanted);
  }

  async onRequest(request, response) {
    const { host, origin } = request.headers;
    const answer = (status, body) => {
      response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
      response.end(body === undefined ? undefined : JSON.stringify(body));
    };
    request.resume();
    if (host !== this.place || !this.isOrigin(origin)) {
      answer(403, { error: 'not from here' });
      return;
    }
    response.setHeader('Access-Control-Allow-Origin', origin);
    response.setHeader('Vary', 'Origin');
    if (request.method === 'OPTIONS') {
      response.setHeader('Access-Control-Allow-Headers', 'Authorization');
      response.setHeader('Access-Control-Allow-Methods', 'GET, POST');
      response.setHeader('Access-Control-Max-Age', '600');
      answer(204);
    } else if (!this.isAuthorized(request)) {
      answer(401, { error: 'wrong token' });
    } else {
      try {
        await this.route(`${request.method} ${request.url}`, answer);
      } catch (error) {
        answer(409, { error: error.message });
      }
    }
  }

  async route(what, answer) {
    switch (what) {
    case 'GET /pair': answer(200, await this.describe()); break;
    case 'POST /kill/primary': answer(200, await this.once((name) => this.pair.cutPower(name))); break;
    case 'POST /kill/workers': answer(200, await this.once((name) => this.pair.killWorkers(name))); break;
    case 'POST /handover': answer(200, await this.once((name) => this.pair.handOver(name))); break;
    default: answer(404, { error: 'no such thing' });
    }
  }

  // With the primary, one at a time: two clicks are not two nodes.
  async once(act) {
    if (this.killing)
      throw new Error('one thing after the other');
    this.killing = true;
    try {
      const name = await this.pair.primary();
      if (!name)
        throw new Error('there is no primary just now');
      return { node: name, result: await act(name) };
    } finally {
      this.killing = false;
    }
  }

  async describe() {
    this.counter.want();
    const [statuses, events] = await Promise.all([this.pair.statuses(), this.pair.events()]);
    const nodes = this.pair.names.map((name) => {
      const status = statuses[name];
      const boots = this.pair.off.get(name);
      return { name, address: this.pair.scene.nodes[name],
        state: boots !== undefined ? 'off' : status?.state ?? 'silent',
        boots_ms: boots === undefined ? null : Math.max(0, boots - Date.now()),
        epoch: status?.epoch ?? null, state_ms: status?.state_ms ?? null,
        reason: status?.hindrance || status?.reason || '', node_up: status?.node_up ?? false };
    });
    return { nodes, events: events.slice(-EVENTS_SHOWN), counter:
      { run: this.counter.run, acknowledged: this.counter.acknowledged } };
  }
}
