import assert from "node:assert/strict";
import { test } from "node:test";
import {
  chooseView, fillPath, findStream, formatLink, hasDots, kioskOf, matchPath, parametersOf, parseLink, streamUrl, viewNames, viewsOf,
} from "../../../assets/page/router.js";

test("a link names a stream, a view, filters, a start, and what is the view's own", () => {
  const link = parseLink("#/orders?view=feed&key=17&f.value.city=Paris&f.value.city=Rome&since=15m&kiosk=30");
  assert.equal(link.path, "/orders");
  assert.equal(link.view, "feed");
  assert.deepEqual(link.filters, { "value.city": ["Paris", "Rome"] });
  assert.deepEqual(link.from, { since: "15m" });
  assert.equal(String(link.params), "key=17");
  assert.deepEqual(link.kiosk, { on: true, seconds: 30 });
});

test("no path is the list of streams", () => {
  for (const hash of ["", "#", "#/", "#/?kiosk"]) assert.equal(parseLink(hash).path, null, hash);
  assert.equal(parseLink("#orders").path, "/orders");
});

test("a link that is made is read back as it was", () => {
  const params = new URLSearchParams([["sort", "-a.b"], ["q", "50 % & \"more\" = #1"], ["empty", ""]]);
  const page = { path: "/users/a%20b/orders", view: "table-2", filters: { key: ["é=&"], "value.a\\.b": ["1", "2"] }, from: { start: "earliest" }, isBare: true, params, kiosk: { on: true, seconds: 12 } };
  const read = parseLink(formatLink(page));
  assert.deepEqual({ ...read, params: String(read.params) }, { ...page, params: String(params) });
  assert.equal(formatLink({ path: "/orders" }), "#/orders");
  assert.equal(formatLink({ path: null, kiosk: { on: true, seconds: 0 } }), "#/?kiosk");
  assert.equal(formatLink({ path: "/orders", filters: { "value.city": "Paris" } }), "#/orders?f.value.city=Paris");
});

test("names such as __proto__ are names", () => {
  const { filters } = parseLink("#/a?f.__proto__=1&f.constructor=2");
  assert.deepEqual(Object.keys(filters), ["__proto__", "constructor"]);
  assert.equal(Object.getPrototypeOf(filters), Object.prototype);
  assert.equal(formatLink({ path: "/a", filters }), "#/a?f.__proto__=1&f.constructor=2");
  assert.equal({}.polluted, undefined);
});

test("a kiosk turns pages after a time that can be meant", () => {
  const kiosk = (text) => kioskOf(new URLSearchParams(text));
  assert.deepEqual(kiosk(""), { on: false, seconds: 0 });
  assert.deepEqual(kiosk("kiosk"), { on: true, seconds: 0 });
  assert.deepEqual(kiosk("kiosk=0"), { on: false, seconds: 0 });
  assert.deepEqual(kiosk("kiosk=45"), { on: true, seconds: 45 });
  assert.deepEqual(kiosk("kiosk=0.1"), { on: true, seconds: 2 });
  assert.deepEqual(kiosk("kiosk=1e9"), { on: true, seconds: 86_400 });
  assert.deepEqual(kiosk("kiosk=yes"), { on: true, seconds: 0 });
});

test("parameters of a path are asked for, filled in and found again", () => {
  const pattern = "/users/{id}/orders/{order}";
  assert.deepEqual(parametersOf(pattern), ["id", "order"]);
  const path = fillPath(pattern, new Map([["id", "a b/é".replace("/", "")], ["order", "50%"]]));
  assert.equal(path, "/users/a%20b%C3%A9/orders/50%25");
  assert.deepEqual([...matchPath(pattern, path)], [["id", "a bé"], ["order", "50%"]]);
  for (const value of ["", ".", "..", "a/b"]) assert.equal(fillPath("/u/{id}", new Map([["id", value]])), null, value);
  for (const other of ["/users/1", "/users//orders/1", "/users/1/orders/%zz", "/users/1/Orders/2"]) assert.equal(matchPath(pattern, other), null, other);
});

test("a literal path comes before one with parameters", () => {
  const entries = [{ path: "/users/{id}" }, { path: "/users/me" }];
  assert.equal(findStream(entries, "/users/me").entry, entries[1]);
  assert.deepEqual([...findStream(entries, "/users/17").values], [["id", "17"]]);
  assert.equal(findStream(entries, "/users/{id}").values, null);
  assert.equal(findStream(entries, "/users/%7Bid%7D").values, null);
  assert.equal(findStream(entries, "/orders"), null);
});

test("a stream's URL stays below the page's, and on its server", () => {
  assert.equal(streamUrl("/orders", "https://a.example/live/?kiosk#x").href, "https://a.example/live/orders");
  assert.equal(streamUrl("/a:b", "https://a.example/").href, "https://a.example/a:b");
  assert.equal(streamUrl("//evil.example/x", "https://a.example/").host, "a.example");
});

test("views are those configured, or those that fit", () => {
  const kinds = (entry) => viewsOf(entry).map(({ kind }) => kind);
  assert.deepEqual(kinds({ key_field: "order" }), ["table", "feed", "chart"]);
  assert.deepEqual(kinds({ format: "envelope" }), ["table", "feed", "chart"]);
  assert.deepEqual(kinds({ format: "value", key_field: null }), ["feed", "chart"]);
  assert.deepEqual(kinds({ views: [{ kind: "cards" }] }), ["cards"]);
  const views = [{ kind: "table" }, { kind: "feed" }, { kind: "table", title: "Other" }];
  assert.deepEqual(viewNames(views), ["table", "feed", "table-2"]);
  assert.equal(chooseView(views, "table-2").view, views[2]);
  assert.equal(chooseView(views, "no-such").view, views[0]);
  assert.equal(chooseView(views, null).name, "table");
});

test("a path whose URL would lead elsewhere is known", () => {
  for (const path of ["/users/../orders", "/users/./orders", "/users/%2e%2E/orders", "/.%2e/x", "/a\\..\\b", "/users/..", "/."]) {
    assert.equal(hasDots(path), true, path);
    assert.notEqual(new URL(`.${path}`, "http://host/base/").pathname, `/base${path}`);
  }
  for (const path of ["/orders", "/v1.2/a..b", "/...", "/users/%2e%2e%2e", "/.well-known", "/a/b."]) {
    assert.equal(hasDots(path), false, path);
    assert.equal(new URL(`.${path}`, "http://host/base/").pathname, `/base${path}`);
  }
});
