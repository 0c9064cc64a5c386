import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import vm from "node:vm";
import { clientLibrary, curl, eventSource, literal, shellWord, urlAfter } from "../../../assets/page/snippets.js";

const HOSTILE = [
  "plain", "it's", "'; touch /tmp/owned; '", '"$(id)"', "`id`", "$HOME", "a\nb", "\\", "\\'", "!!", "*", "~", "-n", "",
  "</script><script>alert(1)</script>", "\u2028\u2029", "${x}", "Ø 日本 🙂", "a&b|c>d",
];

test("a word reaches a program of the shell as it is", () => {
  for (const text of HOSTILE) {
    const said = execFileSync("/bin/sh", ["-c", `printf '%s.' ${shellWord(text)}`], { encoding: "utf8" });
    assert.equal(said, `${text}.`);
  }
});

test("the arguments of curl are those that were meant", () => {
  for (const text of HOSTILE) {
    const url = new URL("http://127.0.0.1:8080/orders");
    url.searchParams.set("key", text);
    const command = curl(url.href, { lastEventId: text || "x", token: true });
    const said = execFileSync("/bin/sh", ["-c", `curl() { printf '%s\\0' "$@"; }; TOKEN=t; ${command}`], { encoding: "utf8" });
    assert.deepEqual(said.split("\0").slice(0, -1), [
      "-N", "-H", "Authorization: Bearer t", "-H", `Last-Event-ID: ${text || "x"}`, url.href,
    ]);
  }
  assert.equal(curl("http://h/a"), "curl -N 'http://h/a'");
  assert.equal(curl("http://h/[1-9]"), "curl -N -g 'http://h/[1-9]'");
});

test("a literal is the text, in JavaScript and inside of HTML", () => {
  for (const text of HOSTILE) {
    assert.equal(vm.runInNewContext(literal(text)), text);
    assert.ok(!/<|\u2028|\u2029/.test(literal(text)));
  }
});

test("the snippet for EventSource opens the URL and names the event", () => {
  for (const text of HOSTILE) {
    const url = new URL("http://127.0.0.1:8080/orders");
    url.searchParams.set("key", text);
    const opened = [];
    class EventSource {
      constructor(address) {
        opened.push(address);
      }

      addEventListener(name) {
        opened.push(name);
      }
    }
    vm.runInNewContext(eventSource(url.href, { event: text || null, isKeyed: true }), { EventSource, console });
    assert.deepEqual(opened, [url.href, text || "message", "delete"]);
  }
});

test("the snippet for the library has the URL, the id and the filters", async () => {
  for (const text of HOSTILE) {
    const filters = JSON.parse('{"__proto__":["a","b"]}');
    filters[`value.${text}`] = text;
    const options = { library: "http://h/assets/client.js", lastEventId: text, event: text, filters };
    const code = clientLibrary(`http://h/${encodeURIComponent(text)}`, options);
    assert.ok(code.startsWith('import { follow } from "http://h/assets/client.js";'));
    const calls = [];
    const body = code.slice(code.indexOf("\n"));
    const run = vm.runInNewContext(`async (follow) => {${body}}`);
    await run(async function* follow(...given) {
      calls.push(given);
    });
    const [url, given] = calls[0];
    assert.equal(url, `http://h/${encodeURIComponent(text)}`);
    assert.equal(given.event, text);
    assert.equal(given.lastEventId, text || undefined);
    assert.deepEqual(Object.entries(given.filters).map(([name, value]) => [name, [value].flat().join()]),
      [["__proto__", "a,b"], [`value.${text}`, text]]);
  }
  assert.ok(!clientLibrary("http://h/a", { library: "l" }).includes("undefined"));
});

test("a URL goes on after an id", () => {
  assert.equal(urlAfter("http://h/a?key=1", "A_-b"), "http://h/a?key=1&lastEventId=A_-b");
  assert.equal(urlAfter("http://h/a", ""), "http://h/a");
});
