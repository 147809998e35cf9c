// The last hour: what waited, and how fast it was delivered. Two panels over one time: told apart by place and form, not
// by colour. The numbers are there as a table, too.

import { h, put, s } from './dom.js';
import * as f from './format.js';

const HOUR = 3_600_000;
const TOP = 14;
const GAP = 34;
const BOTTOM = 22;
const LEFT = 52;
const RIGHT = 12;

/** A round number at or above, for the axis. */
export function roundUp(value) {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value - 1e-9);
}

/** Steps of an hour, each with its largest backlog and its mean rate. */
export function steps(points, stepSeconds, now, wanted) {
  const width = HOUR / wanted;
  const found = Array.from({ length: wanted }, (_, index) => ({ at: now - HOUR + index * width, backlog: null, rate: null, seconds: 0, delivered: 0 }));
  for (const point of points) {
    const index = Math.floor((point.at - (now - HOUR)) / width);
    const step = found[Math.min(index, wanted - 1)];
    if (!step || index < 0) continue;
    step.backlog = Math.max(step.backlog ?? 0, point.backlog);
    step.delivered += point.delivered;
    step.seconds += point.seconds ?? stepSeconds;
    step.rate = step.delivered / step.seconds;
  }
  return found;
}

export function plot() {
  const box = h('figure', { class: 'plot' });
  const caption = h('figcaption', {},
    h('span', {}, h('span', { class: 'key area', 'aria-hidden': 'true' }), 'waiting events (line)'),
    h('span', {}, h('span', { class: 'key bars', 'aria-hidden': 'true' }), 'delivered events a second (bars)'),
    h('span', { class: 'quiet' }, 'the last hour'));
  const drawing = h('div', { class: 'drawing' });
  const rows = h('tbody');
  const numbers = h('details', {}, h('summary', {}, 'The plot in numbers'), h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'The last hour in numbers' },
    h('table', { class: 'plain' }, h('caption', { class: 'sr' }, 'The last hour, in steps of five minutes'),
      h('thead', {}, h('tr', {}, ['From', 'Most events waiting', 'Delivered a second'].map((name, index) =>
        h('th', { scope: 'col', class: index ? 'number' : null }, name)))), rows)));
  put(box, caption, drawing, numbers);

  /** `points` with `at` in milliseconds. */
  const draw = (points, stepSeconds, now) => {
    const room = Math.floor(drawing.getBoundingClientRect().width);
    // While it is not laid out nothing is drawn: the observer of its size asks again.
    if (room === 0) return;
    const width = Math.max(280, room);
    const height = width < 500 ? 220 : 250;
    put(drawing, svg(points, stepSeconds, now, width, height));
    put(rows, steps(points, stepSeconds, now, 12).filter((step) => step.backlog !== null).map((step) => h('tr', {},
      h('th', { scope: 'row' }, f.time(step.at)),
      h('td', { class: 'number' }, f.count(step.backlog)),
      h('td', { class: 'number' }, f.rate(step.rate)))));
  };
  return { box, draw };
}

function svg(points, stepSeconds, now, width, height) {
  const inner = width - LEFT - RIGHT;
  const panel = (height - TOP - GAP - BOTTOM) / 2;
  const x = (at) => LEFT + ((at - (now - HOUR)) / HOUR) * inner;
  const bars = steps(points, stepSeconds, now, Math.max(30, Math.min(120, Math.floor(inner / 7))));
  const shown = points.filter((point) => point.at >= now - HOUR);
  const most = Math.max(0, ...shown.map((point) => point.backlog));
  const fastest = Math.max(0, ...bars.map((bar) => bar.rate ?? 0));
  const last = shown.at(-1);
  const summary = shown.length === 0 ? 'The last hour: nothing is known yet.'
    : `The last hour: at most ${f.count(most)} events waited, now ${f.count(last.backlog)}; at most ${f.rate(fastest)} were delivered.`;
  const drawn = s('svg', { viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-label': summary });
  drawn.append(s('title', {}, summary));

  const times = [];
  const every = width < 500 ? 20 : 10;
  const startOf = new Date(now);
  startOf.setSeconds(0, 0);
  startOf.setMinutes(Math.floor(startOf.getMinutes() / every) * every);
  for (let at = startOf.getTime(); at > now - HOUR; at -= every * 60_000) {
    if (x(at) > LEFT + 8) times.push(at);
  }
  const axis = (top, largest, format) => {
    const y = (value) => top + panel - (value / largest) * panel;
    return [
      [0, largest / 2, largest].map((value) => [
        s('line', { class: value === 0 ? 'base' : 'grid', x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
        // Half an event is none.
        value !== 0 && largest <= 1 && value < largest ? null
          : s('text', { class: 'tick', x: LEFT - 6, y: y(value) + 4, 'text-anchor': 'end' }, format(value)),
      ]),
      times.map((at) => s('line', { class: 'grid', x1: x(at), x2: x(at), y1: top, y2: top + panel })),
    ].flat(3);
  };

  const topOfBars = TOP + panel + GAP;
  const largest = roundUp(most);
  const quickest = roundUp(fastest);
  drawn.append(
    ...axis(TOP, largest, f.short).filter(Boolean),
    ...axis(topOfBars, quickest, (value) => `${f.short(value)}/s`).filter(Boolean),
    ...times.map((at) => s('text', { class: 'tick', x: x(at), y: height - 6, 'text-anchor': 'middle' }, f.time(at))));

  const first = shown[0]?.at ?? now;
  if (first - (now - HOUR) > 60_000) {
    // Before that nothing was recorded, which is not the same as nothing.
    const until = x(first) - LEFT;
    drawn.append(...[TOP, topOfBars].map((at) => s('rect', { class: 'unknown', x: LEFT, y: at, width: until, height: panel })),
      s('line', { class: 'since', x1: x(first), x2: x(first), y1: TOP, y2: topOfBars + panel }),
      ...(until > 170 ? [s('text', { class: 'tick', x: LEFT + until / 2, y: TOP + panel / 2 + 4, 'text-anchor': 'middle' }, 'no record from before pintle’s start')] : []));
  }
  const y = (value) => TOP + panel - (value / largest) * panel;
  for (const piece of pieces(shown, stepSeconds)) {
    const line = piece.map((point, index) => `${index ? 'L' : 'M'}${x(point.at).toFixed(1)} ${y(point.backlog).toFixed(1)}`).join('');
    const base = TOP + panel;
    drawn.append(
      s('path', { class: 'area', d: `${line}L${x(piece.at(-1).at).toFixed(1)} ${base}L${x(piece[0].at).toFixed(1)} ${base}Z` }),
      s('path', { class: 'line', d: line }));
  }
  const barWidth = inner / bars.length;
  for (const [index, bar] of bars.entries()) {
    if (!bar.rate) continue;
    const tall = Math.max(1, (bar.rate / quickest) * panel);
    drawn.append(s('rect', { class: 'bar', x: LEFT + index * barWidth + 0.5, width: Math.max(1, barWidth - 1.5), y: topOfBars + panel - tall, height: tall }));
  }
  if (last) {
    const right = x(last.at) > width - 90;
    drawn.append(
      s('circle', { class: 'dot', cx: x(last.at), cy: y(last.backlog), r: 3.5 }),
      s('text', { class: 'now', x: right ? width - RIGHT : x(last.at) + 8, y: Math.max(TOP - 3, y(last.backlog) - 9), 'text-anchor': right ? 'end' : 'start' },
        `${f.short(last.backlog)} now`));
  }
  return drawn;
}

/** Where pintle did not run there is a gap. */
function pieces(points, stepSeconds) {
  const found = [];
  for (const point of points) {
    const piece = found.at(-1);
    if (!piece || point.at - piece.at(-1).at > stepSeconds * 3500) found.push([point]);
    else piece.push(point);
  }
  return found;
}
