// The start: one sentence, the last hour, destinations, the last runs.

import { h, put, putIfChanged, text } from './dom.js';
import { query } from './api.js';
import * as f from './format.js';
import { badge, destinationLink, facts, moment, runsTable, table } from './parts.js';
import { plot } from './plot.js';

const gateway = (one) => `RudderStack of ${f.destinationName(one)}`;
const kept = (events) => (events ? `${f.many(events, 'event')} ${events === 1 ? 'is' : 'are'} kept` : 'nothing waits for it');

/** What is wrong with one destination, or null. */
function trouble(one) {
  const since = one.since ? ` since ${f.time(one.since)}` : '';
  const waiting = one.backlog.events;
  // What to do about it follows the colon, in the list below.
  const why = one.reason ? ` – ${one.reason.split(':')[0]} –` : '';
  switch (one.state) {
    case 'held':
      return [4, `Nothing goes to ${gateway(one)}${since}${why} and ${kept(waiting)}`];
    case 'backing_off':
      return one.attempts < 2 ? null : [3, `${gateway(one)} has not taken events${since}${why} and is tried again; ${kept(waiting)}`];
    case 'paused':
      return [2, `Deliveries to ${f.destinationName(one)} are paused${since}; ${kept(waiting)}`];
    default:
      return null;
  }
}

/** The one sentence: how bad, and what it says. */
export function sentence(status) {
  const { store, backlog } = status;
  if (store.stopped) return { kind: 'bad', text: `The store has stopped, and nothing is accepted: ${store.stopped}` };
  if (store.full) return { kind: 'bad', text: `The store is full${store.full_at ? ` since ${f.time(store.full_at)}` : ''}: Looker’s runs are refused until there is room, and nothing that was accepted is lost.` };
  const troubles = status.destinations.map(trouble).filter(Boolean).sort(([one], [other]) => other - one);
  if (troubles.length > 0) {
    const [[level, said]] = troubles;
    const others = troubles.length - 1;
    const more = others ? `; ${others === 1 ? 'another destination is' : `${others} other destinations are`} in trouble, too` : '';
    return { kind: level >= 4 ? 'bad' : 'warn', text: `${said}${more}.` };
  }
  const letters = status.dead_letters;
  const aside = letters ? `, but ${f.many(letters, 'dead letter')} ${letters === 1 ? 'wants' : 'want'} a look` : '';
  const start = letters ? '' : 'All is well: ';
  const capital = (words) => (letters ? words[0].toUpperCase() + words.slice(1) : words);
  if (backlog.events > 0) {
    const until = backlog.drained_at ? `, drained by ${f.time(backlog.drained_at)}` : '';
    return { kind: letters ? 'warn' : 'good', text: `${start}${f.many(backlog.events, 'event')} ${backlog.events === 1 ? 'is' : 'are'} on ${backlog.events === 1 ? 'its' : 'their'} way${until}${aside}.` };
  }
  return { kind: letters ? 'warn' : 'good', text: `${start}${capital('nothing waits')}${aside}.` };
}

/** When it will be gone, in words. */
export function forecast(one) {
  if (one.backlog.events === 0) return 'nothing waits';
  if (one.backlog.drained_at) {
    const left = Date.parse(one.backlog.drained_at) - Date.now();
    return left < 60_000 ? 'drained within a minute' : `drained by ${f.time(one.backlog.drained_at)}`;
  }
  if (one.state === 'backing_off' && one.next_attempt_at) return `next attempt at ${f.exact(one.next_attempt_at)}`;
  if (one.state === 'held' || one.state === 'paused') return 'not before it goes again';
  return 'not known yet';
}

const MARKS = { good: '✓', warn: '!', bad: '✕' };

export function overview(app, { main }) {
  const mark = h('span', { 'aria-hidden': 'true', class: 'mark' });
  const words = h('span', {});
  const headline = h('h1', { class: 'sentence' }, mark, words);
  const aloud = h('p', { class: 'sr', role: 'status' });
  const numbers = h('div', {});
  const hour = plot();
  const destinations = h('div', {});
  const last = h('div', {});
  put(main, headline, aloud, numbers,
    h('section', {}, h('h2', { class: 'sr' }, 'The last hour'), hour.box),
    h('section', {}, h('h2', {}, 'Destinations'), destinations),
    h('section', {}, h('h2', {}, 'Last runs'), last, h('p', {}, h('a', { href: '#/runs' }, 'All runs, and search'))));
  /** What came since the last point of the history. */
  let live = [];
  let before = null;
  let drawnAt = 0;

  const draw = () => {
    drawnAt = Date.now();
    const points = app.history.points.map((point) => ({ ...point, at: Date.parse(point.at) }));
    const newest = points.at(-1)?.at ?? 0;
    live = live.filter((point) => point.at > newest);
    hour.draw([...points, ...live], app.history.step_seconds, Math.max(Date.now(), newest));
  };
  const resized = new ResizeObserver(() => { if (Date.now() - drawnAt > 100) draw(); });
  resized.observe(hour.box);

  return {
    status: (status) => {
      const said = sentence(status);
      headline.dataset.kind = said.kind;
      text(mark, MARKS[said.kind]);
      text(words, said.text);
      if (aloud.dataset.kind !== said.kind) {
        if (aloud.dataset.kind) text(aloud, said.text);
        aloud.dataset.kind = said.kind;
      }
      putIfChanged(numbers, [status.backlog, status.dead_letters, status.store, status.runs, rateOf(status)], () => overviewFacts(status));
      putIfChanged(destinations, status.destinations, () => destinationsTable(status.destinations));
      const runs = status.last_runs ?? [];
      putIfChanged(last, [runs, status.destinations.map((one) => one.name)], () => runsTable(runs, app.nameOf, 'No run yet: the first one comes when Looker sends a look here.'));
      const now = Date.now();
      const delivered = status.destinations.reduce((sum, one) => sum + one.delivered, 0);
      if (before) live.push({ at: now, backlog: status.backlog.events, delivered: Math.max(0, delivered - before.delivered), seconds: (now - before.at) / 1000 });
      before = { at: now, delivered };
      draw();
    },
    history: draw,
    stop: () => resized.disconnect(),
  };
}

const rateOf = (status) => status.destinations.reduce((sum, one) => sum + one.events_per_second, 0);

function overviewFacts(status) {
  const { store, backlog, runs } = status;
  return facts(
    ['Waiting', f.count(backlog.events), backlog.oldest_at ? `the oldest since ${f.time(backlog.oldest_at)}` : null],
    ['Delivery', f.rate(rateOf(status)), 'over half a minute'],
    ['Dead letters', status.dead_letters ? h('a', { href: '#/dead' }, f.count(status.dead_letters)) : '0', status.dead_letters ? 'want a look' : null],
    ['Runs', runs.active ? `${f.count(runs.active)} coming in` : f.count(runs.stored), `${f.count(runs.stored)} stored, ${f.count(runs.failed)} failed`],
    ['Store', f.bytes(store.bytes), `of ${f.bytes(store.max_bytes)}; ${f.bytes(store.free_bytes)} free on the disk`]);
}

function destinationsTable(list) {
  return table('Destinations', [
    { name: 'Destination', cell: (one) => [destinationLink(one.id, f.destinationName(one)), one.name ? h('span', { class: 'under' }, f.host(one.url)) : null] },
    { name: 'State', cell: (one) => [badge(one.state), one.reason ? h('span', { class: 'under reason' }, one.since ? ['since ', moment(one.since), ': '] : null, one.reason) : null] },
    { name: 'Waiting', number: true, cell: (one) => f.count(one.backlog.events) },
    { name: 'Rate', number: true, cell: (one) => f.rate(one.events_per_second) },
    { name: 'Forecast', cell: forecast },
    { name: 'Delivered', number: true, cell: (one) => f.short(one.delivered) },
    { name: 'Dead', number: true, cell: (one) => (one.dead_letters ? h('a', { href: `#/dead${query({ destination: one.id })}` }, f.count(one.dead_letters)) : '0') },
  ], list, 'None yet: the first run makes one, or the configuration names it.');
}
