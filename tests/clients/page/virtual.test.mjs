// Few rows in the document, always those that are seen.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Virtual } from "../../../assets/page/virtual.js";

function virtual(count, rowHeight = 40, viewport = 600) {
  return Object.assign(new Virtual(), { count, rowHeight, viewport });
}

test("the window covers what is seen, and not much more", () => {
  for (const count of [0, 1, 14, 15, 16, 1_000, 100_000, 3_000_000]) {
    const rows = virtual(count);
    const most = Math.max(rows.height - rows.viewport, 0);
    for (let step = 0; step <= 100; step++) {
      const scrollTop = (most * step) / 100;
      const { from, to, before } = rows.window(scrollTop);
      const { first, last } = rows.seen(scrollTop);
      assert.ok(from <= first && last <= to, `${count} at ${scrollTop}: ${from}-${to} for ${first}-${last}`);
      assert.ok(to - from <= 40, `${to - from} rows`);
      assert.ok(before >= 0 && before + (to - from) * rows.rowHeight <= rows.height + 1, "within the list");
    }
    assert.equal(rows.window(most, true).to, count, "the end can be reached");
  }
});

test("small steps do not change the window", () => {
  const rows = virtual(1_000);
  const before = rows.window(4_000, true);
  assert.deepEqual(rows.window(4_040), before);
  assert.notDeepEqual(rows.window(4_800), before);
});

test("a row that is scrolled to is seen whole", () => {
  for (const count of [100, 100_000, 3_000_000]) {
    const rows = virtual(count);
    for (const index of [0, 1, 13, 14, 15, 99, count >> 1, count - 1]) {
      const scrollTop = rows.scrollTo(index, 0);
      assert.ok(scrollTop >= 0 && scrollTop <= rows.height - rows.viewport + 1e-6);
      const { first, last } = rows.seen(scrollTop);
      assert.ok(first <= index && index < last, `${index} of ${count}`);
      assert.equal(rows.scrollTo(index, scrollTop), scrollTop, "it stays");
    }
  }
});

test("page by page, every row is seen whole and none twice, but on the last page", () => {
  for (const [count, rowHeight, viewport] of [[100, 40, 600], [100_000, 38.4, 615], [3_000_000, 40, 610]]) {
    const rows = virtual(count, rowHeight, viewport);
    const most = rows.height - viewport;
    let scrollTop = 0;
    for (let page = 0; page < 100 && scrollTop < most; page++) {
      const next = rows.next(scrollTop);
      const first = Math.floor(viewport / rowHeight) * (page + 1);
      assert.ok(Math.abs(rows.scrollTo(first, count * rowHeight) - next) < 1e-6, `${count}: ${first} comes first, ${next}`);
      scrollTop = next;
    }
    assert.ok(scrollTop > 0);
  }
});

test("the height is one that browsers can lay out", () => {
  assert.ok(virtual(10_000_000).height <= 8_000_000);
});
