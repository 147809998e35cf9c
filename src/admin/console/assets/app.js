// The frame: login, pages by the address's fragment, the live status that all pages share.

import { h, put, text } from './dom.js';
import { get, post, session, watch } from './api.js';
import { say } from './dialog.js';
import * as f from './format.js';
import { fault } from './parts.js';
import { codeInAddress, login } from './page-login.js';
import { overview } from './page-overview.js';
import { runs } from './page-runs.js';
import { run } from './page-run.js';
import { dead } from './page-dead.js';
import { replay } from './page-replay.js';
import { destination } from './page-destination.js';

const PAGES = [
  [/^\/$/, overview, 'Overview', '#/'],
  [/^\/runs$/, runs, 'Runs', '#/runs'],
  [/^\/runs\/([^/]+)$/, run, 'Run', '#/runs'],
  [/^\/dead$/, dead, 'Dead letters', '#/dead'],
  [/^\/replay$/, replay, 'Replay', '#/replay'],
  [/^\/destinations\/([^/]+)$/, destination, 'Destination', '#/'],
];

const main = document.getElementById('main');
const top = document.getElementById('top');

/** What pages share. */
const app = {
  status: null,
  history: { step_seconds: 10, points: [] },
  /** The name of a destination, from the last status. */
  nameOf: (id) => {
    const known = app.status?.destinations.find((one) => one.id === id);
    return known ? f.destinationName(known) : id;
  },
  destinations: () => app.status?.destinations ?? [],
  go: (path) => { location.hash = `#${path}`; },
};

let page = null;
let watching = null;
let histories = null;

function show() {
  if (!watching) return;
  const [path, query = ''] = (location.hash.slice(1) || '/').split('?');
  const matching = PAGES.find(([pattern]) => pattern.test(path));
  page?.stop?.();
  page = null;
  put(main);
  if (!matching) {
    put(main, h('h1', {}, 'Nothing is here'), h('p', {}, h('a', { href: '#/' }, 'To the overview')));
    return;
  }
  const [pattern, make, title, tab] = matching;
  for (const link of document.querySelectorAll('#nav a')) {
    if (link.getAttribute('href') === tab) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = `${title} · pintle`;
  const abort = new AbortController();
  const view = make(app, {
    main,
    arguments: pattern.exec(path).slice(1).map(decodeURIComponent),
    query: new URLSearchParams(query),
    signal: abort.signal,
    /** Shows what went wrong, unless the page was left. */
    failed: (error) => {
      if (error.name === 'AbortError' || abort.signal.aborted) return;
      main.append(fault(error));
    },
  }) ?? {};
  page = { ...view, stop: () => { abort.abort(); view.stop?.(); } };
  if (app.status) page.status?.(app.status);
  window.scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

function onStatus(status) {
  app.status = status;
  const count = document.getElementById('dead-count');
  count.hidden = status.dead_letters === 0;
  text(count, f.short(status.dead_letters));
  page?.status?.(status);
}

const LINKS = { live: 'live', polling: 'every 5 s', cut: 'not connected' };

function onLink(state) {
  const live = document.getElementById('live');
  live.dataset.state = state;
  text(document.getElementById('live-text'), LINKS[state]);
  live.title = state === 'cut' ? 'pintle does not answer: what you see may be old' : '';
}

async function readHistory() {
  try {
    app.history = await get('/api/history');
    page?.history?.();
  } catch {
    // The link's state says already that pintle does not answer; the next read may succeed.
  }
}

async function start() {
  top.hidden = false;
  try {
    onStatus(await get('/api/status'));
  } catch (error) {
    if (error.status === 401) return;
    put(main, fault(error));
  }
  watching = watch(onStatus, onLink);
  await readHistory();
  histories = setInterval(readHistory, 10_000);
  show();
}

function end(why) {
  watching?.stop();
  clearInterval(histories);
  watching = null;
  page?.stop?.();
  page = null;
  top.hidden = true;
  document.title = 'pintle';
  say('');
  document.getElementById('dialog').close();
  login(main, why, start);
}

document.getElementById('log-out').addEventListener('click', async () => {
  try {
    await session.logOut();
    end('You are logged out.');
  } catch (error) {
    say(error.message, true);
  }
});

window.addEventListener('hashchange', () => {
  // The skip link only moves the focus.
  if (location.hash === '#main') history.replaceState(null, '', '#/');
  else show();
});

async function begin() {
  const code = codeInAddress();
  const ended = () => { if (watching) end('Your session has ended. Log in again.'); };
  try {
    let open = await session.resume(ended);
    if (!open && code) {
      await session.logIn({ code });
      open = true;
    }
    if (open) await start();
    else login(main, null, start);
  } catch (error) {
    login(main, error.message, start);
  }
}

begin();
