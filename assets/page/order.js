// The rows of a table in their order, of any number, kept while they change. Pure. Work is done in slices: `step(isTimeUp)`
// goes on until there is no more or the time is up, so that sorting 100,000 rows never holds up the page. Until a new order is
// complete, the old one is shown.
//
// The order is a list of chunks, so that a row moves at the cost of a search and of one chunk, however many rows there are.

const CHUNK = 512; // rows; a chunk of twice as many is split
const BATCH = 64; // rows worked on between two looks at the time
const COPIED = 2048; // rows copied between two looks at the time

class Entry {
  isShown = false;
  key = null; // what it is sorted by

  // `number`: of its first arrival; decides between equal keys.
  constructor(row, number) {
    this.row = row;
    this.number = number;
  }
}

export class Order {
  #entries = new Map(); // keyText -> Entry
  #pending = new Map(); // keyText -> row, or null: removed
  #rebuild = null;
  #chunks = [];
  #size = 0;
  #number = 0;
  #sortKey = () => null;
  #matches = null;
  #direction = 1;
  #collator;
  #onRow;
  version = 0; // rises when other rows are shown, or in another order

  // `onRow(row)` is called for each new row and each new value, when it is worked in.
  constructor({ locale, onRow = () => {} } = {}) {
    this.#collator = new Intl.Collator(locale);
    this.#onRow = onRow;
  }

  // Rows that are shown.
  get size() {
    return this.#size;
  }

  // All rows, also those that do not match.
  get total() {
    return this.#entries.size;
  }

  get isSettled() {
    return this.#rebuild === null && this.#pending.size === 0;
  }

  // `sortKey(row)` is a number, a text or null (last in both directions); `matches(row)` whether it is shown, or null: all are.
  configure({ sortKey, isDescending = false, matches = null }) {
    this.#sortKey = sortKey;
    this.#direction = isDescending ? -1 : 1;
    this.#matches = matches;
    this.#rebuild = this.#sortAll();
  }

  change(row) {
    this.#pending.set(row.keyText, row);
  }

  remove(keyText) {
    if (this.#entries.has(keyText)) this.#pending.set(keyText, null);
    else this.#pending.delete(keyText);
  }

  clear() {
    this.#entries.clear();
    this.#pending.clear();
    this.#rebuild = this.#rebuild && this.#sortAll();
    this.#chunks = [];
    this.#size = 0;
    this.version += 1;
  }

  // Whether there is more to do. Does at least one piece of work, which takes about a millisecond.
  step(isTimeUp) {
    while (!this.isSettled) {
      if (!this.#rebuild) this.#settle();
      else if (this.#rebuild.next().done) this.#rebuild = null;
      if (isTimeUp()) return !this.isSettled;
    }
    return false;
  }

  // The rows from one index up to another.
  slice(from, to) {
    const rows = [];
    let start = 0;
    for (const chunk of this.#chunks) {
      if (start >= to) break;
      for (let index = Math.max(from - start, 0); index < Math.min(to - start, chunk.length); index++) rows.push(chunk[index].row);
      start += chunk.length;
    }
    return rows;
  }

  // Where the row of this key is shown, or -1.
  indexOf(keyText) {
    const entry = this.#entries.get(keyText);
    if (!entry?.isShown) return -1;
    let start = 0;
    if (this.#rebuild) { // keys are being made anew
      for (const chunk of this.#chunks) {
        const index = chunk.indexOf(entry);
        if (index >= 0) return start + index;
        start += chunk.length;
      }
      return -1;
    }
    const [found, index] = this.#find(entry);
    for (let chunk = 0; chunk < found; chunk++) start += this.#chunks[chunk].length;
    return this.#chunks[found]?.[index] === entry ? start + index : -1;
  }

  #compare(a, b) {
    const x = a.key;
    const y = b.key;
    if (x === y) return a.number - b.number;
    if (x === null) return 1;
    if (y === null) return -1;
    let by;
    if (typeof x !== typeof y) by = typeof x === "number" ? -1 : 1;
    else by = typeof x === "number" ? x - y : this.#collator.compare(x, y);
    return by * this.#direction || a.number - b.number;
  }

  // The chunk and the index in it where the entry is, or belongs.
  #find(entry) {
    const first = lowerBound(this.#chunks.length, (index) => this.#compare(this.#chunks[index].at(-1), entry) < 0);
    const found = Math.min(first, Math.max(this.#chunks.length - 1, 0));
    const chunk = this.#chunks[found] ?? [];
    return [found, lowerBound(chunk.length, (index) => this.#compare(chunk[index], entry) < 0)];
  }

  #insert(entry) {
    const [found, index] = this.#find(entry);
    const chunk = this.#chunks[found];
    if (!chunk) this.#chunks.push([entry]);
    else {
      chunk.splice(index, 0, entry);
      if (chunk.length >= 2 * CHUNK) this.#chunks.splice(found + 1, 0, chunk.splice(CHUNK));
    }
    this.#size += 1;
    this.version += 1;
  }

  #take(entry) {
    const [found, index] = this.#find(entry);
    const chunk = this.#chunks[found];
    chunk.splice(index, 1);
    if (!chunk.length) this.#chunks.splice(found, 1);
    this.#size -= 1;
    this.version += 1;
  }

  // Works a few changes in. A row that keeps its place costs no search.
  #settle() {
    let taken = 0;
    for (const [keyText, row] of this.#pending) {
      if (taken++ === BATCH) return;
      this.#pending.delete(keyText);
      let entry = this.#entries.get(keyText);
      if (row === null) {
        this.#entries.delete(keyText);
        if (entry?.isShown) this.#take(entry);
        continue;
      }
      this.#onRow(row);
      const key = this.#sortKey(row);
      const isShown = this.#matches === null || this.#matches(row);
      if (!entry) {
        entry = new Entry(row, this.#number++);
        this.#entries.set(keyText, entry);
      }
      entry.row = row;
      const isMoved = isShown !== entry.isShown || key !== entry.key;
      if (isMoved && entry.isShown) this.#take(entry);
      entry.key = key;
      entry.isShown = isShown;
      if (isMoved && isShown) this.#insert(entry);
    }
  }

  // Sorts all rows: short runs, then merges of two runs each. Yields whenever the time may be up.
  *#sortAll() {
    const shown = [];
    let seen = 0;
    for (const entry of this.#entries.values()) {
      entry.key = this.#sortKey(entry.row);
      entry.isShown = this.#matches === null || this.#matches(entry.row);
      if (entry.isShown) shown.push(entry);
      if (++seen % BATCH === 0) yield;
    }
    const compare = (a, b) => this.#compare(a, b);
    let sorted = [];
    for (let from = 0; from < shown.length; from += CHUNK) {
      for (const entry of shown.slice(from, from + CHUNK).sort(compare)) sorted.push(entry);
      yield;
    }
    for (let width = CHUNK; width < sorted.length; width *= 2) {
      const merged = [];
      for (let from = 0; from < sorted.length; from += 2 * width) {
        const middle = Math.min(from + width, sorted.length);
        const end = Math.min(from + 2 * width, sorted.length);
        let left = from;
        let right = middle;
        while (left < middle || right < end) {
          const takesLeft = right >= end || (left < middle && compare(sorted[left], sorted[right]) <= 0);
          merged.push(sorted[takesLeft ? left++ : right++]);
          if (merged.length % COPIED === 0) yield;
        }
      }
      sorted = merged;
      yield;
    }
    this.#chunks = [];
    for (let from = 0; from < sorted.length; from += CHUNK) this.#chunks.push(sorted.slice(from, from + CHUNK));
    this.#size = sorted.length;
    this.version += 1;
  }
}

// The first index of `length` for which `isBefore` does not hold.
function lowerBound(length, isBefore) {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (isBefore(middle)) low = middle + 1;
    else high = middle;
  }
  return low;
}
