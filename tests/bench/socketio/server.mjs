// SPDX-License-Identifier: ISC
//
// The Socket.IO peer of the benchmark: WebSocket only, no compression, and what
// arrives at /publish is broadcast to everybody. Started by tests/bench/run only.

import { createServer } from 'node:http';
import { Server } from 'socket.io';

const http = createServer();
const io = new Server(http, {
  transports: ['websocket'],
  perMessageDeflate: false,
  serveClient: false,
  // Longer than a measurement, so that the load generator has no pings to answer.
  pingInterval: 600_000,
});

io.on('connection', (socket) => {
  socket.on('publish', (data, answer) => {
    io.emit('m', data);
    answer();
  });
});

http.listen(0, '127.0.0.1', () => console.log(`listening ${http.address().port}`));
