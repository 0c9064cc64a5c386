// What `follow` does with a server that is not as it should be.

import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import test from "node:test";
import { follow } from "../../../assets/client/client.js";
import { first, isState, isType, open, refuse, serve } from "./server.mjs";

// Lines of every kind, rows without an id of their own, control events with the id before them.
const EVENTS = [
  [`id: A1\ndata: {"row":1}`, "message", '{"row":1}', "A1"],
  [`data: {"row":2}`, "message", '{"row":2}', "A1"],
  [`data: {"row":3,\ndata: "of": "two lines"}`, "message", '{"row":3,\n"of": "two lines"}', "A1"],
  [`id: A2\nevent: update\ndata: Zürich, 日本語, 👩‍🚀`, "message", "Zürich, 日本語, 👩‍🚀", "A2"],
  [`event: delete\ndata: {"key":"4"}`, "delete", '{"key":"4"}', "A2"],
  [`id: A3\nevent: caught-up\ndata: {"reason":"snapshot"}`, "caught-up", '{"reason":"snapshot"}', "A3"],
  [`id: A3\nevent: heartbeat\ndata: {"time":"2026-11-29T00:00:00.000Z"}`, "heartbeat", '{"time":"2026-11-29T00:00:00.000Z"}', "A3"],
  [`id: A4\ndata:`, "message", "", "A4"],
  [`id: A5\ndata: data: id: forged\ndata:\ndata:  `, "message", "data: id: forged\n\n ", "A5"],
  [`id: A6\nevent: update\ndata: last`, "message", "last", "A6"],
];
const HEAD = "retry: 5\n: kafka-sse-bridge\n";
// A keepalive between any two.
const BODY = EVENTS.map(([block]) => `${block}\n\n:\n`);
const EXPECTED = EVENTS.map(([, type, text, id]) => [type, text, id]);

/** What a daemon sends to a client with this id. */
function after(id) {
  const from = EVENTS.findIndex(([block]) => id && block.startsWith(`id: ${id}\n`));
  return HEAD + BODY.slice(from + 1).join("");
}

test("connections that are cut at any byte lose and double no event", async (context) => {
  const whole = Buffer.from(after(""));
  const again = new Map(); // cut -> the id of the second request
  const { origin } = await serve(context, (request, response) => {
    const cut = Number(request.url.slice(1));
    const id = request.headers["last-event-id"] ?? "";
    if (again.has(cut)) again.set(cut, id);
    const bytes = Buffer.from(after(id));
    open(response);
    if (again.has(cut)) return response.write(bytes);
    again.set(cut, undefined);
    response.write(bytes.subarray(0, cut), () => response.destroy());
  });
  const cuts = Array.from({ length: whole.length + 1 }, (_, cut) => cut);
  await Promise.all(cuts.map(async (cut) => {
    const seen = [];
    const stream = follow(`${origin}/${cut}`, {
      event: "update",
      onEvent: ({ type, text, lastEventId }) => seen.push([type, text, lastEventId]),
    });
    const hasAll = () => seen.some(([, , id]) => id === "A6") && again.get(cut) !== undefined;
    while (!hasAll() || stream.state.state === "reconnecting") await new Promise((done) => setTimeout(done, 10));
    stream.close();
    // Control events are of their connections.
    const isRecord = ([type]) => type === "message" || type === "delete";
    assert.deepEqual(seen.filter(isRecord), EXPECTED.filter(isRecord), `cut at ${cut}`);
  }));
});

test("an event that comes in any two parts is one event", async (context) => {
  const { origin } = await serve(context, (request, response) => {
    const bytes = Buffer.from(after("").replaceAll("\n", request.url.startsWith("/crlf") ? "\r\n" : "\n"));
    const cut = Number(request.url.split("/")[2]);
    open(response, bytes.subarray(0, cut));
    setTimeout(() => response.write(bytes.subarray(cut)), 5);
  });
  await Promise.all(["lf", "crlf"].flatMap((ends) => Array.from({ length: 240 }, async (_, cut) => {
    const seen = [];
    const all = first(({ text }) => text === "last");
    const stream = follow(`${origin}/${ends}/${cut + 1}`, {
      event: "update",
      onEvent(event) {
        seen.push([event.type, event.text, event.lastEventId]);
        all.see(event);
      },
    });
    await all.seen;
    stream.close();
    assert.deepEqual(seen, EXPECTED, `${ends}, ${cut}`);
  })));
});

test("answers that are no stream are survived, and said", async (context) => {
  const answers = [
    (response) => refuse(response, 502, "<h1>Bad Gateway</h1>"),
    (response) => response.destroy(),
    (response) => refuse(response, 503, { error: { code: "too_many_clients", message: "full" } }),
    (response) => refuse(response, 429, "slow down", { "retry-after": "0" }),
    (response) => open(response, after("")),
  ];
  const { origin } = await serve(context, (request, response, count) => answers[Math.max(0, count - 2)](response));
  // The first answer sets the reconnect time.
  answers.unshift((response) => {
    open(response, "retry: 1\n:\n");
    response.end();
  });
  answers.splice(1, 0, answers[0]);
  const states = [];
  const caught = isType("caught-up");
  const stream = follow(origin, { event: "update", onState: (state) => states.push(state), onEvent: caught.see });
  await caught.seen;
  stream.close();
  const told = states.filter(({ reason }) => reason === "refused").map(({ status, code, message }) => [status, code, message]);
  assert.deepEqual(told, [
    [502, "", "The server answers 502 without a stream."],
    [503, "too_many_clients", "full"],
    [429, "", "The server answers 429 without a stream."],
  ]);
  for (const { state, at, attempt } of states) {
    if (state !== "reconnecting") continue;
    assert.ok(Number.isInteger(at) && attempt > 0);
  }
  assert.deepEqual(states.at(-1), { state: "closed" });
});

test("a server that is silent is left", async (context) => {
  const { origin, requests } = await serve(context, (request, response, count) => {
    // No answer at all, then a stream without keepalives, then one with them.
    if (count === 1) return;
    open(response, `retry: 5\n${BODY[0]}`);
    if (count === 2) return;
    const beat = setInterval(() => response.write(":\n"), 20);
    response.on("close", () => clearInterval(beat));
  });
  const reasons = [];
  const stream = follow(origin, { silence: 150, onState: ({ reason }) => reason && reasons.push(reason) });
  while (requests.length < 3) await new Promise((done) => setTimeout(done, 10));
  const { length } = requests;
  // Four times as long as silence lasts: keepalives are signs of life.
  await new Promise((done) => setTimeout(done, 600));
  assert.equal(requests.length, length);
  assert.deepEqual(reasons, ["silent", "silent"]);
  assert.equal(requests[2].id, "A1");
  stream.close();
});

test("clocks that jump change nothing", async (context) => {
  const { origin, requests } = await serve(context, (request, response) => {
    open(response, `retry: 5\n`);
    let number = 0;
    const beat = setInterval(() => response.write(`id: B${(number += 1)}\ndata: ${number}\n\n`), 10);
    response.on("close", () => clearInterval(beat));
  });
  const { now } = Date;
  const { now: performanceNow } = performance;
  context.after(() => {
    Date.now = now;
    performance.now = performanceNow;
  });
  const numbers = [];
  const enough = first(({ data }) => data === 60);
  const stream = follow(origin, {
    silence: 300,
    onEvent(event) {
      const jump = (Math.random() - 0.5) * 1e12;
      Date.now = () => now() + jump;
      performance.now = () => performanceNow.call(performance) + jump;
      numbers.push(event.data);
      enough.see(event);
    },
  });
  await enough.seen;
  stream.close();
  assert.equal(requests.length, 1);
  assert.deepEqual(numbers, Array.from({ length: 60 }, (_, index) => index + 1));
});

test("a refusal is final until it is tried again", async (context) => {
  let isOpen = false;
  const { origin, requests } = await serve(context, (request, response) => {
    if (isOpen) return open(response, after(request.headers["last-event-id"]));
    const [, status] = request.url.split("/").map(Number);
    if (status === 302) return refuse(response, 302, "", { location: "/login" });
    if (status === 200) return refuse(response, 200, "<form>");
    if (status === 401) return refuse(response, 401, "no", { "www-authenticate": "Bearer" });
    refuse(response, status, { error: { code: "forbidden", message: "not for you", accepts: ["cookie"] } });
  });
  for (const [status, code, accepts] of [
    [401, "", ["bearer"]], [403, "forbidden", ["cookie"]], [404, "forbidden", ["cookie"]], [400, "forbidden", ["cookie"]],
    [302, "redirected", []], [200, "", []],
  ]) {
    isOpen = false;
    const before = requests.length;
    const refused = isState("refused");
    const live = isState("live");
    const stream = follow(`${origin}/${status}`, {
      onState(state) {
        refused.see(state);
        live.see(state);
      },
    });
    const said = await refused.seen;
    assert.deepEqual([said.status, said.code, said.accepts], [status, code, accepts]);
    assert.ok(said.message);
    assert.equal(requests.length, before + 1);
    isOpen = true;
    stream.retry();
    await live.seen;
    stream.close();
    // Closed for good.
    stream.retry();
    assert.deepEqual(stream.state, { state: "closed" });
    assert.equal(requests.length, before + 2);
  }
  isOpen = false;
  await assert.rejects(async () => {
    for await (const event of follow(`${origin}/403`)) assert.fail(event.type);
  }, { code: "forbidden", status: 403, message: "not for you" });
});

test("an answer that never ends is no stream either", async (context) => {
  const { origin } = await serve(context, (request, response) => {
    response.writeHead(Number(request.url.slice(1)), { "content-type": "text/html" });
    response.write("<h1>");
  });
  for (const [status, state] of [[200, "refused"], [404, "refused"], [502, "reconnecting"]]) {
    const said = isState(state);
    const stream = follow(`${origin}/${status}`, { onState: said.see });
    assert.equal((await said.seen).status, status);
    stream.close();
  }
});

test("a server may ask for any pause", async (context) => {
  const delays = [];
  for (const name of ["setTimeout", "setInterval"]) {
    const original = globalThis[name];
    context.mock.method(globalThis, name, (run, delay, ...more) => {
      delays.push(delay);
      return original(run, delay, ...more);
    });
  }
  const { origin } = await serve(context, (request, response) => {
    const [, kind] = request.url.split("/");
    if (kind === "seconds") return refuse(response, 503, "later", { "retry-after": String(30 * 86_400) });
    // By the server's clock, which is an hour ahead.
    const now = Math.floor(Date.now() / 1000) * 1000 + 3_600_000;
    const date = (at) => new Date(at).toUTCString();
    if (kind === "date") return refuse(response, 429, "later", { date: date(now), "retry-after": date(now + 20_000) });
    if (kind === "past") return refuse(response, 429, "now", { date: date(now), "retry-after": date(now - 20_000) });
    open(response, `retry: ${decodeURIComponent(kind)}\n`);
    response.end();
  });
  const pauses = {};
  for (const kind of ["seconds", "date", "past", "99999999999", "-5000", "1e9", "0x10"]) {
    const said = isState("reconnecting");
    const stream = follow(`${origin}/${kind}`, { onState: said.see, silence: Infinity });
    pauses[kind] = (await said.seen).at - Date.now();
    stream.close();
  }
  // Longer ones would end at once.
  assert.ok(delays.length >= 14 && delays.every((delay) => delay === undefined || (delay > 0 && delay < 2 ** 31)), `${delays}`);
  assert.ok(pauses.seconds > 20 * 86_400_000);
  assert.ok(pauses[99_999_999_999] > 20 * 86_400_000);
  assert.ok(Math.abs(pauses.date - 20_000) < 500, `${pauses.date}`);
  for (const kind of ["past", "-5000", "1e9", "0x10"]) assert.ok(pauses[kind] > 1_000 && pauses[kind] <= 2_500, `${kind}: ${pauses[kind]}`);
});

test("whatever an application throws for its headers is survived", async (context) => {
  const { origin } = await serve(context, (request, response) => open(response, after("")));
  const fails = [() => Promise.reject(), () => Promise.reject(null), () => { throw "no token"; }, () => { throw new Error("no token"); }];
  for (const headers of fails) {
    const lost = isState("reconnecting");
    const stream = follow(origin, { headers, onState: lost.see });
    assert.equal((await lost.seen).reason, "lost");
    stream.close();
  }
});

test("goodbye is said with its reason, and its reconnect time is kept", async (context) => {
  const { origin, requests } = await serve(context, (request, response, count) => {
    if (count > 1) return open(response, after("A1"));
    // A row without an id of its own, and a goodbye that does not count it: it comes again.
    open(response, `${HEAD}${BODY[0]}${BODY[1]}retry: 300\nid: A1\nevent: goodbye\ndata: {"reason":"slow"}\n\n`);
    response.end();
  });
  const caught = isType("caught-up");
  const seen = [];
  let goodbye;
  const stream = follow(origin, {
    event: "update",
    onEvent(event) {
      seen.push(event.text);
      caught.see(event);
    },
    onState: (status) => (goodbye ??= status.reason && { ...status, after: status.at - Date.now() }),
  });
  await caught.seen;
  stream.close();
  assert.equal(goodbye.reason, "slow");
  assert.ok(goodbye.after > 250 && goodbye.after <= 300, `${goodbye.after}`);
  assert.equal(requests[1].id, "A1");
  assert.deepEqual(seen.slice(0, 7), ['{"row":1}', '{"reason":"slow"}', ...EVENTS.slice(1, 6).map(([, , text]) => text)]);
});

test("after close, abort and leaving the loop nothing is handed on", async (context) => {
  const { origin, requests } = await serve(context, (request, response) => open(response, after("")));
  const abort = new AbortController();
  for (const [options, close] of [[{}, (stream) => stream.close()], [{ signal: abort.signal }, () => abort.abort()]]) {
    const seen = [];
    const closed = isState("closed");
    const stream = follow(origin, {
      ...options,
      onEvent(event) {
        seen.push(event.lastEventId);
        if (event.lastEventId === "A2") close(stream);
      },
      onState: closed.see,
    });
    await closed.seen;
    // The next event of the same chunk was not handed on.
    assert.deepEqual(seen, ["A1", "A1", "A1", "A2"]);
    assert.equal(stream.lastEventId, "A2");
  }
  let stream;
  for await (const event of (stream = follow(origin))) if (event.lastEventId === "A3") break;
  assert.deepEqual(stream.state, { state: "closed" });
  const { length } = requests;
  assert.deepEqual(follow(origin, { signal: AbortSignal.abort() }).state, { state: "closed" });
  // A request of any kind would have come before this one.
  await (await fetch(origin)).body.cancel();
  assert.equal(requests.length, length + 1);
});

test("a refusal that repeats is said again", async (context) => {
  const { origin } = await serve(context, (request, response) => refuse(response, 401, { error: { code: "invalid_token", message: "no" } }));
  const states = [];
  await new Promise((done) => {
    const stream = follow(origin, {
      onState({ state }) {
        states.push(state);
        if (state !== "refused") return;
        if (states.length < 4) stream.retry();
        else done(stream.close());
      },
    });
  });
  assert.deepEqual(states, ["refused", "connecting", "refused", "connecting", "refused", "closed"]);
});

test("an iterator ends at once, also while it waits for an event", async (context) => {
  const { origin } = await serve(context, (request, response) => open(response));
  const waiting = follow(origin);
  const iterator = waiting[Symbol.asyncIterator]();
  const next = iterator.next();
  assert.deepEqual(await iterator.return("over"), { value: "over", done: true });
  assert.equal((await next).done, true);
  assert.deepEqual(waiting.state, { state: "closed" });
  const unused = follow(origin);
  await unused[Symbol.asyncIterator]().return();
  assert.deepEqual(unused.state, { state: "closed" });
});

test("events that are asked for at once come in their order", async (context) => {
  const { origin } = await serve(context, (request, response) => open(response, after("")));
  const stream = follow(origin, { event: "update" });
  const [one, other] = [stream[Symbol.asyncIterator](), stream[Symbol.asyncIterator]()];
  const results = await Promise.all([one.next(), one.next(), other.next(), one.next()]);
  assert.deepEqual(results.map(({ value }) => value.text), EXPECTED.slice(0, 4).map(([, text]) => text));
  stream.close();
  assert.equal((await other.next()).done, true);
});

test("an aborted signal has nothing opened, and a closed stream leaves it", async (context) => {
  const { origin } = await serve(context, (request, response) => open(response));
  const headers = () => assert.fail("asked for");
  assert.deepEqual(follow(origin, { signal: AbortSignal.abort(), headers }).state, { state: "closed" });
  const { signal } = new AbortController();
  for (let count = 0; count < 3; count += 1) follow(origin, { signal }).close();
  assert.equal(getEventListeners(signal, "abort").length, 0);
});

test("filters, positions and headers are sent", async (context) => {
  const { origin, requests } = await serve(context, (request, response) => open(response, after("A1")));
  const live = isState("live");
  let calls = 0;
  const stream = follow(new URL(`${origin}/orders?format=events`), {
    filters: { key: 17, "value.city": ["Paris", "Rome & Milan"], "value.paid": true, "value.note": null, partition: undefined },
    lastEventId: "A1",
    start: "earliest",
    throttle: "1s",
    headers: async () => ({ Authorization: `Bearer ${(calls += 1)}` }),
    onState: live.see,
  });
  await live.seen;
  stream.close();
  const [{ url, id, headers }] = requests;
  assert.equal(url, "/orders?format=events&key=17&value.city=Paris&value.city=Rome+%26+Milan&value.paid=true&value.note=null" +
    "&start=earliest&throttle=1s");
  assert.deepEqual([id, headers.authorization, headers.accept], ["A1", "Bearer 1", "text/event-stream"]);
  assert.throws(() => follow(origin, { headers: {}, share: true }), TypeError);
  assert.throws(() => follow("orders"), TypeError);
});

test("a slow iterator slows the server down", async (context) => {
  const block = (number) => `id: C${number}\ndata: ${number} ${"x".repeat(1_000)}\n\n`;
  let isHeld;
  const { origin } = await serve(context, (request, response) => {
    open(response, "retry: 5\n");
    let number = 0;
    const more = () => {
      while (number < 100_000) if (!response.write(block((number += 1)))) return response.once("drain", more);
    };
    more();
    isHeld = () => number < 100_000 && response.writableNeedDrain;
  });
  let wanted = 1;
  const stream = follow(origin, { silence: 100 });
  for await (const { data } of stream) {
    assert.equal(parseInt(data, 10), wanted);
    // While nothing is taken, the server waits; and that is not its silence.
    if (wanted === 10) {
      const until = Date.now() + 500;
      let held = 0;
      while (Date.now() < until || held < 3) {
        await new Promise((done) => setTimeout(done, 20));
        held = isHeld() ? held + 1 : 0;
      }
      assert.equal(stream.state.state, "loading");
    }
    if ((wanted += 1) > 100_000) break;
  }
});

test("what a callback throws stops nothing", async (context) => {
  const { origin } = await serve(context, (request, response) => open(response, after("")));
  const thrown = [];
  process.setUncaughtExceptionCaptureCallback((error) => thrown.push(error.message));
  context.after(() => process.setUncaughtExceptionCaptureCallback(null));
  const live = isState("live");
  const stream = follow(origin, {
    onEvent: ({ lastEventId }) => {
      throw new Error(lastEventId);
    },
    onState(status) {
      live.see(status);
      if (status.state === "loading") throw new Error("state");
    },
  });
  await live.seen;
  stream.close();
  assert.deepEqual(thrown, ["state", "A1", "A1", "A1", "A2", "A2", "A3"]);
});
