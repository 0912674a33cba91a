// SPDX-License-Identifier: ISC
// tools/demo as its visitor sees it, in a real browser: both nodes, their roles, and what the buttons
// do. Killed or not, the numbers that the page receives have no gap.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';
import { ROOT, freePort } from './server.mjs';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const PATIENCE_MS = 60000;

let directory;
let demo;
let port;
let browser;
let page;

before(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'keepsock-demo-'));
  port = await freePort();
  demo = (...words) => promisify(execFile)(path.join(ROOT, 'tools/demo'),
    ['--state', path.join(directory, 'demo'), '--port', String(port), ...words]);
  await demo('--detach');
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
  page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(error.message));
  await page.goto(`http://127.0.0.1:${port}/`);
  await page.locator('#state[data-state=connected]').waitFor();
});

after(async () => {
  await browser?.close();
  await demo?.('--stop');
  await rm(directory, { recursive: true, force: true });
});

const node = (state) => page.locator(`#nodes li[data-state=${state}]`);

// {node, epoch} of the primary, once there is one beside a standby.
async function settled() {
  await node('standby').waitFor();
  await node('primary').waitFor();
  return { name: await node('primary').getAttribute('data-node'),
    epoch: Number(await node('primary').getAttribute('data-epoch')) };
}

const last = async () => Number(await page.textContent('#counter-last'));

// Numbers that were published after now have come.
async function goesOn() {
  await page.waitForFunction(
    (n) => Number(document.getElementById('counter-last').textContent) > n + 3, await last());
}

async function nothingLost() {
  assert.equal(await page.textContent('#counter-lost'), '0');
  assert.equal(await page.textContent('#counter-repeated'), '0');
  assert.equal(await page.getAttribute('#counter', 'data-verdict'), 'good');
  assert.deepEqual(page.problems, []);
}

async function changed(before, act) {
  await page.click(act);
  await page.waitForFunction((name) => {
    const primary = document.querySelector('#nodes li[data-state=primary]');
    return primary && primary.dataset.node !== name;
  }, before.name);
  return settled();
}

test('shows the pair and counts', async () => {
  await settled();
  await page.waitForFunction(() => document.querySelectorAll('#nodes li').length === 2);
  await page.waitForFunction(() => Number(document.getElementById('counter-received').textContent) > 5);
  await page.locator('#events li', { hasText: /promoting → primary/ }).first().waitFor();
  await nothingLost();
});

test('killed workers are not noticed', async () => {
  const client = await page.textContent('#client');
  await page.click('#kill-workers');
  await goesOn();
  assert.equal(await page.textContent('#client'), client);
  assert.equal(await page.textContent('#state'), 'connected');
  await nothingLost();
});

test('the primary is killed, the other takes over, nothing is lost', async () => {
  const before = await settled();
  const client = await page.textContent('#client');
  const after = await changed(before, '#kill-primary');
  assert.equal(after.epoch, before.epoch + 1);
  await page.locator('#state[data-state=connected]').waitFor();
  await goesOn();
  assert.notEqual(await page.textContent('#client'), client);
  await nothingLost();
  await page.locator('#events li', { hasText: `epoch ${after.epoch}` }).first().waitFor();
  await mkdir(path.join(ROOT, 'var'), { recursive: true });
  await page.screenshot({ path: path.join(ROOT, 'var/demo-pair.png'), fullPage: true });
});

test('handing over loses nothing', async () => {
  const before = await settled();
  const after = await changed(before, '#hand-over');
  assert.equal(after.epoch, before.epoch + 1);
  await page.locator('#state[data-state=connected]').waitFor();
  await goesOn();
  await nothingLost();
});

test('nobody but the page gets at the buttons', async () => {
  const { url, token } = JSON.parse(await readFile(path.join(directory, 'demo/www/pair.json'), 'utf8'));
  const origin = `http://127.0.0.1:${port}`;
  const good = { Origin: origin, Authorization: `Bearer ${token}` };
  const status = async (headers, method = 'POST') =>
    (await fetch(`${url}/kill/nobody`, { method, headers })).status;
  assert.equal(await status(good), 404);
  assert.equal(await status({ ...good, Authorization: `Bearer ${token.replace(/./g, '0')}` }), 401);
  assert.equal(await status({ Origin: origin }), 401);
  assert.equal(await status({ ...good, Origin: 'http://example.com' }), 403);
  assert.equal(await status({ Authorization: good.Authorization }), 403);
  assert.equal(await status({ Origin: 'http://example.com' }, 'OPTIONS'), 403);
  assert.equal(new URL(url).hostname, '127.0.0.1');
  // A name that was pointed at this machine.
  const { stdout } = await promisify(execFile)('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code}',
    '-H', `Host: evil.example:${new URL(url).port}`, '-H', `Origin: ${origin}`,
    '-H', `Authorization: Bearer ${token}`, `${url}/pair`]);
  assert.equal(stdout, '403');
});
