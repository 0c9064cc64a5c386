// Tables are right through everything that streams say.

import assert from "node:assert/strict";
import test from "node:test";
import { table } from "../../../assets/client/client.js";
import { first, isState, open, refuse, serve } from "./server.mjs";

/** A table of a stream that sends what `send` is given; `until` waits for the event with this text. */
async function follow(context, options = {}) {
  let response;
  const { origin, requests } = await serve(context, (request, to) => {
    open(to, "retry: 5\n");
    response = to;
  });
  const batches = [];
  const texts = new Map();
  let number = 0;
  const loading = isState("loading");
  const rows = table(origin, {
    ...options,
    onChange: (changes) => batches.push(changes),
    onEvent: ({ text }) => texts.get(text)?.(),
    onState: loading.see,
  });
  context.after(() => rows.close());
  await loading.seen;
  const stream = {
    rows: rows.rows,
    table: rows,
    batches,
    requests,
    /** Sends these events, and waits until the table has them, and its changes are said. */
    async send(...events) {
      const last = JSON.stringify({ mark: (number += 1) });
      const arrived = new Promise((done) => texts.set(last, done));
      const block = ([type, data]) => `id: A${(number += 1)}\nevent: ${type}\ndata: ${JSON.stringify(data)}\n\n`;
      response.write(events.map(block).join("") + `id: A${(number += 1)}\nevent: checkpoint\ndata: ${last}\n\n`);
      await arrived;
      const { length } = batches;
      while (batches.length === length && events.length) await new Promise((done) => setTimeout(done, 5));
    },
    end: () => response.end(),
  };
  return stream;
}

test("rows are set, replaced and deleted, and said once per batch", async (context) => {
  const stream = await follow(context, { key: "id" });
  await stream.send(
    ["message", { id: 1, n: 1 }], ["message", { id: "1", n: 2 }], ["message", { id: 1, n: 3 }], ["message", { n: 4 }],
    ["message", { id: null }], ["delete", { id: "unknown" }], ["message", { id: { base64: "AA==" }, n: 5 }], ["message", [1]],
    ["message", { id: "__proto__", n: 6 }],
  );
  const rows = [[1, { id: 1, n: 3 }], ["1", { id: "1", n: 2 }], ['{"base64":"AA=="}', { id: { base64: "AA==" }, n: 5 }],
    ["__proto__", { id: "__proto__", n: 6 }]];
  assert.deepEqual([...stream.rows], rows);
  assert.equal(stream.batches.length, 1);
  assert.deepEqual(stream.batches[0].map(({ type, key, previous }) => [type, key, previous]), [
    ["set", "1", undefined], ["set", 1, undefined], ["set", '{"base64":"AA=="}', undefined], ["set", "__proto__", undefined],
  ]);
  // Several changes of a row are one, from what it was before them.
  await stream.send(["message", { id: 1, n: 7 }], ["delete", { id: "1" }], ["message", { id: 1, n: 8 }]);
  assert.deepEqual(stream.batches[1], [
    { type: "delete", key: "1", value: undefined, previous: { id: "1", n: 2 } },
    { type: "set", key: 1, value: { id: 1, n: 8 }, previous: { id: 1, n: 3 } },
  ]);
});

test("reset clears all rows, or those of its topic", async (context) => {
  const stream = await follow(context, { key: ({ from, id }) => `${from}/${id}`, topic: "from" });
  const row = (from, id) => ["message", { from, id }];
  await stream.send(row("a", 1), row("a", 2), row("b", 1));
  await stream.send(["reset", { reason: "recreated", topic: "a" }], row("a", 3));
  assert.deepEqual([...stream.rows.keys()], ["b/1", "a/3"]);
  assert.deepEqual(stream.batches.at(-1).map(({ type, key }) => [type, key]), [["delete", "a/1"], ["delete", "a/2"], ["set", "a/3"]]);
  await stream.send(row("c", 1), ["reset", { reason: "too-old" }], row("a", 9));
  assert.deepEqual([...stream.rows.keys()], ["a/9"]);
  assert.deepEqual(stream.batches.at(-1).map(({ type, key }) => [type, key]), [["clear", undefined], ["set", "a/9"]]);
  await stream.send(["conflated", { skipped: 3 }], row("a", 9), ["delete", { from: "a", id: 9 }]);
  assert.equal(stream.rows.size, 0);
});

test("reset of a topic clears rows whose topic is not known", async (context) => {
  const stream = await follow(context);
  await stream.send(["message", { key: 1, topic: "weather" }], ["message", { key: 2 }]);
  await stream.send(["reset", { reason: "recreated", topic: "orders" }]);
  assert.equal(stream.rows.size, 0);
});

test("rows of envelopes have their keys, values and topics", async (context) => {
  const stream = await follow(context);
  const envelope = (topic, key, value) => [value === null ? "delete" : "message",
    { topic, partition: 0, offset: 1, key, value, encoding: value === null ? "tombstone" : "json" }];
  await stream.send(envelope("a", "x", { n: 1 }), envelope("b", "y", [2]), envelope("a", "z", "text"));
  assert.deepEqual([...stream.rows], [["x", { n: 1 }], ["y", [2]], ["z", "text"]]);
  await stream.send(envelope("a", "z", null), ["reset", { reason: "recreated", topic: "a" }]);
  assert.deepEqual([...stream.rows.keys()], ["y"]);
});

test("a value is what the application makes of a record", async (context) => {
  const stream = await follow(context, { key: "id", value: ({ n }) => n * 2 });
  await stream.send(["message", { id: 1, n: 1 }], ["message", { id: 2, n: 2 }]);
  assert.deepEqual([...stream.rows], [[1, 2], [2, 4]]);
});

test("rows survive a lost connection", async (context) => {
  const stream = await follow(context);
  await stream.send(["message", { key: 1 }]);
  stream.end();
  while (stream.requests.length < 2) await new Promise((done) => setTimeout(done, 5));
  assert.match(stream.requests[1].id, /^A/);
  await stream.send(["message", { key: 2 }]);
  assert.deepEqual([...stream.rows.keys()], [1, 2]);
});

test("rows of another login are forgotten", async (context) => {
  let count = 0;
  const { origin, requests } = await serve(context, (request, response) => {
    const says = [
      'retry: 5\nid: A1\ndata: {"key":1}\n\nid: A1\nevent: goodbye\ndata: {"reason":"unauthorized"}\n\n',
      'id: A2\ndata: {"key":2}\n\nid: A3\nevent: caught-up\ndata: {}\n\n',
      null,
      'id: A4\ndata: {"key":3}\n\nid: A5\nevent: caught-up\ndata: {}\n\n',
    ][count++];
    if (!says) return refuse(response, 401, { error: { code: "unauthorized", message: "who?" } });
    open(response, says);
    if (count === 2) setTimeout(() => response.destroy(), 20);
  });
  const refused = isState("refused");
  const back = first(({ lastEventId }) => lastEventId === "A5");
  const sizes = [];
  const rows = table(origin, {
    onState(status) {
      sizes.push([status.state, [...rows.rows.keys()].join()]);
      refused.see(status);
    },
    onEvent: back.see,
  });
  await refused.seen;
  rows.retry();
  await back.seen;
  assert.deepEqual([...rows.rows.keys()], [3]);
  rows.close();
  assert.deepEqual(requests.map(({ id }) => id), ["", "", "A3", ""]);
  assert.deepEqual(sizes.find(([state]) => state === "live"), ["live", "2"]);
  assert.deepEqual(sizes.find(([state]) => state === "refused"), ["refused", ""]);
});
