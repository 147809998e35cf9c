// The selection as a form: the command line's options, by their names. It lives in the address, so that it can be kept.

import { h } from './dom.js';

const FIND = [
  ['user', 'User (id or email)'], ['look', 'Look or dashboard'], ['run', 'Run'], ['plan', 'Plan'],
  ['event', 'Event name'], ['instance', 'Looker instance'],
];
/** Of runs alone, and found by this page: no option of the command line. */
const TITLE = ['title', 'Title'];
const SINCE = [['', 'any time'], ['1h', 'the last hour'], ['24h', 'the last day'], ['7d', 'the last 7 days'], ['30d', 'the last 30 days']];
const ACTIONS = [['', 'any'], ['identify', 'identify'], ['group', 'group'], ['track', 'track']];

export const RUN_STATES = [['', 'any'], ['receiving', 'receiving'], ['stored', 'stored'], ['delivering', 'delivering'], ['delivered', 'delivered'], ['failed', 'failed']];

const NAMES = ['title', ...FIND.map(([name]) => name), 'state', 'destination', 'action', 'since', 'until'];

/** The selection in an address's query. */
export function selectionOf(query) {
  const selection = {};
  for (const name of NAMES) if (query.get(name)) selection[name] = query.get(name);
  return selection;
}

/** A selection in words. */
export function inWords(selection) {
  const words = { title: 'with a title like', user: 'of user', look: 'of look', run: 'of run', plan: 'of plan', event: 'named', instance: 'from', state: 'state', destination: 'for', action: 'action', since: 'since', until: 'until' };
  return Object.entries(selection).map(([name, value]) => `${words[name]} ${value}`).join(', ');
}

const select = (id, options, value) => h('select', { id, name: id.replace('f-', '') },
  options.map(([key, word]) => h('option', { value: key, selected: key === (value ?? '') }, word)));

/** The form. `submit` gets the selection; `states` and `titles` where they make sense. */
export function filter({ selection, destinations, states, titles, submit, button = 'Search' }) {
  const finds = titles ? [TITLE, ...FIND] : FIND;
  const found = finds.find(([name]) => selection[name]);
  const find = select('f-find', finds, found?.[0]);
  const words = h('input', { id: 'f-words', type: 'search', autocomplete: 'off', spellcheck: 'false', value: found ? selection[found[0]] : '' });
  const field = (id, label, control) => h('div', { class: 'field' }, h('label', { for: id }, label), control);
  const known = [['', 'any'], ...destinations.map((one) => [one.id, one.name ?? one.id])];
  if (selection.destination && !known.some(([id]) => id === selection.destination)) known.push([selection.destination, selection.destination]);
  const since = SINCE.some(([key]) => key === (selection.since ?? '')) ? SINCE : [...SINCE, [selection.since, selection.since]];
  const controls = {
    state: states ? select('f-state', states, selection.state) : null,
    destination: select('f-destination', known, selection.destination),
    action: select('f-action', ACTIONS, selection.action),
    since: select('f-since', since, selection.since),
  };
  const form = h('form', { class: 'filter', role: 'search' },
    h('div', { class: 'field wide' }, h('label', { for: 'f-words' }, 'Find'),
      h('div', { class: 'joined' }, h('label', { for: 'f-find', class: 'sr' }, 'Find by'), find, words)),
    states ? field('f-state', 'State', controls.state) : null,
    field('f-destination', 'Destination', controls.destination),
    field('f-action', 'Action', controls.action),
    field('f-since', 'Since', controls.since),
    h('button', { type: 'submit' }, button));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const chosen = {};
    if (words.value.trim()) chosen[find.value] = words.value.trim();
    for (const [name, control] of Object.entries(controls)) if (control?.value) chosen[name] = control.value;
    submit(chosen);
  });
  return form;
}
