import assert from "node:assert/strict";
import { test } from "node:test";
import { Seen, filtersOf, keyFilter, parseTerm, sizeProblem, terms } from "../../../assets/page/filters.js";

const entry = (value, more = {}) => ({ type: "message", key: null, value, text: JSON.stringify(value), ...more });

test("a key is found by the text that the server compares", () => {
  for (const [key, text] of [
    ["17", "17"], ["", ""], [17, "17"], [true, "true"], [{ id: 1 }, '{"id":1}'], [{ base64: "AAE=" }, "base64:AAE="],
    ["base64:x", "base64:YmFzZTY0Ong="], [null, null], [undefined, null], [{ base64: 1 }, '{"base64":1}'],
  ]) assert.equal(keyFilter(key), text);
  assert.equal(keyFilter("base64:Ø"), `base64:${Buffer.from("base64:Ø").toString("base64")}`);
});

test("a term has a name and a value", () => {
  for (const [text, name, value] of [
    ["key=17", "key", "17"], ["key=", "key", ""], ["key=a=b", "key", "a=b"], ["partition=0", "partition", "0"],
    ["header.type=created", "header.type", "created"], ["value.a.b=x y", "value.a.b", "x y"], ["value.log\\.level=error", "value.log\\.level", "error"],
    [" key =17", "key", "17"], ["value.__proto__=1", "value.__proto__", "1"],
  ]) assert.deepEqual(parseTerm(text), { name, value });
});

test("a name that was seen may contain an equals sign, or lack its beginning", () => {
  const known = ["key", "value.a=b", "value.a", "value.city"];
  assert.deepEqual(parseTerm("value.a=b=c", known), { name: "value.a=b", value: "c" });
  assert.deepEqual(parseTerm("value.a=x", known), { name: "value.a", value: "x" });
  assert.deepEqual(parseTerm("city=Paris", known), { name: "value.city", value: "Paris" });
});

test("what the server would refuse is said before", () => {
  for (const text of ["17", "", "=x", "keys=1", "header.=x", "value.=x", "value.a..b=x", "value.a\\n=x", "partition=x", `value.${"a.".repeat(32)}a=x`]) {
    assert.equal(typeof parseTerm(text).problem, "string", text);
  }
  const many = (count, value) => filtersOf(Array.from({ length: count }, (_, index) => ["key", `${value}${index}`]));
  assert.equal(sizeProblem(many(16, "a")), null);
  assert.match(sizeProblem(many(17, "a")), /16/);
  assert.match(sizeProblem(many(2, "Ø".repeat(600))), /2 KiB/);
});

test("terms become filters and terms again", () => {
  const list = [["key", "1"], ["key", "2"], ["value.city", "Paris"], ["__proto__", "x"]];
  assert.deepEqual(terms(filtersOf(list)), list);
  assert.deepEqual(terms(filtersOf([...list, ["key", "1"]])), list);
  assert.deepEqual(terms({ key: "17", partition: 0 }), [["key", "17"], ["partition", "0"]]);
});

test("completion knows names and values that were seen", () => {
  const seen = new Seen();
  seen.add(entry({ city: "Paris", price: 3, tags: ["new"], "log.level": "info" }, { key: "a", topic: "orders", partition: 2, headers: { type: "created", n: ["1", "2"] } }));
  seen.add(entry({ city: "Rome", price: 3 }, { key: "b", topic: "orders", partition: 2 }));
  seen.add(entry({ city: "Paris" }, { key: "b" }));
  seen.add({ type: "gap", value: { from: 1 } });
  assert.deepEqual(seen.names, ["key", "topic", "partition", "header.type", "header.n", "value.city", "value.price", "value.log\\.level", "value.tags.0"]);
  assert.deepEqual(seen.complete("cit").map(({ text }) => text), ["value.city="]);
  assert.deepEqual(seen.complete("value.city=").map(({ text, count, isWhole }) => [text, count, isWhole]), [["value.city=Paris", 2, true], ["value.city=Rome", 1, true]]);
  assert.deepEqual(seen.complete("value.city=ro").map(({ text }) => text), ["value.city=Rome"]);
  assert.deepEqual(seen.complete("header.n=").map(({ label }) => label), ["1", "2"]);
  assert.deepEqual(seen.complete("nothing of that kind"), []);
});

test("what is remembered for completion is bounded", () => {
  const seen = new Seen();
  for (let index = 0; index < 5_000; index += 1) {
    seen.add(entry({ [`name${index}`]: index, same: `v${index}`, long: "x".repeat(1_000) }));
  }
  assert.ok(seen.names.length <= 300);
  assert.ok(seen.complete("value.same=v").length <= 12);
  assert.ok(!seen.names.includes("value.long"));
});
