// Replay: choose, see the plan, then confirm. Below, the replays so far.

import { h, put } from './dom.js';
import { first, post, query } from './api.js';
import * as f from './format.js';
import { ask } from './dialog.js';
import { busy, button, facts, fault, moment, runsTable } from './parts.js';
import { filter, inWords, selectionOf } from './filter.js';

export function replay(app, { main, query: address, signal }) {
  const selection = selectionOf(address);
  const chosen = Object.keys(selection).length > 0;
  const plan = h('section', { class: 'plan', 'aria-live': 'polite' });
  const past = h('section', {}, h('h2', {}, 'Replays'), busy('Reading…'));
  const to = h('select', { id: 'r-to' }, h('option', { value: '' }, 'where they went'),
    app.destinations().map((one) => h('option', { value: one.id }, f.destinationName(one))));
  const rate = h('input', { id: 'r-rate', type: 'number', min: 1, step: 1, inputmode: 'numeric', placeholder: 'as fast as it goes' });
  const ids = h('input', { id: 'r-ids', type: 'checkbox' });
  const options = () => ({
    ...selection, ...(selection.run ? { run: [selection.run] } : {}),
    ...(to.value ? { to: to.value } : {}), ...(rate.value ? { rate: Number(rate.value) } : {}), ...(ids.checked ? { new_message_ids: true } : {}),
  });

  const makePlan = async () => {
    put(plan, h('h2', {}, 'Plan'), busy('Counting what would be sent…'));
    const order = options();
    try {
      show(order, await post('/api/replay', { ...order, dry_run: true }));
    } catch (error) {
      put(plan, h('h2', {}, 'Plan'), fault(error));
    }
  };
  const show = (order, found) => {
    const left = [
      found.pending ? `${f.many(found.pending, 'selected event')} wait anyway and are left out.` : null,
      found.dead ? `${f.many(found.dead, 'selected row')} are dead letters: send them again from there.` : null,
    ].filter(Boolean);
    put(plan, h('h2', {}, 'Plan'),
      facts(['Events', f.count(found.events)], ['Runs', f.count(found.runs)], ['Size', f.bytes(found.bytes)],
        ['To', found.destination ? app.nameOf(found.destination) : '–'],
        found.first_at ? ['Accepted', h('span', {}, moment(found.first_at), ' to ', moment(found.last_at))] : null),
      (found.warnings ?? []).map((warning) => h('p', { class: 'note' }, h('span', { 'aria-hidden': 'true' }, '! '), warning)),
      left.map((line) => h('p', { class: 'quiet' }, line)),
      found.events === 0 ? h('p', { class: 'empty' }, 'Nothing to send again: only delivered events are replayed.')
        : h('div', { class: 'buttons' }, button(`Replay ${f.many(found.events, 'event')}…`, () => confirm(order, found), 'primary')));
    plan.querySelector('button')?.focus();
  };
  const confirm = async (order, found) => {
    let made = null;
    const where = app.nameOf(found.destination);
    const done = await ask({
      title: `Send ${f.many(found.events, 'event')} again?`,
      text: [`To ${where}: the stored events of ${f.many(found.runs, 'run')}, after what comes from Looker meanwhile.`,
        order.new_message_ids ? 'Under new message ids: RudderStack takes them for other events than those it has.' : null,
        order.rate ? `At most ${f.many(order.rate, 'event')} a second.` : null, ...(found.warnings ?? [])].filter(Boolean),
      button: `Replay ${f.many(found.events, 'event')}`,
      act: async () => {
        made = await post('/api/replay', order);
        return made.replay ? `The replay of ${f.many(made.events, 'event')} to ${where} has begun.` : 'Nothing was left to send again.';
      },
    });
    if (done && made?.replay) app.go(`/runs/${made.replay}`);
  };

  const field = (id, label, control) => h('div', { class: 'field' }, h('label', { for: id }, label), control);
  put(main, h('h1', {}, 'Replay'),
    h('p', { class: 'lead' }, 'Sends stored, delivered events again. First you see what it would send; nothing goes before you say so.'),
    filter({ selection, destinations: app.destinations(), submit: (next) => app.go(`/replay${query(next)}`), button: 'Choose' }),
    h('div', { class: 'filter' }, field('r-to', 'Send to', to), field('r-rate', 'At most, events a second', rate),
      h('div', { class: 'field check' }, ids, h('label', { for: 'r-ids' }, 'New message ids')),
      chosen ? button('Plan again with these', makePlan) : null),
    chosen ? h('p', { class: 'quiet' }, `Chosen: events ${inWords(selection)}.`) : h('p', { class: 'empty' }, 'Choose some events first: a run, a look, a user, a time.'),
    plan, past);
  if (chosen) makePlan();

  let last = 0;
  const readPast = async () => {
    last = Date.now();
    const { items } = await first('/api/replay?limit=20&lines=true', 20, signal);
    put(past, h('h2', {}, 'Replays'), runsTable(items, app.nameOf, 'None so far.'));
  };
  readPast().catch((error) => { if (error.name !== 'AbortError') put(past, fault(error)); });
  return {
    status: () => {
      if (Date.now() - last < 5_000 || document.hidden || past.contains(document.activeElement)) return;
      readPast().catch(() => { /* the link's state says it */ });
    },
  };
}
