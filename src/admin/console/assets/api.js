// The admin API: requests, the session's CSRF token, listings that are read only as far as they are shown, the watch.

let csrf = null;
let onEnd = () => {};

/** What the server said, or that it said nothing. */
export class Fault extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

async function ask(method, path, body, signal) {
  const headers = {};
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (method !== 'GET' && csrf) headers['X-CSRF-Token'] = csrf;
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Fault('pintle does not answer: is it running, and is this machine connected to it?', 0);
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  const fault = new Fault(said.error ?? `status ${answer.status}`, answer.status, said.code);
  if (answer.status === 401 && path.startsWith('/api/')) onEnd();
  throw fault;
}

export const get = async (path, signal) => (await ask('GET', path, undefined, signal)).json();
export const post = async (path, body = {}) => (await ask('POST', path, body)).json();

/** `?a=1&b=2` of what is not empty. */
export function query(values) {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const one of [value].flat()) if (one !== undefined && one !== null && one !== '') pairs.append(name, one);
  }
  const text = pairs.toString();
  return text ? `?${text}` : '';
}

/** More is not read for one page. */
const MOST_BYTES = 16e6;

/** The first `most` wanted items of a listing of JSON lines; the rest is not read. */
export async function first(path, most, signal, wanted = () => true) {
  const answer = await ask('GET', path, undefined, signal);
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  const items = [];
  let rest = '';
  let read = 0;
  for (;;) {
    const { done, value } = await reader.read();
    const piece = done ? decoder.decode() : decoder.decode(value, { stream: true });
    rest += piece;
    read += value?.length ?? 0;
    // A line may come in many pieces: it is looked at once, when it is whole.
    if (done || piece.includes('\n')) rest = take(rest, items, wanted, done);
    if (done) return { items, more: false };
    if (items.length >= most || read > MOST_BYTES) {
      await reader.cancel();
      return { items: items.slice(0, most), more: true };
    }
  }
}

/** Takes whole lines off a text: each is one item. */
function take(text, items, wanted, done) {
  const lines = text.split('\n');
  const rest = lines.pop();
  for (const line of lines) {
    if (line.trim() === '') continue;
    let item;
    try {
      item = JSON.parse(line);
    } catch {
      throw new Fault('the answer was cut', 0);
    }
    if (item.error !== undefined && item.code !== undefined && item.run === undefined) throw new Fault(item.error, 500, item.code);
    if (wanted(item)) items.push(item);
  }
  if (done && rest.trim() !== '') throw new Fault('the answer was cut', 0);
  return rest;
}

export const session = {
  /** Whether the browser's cookie still opens; calls `ended` when it does no longer. */
  async resume(ended) {
    onEnd = ended;
    try {
      csrf = (await get('/session')).csrf_token;
      return true;
    } catch (fault) {
      if (fault.status === 401) return false;
      throw fault;
    }
  },
  async logIn(given) {
    csrf = (await post('/session', given)).csrf_token;
  },
  async logOut() {
    await post('/session/end');
    csrf = null;
  },
};

const POLL = 5_000;

/** A status each second; where the stream is cut, one each five seconds until it is back. Returns how to stop it. */
export function watch(onStatus, onLink) {
  let source = null;
  let poll = null;
  let stopped = false;

  const asked = async () => {
    try {
      const status = await get('/api/status');
      if (stopped) return;
      onStatus(status);
      if (poll) onLink('polling');
    } catch (fault) {
      if (!stopped && fault.status !== 401) onLink('cut');
    }
  };
  const polls = (on) => {
    if (on && !poll && !stopped) {
      asked();
      poll = setInterval(asked, POLL);
    } else if (!on && poll) {
      clearInterval(poll);
      poll = null;
    }
  };
  const open = () => {
    if (stopped) return;
    source?.close();
    source = new EventSource('/api/watch');
    source.onmessage = (event) => {
      polls(false);
      onLink('live');
      onStatus(JSON.parse(event.data));
    };
    source.onerror = () => {
      polls(true);
      // A browser gives up for good where the answer was no stream: a proxy, or no session.
      if (source.readyState === EventSource.CLOSED) setTimeout(open, POLL);
    };
  };
  open();
  const stop = () => {
    stopped = true;
    polls(false);
    source?.close();
  };
  return { stop };
}
