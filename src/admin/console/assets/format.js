// Numbers, times and states in words. Times are local.

const numbers = new Intl.NumberFormat('en');
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const exactClock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });
const full = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'long' });

export const count = (number) => numbers.format(number ?? 0);

/** `3 events`, `1 event` */
export const many = (number, one, more = `${one}s`) => `${count(number)} ${number === 1 ? one : more}`;

/** `12,300`, `1.24 M` */
export function short(number) {
  if (number < 100_000) return count(Math.round(number));
  const [value, unit] = number < 1e6 ? [number / 1e3, 'k'] : number < 1e9 ? [number / 1e6, 'M'] : [number / 1e9, 'G'];
  return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

export function rate(perSecond) {
  if (!perSecond) return '0/s';
  return `${perSecond < 10 ? perSecond.toFixed(1) : short(perSecond)}/s`;
}

export function bytes(number) {
  for (const [size, unit] of [[1e12, 'TB'], [1e9, 'GB'], [1e6, 'MB'], [1e3, 'kB']]) {
    if (number >= size) return `${(number / size).toFixed(number >= 10 * size ? 0 : 1)} ${unit}`;
  }
  return `${number ?? 0} B`;
}

/** Within half a day a clock's time is enough, also over midnight. */
const isNear = (date) => Math.abs(Date.now() - date) < 12 * 3_600_000;

/** `14:05`, or `23 Nov 14:05` where that is long ago. */
export function time(at) {
  if (!at) return '–';
  const date = new Date(at);
  return isNear(date) ? clock.format(date) : `${day.format(date)} ${clock.format(date)}`;
}

/** `14:05:09` */
export function exact(at) {
  if (!at) return '–';
  const date = new Date(at);
  return isNear(date) ? exactClock.format(date) : `${day.format(date)} ${exactClock.format(date)}`;
}

/** A text of pintle's own in which moments stand as machines write them. */
export const local = (text) => text.replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, (at) => exact(at));

/** Everything, for a tooltip. */
export const whole = (at) => (at ? full.format(new Date(at)) : '');

/** `40 s`, `12 min`, `3.5 h`, `2 d` */
export function span(milliseconds) {
  const seconds = Math.max(0, milliseconds / 1000);
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

export const ago = (at) => (at ? `${span(Date.now() - Date.parse(at))} ago` : '–');

/** Each state has a word and a shape, so that no colour is needed. */
const STATES = {
  idle: ['✓', 'idle', 'good'],
  delivering: ['▶', 'delivering', 'good'],
  backing_off: ['↻', 'trying again', 'warn'],
  held: ['■', 'held', 'bad'],
  paused: ['‖', 'paused', 'warn'],
  receiving: ['↓', 'receiving', 'busy'],
  stored: ['…', 'stored', 'busy'],
  delivered: ['✓', 'delivered', 'good'],
  failed: ['✕', 'failed', 'bad'],
  pending: ['…', 'waiting', 'busy'],
  dead: ['✕', 'dead', 'bad'],
};

export const state = (name) => STATES[name] ?? ['?', String(name), 'busy'];

export const title = (run) => {
  if (run.kind === 'replay') return run.looker.title ? `Replay of ${run.looker.title}` : 'Replay';
  if (run.kind === 'import') return run.looker.title ?? 'Import';
  return run.looker.title || 'Without a title';
};

export const destinationName = (destination) => destination.name ?? `${host(destination.url)} (${destination.id.slice(0, 6)})`;

export function host(url) {
  try {
    return new URL(url).host;
  } catch {
    return url;
  }
}

/** The address of a web page elsewhere, for a link; null where a text from elsewhere is none. */
export function webAddress(text) {
  try {
    const url = new URL(text);
    return ['http:', 'https:'].includes(url.protocol) ? url : null;
  } catch {
    return null;
  }
}

/** The start of an id that tells it apart for people; the end of a ULID is random. */
export const brief = (id) => (id.length > 14 ? `${id.slice(0, 6)}…${id.slice(-6)}` : id);
