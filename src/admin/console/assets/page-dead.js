// Dead letters, grouped by reason: each group is sent again or dropped as a whole, or one by one.

import { h, put } from './dom.js';
import { first, query } from './api.js';
import * as f from './format.js';
import { busy, button, changeDead, destinationLink, fault, runLink } from './parts.js';
import { filter, inWords, selectionOf } from './filter.js';
import { letterItem } from './page-run.js';

/** Read at once; what lies behind them is reached by a search. */
const MOST = 1_000;
const IN_GROUP = 20;

/** Numbers and quoted texts differ from row to row of the same trouble. */
export const groupOf = (reason) => reason.replace(/"[^"]*"|“[^”]*”/g, '"…"').replace(/\d+/g, '#');

export function dead(app, { main, query: address, signal }) {
  const selection = selectionOf(address);
  const any = Object.keys(selection).length > 0;
  const listed = h('div', {});
  const summary = h('p', { class: 'lead', role: 'status' });
  put(main, h('h1', {}, 'Dead letters'), summary,
    filter({ selection, destinations: app.destinations(), submit: (chosen) => app.go(`/dead${query(chosen)}`) }), listed);
  put(listed, busy('Reading dead letters…'));

  const body = any ? selection : { all: true };
  let known = null;
  let readAt = 0;
  const fresh = h('p', { role: 'status' });
  summary.after(fresh);
  const read = async () => {
    readAt = Date.now();
    put(fresh);
    const { items, more } = await first(`/api/dead${query({ ...selection, lines: true })}`, MOST, signal);
    const again = () => { read().catch(show); };
    const groups = new Map();
    for (const letter of items) {
      const key = `${letter.destination}\n${groupOf(letter.reason)}`;
      groups.set(key, [...(groups.get(key) ?? []), letter]);
    }
    const told = more ? `The first ${f.many(items.length, 'dead letter')}` : f.many(items.length, 'dead letter');
    summary.textContent = items.length === 0 ? (any ? `No dead letter ${inWords(selection)}.` : 'There is none: every row arrived, or is on its way.')
      : `${told}${any ? ` ${inWords(selection)}` : ''}, with ${f.many(groups.size, 'reason')}.${more ? ' Search to see others.' : ''}`;
    const whole = any ? `Dead letters ${inWords(selection)}.` : 'All dead letters of all destinations.';
    const sorted = [...groups.values()].sort((one, other) => other.length - one.length);
    put(listed, items.length === 0 ? null : [
      h('div', { class: 'buttons' },
        button(any ? 'Send all found again' : 'Send all again', () => changeDead('requeue', body, whole).then(again)),
        button(any ? 'Drop all found' : 'Drop all', () => changeDead('drop', body, whole).then(again), 'danger')),
      sorted.map((letters) => group(app, letters, again)),
    ]);
  };
  const show = (error) => { if (error.name !== 'AbortError') put(listed, fault(error)); };
  read().catch(show);
  return {
    /** What is being looked at does not move under the eye: new ones are offered. */
    status: (status) => {
      const changed = known !== null && known !== status.dead_letters;
      known = status.dead_letters;
      // A change made here is in the list already.
      if (!changed || Date.now() - readAt < 3_000) return;
      put(fresh, `There ${known === 1 ? 'is' : 'are'} now ${f.many(known, 'dead letter')} in all. `, button('Read again', () => read().catch(show)));
    },
  };
}

function group(app, letters, again) {
  const [one] = letters;
  const runs = [...new Set(letters.map((letter) => letter.run))];
  const events = letters.filter((letter) => letter.event);
  const ids = (some) => ({ ids: some.map((letter) => letter.id) });
  const what = letters.length === 1 ? `Row ${f.count(one.row)}: ${one.reason}` : `${f.many(letters.length, 'dead letter')} such as: ${one.reason}`;
  return h('section', { class: 'group' },
    h('h2', {}, h('span', { class: 'times' }, `${f.count(letters.length)} ×`), one.reason),
    h('p', { class: 'quiet' }, 'for ', destinationLink(one.destination, app.nameOf(one.destination)), ', of ',
      runs.length === 1 ? ['run ', runLink(runs[0])] : f.many(runs.length, 'run'), ', the last ', f.ago(letters.map((letter) => letter.at).sort().at(-1))),
    h('div', { class: 'buttons' },
      events.length ? button(letters.length === 1 ? 'Send it again' : `Send ${events.length === letters.length ? 'these' : f.count(events.length)} again`, () => changeDead('requeue', ids(events), what).then(again)) : null,
      button(letters.length === 1 ? 'Drop it' : 'Drop these', () => changeDead('drop', ids(letters), what).then(again), 'danger')),
    h('details', {}, h('summary', {}, letters.length > IN_GROUP ? `The first ${IN_GROUP} of them` : letters.length === 1 ? 'Look at it' : 'Look at them'),
      h('ul', { class: 'letters' }, letters.slice(0, IN_GROUP).map((letter) => letterItem(letter, again)))));
}
