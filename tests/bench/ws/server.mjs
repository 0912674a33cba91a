// SPDX-License-Identifier: ISC
//
// The ws peer of the benchmark, over TLS: /echo sends back, what arrives at
// /publish is sent to everybody on /subscribe. No compression, and masks are
// undone by bufferutil's native code. Started by tests/bench/run only:
// server.mjs CERTIFICATE KEY

import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { WebSocketServer } from 'ws';

const server = createServer({
  cert: readFileSync(process.argv[2]),
  key: readFileSync(process.argv[3]),
});
const sockets = new WebSocketServer({ server, perMessageDeflate: false, clientTracking: false });
const subscribers = new Set();
let changes = 0;

sockets.on('connection', (socket, request) => {
  changes++;
  socket.on('close', () => {
    changes++;
    subscribers.delete(socket);
  });
  socket.on('error', () => {});
  if (request.url === '/subscribe') {
    subscribers.add(socket);
  } else if (request.url === '/publish') {
    socket.on('message', (data) => {
      for (const subscriber of subscribers) subscriber.send(data, { binary: false });
    });
  } else {
    socket.on('message', (data, binary) => socket.send(data, { binary }));
  }
});

// What the handshakes left over is no part of an idle connection's memory.
let seen = 0;
let collected = 0;
setInterval(() => {
  if (changes === seen && changes !== collected && global.gc) {
    global.gc();
    collected = changes;
  }
  seen = changes;
}, 250);

server.listen(0, '127.0.0.1', 4096, () => console.log(`listening ${server.address().port}`));
