// Columns found in data: which ones, in which order, of which kind, and that hostile data costs bounded work.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Columns, MAX_COLUMNS, unitOfTime } from "../../../assets/page/columns.js";

function found(values, options) {
  const columns = new Columns(options);
  for (const value of values) columns.add({ key: options?.keyField ? undefined : "k", value });
  return columns;
}

const paths = (columns) => columns.list.map(({ path }) => path);
const formatOf = (columns, path) => columns.list.find((column) => column.path === path)?.format;

test("columns are the members in the order of their arrival, the key first", () => {
  const columns = found([{ total: 1, order: "17" }, { total: 2, order: "18", note: "x" }, { extra: true, order: "19" }], { keyField: "order" });
  assert.deepEqual(paths(columns), ["order", "total", "note", "extra"]);
  assert.equal(columns.list[0].isPinned, true);
});

test("without a key field the key is a column of its own", () => {
  const columns = found([{ a: 1 }]);
  assert.deepEqual(paths(columns), ["@key", "a"]);
  assert.equal(columns.list[0].read({ key: "k", value: { a: 1 } }), "k");
});

test("no value takes the place of a record's key", () => {
  const columns = new Columns();
  columns.add({ key: "17", value: { "@key": "18", a: 1 } });
  assert.deepEqual(paths(columns), ["@key", "a"]);
  assert.equal(columns.list[0].read({ key: "17", value: { "@key": "18" } }), "17");
});

test("columns keep their order whatever comes later", () => {
  const columns = found([{ a: 1, b: 2 }], { keyField: "x" });
  const before = columns.version;
  columns.add({ value: { b: 1, a: 2 } });
  assert.equal(columns.version, before);
  columns.add({ value: { c: 1, b: 1 } });
  assert.deepEqual(paths(columns), ["a", "b", "c"]);
  assert.ok(columns.version > before);
});

test("nested objects become dotted paths, beside their siblings", () => {
  const columns = found([{ id: 1, at: { city: "Paris", geo: { lat: 1.5, lon: 2 } }, z: 1 }], { keyField: "id" });
  assert.deepEqual(paths(columns), ["id", "at.city", "at.geo.lat", "at.geo.lon", "z"]);
  const row = { value: { at: { geo: { lat: 7 } } } };
  assert.equal(columns.list[2].read(row), 7);
  assert.equal(columns.list[1].read(row), undefined);
});

test("a dot in a name is part of the name", () => {
  const columns = found([{ "a.b": 1, a: { b: 2 }, "c\\d": 3 }], { keyField: "id" });
  assert.deepEqual(paths(columns), ["a\\.b", "a.b", "c\\\\d"]);
  assert.deepEqual(columns.list.map(({ read }) => read({ value: { "a.b": 1, a: { b: 2 }, "c\\d": 3 } })), [1, 2, 3]);
});

test("an object that is deep, or has ever new names, is one column", () => {
  const deep = found([{ a: { b: { c: { d: 1 } } } }], { keyField: "id" });
  assert.deepEqual(paths(deep), ["a.b.c"]);
  assert.equal(formatOf(deep, "a.b.c"), "json");
  const map = found(Array.from({ length: 40 }, (_, index) => ({ counts: { [`user-${index}`]: index } })), { keyField: "id" });
  assert.deepEqual(paths(map), ["counts"]);
  assert.equal(formatOf(map, "counts"), "json");
});

test("an object that is a scalar elsewhere is one column, null apart", () => {
  assert.deepEqual(paths(found([{ a: { b: 1 } }, { a: "none" }], { keyField: "id" })), ["a"]);
  assert.deepEqual(paths(found([{ a: "none" }, { a: { b: 1 } }], { keyField: "id" })), ["a"]);
  assert.deepEqual(paths(found([{ a: null }, { a: { b: 1 } }], { keyField: "id" })), ["a.b"]);
});

test("types are guessed", () => {
  const columns = found([
    { n: 1, price: 1.25, on: true, at: "2026-11-29T12:00:00Z", day: "2026-11-29", url: "https://example.org/", tags: ["a"], rows: [{}], text: "x", updated_at: 1764421200000, year: 2026, mixed: 1, nothing: null },
    { n: 200, price: 3.5, on: null, at: "2026-11-29T12:00:00.123+01:00", day: "2026-11-30", url: "http://example.org", tags: [], rows: [], text: "y z", updated_at: 1764421200001, year: 2025, mixed: "one", nothing: null },
  ], { keyField: "id" });
  const formats = Object.fromEntries(columns.list.map(({ path, format }) => [path, format]));
  assert.deepEqual(formats, {
    n: "number", price: "number", on: "bool", at: "date", day: "date", url: "link", tags: "list", rows: "json", text: "text",
    updated_at: "date", year: "number", mixed: null, nothing: null,
  });
  const column = (path) => columns.list.find((each) => each.path === path);
  assert.deepEqual([column("n").digits, column("price").digits], [0, 2]);
  assert.equal(column("year").isGrouped, false, "2,026 is no year");
  assert.equal(column("day").isDay, true);
});

test("few different words, some with a usual meaning, are badges once that is known", () => {
  const columns = found([], { keyField: "id" });
  const states = ["new", "paid", "shipped"];
  for (let index = 0; index < 23; index++) columns.add({ value: { status: states[index % 3], kind: ["bus", "tram"][index % 2], name: `name ${index}` } });
  assert.equal(formatOf(columns, "status"), "text");
  for (let index = 0; index < 7; index++) columns.add({ value: { status: states[index % 3], kind: ["bus", "tram"][index % 2], name: `name ${index}` } });
  assert.equal(formatOf(columns, "status"), "badge");
  assert.equal(formatOf(columns, "kind"), "text", "words without a usual meaning");
  assert.equal(formatOf(columns, "name"), "text");
});

test("a number is only a time if its name says so", () => {
  const columns = found([{ amount: 1764421200, createdAt: 1764421200, seen: { ts: 1764421200000000 } }], { keyField: "id" });
  assert.deepEqual(columns.list.map(({ path, format }) => [path, format]), [["amount", "number"], ["createdAt", "date"], ["seen.ts", "date"]]);
  assert.deepEqual([5, 1e9, 1.7e12, 1.7e15, 1.7e18, 1e25].map(unitOfTime), [0, 1000, 1, 1e-3, 1e-6, 0]);
});

test("values that are no objects have a column", () => {
  const columns = found([5, "text", null, [1]]);
  assert.deepEqual(paths(columns), ["@key", "@value"]);
  assert.equal(columns.list[1].read({ value: 5 }), 5);
  assert.deepEqual(paths(found([], {})), []);
});

test("names of the prototype are names like others", () => {
  const hostile = JSON.parse("{\"__proto__\":{\"polluted\":1},\"constructor\":{\"prototype\":{\"polluted\":2}},\"toString\":\"x\",\"hasOwnProperty\":1}");
  const columns = found([hostile, { id: 1 }], { keyField: "id" });
  assert.deepEqual(paths(columns), ["id", "__proto__.polluted", "constructor.prototype.polluted", "toString", "hasOwnProperty"]);
  assert.deepEqual(columns.list.map(({ read }) => read({ value: hostile })), [undefined, 1, 2, "x", 1]);
  assert.deepEqual(columns.list.map(({ read }) => read({ value: { id: 1 } })), [1, undefined, undefined, undefined, undefined]);
  assert.equal({}.polluted, undefined);
});

test("ten thousand members, and a hundred thousand levels, cost bounded work", () => {
  const wide = Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`column-${index}`, index]));
  const columns = found([wide, wide], { keyField: "id" });
  assert.equal(columns.list.length, MAX_COLUMNS);
  assert.equal(columns.isCut, true);
  const deep = JSON.parse(`${"{\"a\":".repeat(5_000)}1${"}".repeat(5_000)}`);
  assert.deepEqual(paths(found([deep], { keyField: "id" })), ["a.a.a"]);
  const list = JSON.parse(`${"[".repeat(5_000)}${"]".repeat(5_000)}`);
  assert.deepEqual(paths(found([{ list }], { keyField: "id" })), ["list"]);
  const changing = new Columns({ keyField: "id" });
  for (let index = 0; index < 20_000; index++) changing.add({ value: { [`name-${index}`]: 1, nested: { [`inner-${index}`]: 1 } } });
  assert.ok(changing.list.length <= MAX_COLUMNS, String(changing.list.length));
});

test("after clear nothing is known", () => {
  const columns = found([{ a: 1 }]);
  columns.clear();
  assert.deepEqual(columns.list, []);
  columns.add({ key: "k", value: { b: 1 } });
  assert.deepEqual(paths(columns), ["@key", "b"]);
});
