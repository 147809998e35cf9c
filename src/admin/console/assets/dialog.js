// Every change asks here, and says here what it did.

import { h, put } from './dom.js';

const dialog = () => document.getElementById('dialog');

/** Asks. `act` does it and gives the sentence that says what it did; its error stays in the dialog. */
export function ask({ title, text, fields = [], button, danger = false, act }) {
  return new Promise((resolve) => {
    const box = dialog();
    const before = document.activeElement;
    const fault = h('p', { class: 'fault', role: 'alert' });
    const yes = h('button', { type: 'submit', class: danger ? 'danger' : 'primary' }, button);
    const no = h('button', { type: 'button' }, 'Cancel');
    let outcome = false;
    const form = h('form', { method: 'dialog' },
      h('h2', { id: 'dialog-title' }, title),
      [text].flat().map((line) => h('p', {}, line)),
      fields, fault, h('div', { class: 'buttons' }, no, yes));
    no.addEventListener('click', () => box.close());
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      yes.disabled = true;
      yes.textContent = 'Working…';
      fault.textContent = '';
      try {
        say(await act());
        outcome = true;
        box.close();
      } catch (error) {
        fault.textContent = error.message;
        yes.disabled = false;
        yes.textContent = button;
      }
    });
    box.addEventListener('close', () => {
      put(box);
      if (before?.isConnected) before.focus();
      resolve(outcome);
    }, { once: true });
    put(box, form);
    box.showModal();
    (fields.length ? form.querySelector('input') : no)?.focus();
  });
}

let hide = null;

/** Says what was done, where the eye and a screen reader find it. */
export function say(sentence, bad = false) {
  const said = document.getElementById('said');
  clearTimeout(hide);
  if (!sentence) return;
  const close = h('button', { type: 'button', class: 'quiet', 'aria-label': 'Close this message' }, '×');
  close.addEventListener('click', () => put(said));
  put(said, h('p', { class: bad ? 'bad' : '' }, h('span', { 'aria-hidden': 'true' }, bad ? '! ' : '✓ '), sentence, close));
  hide = setTimeout(() => put(said), 12_000);
}
