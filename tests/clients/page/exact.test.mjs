import assert from "node:assert/strict";
import { test } from "node:test";
import { Exact, exactValue, leaves, parseExact, scalarText } from "../../../assets/page/exact.js";

test("scalars have the texts that filters compare", () => {
  assert.equal(scalarText(null), "null");
  assert.equal(scalarText(true), "true");
  assert.equal(scalarText(17), "17");
  assert.equal(scalarText(new Exact("1.50")), "1.50");
  assert.equal(scalarText("1.50"), "1.50");
  assert.equal(scalarText({}), undefined);
  assert.equal(scalarText([]), undefined);
});

test("a text is parsed, whether or not the engine tells how numbers are written", () => {
  const value = parseExact('{"a":[1,1.5,"x",null],"__proto__":{"b":2}}');
  assert.deepEqual(Object.keys(value), ["a", "__proto__"]);
  assert.deepEqual(value.a, [1, 1.5, "x", null]);
  assert.throws(() => parseExact("not JSON"));
  const exact = parseExact("12345678901234567890");
  assert.ok(exact === 12345678901234567890 || exact.source === "12345678901234567890");
  assert.equal(exactValue({ text: "no JSON", value: "no JSON" }), "no JSON");
  assert.deepEqual(exactValue({ text: "[1]", value: [1] }), [1]);
  assert.deepEqual(exactValue({ text: undefined, value: null }), null);
});

test("leaves are bounded in number and depth", () => {
  const value = { a: 1, b: { c: "x", d: [true, { e: null }] } };
  assert.deepEqual([...leaves(value)].map(({ path }) => path.join(".")), ["a", "b.c", "b.d.0", "b.d.1.e"]);
  assert.deepEqual([...leaves(value, 200, 2)].map(({ path }) => path.join(".")), ["a", "b.c"]);
  const wide = Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`c${index}`, index]));
  assert.equal([...leaves(wide, 50)].length, 50);
  let deep = 1;
  for (let level = 0; level < 5_000; level += 1) deep = { deep };
  assert.deepEqual([...leaves(deep)], []);
  assert.deepEqual([...leaves("text")], []);
});
