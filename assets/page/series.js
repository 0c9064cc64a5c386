// Numbers over the last minutes, in buckets, and means of what many keys have: bounded memory, whatever arrives. Pure.

export const BUCKETS = 600;
export const GROUPS = 12; // lines that can still be told apart
const OTHERS = 10_000; // names of groups without a line that are counted
const KEYS = 20_000; // whose latest values count in means
const NEWEST_ALLOWED = 60_000; // ms that a record's time may lie ahead: clocks differ

// One line: the values of a group, per bucket.
class Line {
  constructor(name, slot) {
    this.name = name;
    this.slot = slot; // 0 to GROUPS - 1: its colour
    this.newest = -Infinity; // number of the newest bucket with a value
    this.last = null; // newest value
    this.lastAt = -Infinity;
    this.count = new Uint32Array(BUCKETS);
    this.sum = new Float64Array(BUCKETS);
    this.min = new Float64Array(BUCKETS);
    this.max = new Float64Array(BUCKETS);
    this.latest = new Float64Array(BUCKETS);
  }
}

export class Series {
  #lines = new Map();
  #others = new Set();
  #newest = -Infinity; // number of the newest bucket
  #from = Infinity; // ms: before it nothing is known

  // `kind`: what a bucket shows. "latest": the newest value; "mean": the mean, with the least and the largest; "rate": events per
  // second.
  constructor({ minutes, kind }) {
    this.minutes = minutes;
    this.kind = kind;
    const width = (minutes * 60_000) / BUCKETS;
    this.width = kind === "rate" ? Math.max(1_000, width) : width; // ms
    this.size = Math.ceil((minutes * 60_000) / this.width);
  }

  // Groups that have a line, in the order of their slots.
  get lines() {
    return [...this.#lines.values()].sort((one, other) => one.slot - other.slot);
  }

  // How many groups have no line; at least so many if `OTHERS`.
  get others() {
    return this.#others.size;
  }

  // From when on no event means that there was none.
  since(time) {
    this.#from = Math.min(this.#from, time);
  }

  // Gives lines to these groups, in this order, as long as there are any; one without values goes to another group that has some.
  reserve(groups) {
    for (const group of groups) if (!this.#lines.has(group)) this.#open(group);
  }

  // `time` and `now` in ms since 1970. Of a rate, the value does not count.
  add(group, time, value, now) {
    if (!Number.isFinite(time) || time > now + NEWEST_ALLOWED) time = now;
    const bucket = Math.floor(time / this.width);
    this.#advance(Math.max(bucket, Math.floor(now / this.width)), now);
    if (bucket <= this.#newest - BUCKETS) return;
    const line = this.#lines.get(group) ?? this.#open(group);
    if (!line) return;
    const at = bucket % BUCKETS;
    const isFirst = line.count[at] === 0;
    line.count[at] += 1;
    line.sum[at] = isFirst ? value : line.sum[at] + value;
    line.min[at] = isFirst ? value : Math.min(line.min[at], value);
    line.max[at] = isFirst ? value : Math.max(line.max[at], value);
    line.latest[at] = value;
    line.newest = Math.max(line.newest, bucket);
    if (time >= line.lastAt) [line.last, line.lastAt] = [value, time];
  }

  // A line for a group, in the place of one that has left the window.
  #open(group) {
    let slot = this.#lines.size;
    if (slot >= GROUPS) {
      const gone = [...this.#lines.values()].find((line) => line.newest <= this.#newest - this.size);
      if (!gone) {
        if (this.#others.size < OTHERS) this.#others.add(group);
        return null;
      }
      this.#lines.delete(gone.name);
      slot = gone.slot;
    }
    this.#others.delete(group);
    const line = new Line(group, slot);
    this.#lines.set(group, line);
    return line;
  }

  // Empties the buckets that time has come to; all of them where the clock was set back, since what they have is yet to come.
  #advance(newest, now) {
    if (this.#newest > Math.floor((now + NEWEST_ALLOWED) / this.width)) {
      this.#lines.clear();
      this.#others.clear();
      this.#newest = -Infinity;
      this.#from = now;
    }
    if (newest <= this.#newest) return;
    const from = Math.max(this.#newest + 1, newest - BUCKETS + 1);
    this.#newest = newest;
    for (const line of this.#lines.values()) {
      for (let bucket = from; bucket <= newest; bucket += 1) line.count[bucket % BUCKETS] = 0;
    }
  }

  // The last minutes before `now`: { x: [seconds], lines: [{ name, slot, last, y, low, high }] }, of lines that have values,
  // or a rate. `low` and `high` of means only; null where there is no value.
  data(now) {
    this.#advance(Math.floor(now / this.width), now);
    const first = this.#newest - this.size + 1;
    const x = Array.from({ length: this.size }, (_, index) => ((first + index + 0.5) * this.width) / 1000);
    const lines = this.lines.filter((line) => this.kind === "rate" || line.newest >= first).map((line) => {
      const { name, slot, last } = line;
      return { name, slot, last, y: this.#read(line, first), ...this.#range(line, first) };
    });
    return { x, lines };
  }

  #read(line, first) {
    const { kind, width } = this;
    return Array.from({ length: this.size }, (_, index) => {
      const bucket = first + index;
      const at = bucket % BUCKETS;
      const count = line.count[at];
      if (kind === "rate") {
        // The bucket of now is not over.
        const isKnown = bucket * width >= this.#from - width && bucket < this.#newest;
        return count > 0 && bucket < this.#newest ? (count * 1000) / width : isKnown ? 0 : null;
      }
      if (count === 0) return null;
      return kind === "mean" ? line.sum[at] / count : line.latest[at];
    });
  }

  #range(line, first) {
    if (this.kind !== "mean") return {};
    const read = (from) => Array.from({ length: this.size }, (_, index) => {
      const at = (first + index) % BUCKETS;
      return line.count[at] === 0 ? null : from[at];
    });
    return { low: read(line.min), high: read(line.max) };
  }
}

// The mean of the latest values of the keys in each group.
export class Means {
  #latest = new Map(); // key -> { group, value }
  #groups = new Map(); // group -> { sum, count }

  has(key) {
    return this.#latest.has(key);
  }

  // A key has a value now. Returns the mean of its group; null where it has none.
  set(key, group, value) {
    this.delete(key);
    if (group === null || value === null) return null;
    if (this.#latest.size >= KEYS) this.delete(this.#latest.keys().next().value); // the one that has not changed for longest
    this.#latest.set(key, { group, value });
    let sums = this.#groups.get(group);
    if (!sums) this.#groups.set(group, sums = { sum: 0, count: 0 });
    sums.sum += value;
    sums.count += 1;
    return sums.sum / sums.count;
  }

  delete(key) {
    const before = this.#latest.get(key);
    if (!before) return;
    this.#latest.delete(key);
    const sums = this.#groups.get(before.group);
    sums.sum -= before.value;
    sums.count -= 1;
    if (sums.count === 0) this.#groups.delete(before.group);
  }
}
