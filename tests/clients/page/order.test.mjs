// The order of rows is that of sorting all of them, however they change and however the work is sliced.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Columns } from "../../../assets/page/columns.js";
import { Formats, sortKey } from "../../../assets/page/format.js";
import { Order } from "../../../assets/page/order.js";
import { matcher } from "../../../assets/page/search.js";
import { Scales } from "../../../assets/page/scales.js";

const row = (key, value) => ({ keyText: key, key, value });
const settle = (order, isTimeUp = () => false) => {
  let slices = 1;
  while (order.step(isTimeUp)) slices += 1;
  return slices;
};
const keys = (order) => order.slice(0, order.size).map(({ key }) => key);

// Numbers that look random, the same in each run.
function numbers(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % below;
  };
}

test("rows are sorted by number, text and nothing, which is last in both directions", () => {
  const order = new Order({ locale: "en" });
  const values = { a: 10, b: 9, c: null, d: "x", e: "item-10", f: "item-2", g: 10 };
  for (const [key, value] of Object.entries(values)) order.change(row(key, value));
  order.configure({ sortKey: ({ value }) => sortKey(value) });
  settle(order);
  assert.deepEqual(keys(order), ["b", "a", "g", "f", "e", "d", "c"]);
  order.configure({ sortKey: ({ value }) => sortKey(value), isDescending: true });
  settle(order);
  assert.deepEqual(keys(order), ["d", "e", "f", "a", "g", "b", "c"]);
});

test("a row keeps its place when others change, and moves when it does", () => {
  const order = new Order();
  order.configure({ sortKey: ({ value }) => value });
  for (const key of ["a", "b", "c"]) order.change(row(key, 5));
  settle(order);
  const { version } = order;
  order.change(row("b", 5));
  settle(order);
  assert.equal(order.version, version, "the same place");
  assert.deepEqual(keys(order), ["a", "b", "c"]);
  order.change(row("a", 6));
  settle(order);
  assert.deepEqual(keys(order), ["b", "c", "a"]);
  assert.deepEqual(["a", "b", "x"].map((key) => order.indexOf(key)), [2, 0, -1]);
});

test("any changes give what sorting everything gives", () => {
  const random = numbers(7);
  const order = new Order({ locale: "en" });
  const rows = new Map();
  const by = [({ value }) => value.n, ({ value }) => sortKey(value.t), ({ key }) => sortKey(key)];
  let now = { sortKey: by[0], isDescending: false, matches: null };
  order.configure(now);
  for (let round = 0; round < 60; round++) {
    for (let change = random(400); change >= 0; change--) {
      const key = `key-${random(900)}`;
      if (random(4) === 0) {
        rows.delete(key);
        order.remove(key);
      } else {
        const made = row(key, { n: random(50), t: `${"abc"[random(3)]}-${random(100)}` });
        rows.set(key, made);
        order.change(made);
      }
    }
    if (random(5) === 0) {
      now = { sortKey: by[random(3)], isDescending: random(2) === 0, matches: random(2) === 0 ? null : ({ value }) => value.n % 2 === 0 };
      order.configure(now);
    }
    let steps = random(4);
    if (random(2) === 0) settle(order, () => random(3) === 0);
    else while (steps-- > 0 && order.step(() => true));
  }
  settle(order, () => true);
  const shown = order.slice(0, order.size);
  const wanted = [...rows.values()].filter((each) => now.matches === null || now.matches(each));
  assert.deepEqual(new Set(shown), new Set(wanted), "exactly the rows that match, with their newest values");
  assert.equal(order.total, rows.size);
  const compare = new Intl.Collator("en").compare;
  for (let index = 1; index < shown.length; index++) {
    const [a, b] = [now.sortKey(shown[index - 1]), now.sortKey(shown[index])];
    const by1 = typeof a === "string" ? compare(a, b) : a - b;
    assert.ok(now.isDescending ? by1 >= 0 : by1 <= 0, `${a} before ${b}`);
  }
  for (const [index, each] of shown.entries()) assert.equal(order.indexOf(each.keyText), index);
});

test("the old order is shown until the new one is complete", () => {
  const order = new Order();
  order.configure({ sortKey: ({ value }) => value });
  for (let index = 0; index < 5_000; index++) order.change(row(`k${index}`, index));
  settle(order);
  order.configure({ sortKey: ({ value }) => value, isDescending: true });
  assert.equal(order.step(() => true), true);
  assert.equal(order.slice(0, 1)[0].value, 0);
  assert.ok(settle(order, () => true) > 20, "in many slices");
  assert.equal(order.slice(0, 1)[0].value, 4_999);
});

test("what is gone is gone, and clear forgets all", () => {
  const order = new Order();
  order.configure({ sortKey: ({ value }) => value });
  order.change(row("a", 1));
  order.remove("a");
  settle(order);
  assert.deepEqual([order.size, order.total], [0, 0]);
  order.change(row("b", 1));
  settle(order);
  order.clear();
  assert.deepEqual([order.size, order.total, order.slice(0, 9)], [0, 0, []]);
  order.change(row("c", 1));
  settle(order);
  assert.deepEqual(keys(order), ["c"]);
});

test("search finds words in any column, as sent or as shown", () => {
  const columns = new Columns({ keyField: "id" });
  const rows = [
    { id: "1", city: "Zürich", area: 1234567, at: "2026-11-29", nested: { tags: ["red", "blue"] } },
    { id: "2", city: "Paris", area: 5, at: "2025-01-02", note: null },
  ].map((value) => row(value.id, value));
  for (const each of rows) columns.add(each);
  const formats = new Formats({ locale: "en" });
  const find = (search) => rows.filter(matcher(search, columns.list, formats)).map(({ key }) => key);
  assert.deepEqual(find("zürich"), ["1"]);
  assert.deepEqual(find("1,234,567"), ["1"]);
  assert.deepEqual(find("234567"), ["1"]);
  assert.deepEqual(find("nov 29"), ["1"]);
  assert.deepEqual(find("blue zür"), ["1"]);
  assert.deepEqual(find("blue paris"), []);
  assert.deepEqual(find("null"), []);
  assert.equal(matcher("  ", columns.list, formats), null);
});

test("bars are measured against the largest number there is", () => {
  const column = { bar: true, read: ({ value }) => value, readValue: (value) => value };
  const scales = new Scales([column]);
  const rows = new Map([["a", row("a", 10)], ["b", row("b", 40)], ["c", row("c", "20")]]);
  for (const each of rows.values()) scales.note(each);
  assert.equal(scales.of(column), 40);
  rows.set("b", row("b", 5));
  scales.note(rows.get("b"));
  assert.ok(scales.isStale);
  for (const _ of scales.measure(rows.values()));
  assert.equal(scales.of(column), 20);
  rows.delete("c");
  scales.remove("c");
  for (const _ of scales.measure(rows.values()));
  assert.equal(scales.of(column), 10);
});
