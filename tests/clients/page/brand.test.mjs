import assert from "node:assert/strict";
import { test } from "node:test";
import { contrast, parseColour, readableOn } from "../../../assets/page/brand.js";

test("colours are those of the configuration, and nothing else", () => {
  assert.deepEqual(parseColour("#0f6b74"), [15, 107, 116]);
  assert.deepEqual(parseColour(" #fa0 "), [255, 170, 0]);
  assert.deepEqual(parseColour("rgba(15, 107, 116, 0.5)"), [15, 107, 116]);
  for (const text of ["", "red", "#12345", "url(x)", "#gggggg", undefined]) assert.equal(parseColour(text), null, String(text));
});

test("any accent can be read on light and on dark paper", () => {
  for (const papers of [["#f5f6f8", "#ffffff"], ["#0f1317", "#161b20"]]) {
    const on = papers.map(parseColour);
    for (const accent of ["#000000", "#ffffff", "#ffff00", "#0000ff", "#ff0000", "#0f6b74", "#808080"]) {
      const readable = readableOn(parseColour(accent), on);
      for (const paper of on) assert.ok(contrast(readable, paper) >= 4.5, `${accent} on ${papers}`);
    }
  }
  assert.deepEqual(readableOn(parseColour("#7a1fa2"), [[245, 246, 248], [255, 255, 255]]), [122, 31, 162], "one that can be read stays");
});
