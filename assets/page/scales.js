// The largest numbers of columns with bars, which are drawn in proportion to them. Pure.
import { numberOf } from "./format.js";

class Scale {
  largest = 0;
  holder = null; // key of the row that has it

  // `numbers(row)`: those of the column in a row.
  constructor(numbers) {
    this.numbers = numbers;
  }

  note(row) {
    const largest = this.numbers(row);
    if (largest > this.largest) {
      this.largest = largest;
      this.holder = row.keyText;
      return true;
    }
    return false;
  }
}

function largestOf(values) {
  let largest = 0;
  for (const value of values) largest = Math.max(largest, numberOf(value) ?? 0);
  return largest;
}

export class Scales {
  #scales = new Map(); // function that reads a column or an item -> Scale
  #stale = new Set(); // scales whose largest number is gone
  version = 0;

  // `columns`: of a table, with their items.
  constructor(columns) {
    for (const column of columns) {
      if (column.bar) this.#scales.set(column.readValue, new Scale((row) => largestOf([column.read(row)])));
      for (const item of column.items ?? []) {
        if (!item.bar) continue;
        const elements = (row) => {
          const list = column.read(row);
          return Array.isArray(list) ? list.slice(0, column.limit) : [];
        };
        this.#scales.set(item.readValue, new Scale((row) => largestOf(elements(row).map(item.readValue))));
      }
    }
  }

  // The largest number of a column or an item, or 0.
  of({ readValue }) {
    return this.#scales.get(readValue)?.largest ?? 0;
  }

  note(row) {
    for (const scale of this.#scales.values()) {
      if (scale.holder === row.keyText && scale.numbers(row) < scale.largest) this.#stale.add(scale);
      else if (scale.note(row)) this.version += 1;
    }
  }

  remove(keyText) {
    for (const scale of this.#scales.values()) if (scale.holder === keyText) this.#stale.add(scale);
  }

  // Measures anew what is stale, from all rows. Yields whenever the time may be up.
  *measure(rows) {
    if (!this.#stale.size) return;
    const scales = [...this.#stale];
    this.#stale.clear();
    for (const scale of scales) {
      scale.largest = 0;
      scale.holder = null;
    }
    let seen = 0;
    for (const row of rows) {
      for (const scale of scales) scale.note(row);
      if (++seen % 256 === 0) yield;
    }
    this.version += 1;
  }

  clear() {
    for (const scale of this.#scales.values()) {
      scale.largest = 0;
      scale.holder = null;
    }
    this.#stale.clear();
    this.version += 1;
  }

  get isStale() {
    return this.#stale.size > 0;
  }
}
