// One run: counts, what happened, its first events, its dead letters.

import { h, put, putIfChanged } from './dom.js';
import { first, get, query } from './api.js';
import * as f from './format.js';
import { badge, busy, button, changeDead, destinationLink, facts, fault, json, moment, runLink } from './parts.js';

const EVENTS = 20;
const LETTERS = 50;

export function run(app, { main, arguments: [id], signal, failed }) {
  const head = h('div', {});
  const story = h('section', {}, h('h2', {}, 'What happened'));
  const steps = h('ol', { class: 'story', tabindex: '0', 'aria-label': 'What happened, in the order of time' });
  const events = h('section', {}, h('h2', {}, 'First events'), h('p', {}, button(`Show the first ${EVENTS}`, () => showEvents())));
  const letters = h('section', {});
  story.append(steps);
  put(main, head, story, letters, events);
  put(head, busy('Reading the run…'));
  let last = 0;
  let seen = null;

  const read = async () => {
    last = Date.now();
    const trace = await get(`/api/trace/${encodeURIComponent(id)}`, signal);
    seen = trace.run;
    document.title = `${f.title(seen)} · pintle`;
    putIfChanged(head, [seen, app.nameOf(seen.destination)], () => header(app, seen, read));
    // These two are in pintle's own words; the others may quote a row.
    const told = ({ what, detail }) => (['waiting', 'refused'].includes(what) ? f.local(detail) : detail);
    putIfChanged(steps, trace.story, () => trace.story.map((step) => h('li', { class: step.what },
      moment(step.at, f.exact), h('span', { class: 'what' }, step.what), h('span', { class: 'detail' }, told(step)))));
    await readLetters();
  };

  let lettersRead = null;
  const readLetters = async () => {
    const mark = `${seen.dead_letters} ${seen.dropped}`;
    if (lettersRead === mark) return;
    lettersRead = mark;
    if (seen.dead_letters === 0) {
      put(letters);
      return;
    }
    const { items, more } = await first(`/api/dead${query({ run: seen.id, lines: true })}`, LETTERS, signal);
    const changed = () => { read().catch(failed); };
    put(letters, h('h2', {}, 'Dead letters'),
      h('div', { class: 'buttons' },
        button('Send all of this run again', () => changeDead('requeue', { run: [seen.id] }, `All dead letters of “${f.title(seen)}”.`).then(changed)),
        button('Drop all of this run', () => changeDead('drop', { run: [seen.id] }, `All dead letters of “${f.title(seen)}”.`).then(changed), 'danger')),
      h('ul', { class: 'letters' }, items.map((letter) => letterItem(letter, changed))),
      more ? h('p', { class: 'quiet' }, `The first ${items.length} of ${f.count(seen.dead_letters)}.`) : null);
  };

  const showEvents = async () => {
    const box = h('div', {}, busy('Reading events…'));
    put(events, h('h2', {}, 'First events'), box);
    try {
      const { items } = await first(`/api/events${query({ run: seen?.id ?? id })}`, EVENTS, signal);
      put(box, items.length === 0 ? h('p', { class: 'empty' }, 'No event of this run is stored here any more.')
        : items.map((item) => h('details', { class: 'event' },
          h('summary', {}, h('span', { class: 'row' }, `Row ${f.count(item.row)}`), badge(item.state), h('span', { class: 'who' }, who(item.event))), json(item.event))));
    } catch (error) {
      if (error.name !== 'AbortError') put(box, fault(error));
    }
  };

  read().catch((error) => { put(head); failed(error); });
  return {
    status: () => {
      if (!seen || Date.now() - last < 2_000 || document.hidden) return;
      const moves = seen.pending > 0 || ['receiving', 'stored', 'delivering'].includes(seen.state);
      if (moves || Date.now() - last > 15_000) read().catch(() => { /* the link's state says it */ });
    },
  };
}

const who = (event) => String(event?.userId ?? event?.context?.traits?.email ?? event?.groupId ?? event?.anonymousId ?? '');

function header(app, seen, again) {
  const url = f.webAddress(seen.looker.url);
  return [
    h('p', { class: 'crumb' }, h('a', { href: '#/runs' }, 'Runs'), ' / ', h('span', { class: 'id' }, seen.id)),
    h('h1', {}, f.title(seen), ' ', badge(seen.state)),
    h('p', { class: 'lead' }, lead(app, seen)),
    seen.error ? h('p', { class: 'fault' }, seen.error) : null,
    seen.maybe_truncated ? h('p', { class: 'note' }, 'It has exactly as many rows as its query’s limit: Looker may have left some out. Raise the limit, or choose “All results” in the schedule.') : null,
    seen.repeats ? h('p', { class: 'note' }, 'The same rows as ', runLink(seen.repeats, 'an earlier run'), '.') : null,
    facts(
      ['Rows read', f.count(seen.rows)], ['Delivered', f.count(seen.delivered)], ['Waiting', f.count(seen.pending)],
      ['Dead letters', f.count(seen.dead_letters), seen.dropped ? `${f.count(seen.dropped)} dropped` : null],
      ['Became no event', f.count(seen.dead_rows)], ['Size', f.bytes(seen.bytes)]),
    h('dl', { class: 'list' },
      pair('Action', seen.action), pair('Destination', destinationLink(seen.destination, app.nameOf(seen.destination))),
      pair('Received', moment(seen.received_at, f.exact)),
      seen.stored_at ? pair('Safe on the disk', moment(seen.stored_at, f.exact)) : null,
      seen.delivered_at ? pair('Delivered', moment(seen.delivered_at, f.exact)) : null,
      url ? pair('In Looker', h('a', { href: url.href, rel: 'noreferrer noopener', target: '_blank' }, `${url.host}${url.pathname}`)) : null,
      seen.looker.plan_id ? pair('Plan', seen.looker.plan_id) : null,
      seen.looker.webhook_id ? pair('Looker’s delivery', h('span', { class: 'id' }, seen.looker.webhook_id)) : null,
      seen.replay_of.length ? pair('Replay of', seen.replay_of.slice(0, 20).map((one, index) => [index ? ', ' : '', runLink(one)])) : null),
    h('div', { class: 'buttons' },
      seen.delivered > 0 ? h('a', { class: 'button', href: `#/replay${query({ run: seen.id })}` }, 'Replay this run…') : null,
      seen.pending > 0 && seen.kind === 'replay' ? cancelButton(seen, again) : null),
  ];
}

function cancelButton(seen, again) {
  return button('Cancel this replay', async () => {
    const [{ ask }, { post }] = await Promise.all([import('./dialog.js'), import('./api.js')]);
    const done = await ask({
      title: 'Cancel this replay?', text: `${f.many(seen.pending, 'event')} of it still wait; they are then not sent. What was sent stays sent.`,
      button: 'Cancel the replay', danger: true,
      act: async () => {
        const now = await post(`/api/replay/${seen.id}/cancel`);
        return `The replay is cancelled: ${f.many(now.delivered, 'event')} of it had been sent.`;
      },
    });
    if (done) await again();
  }, 'danger');
}

const pair = (name, value) => h('div', {}, h('dt', {}, name), h('dd', {}, value));

function lead(app, seen) {
  const where = app.nameOf(seen.destination);
  if (seen.state === 'receiving') return `Its rows are still coming from Looker: ${f.many(seen.rows, 'row')} so far.`;
  if (seen.state === 'failed') return 'Nothing of it will be delivered.';
  if (seen.pending > 0) return `${f.count(seen.delivered)} of ${f.many(seen.events, 'event')} have arrived at ${where}; ${f.count(seen.pending)} wait.`;
  if (seen.dead_letters > 0) return `${f.many(seen.delivered, 'event')} arrived at ${where}; ${f.many(seen.dead_letters, 'row')} did not, and ${seen.dead_letters === 1 ? 'says' : 'say'} why below.`;
  return `All of it arrived at ${where}: ${f.many(seen.delivered, 'event')}.`;
}

/** One dead letter, with what can be done about it. */
export function letterItem(letter, changed) {
  const what = `Row ${f.count(letter.row)} of run ${f.brief(letter.run)}: ${letter.reason}`;
  return h('li', {},
    h('div', { class: 'letter' },
      h('div', {}, h('span', { class: 'row' }, `Row ${f.count(letter.row)}`), h('span', { class: 'who' }, who(letter.event)), moment(letter.at, f.exact)),
      h('p', { class: 'reason' }, letter.reason),
      h('div', { class: 'buttons' },
        letter.event ? button('Send again', () => changeDead('requeue', { ids: [letter.id] }, what).then(changed)) : h('span', { class: 'quiet' }, 'it became no event'),
        button('Drop', () => changeDead('drop', { ids: [letter.id] }, what).then(changed), 'danger'))),
    h('details', {}, h('summary', {}, letter.event ? 'The event' : 'The row as it came'), json(letter.event ?? letter.row_data)));
}
