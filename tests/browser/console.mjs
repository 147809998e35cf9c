// Drives the console in a real browser, beside a real pintle. Started by tests/all/browser.rs, which plays the world: this
// script writes `{"do": …}` lines to standard output and reads one answer line each from standard input.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { mkdirSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const hear = async () => JSON.parse((await lines.next()).value);
const world = async (what, more = {}) => {
  process.stdout.write(`${JSON.stringify({ do: what, ...more })}\n`);
  return hear();
};
const told = await hear();
mkdirSync(told.screenshots, { recursive: true });

const TITLE = '<script>document.title = "owned"</script><img src=x onerror=alert(1)> Churn & risk';
const SOON = 30_000;
const FLAGS = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium', headless: true, chromiumSandbox: false, args: FLAGS, timeout: 60_000,
});

async function story(scheme, width, first) {
  const name = `${scheme}-${width}`;
  const context = await browser.newContext({
    colorScheme: scheme, viewport: { width, height: width < 500 ? 780 : 860 }, reducedMotion: 'reduce', timezoneId: 'Europe/Berlin',
  });
  const page = await context.newPage();
  page.setDefaultTimeout(SOON);
  const wrong = [];
  page.on('pageerror', (error) => wrong.push(`error: ${error.message}`));
  page.on('dialog', (dialog) => { wrong.push(`a dialog of the browser: ${dialog.message()}`); dialog.dismiss(); });
  page.on('request', (request) => { if (!request.url().startsWith(told.url)) wrong.push(`asked elsewhere: ${request.url()}`); });
  page.on('console', (message) => {
    // The refused login and the cut stream are ours.
    if (message.type() === 'error' && !/status of 401|ERR_FAILED/.test(message.text())) wrong.push(message.text());
  });

  /** Looks at the page as a screen reader and a narrow screen do, and keeps a picture. */
  const look = async (what) => {
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(overflow <= 0, `${name} ${what}: ${overflow} px wider than the screen`);
    await page.evaluate(() => window.scrollTo(0, 0));
    const plot = page.locator('.plot svg');
    if (await plot.count()) {
      const [drawn, shown] = await plot.evaluate((svg) => [Number(svg.getAttribute('width')), svg.parentElement.clientWidth]);
      assert.ok(Math.abs(drawn - shown) <= 1, `${name} ${what}: the plot is drawn ${drawn} px wide for ${shown} px`);
    }
    await page.screenshot({ path: join(told.screenshots, `${name}-${what}.png`), fullPage: true });
    await page.evaluate(axe);
    const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
    const violations = found.violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.map((node) => `${node.html}\n    ${node.failureSummary}`).join('\n  ')}`);
    assert.deepEqual(violations, [], `${name} ${what}: axe`);
  };
  const fact = (label) => page.locator('.facts > div', { has: page.locator('dt', { hasText: new RegExp(`^${label}$`) }) }).locator('dd').first();
  const becomes = (locator, text) => locator.filter({ hasText: text }).first().waitFor();
  const said = page.locator('#said');
  const dialog = page.locator('dialog[open]');

  // Log in: a wrong token first.
  await page.goto(told.url);
  await page.getByLabel('Admin token').fill('wrong');
  await page.keyboard.press('Enter');
  await becomes(page.getByRole('alert'), 'not the admin token');
  await look('login');
  await page.getByLabel('Admin token').fill(told.token);
  await page.keyboard.press('Enter');
  const sentence = page.locator('h1.sentence');
  await becomes(sentence, 'nothing waits');
  await becomes(page.locator('#live'), 'live');
  const [cookie] = await context.cookies();
  assert.ok(cookie.httpOnly && cookie.sameSite === 'Strict' && cookie.path === '/', JSON.stringify(cookie));
  assert.notEqual(cookie.value, told.token);

  // The backlog grows while RudderStack is away, and drains when it is back.
  await world('down');
  await world('look', { label: `${name}-a`, rows: 3000, title: TITLE });
  await becomes(fact('Waiting'), '3,000');
  await becomes(sentence, 'has not taken events');
  await becomes(sentence, '3,000 events are kept');
  assert.equal(await page.title(), 'Overview · pintle');
  assert.equal(await page.locator('main script, main img[src="x"]').count(), 0, 'a title is no HTML');
  await becomes(page.locator('main th a.title'), TITLE);
  const plotted = () => page.locator('.plot svg').getAttribute('aria-label');
  assert.match(await plotted(), /at most 3,000 events waited, now 3,000/);
  if (first) {
    // The server remembers it, too: a point comes each ten seconds.
    await page.waitForTimeout(11_000);
    await page.reload();
    await becomes(page.locator('#live'), 'live');
    assert.match(await plotted(), /at most 3,000 events waited/);
  }
  await look('trouble');
  await world('up');
  await becomes(fact('Waiting'), /^0/);
  await becomes(sentence, 'All is well: nothing waits.');
  await page.waitForFunction(() => /at most 3,000 events waited, now 0/.test(document.querySelector('.plot svg').getAttribute('aria-label')));
  await look('well');

  // A run with a row that became no event and one that the gateway refuses.
  await world('poison', { label: `${name}-b`, row: 7 });
  await world('look', { label: `${name}-b`, rows: 40, bad: 9, title: `Poisoned ${name}`, url: first ? 'http://' : 'https://looker.example/looks/17?q=1' });
  await becomes(page.locator('#dead-count'), '2');
  await becomes(sentence, '2 dead letters want a look');

  await page.getByRole('link', { name: 'Runs', exact: true }).click();
  await becomes(page.getByRole('heading', { level: 1 }), 'Runs');
  await look('runs');
  await page.getByLabel('Find by').selectOption('user');
  await page.getByLabel('Find', { exact: true }).fill(`${name}-b-12`);
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelectorAll('main tbody tr').length === 1);
  assert.match(page.url(), /user=/);
  await page.getByRole('link', { name: `Poisoned ${name}` }).click();
  await becomes(page.getByRole('heading', { level: 1 }), `Poisoned ${name}`);
  await becomes(fact('Rows read'), '40');
  await becomes(fact('Delivered'), '38');
  await becomes(fact('Dead letters'), '2');
  await becomes(page.locator('.story'), 'received');
  // What is no address of a page becomes no link, and hides nothing else.
  const inLooker = page.locator('main dl.list a[target="_blank"]');
  assert.deepEqual(await inLooker.allTextContents(), first ? [] : ['looker.example/looks/17']);
  await becomes(page.locator('.letters .reason').first(), /./);
  await page.getByRole('button', { name: 'Show the first 20' }).click();
  await becomes(page.locator('.event summary').first(), 'Row 1');
  await page.locator('.event summary').first().click();
  await becomes(page.locator('.event pre').first(), `${name}-b-1`);
  await look('run');

  // Dead letters: one is sent again, the other dropped.
  await page.getByRole('link', { name: /^Dead letters/ }).first().click();
  await page.waitForFunction(() => document.querySelectorAll('.group').length === 2);
  await look('dead');
  await world('cure');
  const group = page.locator('.group', { has: page.getByRole('button', { name: 'Send it again' }) });
  await group.getByRole('button', { name: 'Send it again' }).click();
  await becomes(dialog, 'Send 1 dead letter again?');
  await look('dialog');
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
  assert.equal(await page.locator('.group').count(), 2, 'who cancels changes nothing');
  await group.getByRole('button', { name: 'Send it again' }).click();
  await dialog.getByRole('button', { name: 'Send 1 dead letter again' }).click();
  await becomes(said, '1 dead letter sent again.');
  await page.waitForFunction(() => document.querySelectorAll('.group').length === 1);
  await page.getByRole('button', { name: 'Drop it' }).click();
  await dialog.getByRole('button', { name: 'Drop 1 dead letter' }).click();
  await becomes(said, '1 dead letter dropped.');
  await becomes(page.locator('p.lead'), 'There is none');

  // A replay: the plan, then the start.
  const before = (await world('accepted')).accepted;
  await page.getByRole('link', { name: 'Runs', exact: true }).click();
  await page.getByRole('link', { name: `Poisoned ${name}` }).click();
  await becomes(fact('Delivered'), '39');
  await page.getByRole('link', { name: 'Replay this run…' }).click();
  await becomes(page.locator('.plan'), '39');
  assert.equal((await world('accepted')).accepted, before, 'a plan sends nothing');
  await look('replay');
  await page.getByRole('button', { name: 'Replay 39 events…' }).click();
  await dialog.getByRole('button', { name: 'Replay 39 events' }).click();
  await becomes(said, 'The replay of 39 events');
  await becomes(page.getByRole('heading', { level: 1 }), `Replay of Poisoned ${name}`);
  await becomes(page.getByRole('heading', { level: 1 }), 'delivered');
  assert.equal((await world('accepted')).accepted, before + 39);

  // A destination: probe, pause, resume.
  await page.getByRole('link', { name: 'Overview' }).click();
  await page.locator('main section', { hasText: 'Destinations' }).locator('tbody th a').first().click();
  await page.getByRole('button', { name: 'Probe' }).click();
  await becomes(page.locator('.good-note'), 'the gateway takes the key');
  await page.getByRole('button', { name: 'Pause…' }).click();
  await dialog.getByRole('button', { name: 'Pause' }).click();
  await becomes(said, 'are paused.');
  await becomes(page.getByRole('heading', { level: 1 }), 'paused');
  await look('destination');
  await page.getByRole('button', { name: 'Resume…' }).click();
  await dialog.getByRole('button', { name: 'Resume' }).click();
  await page.waitForFunction(() => !document.querySelector('h1').textContent.includes('paused'));

  // Without the stream it asks; without pintle it says so, and comes back by itself.
  await page.route('**/api/watch', (route) => route.abort());
  await page.reload();
  await becomes(page.locator('#live'), 'every 5 s');
  await page.unroute('**/api/watch');
  await becomes(page.locator('#live'), 'live');

  // A change without the CSRF token is refused, and the session ends at the logout.
  const forged = await page.evaluate(async () => (await fetch('/api/dead/drop', { method: 'POST', body: '{"all":true}' })).status);
  assert.equal(forged, 403);
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.getByLabel('Admin token').waitFor();
  assert.equal(await page.evaluate(async () => (await fetch('/api/status')).status), 401);

  const rest = wrong.filter((one) => !/403/.test(one));
  assert.deepEqual(rest, [], name);
  await context.close();
}

let code = 0;
try {
  for (const scheme of ['light', 'dark']) {
    for (const width of [1280, 360]) await story(scheme, width, scheme === 'light' && width === 1280);
  }
} catch (error) {
  console.error(error);
  for (const [index, page] of browser.contexts().flatMap((context) => context.pages()).entries()) {
    await page.evaluate(() => window.scrollTo(0, 0));
    const plot = page.locator('.plot svg');
    if (await plot.count()) {
      const [drawn, shown] = await plot.evaluate((svg) => [Number(svg.getAttribute('width')), svg.parentElement.clientWidth]);
      assert.ok(Math.abs(drawn - shown) <= 1, `${name} ${what}: the plot is drawn ${drawn} px wide for ${shown} px`);
    }
    await page.screenshot({ path: join(told.screenshots, `failed-${index}.png`) }).catch(() => {});
    console.error(`the page was ${page.url()}:\n${await page.locator('main').innerText().catch(() => '')}`);
  }
  code = 1;
}
await browser.close();
process.exit(code);
