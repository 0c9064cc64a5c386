import assert from "node:assert/strict";
import { test } from "node:test";
import { difference, pathKey } from "../../../assets/page/difference.js";
import { Exact } from "../../../assets/page/exact.js";

const lines = (before, after, options) =>
  difference(before, after, options).changes.map(({ path, kind, before: was, after: is }) =>
    [kind, path.join("."), was, is].filter((part) => part !== undefined));

test("what is added, removed and changed has its path", () => {
  const before = { a: 1, b: { c: "x", gone: true }, same: [1, 2], n: null };
  const after = { a: 2, b: { c: "x", came: [] }, same: [1, 2], n: 0 };
  assert.deepEqual(lines(before, after), [
    ["changed", "a", 1, 2],
    ["added", "b.came", []],
    ["removed", "b.gone", true],
    ["changed", "n", null, 0],
  ]);
  assert.equal(difference(before, after).more, false);
  assert.deepEqual(difference(before, structuredClone(before)), { changes: [], more: false });
});

test("values of different kinds are changed as a whole", () => {
  assert.deepEqual(lines({ a: [1] }, { a: { 0: 1 } }), [["changed", "a", [1], { 0: 1 }]]);
  assert.deepEqual(lines({ a: {} }, { a: null }), [["changed", "a", {}, null]]);
  assert.deepEqual(lines("before", "after"), [["changed", "", "before", "after"]]);
  assert.deepEqual(lines(1, "1"), [["changed", "", 1, "1"]]);
});

test("an element more does not change all that follow", () => {
  const list = (...names) => names.map((name) => ({ name }));
  assert.deepEqual(lines(list("a", "b", "c"), list("new", "a", "b", "c")), [["added", "0", { name: "new" }]]);
  assert.deepEqual(lines(list("a", "b", "c"), list("a", "c")), [["removed", "1", { name: "b" }]]);
  assert.deepEqual(lines(list("a", "b", "c"), list("a", "B", "c")), [["changed", "1.name", "b", "B"]]);
  assert.deepEqual(lines([1, 1], [1, 1, 1]), [["added", "2", 1]]);
});

test("names of JavaScript's own are names like others", () => {
  const parse = (text) => JSON.parse(text);
  assert.deepEqual(lines(parse("{}"), parse('{"__proto__":{"x":1},"constructor":2}')), [
    ["added", "__proto__", { x: 1 }],
    ["added", "constructor", 2],
  ]);
  assert.deepEqual(lines(parse('{"__proto__":1}'), parse('{"__proto__":2}')), [["changed", "__proto__", 1, 2]]);
  assert.equal({}.x, undefined);
});

test("numbers are compared as they are written", () => {
  assert.deepEqual(lines({ n: new Exact("1.50") }, { n: new Exact("1.50") }), []);
  assert.deepEqual(lines({ n: new Exact("1.50") }, { n: 1.5 }).length, 1);
  assert.deepEqual(lines({ n: Number.NaN }, { n: Number.NaN }), []);
});

test("what is found, and the work, are bounded", () => {
  const wide = (value) => Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`c${index}`, value]));
  const all = difference(wide(1), wide(2));
  assert.equal(all.changes.length, 200);
  assert.equal(all.more, true);
  const few = difference(wide(1), wide(1), { work: 100 });
  assert.deepEqual([few.changes.length, few.more], [0, true]);
  const long = Array.from({ length: 1_000_000 }, (_, index) => index);
  assert.equal(difference(long, [...long.slice(0, -1), "other"]).more, true);
  let [one, other] = [1, 2];
  for (let level = 0; level < 20_000; level += 1) [one, other] = [{ deep: one }, { deep: other }];
  assert.deepEqual(difference(one, other), { changes: [], more: true });
});

test("members that are no change are left out, of the outermost object", () => {
  const ignored = new Set(["offset"]);
  assert.deepEqual(lines({ offset: 1, a: { offset: 1 } }, { offset: 2, a: { offset: 2 } }, { ignored }), [["changed", "a.offset", 1, 2]]);
  assert.deepEqual(lines({ offset: 1 }, {}, { ignored }), []);
});

test("paths that differ have different keys", () => {
  assert.notEqual(pathKey(["a.b"]), pathKey(["a", "b"]));
  assert.notEqual(pathKey([]), pathKey([""]));
});
