// session.js with a client library that the test plays, and a document that is two members.
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

const directory = mkdtempSync(join(tmpdir(), "session-"));
after(() => rmSync(directory, { recursive: true }));
cpSync(fileURLToPath(new URL("../../../assets/page", import.meta.url)), join(directory, "page"), { recursive: true });
writeFileSync(join(directory, "package.json"), "{\"type\":\"module\"}");
writeFileSync(join(directory, "client.js"), "export const follow = (url, options) => globalThis.follow(url, options);");

const frames = [];
const visible = new Set();
globalThis.document = {
  hidden: false,
  baseURI: "http://127.0.0.1:3000/live/",
  addEventListener: (_, run) => visible.add(run),
  removeEventListener: (_, run) => visible.delete(run),
};
globalThis.requestAnimationFrame = (run) => frames.push(run);
globalThis.cancelAnimationFrame = () => frames.splice(0);
const frame = () => frames.splice(0).forEach((run) => run());

const { keyTextOf, openSession } = await import(pathToFileURL(join(directory, "page/session.js")));

// A session, and what plays its server.
function open(t, entry, options) {
  const played = [];
  globalThis.follow = (url, given) => {
    const follow = { url, ...given, closed: false, forgot: 0, close() { follow.closed = true; }, forget() { follow.forgot += 1; } };
    played.push(follow);
    return follow;
  };
  const session = openSession({ path: "/orders", topics: [{ topic: "orders" }], ...entry }, options);
  t.after(() => session.close());
  const send = (type, data, id = "") => played.at(-1).onEvent({ type, data, text: JSON.stringify(data), lastEventId: id });
  return { session, played, send, state: (status) => played.at(-1).onState(status) };
}

const KEYED = { format: "value", key_field: "order", keeps_table: true };

test("rows are the newest values of all keys, with what they were before", (t) => {
  const { session, send, played } = open(t, KEYED);
  assert.equal(played[0].url, "http://127.0.0.1:3000/live/orders");
  assert.equal(played[0].start, "snapshot");
  send("message", { order: "17", total: 1 }, "a");
  send("message", { order: "18", total: 2 });
  send("message", { order: "17", total: 3 }, "b");
  const row = session.rows.get("17");
  assert.deepEqual([row.value, row.previous, row.id, row.topic], [{ order: "17", total: 3 }, { order: "17", total: 1 }, "b", "orders"]);
  assert.equal(row, session.log.get(2));
  assert.equal(row.order > session.rows.get("18").order, true);
  send("delete", { order: "17" });
  assert.deepEqual([...session.rows.keys()], ["18"]);
  assert.deepEqual([...session.log].map(({ type, keyText }) => [type, keyText]), [["message", "17"], ["message", "18"], ["message", "17"], ["delete", "17"]]);
  assert.deepEqual(session.log.get(3).previous, { order: "17", total: 3 });
  assert.equal(session.status.total, 4);
});

test("an envelope's key, value and place are taken out of it", (t) => {
  const { session, send } = open(t, { format: "envelope", topics: [{ topic: "a" }, { topic: "b" }] });
  const record = { topic: "a", partition: 3, offset: 9, timestamp: 1, key: "k", headers: { h: "x" }, value: { v: 1.5 }, encoding: "json" };
  send("message", record);
  send("message", { ...record, topic: "b" });
  assert.equal(session.rows.size, 2, "a key is that of a topic");
  const [row] = session.rows.values();
  assert.deepEqual([row.value, row.partition, row.offset, row.timestamp, row.headers, row.text], [{ v: 1.5 }, 3, 9, 1, { h: "x" }, "{\"v\":1.5}"]);
  send("delete", { ...record, value: null, encoding: "tombstone" });
  assert.deepEqual([...session.rows.values()].map(({ topic }) => topic), ["b"]);
  send("message", { ...record, key: null });
  assert.equal(session.rows.size, 1, "a record without a key is no row");
});

test("keys that differ are told apart", () => {
  assert.equal(keyTextOf("17"), "17");
  assert.notEqual(keyTextOf("17", false), keyTextOf(17, false));
  assert.notEqual(keyTextOf("null", false), keyTextOf(null, false));
  assert.notEqual(keyTextOf({ base64: "AA==" }), keyTextOf("{\"base64\":\"AA==\"}"));
  assert.equal(keyTextOf("{\"id\":1}"), "{\"id\":1}");
});

test("hostile members are members", (t) => {
  const { session, send } = open(t, KEYED);
  for (const key of ["__proto__", "constructor", "toString"]) send("message", { order: key });
  assert.deepEqual([...session.rows.keys()], ["__proto__", "constructor", "toString"]);
  send("message", JSON.parse("{\"__proto__\":{\"order\":\"x\"}}"));
  assert.equal(session.rows.size, 3, "an inherited member is no key");
  const own = open(t, { ...KEYED, key_field: "__proto__" });
  own.send("message", JSON.parse("{\"__proto__\":\"k\"}"));
  assert.deepEqual([...own.session.rows.keys()], ["k"]);
});

test("views are called once per frame, with all that changed", (t) => {
  const { session, send } = open(t, KEYED);
  const changes = [];
  session.subscribe((change) => changes.push(change));
  for (let index = 0; index < 1000; index += 1) send("message", { order: String(index % 10) });
  send("delete", { order: "3" });
  assert.equal(changes.length, 0);
  frame();
  assert.equal(changes.length, 1);
  assert.deepEqual([changes[0].changed.size, [...changes[0].removed], changes[0].entries.length], [9, ["3"], 1001]);
  send("message", { order: "3" });
  frame();
  assert.deepEqual([[...changes[1].changed], changes[1].removed.size, changes[1].entries.length], [["3"], 0, 1]);
});

test("while nobody looks nothing is called, and nothing is lost", (t) => {
  const { session, send } = open(t, KEYED);
  const changes = [];
  session.subscribe((change) => changes.push(change));
  frame();
  document.hidden = true;
  for (let index = 0; index < 5000; index += 1) send("message", { order: String(index) });
  assert.equal(frames.length, 0);
  document.hidden = false;
  for (const run of visible) run();
  frame();
  assert.equal(changes.at(-1).changed.size, 5000);
  assert.equal(changes.at(-1).entries.length, 2000, "as many as the log holds");
});

test("the log is bounded in entries and in text", (t) => {
  const { session, send } = open(t, { format: "value", key_field: null });
  for (let index = 0; index < 2500; index += 1) send("message", { index });
  assert.deepEqual([session.log.size, session.log.first, session.log.next], [2000, 500, 2500]);
  const large = "x".repeat(1 << 20);
  for (let index = 0; index < 100; index += 1) send("message", { large });
  assert.equal(session.log.size, 31);
});

test("rows of a stream without a table are bounded, the oldest goes", (t) => {
  const { session, send } = open(t, { ...KEYED, keeps_table: false });
  for (let index = 0; index < 10_000; index += 1) send("message", { order: String(index) });
  send("message", { order: "0" });
  send("message", { order: "new" });
  assert.equal(session.rows.size, 10_000);
  assert.deepEqual([session.rows.has("0"), session.rows.has("1")], [true, false]);
});

test("what is derived from rows is kept up", (t) => {
  const { session, send } = open(t, KEYED);
  send("message", { order: "1" });
  const seen = [];
  session.observe({ add: (row) => seen.push(`+${row.keyText}`), remove: (row) => seen.push(`-${row.keyText}`), clear: () => seen.push("0") });
  send("message", { order: "1" });
  send("message", { order: "2" });
  send("delete", { order: "1" });
  send("reset", { reason: "too-old" });
  assert.deepEqual(seen, ["+1", "-1", "+1", "+2", "-1", "0"]);
});

test("a reset of one topic takes its rows alone", (t) => {
  const { session, send, played } = open(t, { ...KEYED, topic_field: "from", topics: [{ topic: "a" }, { topic: "b" }] });
  send("message", { order: "1", from: "a" });
  send("message", { order: "1", from: "b" });
  send("reset", { reason: "recreated", topic: "a" });
  assert.deepEqual([...session.rows.values()].map(({ topic }) => topic), ["b"]);
  assert.equal(played.length, 1);
  assert.match(session.status.notes[0].text, /^Topic a: .* created anew/);
});

test("where rows do not say their topic, a reset of one begins anew", (t, done) => {
  const { send, played } = open(t, { ...KEYED, topics: [{ topic: "a" }, { topic: "b" }] });
  send("message", { order: "1" });
  send("reset", { reason: "recreated", topic: "a" });
  setTimeout(() => {
    assert.deepEqual([played.length, played[0].closed], [2, true]);
    done();
  }, 20);
});

test("states say what the page can promise", (t) => {
  const { session, state, send } = open(t, KEYED);
  assert.equal(session.status.state, "connecting");
  state({ state: "loading", resumed: false });
  session.hear({ percent: 42 });
  assert.deepEqual([session.status.state, session.status.percent], ["loading", 42]);
  send("message", { order: "1" });
  state({ state: "live" });
  assert.equal(session.status.state, "live");
  session.hear({ problems: ["Kafka cannot be reached."] });
  assert.equal(session.status.state, "stale");
  assert.ok(session.status.staleSince > 0);
  session.hear({ problems: [] });
  assert.deepEqual([session.status.state, session.status.staleSince], ["live", null]);
  state({ state: "reconnecting", at: Date.now() + 3000, reason: "lost" });
  assert.equal(session.status.state, "reconnecting");
  assert.equal(session.rows.size, 1, "rows stay");
  state({ state: "loading", resumed: true });
  assert.deepEqual([session.status.state, session.rows.size], ["catching-up", 1]);
  state({ state: "reconnecting", at: 0, reason: "shutdown" });
  assert.equal(session.status.state, "draining");
  state({ state: "loading", resumed: false });
  assert.equal(session.rows.size, 0, "without a position everything comes anew");
  state({ state: "refused", status: 401, code: "unauthorized", message: "no token", accepts: ["bearer"] });
  assert.equal(session.status.state, "unauthorised");
  assert.match(session.curl, /-H "Authorization: Bearer \$TOKEN"/);
  state({ state: "refused", status: 404, code: "not_found", message: "nothing here" });
  assert.equal(session.status.state, "refused");
});

test("what was written before it is live is neither new nor a rate", (t) => {
  t.mock.timers.enable({ apis: ["setInterval", "Date"], now: 1_000_000 });
  let passed = 5_000;
  t.mock.method(performance, "now", () => passed);
  const { session, send, state } = open(t, { ...KEYED, timestamp_field: "ts" });
  const isNew = (key) => session.rows.get(key).number >= session.liveFrom;
  const second = () => {
    passed += 1_000;
    t.mock.timers.tick(1_000);
  };
  state({ state: "loading", resumed: false });
  for (let index = 0; index < 500; index += 1) send("message", { order: String(index), ts: 1 });
  send("caught-up", { reason: "snapshot" });
  state({ state: "live" });
  second();
  assert.deepEqual([session.status.eventsPerSecond, session.status.latency, isNew("499")], [0, null, false]);
  for (let index = 0; index < 5; index += 1) send("message", { order: "1", ts: Date.now() - 20 });
  send("checkpoint", {});
  second();
  assert.deepEqual([session.status.eventsPerSecond, session.status.latency, isNew("1"), isNew("2")], [2.5, 20, true, false]);
  // A clock that is set back makes nothing older than it is.
  t.mock.timers.setTime(1_000);
  send("message", { order: "2", ts: 1 });
  assert.equal(isNew("2"), true);
  state({ state: "loading", resumed: false });
  send("message", { order: "3", ts: 1 });
  assert.equal(isNew("3"), false, "all of it comes anew");
});

test("a login that ends takes its rows along, and the next one begins anew", (t) => {
  const { session, send, state, played } = open(t, KEYED);
  state({ state: "live" });
  send("message", { order: "1" }, "position");
  send("goodbye", { reason: "unauthorized" });
  assert.deepEqual([session.rows.size, session.log.size, played[0].forgot], [0, 1, 1]);
  state({ state: "loading", resumed: false });
  send("message", { order: "2" });
  state({ state: "refused", status: 401, code: "unauthorized", message: "" });
  assert.deepEqual([session.rows.size, session.log.size, played[0].forgot], [0, 0, 2]);
  state({ state: "refused", status: 403, code: "filters_forbidden", message: "" });
  assert.equal(session.status.state, "refused", "no login would help");
});

test("what comes from a connection before does not count", (t) => {
  const { session, played } = open(t, KEYED);
  session.setFilters({ key: ["1"] });
  assert.equal(played[0].closed, true);
  played[0].onEvent({ type: "message", data: { order: "late" }, text: "", lastEventId: "" });
  played[0].onState({ state: "live" });
  assert.deepEqual([session.rows.size, session.status.state], [0, "connecting"]);
});

test("another token begins anew, and goes into a header alone", (t) => {
  assert.equal(open(t, KEYED).played[0].share, false, "the other tabs may be another client's");
  const { session, send, played } = open(t, { ...KEYED, public: true });
  assert.deepEqual([played[0].share, played[0].headers], [true, undefined]);
  send("message", { order: "1" });
  session.useToken("secret");
  assert.equal(session.rows.size, 0);
  assert.deepEqual([played[0].closed, played[1].headers, played[1].share], [true, { Authorization: "Bearer secret" }, undefined]);
  assert.ok(!session.url.href.includes("secret") && !session.curl.includes("secret"));
});

test("filters and the start are in the URL that is shown", (t) => {
  const { session, played } = open(t, KEYED, { path: "/users/a%20b", filters: { "value.city": ["Paris", "Rome"] }, from: { since: "15m" } });
  assert.equal(session.url.href, "http://127.0.0.1:3000/live/users/a%20b?value.city=Paris&value.city=Rome&since=15m");
  assert.deepEqual([played[0].filters, played[0].since, played[0].start], [{ "value.city": ["Paris", "Rome"] }, "15m", undefined]);
  assert.ok(session.curl.startsWith("curl -N 'http://"));
});

test("a view that fails does not stop the others", (t) => {
  t.mock.method(console, "error", () => {});
  const { session, send } = open(t, KEYED);
  let calls = 0;
  session.subscribe(() => { throw new Error("broken"); });
  session.subscribe(() => { calls += 1; });
  frame();
  calls = 0;
  send("message", { order: "1" });
  frame();
  assert.equal(calls, 1);
});
