import assert from "node:assert/strict";
import { test } from "node:test";
import { explain } from "../../../assets/page/problems.js";

test("problems are said in words, with whom they concern and what to do", () => {
  const missing = explain("kafka: topic \"orders\" does not exist");
  assert.deepEqual([missing.title, missing.text, missing.topic, missing.outdated], ["Topic orders does not exist", null, "orders", false]);
  assert.match(missing.remedy, /Create it/);
  const away = explain("kafka 127.0.0.1:9092: connection refused");
  assert.deepEqual([away.title, away.text, away.outdated, away.topic, away.stream], ["Kafka cannot be reached", "127.0.0.1:9092: connection refused", true, null, null]);
  const leaderless = explain("kafka: topic \"orders\": no leader answers for partitions [0, 2]");
  assert.deepEqual([leaderless.topic, leaderless.outdated], ["orders", true]);
  const full = explain("stream /users/{id}: its table is full (max_table_bytes)");
  assert.deepEqual([full.stream, full.outdated], ["/users/{id}", false]);
  assert.equal(explain("stream /a: does not keep up with its topics, its clients are late").outdated, true);
  assert.equal(explain("schema registry: connection refused; it has failed for 3s, and records with schema 7 wait").outdated, true);
});

test("what is not known is shown as it is", () => {
  for (const text of ["something new", "", "constructor", "kafka:"]) assert.equal(explain(text).text, text);
});
