import assert from "node:assert/strict";
import { test } from "node:test";
import { words } from "../../../assets/page/control_words.js";

test("all events and reasons of the documentation have words", () => {
  for (const reason of ["unknown-id", "other-stream", "recreated", "ahead-of-topic", "too-old", "truncated", "reconfigured"]) {
    const { text, tone } = words("reset", { reason, topic: "t" });
    assert.ok(text.includes("Topic t") && !text.includes("-"), text);
    assert.equal(tone, "wait");
  }
  for (const reason of ["shutdown", "slow", "lifetime", "stream-removed", "unauthorized", "unavailable", "overloaded"]) {
    assert.ok(!words("goodbye", { reason }).text.includes("ended the stream:"), reason);
  }
  const gap = words("gap", { topic: "orders", partition: 2, from: 1000, to: 1500, reason: "expired" });
  assert.match(gap.text, /500.records of orders, partition 2 are missing/);
  assert.equal(gap.tone, "bad");
  assert.match(words("caught-up", { reason: "snapshot" }).text, /complete/);
  assert.match(words("reauthenticate", { seconds: 1 }).text, /in 1.second\./);
});

test("later versions and odd data are shown as they are", () => {
  assert.equal(words("weather", { sun: true }).text, 'weather: {"sun":true}');
  for (const data of [null, undefined, "text", 1, [], { reason: "__proto__" }]) {
    for (const type of ["gap", "reset", "goodbye", "conflated", "caught-up", "reauthenticate"]) {
      assert.equal(typeof words(type, data).text, "string");
    }
  }
  assert.match(words("goodbye", { reason: "new-one" }).text, /new-one/);
});
