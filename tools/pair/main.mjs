// SPDX-License-Identifier: ISC
// What tools/demo runs when all is built: `run`, `status`, `left` or `stop`, then the place of its
// state, of the build, the scene, the port, and the one for TLS or nothing. Run from the root of the
// source tree.
import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { Control } from './control.mjs';
import { Counter } from './counter.mjs';
import { writeFile } from './files.mjs';
import { Pair } from './pair.mjs';
import * as scenes from './scenes.mjs';

const [action, state, build, sceneName, port, tlsPort] = process.argv.slice(2);
const settingsFile = path.join(state, 'settings.json');

function printUrls({ scene, port, tlsPort }) {
  const place = `${scene.primary}:${port}`;
  console.log(`
  page      http://${place}/
  SDKs      ws://${place}/connection/websocket
  HTTP API  curl -H "X-API-Key: $(cat ${state}/api-key)" -d '{"channel": "news", "data": "hello"}' \\
                http://${place}/api/publish
  pair      ${build}/keepsockctl -s ${state}/a/supervisor.sock show cluster
  nodes     ${build}/keepsockctl -s ${state}/a/admin.sock status
            ${build}/keepsockctl -s ${state}/b/admin.sock status`);
  if (tlsPort) {
    const tlsPlace = `${scene.primary}:${tlsPort}`;
    console.log(`\
  TLS       https://${tlsPlace}/   wss://${tlsPlace}/connection/websocket
            its authority, for curl --cacert and a browser's trust: ${state}/ca.pem`);
  }
  console.log('');
}

function makePair(settings) {
  return new Pair({ state, build, port: settings.port, tlsPort: settings.tlsPort,
    scene: settings.scene === 'netns' ? scenes.namespaces : scenes.loopback });
}

// As the demo that runs here, or ran last, was started: not necessarily as this command was.
function lastPair() {
  try {
    return makePair(JSON.parse(readFileSync(settingsFile, 'utf8')));
  } catch {
    return null;
  }
}

async function run() {
  await lastPair()?.clear();
  const settings = { port: Number(port), tlsPort: Number(tlsPort), scene: sceneName };
  const pair = makePair(settings);
  let control;
  const end = async (code) => {
    control?.close();
    await pair.stop();
    rmSync(path.join(state, 'pid'), { force: true });
    process.exit(code);
  };
  writeFile(settingsFile, JSON.stringify(settings));
  writeFile(path.join(state, 'pid'), String(process.pid));
  for (const number of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(number, () => {
      if (pair.ending)
        return;
      console.log('\nStopping');
      end(0);
    });
  }
  try {
    await pair.prepare();
    const counter = new Counter(`http://${pair.scene.primary}:${pair.port}/api/publish`, pair.apiKey);
    control = new Control(pair, counter);
    await control.open();
    writeFile(path.join(state, 'www/pair.json'), JSON.stringify(control.description()));
    await pair.start();
    await pair.waitSettled();
  } catch (error) {
    if (!pair.ending) {
      console.error(`demo: ${error.message}; ${state}/a/log and ${state}/b/log may tell more`);
      await end(1);
    }
    return;
  }
  if (pair.ending)
    return;
  writeFile(path.join(state, 'ready'), String(process.pid));
  console.log('Ready. Ctrl-C stops it.');
  printUrls(pair);
}

async function status() {
  const pair = lastPair();
  const statuses = await pair?.statuses() ?? {};
  for (const [name, found] of Object.entries(statuses))
    console.log(`node ${name}: ${found ? `${found.state}, epoch ${found.epoch}` : 'no answer'}`);
  if (!await pair?.isReady())
    process.exit(1);
  printUrls(pair);
}

async function left() {
  process.exit(lastPair()?.isThere() ? 0 : 1);
}

async function stop() {
  const pair = lastPair();
  const wasThere = pair?.isThere();
  await pair?.clear();
  process.exit(wasThere ? 0 : 3);
}

await { run, status, left, stop }[action]();
