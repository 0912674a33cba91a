// SPDX-License-Identifier: ISC
// The demo page in a real browser: subscribe, publish, see it, lose the connection, recover. Leaves
// a screenshot in var/.
import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { CutProxy } from './cut_proxy.mjs';
import { ROOT, Server } from './server.mjs';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const SDK = new URL('node_modules/centrifuge/dist/centrifuge.js', import.meta.url);

let www;
let server;
let proxy;
let browser;

before(async () => {
  www = await mkdtemp(path.join(tmpdir(), 'keepsock-www-'));
  await cp(path.join(ROOT, 'etc/demo'), www, { recursive: true });
  await cp(fileURLToPath(SDK), path.join(www, 'centrifuge.js'));
  await writeFile(path.join(www, 'pair.json'), '{}'); // one node
  server = await Server.start({ http: { static_root: www } });
  proxy = await CutProxy.start(server.port);
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
});

after(async () => {
  await browser?.close();
  proxy?.stop();
  await server?.stop();
  await rm(www, { recursive: true, force: true });
});

async function openPage(options = {}) {
  const page = await browser.newPage(options);
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(error.message));
  page.on('console', (message) => message.type() === 'error' && page.problems.push(message.text()));
  await page.goto(`http://127.0.0.1:${proxy.port}/`);
  await page.locator('#state[data-state=connected]').waitFor();
  await page.locator('#channels [data-channel=lobby] .dot[data-state=connected]').waitFor();
  return page;
}

async function subscribe(page, channel) {
  await page.fill('#channel', channel);
  await page.click('#subscribe-form button');
  await page.locator(`#channels [data-channel="${channel}"] .dot[data-state=connected]`).waitFor();
}

async function publish(page, text) {
  await page.fill('#message', text);
  await page.click('#publish-form button');
}

test('connects, subscribes, publishes, shows the message', async () => {
  const page = await openPage();
  assert.match(await page.textContent('#client'), /^[0-9a-f-]{36}$/);
  assert.equal(await page.textContent('#transport'), 'websocket');
  await subscribe(page, 'browser');
  await publish(page, 'hello from Chromium');
  const message = page.locator('#messages li', { hasText: 'hello from Chromium' });
  await message.waitFor();
  assert.equal(await message.getAttribute('data-offset'), '1');
  assert.match(await message.textContent(), /browser#1you/);
  await server.publish('browser', { from: 'the API', list: [1, 2] });
  await page.locator('#messages li', { hasText: '"from": "the API"' }).waitFor();
  await page.locator('#channels [data-channel=browser] .members', { hasText: '1 client' }).waitFor();
  assert.deepEqual(page.problems, []);
  await page.close();
});

test('two pages see each other', async () => {
  const [one, two] = [await openPage(), await openPage()];
  await publish(one, 'to the other window');
  await two.locator('#messages li', { hasText: 'to the other window' }).waitFor();
  await one.locator('#channels [data-channel=lobby] .members', { hasText: '2 clients' }).waitFor();
  await one.close();
  await two.close();
});

test('shows markup as text', async () => {
  const page = await openPage();
  await publish(page, '<img src=x onerror=alert(1)><b>bold</b>');
  const message = page.locator('#messages li pre').first();
  await message.waitFor();
  assert.equal(await message.textContent(), '<img src=x onerror=alert(1)><b>bold</b>');
  assert.equal(await page.locator('#messages img, #messages b').count(), 0);
  assert.deepEqual(page.problems, []);
  await page.close();
});

test('recovers after a cut and says so', async () => {
  const page = await openPage();
  await subscribe(page, 'cut');
  await server.publish('cut', 'before');
  await page.locator('#messages li', { hasText: 'before' }).waitFor();
  proxy.fail();
  await page.locator('#state[data-state=connecting]').waitFor();
  for (const text of ['missed one', 'missed two', 'missed three'])
    await server.publish('cut', text);
  proxy.heal();
  await page.locator('#state[data-state=connected]').waitFor();
  await page.locator('#messages li.recovered', { hasText: 'missed three' }).waitFor();
  await page.locator('#recovery[data-kind=recovered]').waitFor();
  assert.equal(await page.textContent('#recovered'), '3');
  const offsets = await page.locator('#messages li').evaluateAll(
    (items) => items.filter((item) => item.querySelector('.name').textContent === 'cut')
      .map((item) => Number(item.dataset.offset)));
  assert.deepEqual(offsets, [4, 3, 2, 1]);
  assert.equal(await page.textContent('#reconnects'), '1');
  await mkdir(path.join(ROOT, 'var'), { recursive: true });
  await page.screenshot({ path: path.join(ROOT, 'var/demo-page.png'), fullPage: true });
  await page.close();
});

test('the buttons leave and return', async () => {
  const page = await openPage();
  await subscribe(page, 'buttons');
  const first = await page.textContent('#client');
  await page.click('#offline');
  await page.locator('#state', { hasText: 'offline' }).waitFor();
  await server.publish('buttons', 'while away');
  await page.click('#offline');
  await page.locator('#messages li.recovered', { hasText: 'while away' }).waitFor();
  const second = await page.textContent('#client');
  assert.notEqual(second, first);
  await page.click('#reconnect');
  await page.waitForFunction((id) => document.getElementById('client').textContent !== id, second);
  await page.locator('#state[data-state=connected]').waitFor();
  await page.close();
});

test('unsubscribing ends the messages of a channel', async () => {
  const page = await openPage();
  await subscribe(page, 'left');
  await page.click('#channels [data-channel=left] button');
  await page.locator('#channels [data-channel=left]').waitFor({ state: 'detached' });
  await server.publish('left', 'unheard');
  await server.publish('lobby', 'heard');
  await page.locator('#messages pre', { hasText: /^heard$/ }).waitFor();
  assert.equal(await page.locator('#messages li', { hasText: 'unheard' }).count(), 0);
  await page.close();
});

test('a refused channel is told', async () => {
  const page = await openPage();
  await page.fill('#channel', 'nowhere:x');
  await page.click('#subscribe-form button');
  await page.locator('#subscribe-error', { hasText: '102' }).waitFor();
  assert.equal(await page.textContent('#state'), 'connected');
  await page.close();
});

test('fits a phone, light and dark', async () => {
  for (const colorScheme of ['light', 'dark']) {
    const page = await openPage({ colorScheme, viewport: { width: 360, height: 740 } });
    await publish(page, 'x'.repeat(300));
    await page.locator('#messages li').first().waitFor();
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
    await page.close();
  }
});
