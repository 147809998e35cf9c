// Runs, newest first, with a search; more on demand.

import { h, put, putIfChanged } from './dom.js';
import { first, query } from './api.js';
import { title } from './format.js';
import { busy, fault, runsTable } from './parts.js';
import { filter, inWords, RUN_STATES, selectionOf } from './filter.js';

const PAGE = 50;
/** So many are looked at for a title. */
const SEARCHED = 5_000;

export function runs(app, { main, query: address, signal }) {
  const selection = selectionOf(address);
  const { title: like = '', ...asked } = selection;
  const wanted = (one) => !like || title(one).toLowerCase().includes(like.toLowerCase());
  const listed = h('div', {});
  const more = h('p', {});
  put(main, h('h1', {}, 'Runs'),
    filter({ selection, destinations: app.destinations(), states: RUN_STATES, titles: true, submit: (chosen) => app.go(`/runs${query(chosen)}`) }),
    listed, more);
  let shown = [];
  let last = 0;

  const render = () => putIfChanged(listed, shown, () => runsTable(shown, app.nameOf,
    Object.keys(selection).length ? `No run ${inWords(selection)}.` : 'No run yet: the first one comes when Looker sends a look here.'));
  const read = async (until) => first(`/api/runs${query({ ...asked, ...(until ? { until } : {}), limit: like ? SEARCHED : PAGE, lines: true })}`, PAGE, signal, wanted);
  const older = async () => {
    const before = shown.at(-1);
    // The next millisecond: two runs may have come in the same one.
    const { items } = await read(new Date(Date.parse(before.received_at) + 1).toISOString());
    const fresh = items.filter((one) => !shown.some((known) => known.id === one.id));
    shown = [...shown, ...fresh];
    render();
    offer(items.length === PAGE && fresh.length > 0);
  };
  const offer = (any) => put(more, any ? h('button', { type: 'button', onclick: (event) => {
    event.target.disabled = true;
    older().catch((error) => put(more, fault(error)));
  } }, 'Older runs') : null);

  const readAll = async () => {
    last = Date.now();
    const { items } = await read();
    if (shown.length <= PAGE) {
      shown = items;
      offer(items.length === PAGE);
    } else {
      // Those below stay as they were read.
      shown = [...items, ...shown.filter((known) => !items.some((one) => one.id === known.id))];
    }
    render();
  };
  put(listed, busy('Searching…'));
  readAll().catch((error) => { if (error.name !== 'AbortError') put(listed, fault(error)); });

  return {
    /** New runs and states, every three seconds where the search is a cheap one. */
    status: () => {
      if (Date.now() - last < 3_000 || document.hidden || like || selection.user || selection.event) return;
      readAll().catch(() => { /* the link's state says it */ });
    },
  };
}
