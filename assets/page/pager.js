// Turns the pages of a view that has more than fits on a wall display, where nobody scrolls.

import { isUsed } from "./presence.js";

const PAGE_SECONDS = 15; // for which a page is shown; less where the kiosk shows all of the view for less

const places = new Map(); // name of a view -> where its next page begins: a kiosk comes back to it

export class Pager {
  #name;
  #seconds;
  #look;
  #timer = 0;
  #turned = { at: 0, top: 0 };
  #wanted = 0; // where to go on, once there is so much

  // `look()` gives { scroller, next }: the element that scrolls, and a function that says where the page behind the one that is
  // seen begins, in px. `seconds` is for how long the view is shown, 0 without an end.
  constructor({ name, seconds, look }) {
    this.#name = name;
    this.#seconds = Math.min(seconds || PAGE_SECONDS, PAGE_SECONDS);
    this.#look = look;
  }

  start() {
    this.#wanted = places.get(this.#name) ?? 0;
    this.#turned = { at: performance.now(), top: this.#wanted };
    this.#timer = setInterval(() => this.#turn(), this.#seconds * 1000);
  }

  // A page that was hardly seen is shown again.
  stop() {
    if (!this.#timer) return;
    clearInterval(this.#timer);
    this.#timer = 0;
    const { at, top } = this.#turned;
    const isSeen = performance.now() - at > this.#seconds * 500;
    places.set(this.#name, isSeen ? this.#next() : top);
  }

  // To be called when there is more to see.
  resume() {
    if (!this.#wanted || isUsed()) return;
    const { scroller } = this.#look();
    if (scroller.scrollHeight - scroller.clientHeight < this.#wanted) return;
    scroller.scrollTop = this.#wanted;
    this.#wanted = 0;
  }

  #turn() {
    if (document.hidden || isUsed()) return;
    const { scroller } = this.#look();
    const top = this.#next();
    // Back to the first page it does not pass all the others.
    const isSmooth = top > scroller.scrollTop && !matchMedia("(prefers-reduced-motion: reduce)").matches;
    scroller.scrollTo({ top, behavior: isSmooth ? "smooth" : "instant" });
    this.#wanted = 0;
    this.#turned = { at: performance.now(), top };
  }

  #next() {
    const { scroller, next } = this.#look();
    const last = scroller.scrollHeight - scroller.clientHeight;
    return scroller.scrollTop >= last - 1 ? 0 : Math.min(next(), last);
  }
}

// Where the first of these elements begins that is not seen whole in what `scroller` shows below `head` px, or, where it fills
// that, where its rest begins.
export function nextTop(scroller, elements, head = 0) {
  const { top, bottom } = scroller.getBoundingClientRect();
  const begin = top + head;
  for (const element of elements) {
    const own = element.getBoundingClientRect();
    if (own.bottom > bottom + 1) return scroller.scrollTop + (own.top > begin + 1 ? own.top : bottom) - begin;
  }
  return scroller.scrollTop + bottom - begin;
}
