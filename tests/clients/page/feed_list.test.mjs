import assert from "node:assert/strict";
import { test } from "node:test";
import { FeedList } from "../../../assets/page/feed_list.js";

class Log {
  first = 0;
  next = 0;
  #entries = new Map();

  constructor(most) {
    this.most = most;
  }

  get size() {
    return this.next - this.first;
  }

  get(number) {
    return this.#entries.get(number);
  }

  push(count = 1) {
    for (let made = 0; made < count; made += 1) {
      const number = this.next;
      this.#entries.set(number, { type: "message", number, previous: number - 1 });
      this.next += 1;
      if (this.size <= this.most) continue;
      this.get(this.first).previous = undefined;
      this.#entries.delete(this.first);
      this.first += 1;
    }
  }
}

const numbers = (list) => [...list].map((entry) => (entry.type === "lost" ? `lost ${entry.count}` : entry.number));

test("the newest event is the first", () => {
  const log = new Log(3);
  const list = new FeedList(log);
  assert.equal(list.size, 0);
  log.push(5);
  assert.deepEqual(numbers(list), [2, 3, 4]);
  assert.equal(list.at(0).number, 4);
  assert.equal(list.indexOf(log.get(3)), 1);
  assert.equal(list.arrived, 0);
});

test("what is held stays, and what arrives is counted", () => {
  const log = new Log(10);
  const list = new FeedList(log);
  log.push(4);
  const third = log.get(2);
  list.hold();
  log.push(7);
  assert.deepEqual(numbers(list), [0, 1, 2, 3]);
  assert.equal(list.arrived, 7);
  assert.equal(list.indexOf(third), 1);
  list.hold();
  assert.deepEqual(numbers(list), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  assert.equal(list.arrived, 0);
  assert.equal(list.indexOf(third), 8);
  list.release();
  assert.deepEqual(numbers(list), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});

test("what the log no longer has is named where it is missing", () => {
  const log = new Log(3);
  const list = new FeedList(log);
  log.push(2);
  list.hold();
  log.push(10);
  assert.equal(list.arrived, 10);
  list.hold();
  assert.deepEqual(numbers(list), [0, 1, "lost 7", 9, 10, 11]);
});

test("a held event keeps the value before it", () => {
  const log = new Log(2);
  const list = new FeedList(log);
  log.push(2);
  list.hold();
  const entry = list.at(0);
  log.push(5);
  assert.equal(entry.previous, undefined);
  assert.equal(list.previousOf(entry), 0);
  assert.equal(list.previousOf(log.get(6)), 5);
});

test("a list that is held again and again is bounded", () => {
  const log = new Log(2_000);
  const list = new FeedList(log);
  for (let turn = 0; turn < 5; turn += 1) {
    log.push(2_000);
    list.hold();
  }
  assert.equal(list.size, 4_000);
  assert.equal(list.at(0).number, 9_999);
  assert.equal(list.indexOf({ number: 3 }), -1);
});
