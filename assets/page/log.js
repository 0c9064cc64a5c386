// The newest events of a session, bounded in number and in text. Pure.

const LOG_ENTRIES = 2_000;
const LOG_TEXT = 32 << 20; // UTF-16 units in all entries

// One event, and as the newest of its key also its row.
export class Entry {
  number; // rises by one with every entry of the session
  at = Date.now(); // when it arrived, in milliseconds since 1970
  type;
  id; // event id to resume behind it; "" before the first
  key; // undefined: no record, or one without a key
  keyText = null;
  value = null;
  topic;
  partition;
  offset;
  timestamp;
  headers;
  previous; // the value before, while this entry is in the log
  #text; // null: that of the value, where it is asked for

  constructor(number, type, id, text) {
    this.number = number;
    this.type = type;
    this.id = id;
    this.#text = text;
  }

  // For the order of changes: a higher one is newer.
  get order() {
    return this.number;
  }

  // The value as JSON text.
  get text() {
    return this.#text ?? JSON.stringify(this.value);
  }

  get size() {
    return this.#text?.length ?? 64;
  }

  // An envelope's text is not that of its value, but about as long.
  hideText() {
    this.#text = null;
  }
}

// The newest entries. Numbers of entries are consecutive.
export class Log {
  #entries = new Array(LOG_ENTRIES);
  #sizes = new Float64Array(LOG_ENTRIES);
  #text = 0;
  first = 0; // number of the oldest entry
  next = 0; // number that the next entry gets

  get size() {
    return this.next - this.first;
  }

  get(number) {
    return number >= this.first && number < this.next ? this.#entries[number % LOG_ENTRIES] : undefined;
  }

  *[Symbol.iterator]() {
    for (let number = this.first; number < this.next; number += 1) yield this.#entries[number % LOG_ENTRIES];
  }

  push(entry, size) {
    if (this.size === LOG_ENTRIES) this.#drop();
    this.#entries[entry.number % LOG_ENTRIES] = entry;
    this.#sizes[entry.number % LOG_ENTRIES] = size;
    this.#text += size;
    this.next = entry.number + 1;
    while (this.#text > LOG_TEXT && this.size > 1) this.#drop();
  }

  #drop() {
    const slot = this.first % LOG_ENTRIES;
    this.#entries[slot].previous = undefined; // a row may live on; what it was before need not
    this.#entries[slot] = undefined;
    this.#text -= this.#sizes[slot];
    this.first += 1;
  }

  clear() {
    this.#entries = new Array(LOG_ENTRIES);
    this.#text = 0;
    this.first = this.next;
  }
}
