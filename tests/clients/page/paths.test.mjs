// Paths are read as the server's filters read them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatPath, member, parsePath, readPath, readRow } from "../../../assets/page/paths.js";

test("a path is written as it was read", () => {
  for (const names of [["a"], ["a", "b"], ["a.b", "c"], ["a\\", "b"], ["", "x"], ["__proto__"], ["é", "0"]]) {
    assert.deepEqual(parsePath(formatPath(names)), names);
  }
  assert.deepEqual(parsePath("log\\.level"), ["log.level"]);
});

test("a member with the rest of the path as its name comes first, if it is a scalar", () => {
  const read = readPath("log.level");
  assert.equal(read({ "log.level": "error" }), "error");
  assert.equal(read({ log: { level: "warn" } }), "warn");
  assert.equal(read({ "log.level": "error", log: { level: "warn" } }), "error");
  assert.equal(read({ "log.level": {}, log: { level: "warn" } }), "warn");
  assert.equal(readPath("log\\.level")({ log: { level: "warn" } }), undefined);
  assert.equal(readPath("a.b.c")({ a: { "b.c": 1 } }), 1);
  assert.equal(readPath("tags.1")({ tags: ["x", "y"] }), "y");
  assert.equal(readPath("tags.01x")({ tags: ["x", "y"] }), undefined);
});

test("only own members are found", () => {
  for (const name of ["__proto__", "constructor", "toString", "length"]) assert.equal(member({}, name), undefined);
  assert.equal(member([], "length"), undefined);
  assert.equal(member("text", "length"), undefined);
  assert.equal(member(null, "x"), undefined);
  assert.equal(member(JSON.parse("{\"__proto__\":1}"), "__proto__"), 1);
});

test("names of a record's parts do not hide members", () => {
  const row = { key: "k", topic: "t", value: { "@key": 5 } };
  const read = (path) => readRow(readPath(path), path)(row);
  assert.deepEqual(["@key", "@topic", "@offset", "key"].map(read), [5, "t", undefined, undefined]);
});
