import assert from "node:assert/strict";
import { test } from "node:test";
import { BUCKETS, GROUPS, Means, Series } from "../../../assets/page/series.js";

const NOW = 1_795_406_940_000;
const values = (y) => y.filter((value) => value !== null);

test("a value is in the bucket of its time", () => {
  const series = new Series({ minutes: 1, kind: "latest" });
  series.add("a", NOW - 10_000, 5, NOW);
  series.add("a", NOW - 5_000, 7, NOW);
  series.add("a", NOW - 4_990, 8, NOW);
  const { x, lines } = series.data(NOW);
  assert.equal(x.length, BUCKETS);
  assert.equal(lines.length, 1);
  assert.deepEqual(values(lines[0].y), [5, 8]);
  const at = x[lines[0].y.indexOf(5)];
  assert.ok(Math.abs(at - (NOW - 10_000) / 1000) <= 0.1, String(at));
  assert.equal(lines[0].last, 8);
});

test("time moves on, and old values leave", () => {
  const series = new Series({ minutes: 1, kind: "latest" });
  series.add("a", NOW, 1, NOW);
  assert.deepEqual(values(series.data(NOW + 59_000).lines[0].y), [1]);
  assert.deepEqual(series.data(NOW + 61_000).lines, []);
  series.add("a", NOW + 300_000, 2, NOW + 300_000);
  assert.deepEqual(values(series.data(NOW + 300_000).lines[0].y), [2]);
  // A clock that is set back does not bring them back, and holds nothing up.
  assert.deepEqual(series.data(NOW).lines, []);
  series.add("a", NOW, 3, NOW);
  const [line] = series.data(NOW).lines;
  assert.deepEqual([values(line.y), line.last], [[3], 3]);
});

test("means have a band", () => {
  const series = new Series({ minutes: 5, kind: "mean" });
  for (const value of [1, 2, 6]) series.add("", NOW - 20_000, value, NOW);
  const [line] = series.data(NOW).lines;
  assert.deepEqual([values(line.y), values(line.low), values(line.high)], [[3], [1], [6]]);
});

test("a rate is events per second, zero where there were none, unknown before and now", () => {
  const series = new Series({ minutes: 1, kind: "rate" });
  const from = Math.floor(NOW / 1000) * 1000;
  series.since(from - 5_000);
  for (let event = 0; event < 30; event += 1) series.add("", from - 3_000 + event, 1, from);
  const { y } = series.data(from + 500).lines[0];
  assert.equal(y.length, 60);
  assert.equal(y.at(-1), null);
  assert.deepEqual(y.slice(-7, -1), [0, 0, 0, 30, 0, 0]);
  assert.equal(y.at(-20), null);
});

test("times that cannot be are those of now, and old ones are left out", () => {
  const series = new Series({ minutes: 1, kind: "latest" });
  series.add("a", Number.NaN, 1, NOW);
  series.add("a", NOW * 1000, 2, NOW);
  series.add("b", NOW - 3_600_000, 3, NOW);
  const { lines } = series.data(NOW);
  assert.deepEqual(lines.map(({ name, y }) => [name, ...values(y)]), [["a", 2]]);
});

test("there are few lines, the others are counted, and a line that has left is replaced", () => {
  const series = new Series({ minutes: 1, kind: "latest" });
  for (let group = 0; group < 40; group += 1) series.add(`g${group}`, NOW, group, NOW);
  assert.equal(series.lines.length, GROUPS);
  assert.equal(series.others, 40 - GROUPS);
  for (let group = 1; group < GROUPS; group += 1) series.add(`g${group}`, NOW + 70_000, group, NOW + 70_000);
  series.add("g30", NOW + 70_000, 30, NOW + 70_000);
  assert.deepEqual(series.lines.map(({ name }) => name), ["g30", ...Array.from({ length: GROUPS - 1 }, (_, index) => `g${index + 1}`)]);
  assert.equal(series.others, 40 - GROUPS - 1);
});

test("reserved lines have their order, and those without values are not shown", () => {
  const series = new Series({ minutes: 1, kind: "latest" });
  series.reserve(Array.from({ length: GROUPS }, (_, index) => `g${index}`));
  series.add("g2", NOW, 1, NOW);
  series.add("g1", NOW, 2, NOW);
  assert.deepEqual(series.data(NOW).lines.map(({ name, slot }) => [name, slot]), [["g1", 1], ["g2", 2]]);
  series.add("other", NOW, 3, NOW);
  assert.equal(series.others, 0);
  assert.deepEqual(series.data(NOW).lines.map(({ name }) => name), ["other", "g1", "g2"]);
});

test("memory is bounded", () => {
  const series = new Series({ minutes: 60, kind: "mean" });
  for (let event = 0; event < 200_000; event += 1) series.add(`${event % 20_000}`, NOW + event, event, NOW + event);
  assert.equal(series.lines.length, GROUPS);
  assert.equal(series.others, 10_000);
  assert.ok(series.data(NOW + 200_000).x.length <= BUCKETS);
});

test("names of JavaScript's own are groups like others", () => {
  const series = new Series({ minutes: 1, kind: "latest" });
  for (const name of ["__proto__", "constructor"]) series.add(name, NOW, 1, NOW);
  assert.deepEqual(series.lines.map(({ name }) => name), ["__proto__", "constructor"]);
});

test("a mean is of the latest values of a group's keys", () => {
  const means = new Means();
  assert.equal(means.set("a", "x", 2), 2);
  assert.equal(means.set("b", "x", 4), 3);
  assert.equal(means.set("a", "x", 6), 5);
  assert.equal(means.set("b", "y", 1), 1);
  assert.equal(means.set("c", "x", 8), 7);
  means.delete("a");
  means.delete("never there");
  assert.equal(means.set("c", "x", 9), 9);
  assert.equal(means.set("c", null, 9), null);
  assert.equal(means.set("d", "x", 1), 1);
  for (let key = 0; key < 50_000; key += 1) means.set(`k${key}`, "many", 1);
  assert.equal(means.set("last", "many", 20_000), 39_999 / 20_000);
});
