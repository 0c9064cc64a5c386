import assert from "node:assert/strict";
import { test } from "node:test";
import { csv, csvField, fileName, ndjson } from "../../../assets/page/download.js";

const entry = (text, more = {}) => {
  let value = text;
  try {
    value = JSON.parse(text);
  } catch {
    // A text.
  }
  return { number: 1, at: 0, type: "message", key: "k", text, value, ...more };
};

// RFC 4180, strictly.
function parseCsv(text) {
  const rows = [[]];
  let at = 0;
  while (at < text.length) {
    let field = "";
    if (text[at] === '"') {
      for (at += 1; ; at += 1) {
        if (text[at] === '"' && text[at + 1] === '"') at += 1;
        else if (text[at] === '"') break;
        assert.ok(at < text.length, "a quote without an end");
        field += text[at];
      }
      at += 1;
    } else {
      for (; at < text.length && !",\r\n".includes(text[at]); at += 1) {
        assert.notEqual(text[at], '"');
        field += text[at];
      }
    }
    rows.at(-1).push(field);
    if (text[at] === ",") {
      at += 1;
      if (at === text.length) rows.at(-1).push("");
    } else {
      assert.equal(text.slice(at, at + 2), "\r\n");
      at += 2;
      if (at < text.length) rows.push([]);
    }
  }
  return rows;
}

const table = (entries) => {
  const [head, ...rows] = parseCsv(csv(entries).join(""));
  for (const row of rows) assert.equal(row.length, head.length);
  return rows.map((row) => new Map(row.map((field, index) => [head[index], field])));
};

test("a line of JSON has what is known of an event, and its value as it was written", () => {
  const lines = ndjson([
    entry('{"price": 1.50,\n "id": 12345678901234567890}', { id: "AeU", topic: "t", partition: 0, offset: 3 }),
    entry("no JSON\n\"at all", { key: null }),
    entry("null", { type: "delete", key: { base64: "AA==" } }),
    { number: 4, at: 1, type: "gap", value: { from: 1 } },
  ]).join("");
  const [first, second, third, fourth] = lines.trimEnd().split("\n");
  assert.ok(first.endsWith('"value":{"price": 1.50,  "id": 12345678901234567890}}'), first);
  assert.deepEqual(Object.keys(JSON.parse(first)), ["event", "received", "id", "topic", "partition", "offset", "key", "value"]);
  assert.equal(JSON.parse(second).value, 'no JSON\n"at all');
  assert.equal(JSON.parse(second).key, null);
  assert.deepEqual(JSON.parse(third).key, { base64: "AA==" });
  assert.deepEqual(JSON.parse(fourth), { event: "gap", received: "1970-01-01T00:00:00.001Z", value: { from: 1 } });
});

test("a field of CSV is quoted by RFC 4180", () => {
  for (const [value, field] of [
    ["plain", "plain"], ['say "x"', '"say ""x"""'], ["a,b", '"a,b"'], ["a\r\nb", '"a\r\nb"'], ["a;b", '"a;b"'], [" a", '" a"'],
    [1.5, "1.5"], [-3, "-3"], [true, "true"], [null, ""], [undefined, ""], ["", ""],
  ]) assert.equal(csvField(value), field);
});

test("no text is a formula", () => {
  for (const text of ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "=cmd|' /C calc'!A0", "＝1", "-", '="a","b"']) {
    const field = parseCsv(`${csvField(text)}\r\n`)[0][0];
    assert.equal(field, `'${text}`);
  }
});

test("members of values are columns, whatever they are called", () => {
  const rows = table([
    entry('{"a":{"b":1.50,"c.d":"x"},"n":-3,"key":"own"}'),
    entry('{"=cmd":"=1","__proto__":{"x":true},"a":{"b":null}}', { key: "=k" }),
  ]);
  assert.equal(Number(rows[0].get("a.b")), 1.5);
  assert.equal(rows[0].get("a.c\\.d"), "x");
  assert.equal(rows[0].get("n"), "-3");
  assert.equal(rows[0].get("value.key"), "own");
  assert.equal(rows[0].get("key"), "k");
  assert.equal(rows[0].get("'=cmd"), "");
  assert.equal(rows[1].get("'=cmd"), "'=1");
  assert.equal(rows[1].get("__proto__.x"), "true");
  assert.equal(rows[1].get("a.b"), "null");
  assert.equal(rows[1].get("key"), "'=k");
  assert.ok(!rows[0].has("value"));
});

test("what does not fit into columns is whole in a column of its own", () => {
  const wide = JSON.stringify(Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`c${index}`, index])));
  const rows = table([entry("text, with \"quotes\""), entry(wide), entry("[1,[2]]"), entry('{"late":1}'), entry("{}")]);
  assert.equal(rows[0].get("value"), 'text, with "quotes"');
  assert.equal(rows[1].get("value"), wide);
  assert.ok([...rows[0].keys()].length < 220);
  assert.equal(rows[3].get("value"), '{"late":1}');
});

test("events that are no records are not in CSV", () => {
  const rows = table([entry("{}"), { type: "gap", at: 0, value: {} }, entry("null", { type: "delete" })]);
  assert.deepEqual(rows.map((row) => row.get("event")), ["message", "delete"]);
});

test("a file's name says the stream and the time", () => {
  const time = Date.parse("2026-11-29T14:05:06Z");
  assert.equal(fileName("/orders", time, "csv"), "orders-2026-11-29T14-05-06.csv");
  assert.equal(fileName("/users/{id}/../örders", time, "ndjson"), "users-id-..-örders-2026-11-29T14-05-06.ndjson");
  assert.equal(fileName("/", time, "csv"), "events-2026-11-29T14-05-06.csv");
});
