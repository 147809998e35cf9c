// Makes elements. Texts are only ever set as texts: what comes from Looker is never read as HTML.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked') element[name] = value;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...flat(children));
  return element;
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** An HTML element: `h('p', {class: 'x'}, 'text', child)`. */
export function h(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** An SVG element. */
export function s(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** Replaces what an element holds. */
export function put(element, ...children) {
  element.replaceChildren(...flat(children));
  return element;
}

/** Sets a text only where it changes, so that a screen reader and a selection are left in peace. */
export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/** Replaces what an element holds only where `key` says that it would look different. */
export function putIfChanged(element, key, make) {
  const mark = JSON.stringify(key);
  if (element.dataset.key === mark) return;
  const active = document.activeElement;
  const again = element.contains(active) ? active.getAttribute('data-focus') ?? active.getAttribute('href') : null;
  put(element, make());
  element.dataset.key = mark;
  if (again !== null) {
    const found = [...element.querySelectorAll('a,button')].find(
      (one) => (one.getAttribute('data-focus') ?? one.getAttribute('href')) === again);
    found?.focus();
  }
}
