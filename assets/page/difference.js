// What has changed between two JSON values: paths with what was there and what is. Pure, and bounded: a record of a
// megabyte costs no more than one of a few kilobytes that differs as much as is shown.

import { Exact } from "./exact.js";

const WORK = 100_000; // values looked at
const CHANGES = 200;
const DEPTH = 100;

const isNumber = (value) => value instanceof Exact;
const isObject = (value) => value !== null && typeof value === "object" && !isNumber(value);
const isArray = Array.isArray;

class Comparison {
  changes = [];
  more = false;
  #limit;
  #work;
  #ignored;

  constructor(limit, work, ignored) {
    this.#limit = limit;
    this.#work = work;
    this.#ignored = ignored;
  }

  add(change) {
    if (this.more) return; // the work ended within this very comparison
    if (this.changes.length < this.#limit) this.changes.push(change);
    else this.more = true;
  }

  // Counts a value that is looked at. False where there were too many.
  #spend() {
    this.#work -= 1;
    if (this.#work < 0) this.more = true;
    return this.#work >= 0;
  }

  compare(before, after, path) {
    if (this.more) return;
    if (isObject(before) && isObject(after) && isArray(before) === isArray(after) && path.length < DEPTH) {
      if (!this.#spend()) return;
      if (isArray(before)) this.#arrays(before, after, path);
      else this.#objects(before, after, path);
    } else if (!this.equal(before, after, path.length)) {
      this.add({ path, kind: "changed", before, after });
    }
  }

  #objects(before, after, path) {
    const isIgnored = (name) => path.length === 0 && this.#ignored.has(name);
    for (const name of Object.keys(after)) {
      if (this.more) return;
      if (isIgnored(name)) continue;
      if (Object.hasOwn(before, name)) this.compare(before[name], after[name], [...path, name]);
      else this.add({ path: [...path, name], kind: "added", before: undefined, after: after[name] });
    }
    for (const name of Object.keys(before)) {
      if (this.more) return;
      if (!Object.hasOwn(after, name) && !isIgnored(name)) {
        this.add({ path: [...path, name], kind: "removed", before: before[name], after: undefined });
      }
    }
  }

  // What is equal at both ends stays, so that one more element does not change all that follow it.
  #arrays(before, after, path) {
    const shorter = Math.min(before.length, after.length);
    let head = 0;
    while (head < shorter && this.equal(before[head], after[head], path.length)) head += 1;
    let tail = 0;
    while (
      tail < shorter - head &&
      this.equal(before[before.length - 1 - tail], after[after.length - 1 - tail], path.length)
    ) tail += 1;
    const removed = before.length - head - tail;
    const added = after.length - head - tail;
    for (let index = 0; index < Math.max(removed, added) && !this.more; index += 1) {
      const at = head + index;
      const name = [...path, String(at)];
      if (index < removed && index < added) this.compare(before[at], after[at], name);
      else if (index < added) this.add({ path: name, kind: "added", before: undefined, after: after[at] });
      else this.add({ path: name, kind: "removed", before: before[at], after: undefined });
    }
  }

  // Where the work is used up, values count as different.
  equal(one, other, depth) {
    if (!this.#spend()) return false;
    if (Object.is(one, other)) return true;
    if (isNumber(one) || isNumber(other)) return String(one) === String(other);
    if (!isObject(one) || !isObject(other) || isArray(one) !== isArray(other)) return one === other;
    if (depth >= DEPTH) {
      this.more = true;
      return false;
    }
    const names = Object.keys(one);
    return names.length === Object.keys(other).length &&
      names.every((name) => Object.hasOwn(other, name) && this.equal(one[name], other[name], depth + 1));
  }
}

// { changes: [{ path: [names], kind: "added" | "removed" | "changed", before, after }], more }: at most `limit` changes,
// in the order of `after`, then what it lacks; `more` says that there are or may be others. `ignored`: names of members of the
// outermost object that do not count.
export function difference(before, after, { limit = CHANGES, work = WORK, ignored = new Set() } = {}) {
  const comparison = new Comparison(limit, work, ignored);
  comparison.compare(before, after, []);
  return { changes: comparison.changes, more: comparison.more };
}

// A text that differs between different paths, for a Map of marks.
export const pathKey = (path) => JSON.stringify(path);
