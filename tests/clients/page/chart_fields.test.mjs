import assert from "node:assert/strict";
import { test } from "node:test";
import { choiceOf, fieldsOf, groupReader, numberReader } from "../../../assets/page/chart_fields.js";

const entry = (value, more = {}) => ({ type: "message", key: undefined, keyText: null, value, ...more });

test("numbers that measure something come first", () => {
  const entries = Array.from({ length: 50 }, (_, index) => entry({
    id: index, updated_at: 1_795_406_940_000 + index, latitude: 50 + index / 100, zip: 1234, price: index * 1.5, fixed: 7,
    stock: { count: index }, city: ["Paris", "Rome"][index % 2], name: `unique ${index}`, open: index % 3 === 0,
  }, { keyText: `k${index % 5}` }));
  const found = fieldsOf(entries);
  assert.equal(found.fields[0], "price");
  assert.ok(found.fields.includes("stock.count"));
  assert.ok(found.fields.indexOf("id") > found.fields.indexOf("price"));
  assert.ok(!found.measures.includes("updated_at"));
  assert.deepEqual(found.groups.sort(), ["city", "open"]);
  assert.equal(found.keys, 5);
});

test("without numbers there are none", () => {
  const found = fieldsOf([entry("text"), entry({ a: "x" }), entry(null), { type: "gap", value: { from: 1 } }]);
  assert.deepEqual([found.fields, found.measures, found.few], [[], [], null]);
});

test("numbers are read where they are, and only numbers", () => {
  const read = numberReader("value.a.b");
  assert.equal(read(entry({ a: { b: 3 } })), 3);
  assert.equal(read(entry({ a: { b: "-12.50" } })), -12.5);
  for (const value of [{ a: { b: "x" } }, { a: 1 }, null, "text", { a: { b: null } }, { a: { b: "NaN" } }]) assert.equal(read(entry(value)), null);
  assert.equal(numberReader("rate")(entry("text")), 1);
  assert.equal(numberReader("value.__proto__")(entry({})), null);
});

test("groups are texts", () => {
  assert.equal(groupReader("none")(entry({})), "");
  assert.equal(groupReader("key")(entry({}, { key: { base64: "AA==" } })), '{"base64":"AA=="}');
  assert.equal(groupReader("key")(entry({})), null);
  assert.equal(groupReader("partition")(entry({}, { partition: 0 })), "0");
  assert.equal(groupReader("value.open")(entry({ open: true })), "true");
  assert.equal(groupReader("value.open")(entry({ open: {} })), null);
});

test("a link chooses what can be", () => {
  assert.equal(choiceOf("rate", ["rate"]), "rate");
  assert.equal(choiceOf("value.a.b", ["rate"]), "value.a.b");
  for (const text of [null, "", "value.", "value.a..b", "price", "header.x"]) assert.equal(choiceOf(text, ["rate"]), null);
});
