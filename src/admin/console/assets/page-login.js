// The login: the admin token once, or the one-time link that `serve` prints.

import { h, put } from './dom.js';
import { session } from './api.js';

/** Shows the form; `done` when it is in. */
export function login(main, why, done) {
  const token = h('input', { id: 'token', type: 'password', autocomplete: 'current-password', required: true, spellcheck: 'false', 'aria-describedby': 'token-help' });
  const fault = h('p', { class: 'fault', role: 'alert' });
  const button = h('button', { type: 'submit', class: 'primary' }, 'Log in');
  const form = h('form', { class: 'login' },
    h('h1', {}, h('img', { src: '/assets/icon.svg', alt: '', width: 28, height: 28 }), 'pintle'),
    why ? h('p', {}, why) : null,
    h('label', { for: 'token' }, 'Admin token'), token,
    h('p', { id: 'token-help', class: 'quiet' }, h('code', {}, 'pintle token --admin'), ' prints it.'),
    fault, button);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    button.disabled = true;
    fault.textContent = '';
    try {
      await session.logIn({ token: token.value });
      done();
    } catch (error) {
      fault.textContent = error.message;
      button.disabled = false;
      token.select();
    }
  });
  put(main, form);
  token.focus();
}

/** Takes the code out of the address, and out of the browser's history. Null where there is none. */
export function codeInAddress() {
  const found = /^#login=([0-9a-f]+)$/.exec(location.hash);
  if (!found) return null;
  history.replaceState(null, '', '#/');
  return found[1];
}
