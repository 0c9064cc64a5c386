// What a screen reader is told beside what has the focus. One message at a time, not more often than it can be listened to,
// and of many that come meanwhile only the newest: a stream must not flood who listens.

const PAUSE_MS = 3_000;

export class Announcer {
  #element;
  #waiting = null;
  #timer = 0;
  #last = "";

  constructor(element) {
    this.#element = element;
  }

  say(text) {
    if (!text || text === this.#waiting || (text === this.#last && this.#waiting === null)) return;
    this.#waiting = text;
    if (!this.#timer) this.#next();
  }

  #next = () => {
    this.#timer = 0;
    if (this.#waiting === null) return;
    this.#last = this.#waiting;
    this.#waiting = null;
    this.#element.textContent = this.#last;
    this.#timer = setTimeout(this.#next, PAUSE_MS);
  };
}
