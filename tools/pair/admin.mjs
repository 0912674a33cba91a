// SPDX-License-Identifier: ISC
// An admin socket, of a node or of a supervisor: one line there, OK or ERROR and a body back.
import net from 'node:net';

// The answer's object; an Error with the reason when there is none.
export function ask(path, command, patience = 1000) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(path);
    let answer = '';
    socket.setEncoding('utf8');
    socket.setTimeout(patience, () => socket.destroy(new Error('no answer')));
    socket.on('connect', () => socket.write(`${command} --json\n`));
    socket.on('data', (text) => {
      answer += text;
    });
    socket.on('error', reject);
    socket.on('end', () => {
      const [head, body] = [answer.slice(0, answer.indexOf('\n')), answer.slice(answer.indexOf('\n') + 1)];
      if (head !== 'OK') {
        reject(new Error(head.replace(/^ERROR /, '') || 'no answer'));
        return;
      }
      try {
        resolve(JSON.parse(body));
      } catch (error) {
        reject(error);
      }
    });
  });
}
