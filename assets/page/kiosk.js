// Kiosk: nothing but the view, with a small sign that says whether it is true. With a time it goes from view to view.

import { h, setAttribute, setText } from "./dom.js";
import { isUsed } from "./presence.js";
import { stateWords } from "./status.js";

export class Kiosk {
  #pages;
  #go;
  #seconds = 0;
  #page = null;
  #timer = 0;
  #sign = h("footer", { id: "sign", hidden: true }, h("span", { class: "sign-state" }), " ", h("h1", { class: "sign-name" }));

  // `pages()` gives { pages, current }: what there is to show, and the index of what is shown.
  constructor({ pages, go }) {
    this.#pages = pages;
    this.#go = go;
    document.body.append(this.#sign);
  }

  // Counts anew for every page.
  set({ on, seconds }, page) {
    this.#sign.hidden = !on;
    const wanted = on ? seconds : 0;
    if (wanted === this.#seconds && page === this.#page) return;
    this.#seconds = wanted;
    this.#page = page;
    this.#wait();
  }

  #wait() {
    clearTimeout(this.#timer);
    if (this.#seconds) this.#timer = setTimeout(() => this.#next(), this.#seconds * 1000);
  }

  name(text) {
    setText(this.#sign.lastElementChild, text);
  }

  say(status) {
    const state = this.#sign.firstElementChild;
    setAttribute(state, "data-state", status.state);
    setText(state, stateWords(status));
  }

  // A tab that nobody sees stays where it is: what it left would only be opened and closed. So does one that somebody uses.
  #next() {
    const { pages, current } = this.#pages();
    if (pages.length > 1 && !document.hidden && !isUsed()) this.#go(pages[(current + 1) % pages.length]);
    else this.#wait();
  }
}
