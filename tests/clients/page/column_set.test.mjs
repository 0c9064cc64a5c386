// Which columns are shown: as configured or found, changed by the link and by what is stored.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ColumnSet, SHOWN } from "../../../assets/page/column_set.js";

function memory(content = null) {
  let kept = content;
  return { getItem: () => kept, setItem: (_, value) => { kept = value; }, removeItem: () => { kept = null; } };
}

function make({ columns = [{ path: "a" }, { path: "b", hidden: true }, { path: "c", pinned: true, label: "See" }], link = "", storage = memory() } = {}) {
  return new ColumnSet({ columns, params: new URLSearchParams(link), storage: () => storage, name: "x" });
}

const shown = (set) => set.shown.map(({ label }) => label);

test("configured columns: pinned first, hidden ones left out", () => {
  assert.deepEqual(shown(make()), ["See", "a"]);
});

test("what the reader changes is kept and named in the link", () => {
  const storage = memory();
  const set = make({ storage });
  set.set("b", "hidden", false);
  set.set("c", "pinned", false);
  set.set("a", "width", 200.4);
  assert.deepEqual(shown(set), ["a", "b", "See"]);
  assert.deepEqual(set.params, { hide: null, show: "b", pin: null, unpin: "c" });
  const again = make({ storage });
  assert.deepEqual(shown(again), ["a", "b", "See"]);
  assert.equal(again.all[0].width, 200);
  again.reset();
  assert.deepEqual([shown(again), storage.getItem()], [["See", "a"], null]);
});

test("a link comes before what is stored", () => {
  const storage = memory();
  make({ storage }).set("a", "hidden", true);
  assert.deepEqual(shown(make({ storage, link: "hide=c" })), ["a"]);
  assert.deepEqual(shown(make({ storage })), ["See"]);
});

test("paths with commas survive the link", () => {
  const columns = [{ path: "a,b" }, { path: "50%" }, { path: "__proto__" }];
  const set = make({ columns });
  for (const { path } of columns) set.set(path, "hidden", true);
  const link = new URLSearchParams(Object.entries(set.params).filter(([, value]) => value !== null));
  assert.deepEqual(shown(make({ columns, link: String(link) })), []);
});

test("storage that is blocked, full or holds something else does no harm", () => {
  const blocked = { getItem() { throw new Error("no"); }, setItem() { throw new Error("no"); }, removeItem() { throw new Error("no"); } };
  const set = make({ storage: blocked });
  set.set("a", "hidden", true);
  assert.deepEqual(shown(set), ["See"]);
  for (const content of ["{", "null", "5", "{\"a\":1}", "[1,[2],[\"a\"]]", "[[\"a\",{\"width\":\"x\",\"hidden\":0}]]"]) {
    assert.deepEqual(shown(make({ storage: memory(content) })), ["See", "a"], content);
  }
});

test("rows are sorted by any path, shown or not", () => {
  const set = make({ columns: [{ path: "a", format: "date" }] });
  assert.equal(set.at("a").format, "date");
  assert.deepEqual([set.at("b.c").read({ value: { b: { c: 3 } } }), set.at("@changed").read({ at: 7 })], [3, 7]);
  assert.deepEqual(set.all.map(({ id }) => id), ["a"]);
});

test("of many columns found, the first ones are shown", () => {
  const set = make({ columns: null });
  set.find(Array.from({ length: 40 }, (_, index) => ({ path: `p${index}`, label: `p${index}`, format: "text", read: () => null, isPinned: index === 0 })));
  assert.equal(set.shown.length, SHOWN);
  assert.equal(set.all.length, 41, "when a row changed is a column, too");
});
