// One destination: how it fares, and an operator's word to it.

import { h, put, putIfChanged } from './dom.js';
import { first, post, query } from './api.js';
import * as f from './format.js';
import { ask } from './dialog.js';
import { badge, button, facts, moment, runsTable } from './parts.js';
import { forecast } from './page-overview.js';

export function destination(app, { main, arguments: [id], signal, failed }) {
  const head = h('div', {});
  const found = h('div', { role: 'status' });
  const recent = h('section', {}, h('h2', {}, 'Last runs'));
  const runs = h('div', {});
  recent.append(runs);
  put(main, head, found, recent);
  let last = 0;

  const say = (word, body) => post(`/api/destinations/${encodeURIComponent(id)}/${word}`, body);
  const render = (status) => {
    const one = status.destinations.find((known) => known.id === id);
    if (!one) {
      putIfChanged(head, 'none', () => [h('h1', {}, id), h('p', {}, 'No events came for this destination yet.')]);
      return;
    }
    document.title = `${f.destinationName(one)} · pintle`;
    putIfChanged(head, one, () => header(one, say, found));
  };
  const readRuns = async () => {
    last = Date.now();
    const { items } = await first(`/api/runs${query({ destination: id, limit: 10, lines: true })}`, 10, signal);
    putIfChanged(runs, items, () => runsTable(items, null, 'None.'));
  };
  readRuns().catch(failed);
  return {
    status: (status) => {
      render(status);
      if (Date.now() - last > 5_000 && !document.hidden) readRuns().catch(() => { /* the link's state says it */ });
    },
  };
}

function header(one, say, found) {
  const name = f.destinationName(one);
  const waiting = f.many(one.backlog.events, 'event');
  const act = (word, done, dialog) => ask({ ...dialog, act: async () => {
    const now = await say(word, dialog.body?.() ?? {});
    return [done, ...(now.warnings ?? [])].join(' ');
  } });
  const resume = () => {
    const bury = h('input', { type: 'checkbox', id: 'bury' });
    return act('resume', `Deliveries to ${name} go on.`, {
      title: `Resume ${name}?`, text: `Deliveries go on; ${waiting} wait.`, button: 'Resume',
      fields: [h('p', { class: 'check' }, bury, h('label', { for: 'bury' }, 'What the gateway refuses becomes dead letters, however many'))],
      body: () => ({ bury: bury.checked }),
    });
  };
  const probe = async (event) => {
    event.target.disabled = true;
    put(found, h('p', { class: 'empty' }, 'Asking the gateway…'));
    try {
      const answer = await say('probe');
      put(found, h('p', { class: answer.ok ? 'good-note' : 'fault' }, h('span', { 'aria-hidden': 'true' }, answer.ok ? '✓ ' : '✕ '), `Probe at ${f.exact(new Date().toISOString())}: ${answer.detail}`));
    } catch (error) {
      put(found, h('p', { class: 'fault' }, error.message));
    }
    event.target.disabled = false;
  };
  return [
    h('p', { class: 'crumb' }, h('a', { href: '#/' }, 'Overview'), ' / ', h('span', { class: 'id' }, one.id)),
    h('h1', {}, name, ' ', badge(one.state)),
    one.reason ? h('p', { class: 'note' }, one.since ? ['Since ', moment(one.since), ': '] : null, one.reason) : h('p', { class: 'lead' }, 'Nothing is in its way.'),
    facts(['Waiting', f.count(one.backlog.events), one.backlog.events ? `${f.bytes(one.backlog.bytes)}, the oldest since ${f.time(one.backlog.oldest_at)}` : null],
      ['Rate', f.rate(one.events_per_second)], ['Forecast', forecast(one)], ['Delivered', f.short(one.delivered)],
      ['Dead letters', one.dead_letters ? h('a', { href: `#/dead${query({ destination: one.id })}` }, f.count(one.dead_letters)) : '0']),
    h('dl', { class: 'list' },
      h('div', {}, h('dt', {}, 'Data plane'), h('dd', {}, one.url)), h('div', {}, h('dt', {}, 'Write key'), h('dd', { class: 'id' }, one.write_key)),
      one.next_attempt_at ? h('div', {}, h('dt', {}, 'Next attempt'), h('dd', {}, moment(one.next_attempt_at, f.exact), `, after ${f.many(one.attempts, 'failure')}`)) : null),
    h('div', { class: 'buttons' },
      one.state === 'paused' || one.state === 'held' ? button('Resume…', resume, 'primary') : null,
      one.state === 'paused' ? null : button('Pause…', () => act('pause', `Deliveries to ${name} are paused.`, {
        title: `Pause ${name}?`, button: 'Pause',
        text: 'Nothing goes to it until you resume it, also after a restart. Looker’s runs are still taken, and wait.' })),
      ['backing_off', 'held'].includes(one.state) ? button('Try now…', () => act('retry', `${name} is tried now.`, {
        title: `Try ${name} now?`, text: `The next attempt is made at once instead of at its time; ${waiting} wait.`, button: 'Try now' })) : null,
      button('Probe', probe)),
  ];
}
