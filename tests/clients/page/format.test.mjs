// Values as texts: each format, each kind of value in it, and that a cell's cost is bounded.
import assert from "node:assert/strict";
import { test } from "node:test";
import { clip, Formats, instantOf, MAX_TEXT, numberOf, preview, sortKey } from "../../../assets/page/format.js";

const NOW = Date.UTC(2026, 10, 29, 12);
const formats = new Formats({ locale: "en", now: () => NOW, scaleOf: () => 200 });
const text = (value, column) => formats.cell(value, column).text;

test("numbers", () => {
  assert.equal(text(1759540, { format: "number" }), "1,759,540");
  assert.equal(text(12.5, { format: "number", digits: 2 }), "12.50");
  assert.equal(text(2026, { format: "number", isGrouped: false }), "2026");
  assert.equal(text("12.50", { format: "number", digits: 2 }), "12.50", "a decimal that is sent as a text");
  const cell = formats.cell(50, { format: "number", unit: "km²", bar: true });
  assert.deepEqual([cell.unit, cell.share], ["km²", 0.25]);
  assert.equal(formats.cell(-5, { format: "number", bar: true }).share, 0);
  assert.equal(new Formats({ locale: "de" }).cell(1234.5, { format: "number" }).text, "1.234,5");
});

test("a number that is not exact says so", () => {
  assert.match(text(JSON.parse("9007199254740993"), { format: "number" }), /^≈/);
  assert.equal(formats.cell(0.123456789, { format: "number", digits: 2 }).title, "0.123456789");
  assert.equal(formats.cell(0.12, { format: "number", digits: 2 }).title, undefined);
});

test("bytes", () => {
  assert.deepEqual([0, 1, 999, 1000, 1536000, 123456789, 5e12].map((value) => text(value, { format: "bytes" })),
    ["0 bytes", "1 byte", "999 bytes", "1.0 kB", "1.5 MB", "123 MB", "5.0 TB"]);
  assert.equal(formats.cell(1536000, { format: "bytes" }).title, "1536000");
});

test("dates", () => {
  assert.equal(text("2026-11-29", { format: "date" }), "Nov 29, 2026", "in every time zone");
  const instants = ["2026-11-29T12:00:00Z", "2026-11-29 12:00:00Z", "2026-11-29T13:00:00+01:00", NOW, NOW / 1000, NOW * 1000, NOW * 1e6];
  const shown = new Set(instants.map((value) => text(value, { format: "date" })));
  assert.equal(shown.size, 1);
  assert.match([...shown][0], /2026/);
  assert.equal(formats.cell(NOW, { format: "date" }).title, String(NOW));
  assert.deepEqual([5, "tomorrow", "2026-13-45", true].map(instantOf), [null, null, null, null]);
  assert.equal(text("08:15:00", { format: "time" }), "08:15:00");
  assert.match(text(NOW, { format: "time" }), /:00:00/);
});

test("relative times", () => {
  const ago = (ms) => text(NOW - ms, { format: "relative" });
  assert.deepEqual([0, 5_000, 100_000, 7_200_000, 86_400_000, 40 * 86_400_000, -60_000].map(ago),
    ["now", "5 seconds ago", "2 minutes ago", "2 hours ago", "yesterday", "last month", "in 1 minute"]);
});

test("badges", () => {
  const colors = { paid: "good", lost: "#b00020" };
  assert.deepEqual(formats.cell("paid", { format: "badge", colors }), { kind: "badge", text: "paid", tone: "good" });
  assert.equal(formats.cell("lost", { format: "badge", colors }).color, "#b00020");
  assert.equal(formats.cell("other", { format: "badge", colors }).tone, "muted");
  assert.equal(formats.cell("constructor", { format: "badge", colors }).tone, "muted");
  assert.equal(formats.cell("FAILED", { format: "badge" }).tone, "bad");
  assert.equal(formats.cell(5, { format: "badge" }).text, "5");
});

test("links go to http and https only", () => {
  assert.equal(formats.cell("https://example.org/a/", { format: "link" }).href, "https://example.org/a/");
  assert.equal(text("https://example.org/a/", { format: "link" }), "example.org/a");
  for (const value of ["javascript:alert(1)", "data:text/html,x", " https://x", "//x", "https://", "ftp://x"]) {
    const cell = formats.cell(value, { format: "link" });
    assert.deepEqual([cell.kind, cell.href, cell.text], ["text", undefined, value]);
  }
});

test("lists", () => {
  assert.equal(text(["a", 1, null, true], { format: "list" }), "a, 1, null, true");
  assert.equal(text(Array.from({ length: 12 }, (_, index) => index), { format: "list", limit: 2 }), "0, 1 + 10");
  const items = [{ format: "text", readValue: (value) => value.name }, { format: "number", readValue: (value) => value.size }];
  const cell = formats.cell([{ name: "NL", size: 5 }, null, { name: "BE" }, { name: "LU", size: 1 }], { format: "list", items, limit: 2 });
  assert.deepEqual(cell.items.map((cells) => cells.map((each) => each.text)), [["NL", "5"], ["BE", ""]]);
  assert.equal(cell.more, 1);
});

test("a value of another type is shown as what it is", () => {
  const all = ["text", "number", "bytes", "date", "time", "relative", "badge", "link", "list", "json", "bool", null, undefined, "unknown"];
  for (const format of all) {
    assert.deepEqual(formats.cell(undefined, { format }), { kind: "none", text: "" });
    assert.deepEqual(formats.cell(null, { format }), { kind: "null", text: "null" });
    for (const value of ["", "<img src=x onerror=alert(1)>", 1e300, -0, true, [], {}, [null], { a: { b: 1 } }]) {
      const cell = formats.cell(value, { format });
      assert.equal(typeof cell.text, "string", `${format}: ${JSON.stringify(value)}`);
      assert.ok(cell.text !== "" || cell.kind === "list", `${format} hides ${JSON.stringify(value)}`);
    }
  }
  assert.equal(text("none", { format: "number" }), "none");
  assert.equal(text("yes", { format: "bool" }), "yes");
  assert.equal(formats.cell("", { format: "text" }).text, "\"\"", "an empty text is not a missing one");
});

test("texts and previews are bounded", () => {
  const long = "x".repeat(1_000_000);
  assert.equal(text(long, { format: "text" }).length, MAX_TEXT + 1);
  assert.ok(preview({ long, more: long }).length <= 121);
  assert.ok(preview(Array.from({ length: 100_000 }, () => "y")).length <= 121);
  const deep = JSON.parse(`${"[".repeat(10_000)}${"]".repeat(10_000)}`);
  assert.equal(preview(deep), "[[[[…]]]]");
  assert.equal(clip("ab😀cd", 3), "ab…", "no half characters");
  assert.equal(preview({ a: 1, "b c": "x", "__proto__": 2 }), "{a: 1, \"b c\": \"x\"}");
  assert.equal(preview(JSON.parse("{\"__proto__\":[1,null,true]}")), "{__proto__: [1, null, true]}");
});

test("sort keys", () => {
  assert.equal(sortKey(null), null);
  assert.equal(sortKey(undefined), null);
  assert.equal(sortKey("17"), 17);
  assert.ok(sortKey("item-2") < sortKey("item-10"));
  assert.equal(sortKey("2026-11-29T12:00:00Z", "date"), NOW);
  assert.equal(sortKey(NOW / 1000, "date"), sortKey(NOW, "date"));
  assert.equal(numberOf("1e5"), null);
  assert.equal(numberOf("007"), null);
});
