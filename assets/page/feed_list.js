// The events that a feed shows, newest first: those of a session's log as they come, or, while it is held, those that were there
// then. Pure.

const MOST = 4_000; // entries while held

export class FeedList {
  #log;
  #held = null; // { entries (oldest first), previous: Map of entry to the value before, next: number of the first that is not in it }

  // `log`: { first, next, size, get(number) }, with consecutive numbers.
  constructor(log) {
    this.#log = log;
  }

  get size() {
    return this.#held ? this.#held.entries.length : this.#log.size;
  }

  get isHeld() {
    return this.#held !== null;
  }

  // The entry at an index from the newest on. One of type "lost" stands for those that came while the list was held, and that
  // the log no longer has.
  at(index) {
    if (!this.#held) return this.#log.get(this.#log.next - 1 - index);
    return this.#held.entries[this.#held.entries.length - 1 - index];
  }

  // Where an entry is now, or -1.
  indexOf(entry) {
    if (!this.#held) return this.#log.get(entry.number) === entry ? this.#log.next - 1 - entry.number : -1;
    const place = this.#held.entries.lastIndexOf(entry);
    return place < 0 ? -1 : this.#held.entries.length - 1 - place;
  }

  // How many have come since the list was held.
  get arrived() {
    return this.#held ? this.#log.next - this.#held.next : 0;
  }

  // Holds what is shown; held already, it takes in what has come since, above what it has.
  hold() {
    const { first, next } = this.#log;
    const held = this.#held ?? { entries: [], previous: new Map(), next: first };
    const lost = first - held.next;
    if (lost > 0) held.entries.push({ type: "lost", number: first - 0.5, count: lost });
    for (let number = Math.max(first, held.next); number < next; number += 1) {
      const entry = this.#log.get(number);
      held.entries.push(entry);
      held.previous.set(entry, entry.previous); // the log forgets it with the entry
    }
    for (const entry of held.entries.splice(0, Math.max(0, held.entries.length - MOST))) held.previous.delete(entry);
    held.next = next;
    this.#held = held;
  }

  release() {
    this.#held = null;
  }

  // The value of its key before an entry.
  previousOf(entry) {
    return this.#held?.previous.has(entry) ? this.#held.previous.get(entry) : entry.previous;
  }

  *[Symbol.iterator]() {
    for (let index = this.size - 1; index >= 0; index -= 1) yield this.at(index);
  }
}
