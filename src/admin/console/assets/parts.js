// What several pages show alike.

import { h } from './dom.js';
import { ask } from './dialog.js';
import { post } from './api.js';
import * as f from './format.js';

/** A state as shape, word and colour. */
export function badge(name) {
  const [mark, word, kind] = f.state(name);
  return h('span', { class: `state ${kind}` }, h('span', { 'aria-hidden': 'true', class: 'mark' }, mark), word);
}

/** A moment, with everything of it in a tooltip. */
export const moment = (at, shown = f.time) =>
  (at ? h('time', { datetime: at, title: f.whole(at) }, shown(at)) : h('span', {}, '–'));

export const runLink = (id, text) => h('a', { href: `#/runs/${encodeURIComponent(id)}`, title: id }, text ?? f.brief(id));

export const destinationLink = (id, text) => h('a', { href: `#/destinations/${encodeURIComponent(id)}` }, text ?? id);

/** A table that becomes cards where the page is narrow: each cell says its column's name. */
export function table(caption, columns, rows, empty) {
  if (rows.length === 0) return h('p', { class: 'empty' }, empty);
  return h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    h('table', {},
      h('caption', { class: 'sr' }, caption),
      h('thead', {}, h('tr', {}, columns.map((column) =>
        h('th', { scope: 'col', class: column.number ? 'number' : null }, column.name)))),
      h('tbody', {}, rows.map((row) => h('tr', {}, columns.map((column, index) => {
        const cell = column.cell(row);
        const attributes = { class: column.number ? 'number' : null, 'data-name': column.name };
        return index === 0 ? h('th', { scope: 'row', ...attributes }, cell) : h('td', attributes, cell);
      }))))));
}

/** Runs, newest first; without `names` their destination is known. */
export function runsTable(runs, names, empty) {
  return table('Runs', [
    { name: 'Run', cell: (run) => [h('a', { href: `#/runs/${run.id}`, class: 'title' }, f.title(run)),
      h('span', { class: 'under' }, run.action, ' · ', h('span', { class: 'id', title: run.id }, f.brief(run.id)))] },
    { name: 'State', cell: (run) => [badge(run.state), marks(run)] },
    { name: 'Received', cell: (run) => moment(run.received_at) },
    { name: 'Rows', number: true, cell: (run) => f.count(run.rows) },
    { name: 'Delivered', number: true, cell: (run) => f.count(run.delivered) },
    { name: 'Waiting', number: true, cell: (run) => f.count(run.pending) },
    { name: 'Dead', number: true, cell: (run) => f.count(run.dead_letters) },
    names ? { name: 'Destination', cell: (run) => destinationLink(run.destination, names(run.destination)) } : null,
  ].filter(Boolean), runs, empty);
}

function marks(run) {
  const found = [];
  if (run.maybe_truncated) found.push('may be cut short');
  if (run.repeats) found.push('same rows as before');
  if (run.rate && run.pending) found.push(`at most ${f.count(run.rate)}/s`);
  return found.length ? h('span', { class: 'under' }, found.join(', ')) : null;
}

/** Counts beside one another. */
export function facts(...list) {
  return h('dl', { class: 'facts' }, list.filter(Boolean).map(([name, value, under]) =>
    h('div', {}, h('dt', {}, name), h('dd', {}, value, under ? h('span', { class: 'under' }, under) : null))));
}

/** A button that asks for something to be changed. */
export const button = (text, onclick, kind = '') => h('button', { type: 'button', class: kind, onclick, 'data-focus': text }, text);

export const busy = (what) => h('p', { class: 'empty', role: 'status' }, what);

export const fault = (error) => h('p', { class: 'fault', role: 'alert' }, error.message,
  error.code ? [' ', h('span', { class: 'id' }, `pintle explain ${error.code}`)] : null);

/** JSON, indented; what is large is cut. */
export function json(value) {
  const text = JSON.stringify(value, null, 2) ?? '';
  const shown = text.length > 20_000 ? `${text.slice(0, 20_000)}\n… ${f.count(text.length - 20_000)} more characters` : text;
  return h('pre', { tabindex: '0', 'aria-label': 'JSON' }, shown);
}

/** Asks, then sends dead letters again or drops them. `letters` is the body that selects them. */
export async function changeDead(verb, letters, what, more) {
  const requeue = verb === 'requeue';
  let plan;
  try {
    plan = await post(`/api/dead/${verb}`, { ...letters, dry_run: true });
  } catch (error) {
    return ask({ title: 'Nothing to change', text: error.message, button: 'Close', act: async () => '' });
  }
  const number = requeue ? plan.requeued : plan.dropped;
  const letter = f.many(number, 'dead letter');
  const left = plan.left ? `${f.many(plan.left, 'row')} became no event and ${plan.left === 1 ? 'stays' : 'stay'}: mend with pintle dead requeue ID --event-file F.` : null;
  return ask({
    title: requeue ? `Send ${letter} again?` : `Drop ${letter} for good?`,
    text: [
      what,
      requeue ? 'What is sent again waits behind what waits now. Where the trouble is still there, it comes back here.'
        : 'What is dropped is gone from here and cannot be sent again.',
      left, more,
    ].filter(Boolean),
    button: requeue ? `Send ${letter} again` : `Drop ${letter}`,
    danger: !requeue,
    act: async () => {
      const done = await post(`/api/dead/${verb}`, letters);
      return requeue ? `${f.many(done.requeued, 'dead letter')} sent again.` : `${f.many(done.dropped, 'dead letter')} dropped.`;
    },
  });
}
