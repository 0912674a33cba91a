// SPDX-License-Identifier: ISC
// A TCP proxy in front of a node that breaks connections the way networks do: at once, anywhere in
// the stream, without a close frame.
import { once } from 'node:events';
import net from 'node:net';

export class CutProxy {
  static async start(targetPort) {
    const proxy = new CutProxy();
    proxy.pairs = new Set();
    proxy.open = true;
    proxy.server = net.createServer((client) => proxy.#join(client, targetPort));
    proxy.server.listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    proxy.port = proxy.server.address().port;
    return proxy;
  }

  #join(client, targetPort) {
    if (!this.open) {
      client.destroy();
      return;
    }
    const upstream = net.connect(targetPort, '127.0.0.1');
    const pair = [client, upstream];
    const end = () => {
      this.pairs.delete(pair);
      client.destroy();
      upstream.destroy();
    };
    this.pairs.add(pair);
    for (const [socket, other] of [pair, [upstream, client]]) {
      socket.on('error', end);
      socket.on('close', end);
      socket.pipe(other);
    }
  }

  // Breaks every connection there is.
  cut() {
    for (const [client, upstream] of this.pairs) {
      client.destroy();
      upstream.destroy();
    }
  }

  // Breaks every connection and takes no new one until heal().
  fail() {
    this.open = false;
    this.cut();
  }

  heal() {
    this.open = true;
  }

  stop() {
    this.cut();
    this.server.close();
  }
}
