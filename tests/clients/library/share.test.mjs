// Tabs that share one connection see every event exactly once, whatever happens to them and to the connection.

import assert from "node:assert/strict";
import test from "node:test";
import { World } from "./world.mjs";

const SEEDS = Number(process.env.SEEDS ?? 100);
const FIRST = Number(process.env.FIRST ?? 1);

/** All records from the first on, in each partition, once and in order. */
function check(tab, world, what, isFromStart) {
  for (const partition of world.written.keys()) {
    const offsets = tab.seen.filter(([of]) => of === partition).map(([, offset]) => offset);
    const first = isFromStart ? 0 : (offsets[0] ?? world.written[partition]);
    const end = tab.isDead || tab.isClosed ? first + offsets.length : world.written[partition];
    const wanted = Array.from({ length: end - first }, (_, index) => first + index);
    assert.deepEqual(offsets, wanted, `${what}, partition ${partition}`);
  }
}

/** One thing that happens. */
function happen(world) {
  const alive = world.tabs.filter((tab) => !tab.isDead && !tab.isClosed);
  const tab = alive[Math.floor(world.random() * alive.length)];
  const kind = world.random();
  if (kind < 0.1) {
    world.cut();
  } else if (kind < 0.18) {
    world.down(world.chance(0.5));
    world.task(null, world.between(10, 400), () => (world.isDown = false));
  } else if (kind < 0.3 && alive.length < 6) {
    world.open({ share: true, start: world.chance(0.2) ? "live" : undefined });
  } else if (kind < 0.36 && alive.length > 1) {
    world.kill(tab);
  } else if (kind < 0.42 && alive.length > 1 && tab.stream) {
    tab.isClosed = true;
    tab.stream.close();
  } else if (kind < 0.55 && !tab.isFrozen) {
    // Asleep without notice, for less or more than it takes the others to notice.
    tab.isFrozen = true;
    world.task(null, world.between(1, world.chance(0.5) ? 300 : 5_000), () => world.thaw(tab));
  } else if (kind < 0.65 && !tab.isFrozen) {
    const [before, after] = world.chance(0.5) ? ["freeze", "resume"] : ["pagehide", "pageshow"];
    tab.dispatch(before);
    world.task(null, 0.1, () => (tab.isFrozen = true));
    world.task(null, world.between(1, 3_000), () => {
      world.thaw(tab);
      world.task(tab, 0, () => tab.dispatch(after));
    });
  } else if (kind < 0.68 && tab.stream && !tab.isFrozen) {
    tab.stream.retry();
  } else {
    for (let count = Math.floor(world.between(1, 12)); count > 0; count -= 1) world.write(world.chance(0.5) ? 0 : 1);
  }
}

async function run(seed) {
  const world = new World(seed);
  for (let count = 0; count < 7; count += 1) world.write(count % 2);
  const starts = new Map();
  const open = world.open.bind(world);
  world.open = (options) => {
    const tab = open(options);
    starts.set(tab, options.start !== "live");
    return tab;
  };
  for (let count = Math.floor(world.between(1, 5)); count > 0; count -= 1) world.open({ share: true });
  for (let step = 0; step < 60; step += 1) {
    happen(world);
    await world.until(world.now + world.between(0, world.chance(0.1) ? 800 : 60));
  }
  // Calm again.
  for (const tab of world.tabs) if (tab.isFrozen) world.thaw(tab);
  world.isDown = false;
  world.losesMessages = false;
  await world.until(world.now + 20_000);
  for (const tab of world.tabs) if (tab.isFrozen) world.thaw(tab);
  // They meet at the next records, and where there are none at where all have got to.
  for (let count = 0; count < 100; count += 1) {
    if (seed % 2) world.write(count % 2);
    await world.until(world.now + 100);
  }
  await world.until(world.now + 5_000);
  for (const [index, tab] of world.tabs.entries()) check(tab, world, `seed ${seed}, tab ${index}`, starts.get(tab));
  const living = world.tabs.filter((tab) => !tab.isDead && !tab.isClosed);
  for (const tab of living) assert.equal(tab.stream.state.state, "live", `seed ${seed}`);
  // A start makes another stream.
  const groups = new Set(living.map((tab) => starts.get(tab)));
  assert.equal(world.connections, groups.size, `seed ${seed}: connections of ${living.length} tabs`);
}

test("tabs that share a connection see every event exactly once", async () => {
  for (let seed = FIRST; seed < FIRST + SEEDS; seed += 1) await run(seed);
});

/** Tabs that have caught up, with one connection. */
async function together(count, options = {}) {
  const world = new World(1);
  world.losesMessages = false;
  world.write(0);
  const tabs = [];
  for (; tabs.length < count; await world.until(world.now + 2_000)) tabs.push(world.open({ share: true, ...options }));
  assert.equal(world.connections, 1);
  for (const tab of tabs) assert.equal(tab.stream.state.state, "live");
  return { world, tabs };
}

/** How long it takes until the others have a record that is written now. */
async function delay(world, tabs) {
  const before = world.now;
  const { length } = tabs[0].seen;
  world.write(1);
  while (tabs.some((tab) => tab.seen.length === length)) {
    assert.ok(world.now < before + 60_000, "the record never comes");
    await world.until(world.now + 10);
  }
  return world.now - before;
}

test("tabs of a quiet stream share a connection too", async () => {
  const { world, tabs } = await together(5);
  assert.ok((await delay(world, tabs)) < 100);
});

for (const [how, end] of [
  ["is closed", (tab) => tab.stream.close()],
  ["dies", (tab, world) => world.kill(tab)],
  ["is frozen", (tab) => {
    tab.dispatch("freeze");
    tab.isFrozen = true;
  }],
  ["goes into the cache", (tab) => tab.dispatch("pagehide")],
]) {
  test(`another tab leads at once when the leader ${how}`, async () => {
    const { world, tabs: [leader, ...others] } = await together(5);
    end(leader, world);
    assert.ok((await delay(world, others)) < 500);
    await world.until(world.now + 5_000);
    assert.equal(world.connections, 1);
  });
}

test("a leader that sleeps without notice is replaced, and doubles nothing when it wakes", async () => {
  const { world, tabs } = await together(5);
  const [leader, ...others] = tabs;
  leader.isFrozen = true;
  const took = await delay(world, others);
  assert.ok(took > 500 && took < 3_000, `${took} ms, of silence of 1,000`);
  world.write(0);
  await world.until(world.now + 3_000);
  world.thaw(leader);
  await world.until(world.now + 10_000);
  for (const tab of tabs) check(tab, world, "a tab", true);
  assert.equal(world.connections, 1);
  assert.ok((await delay(world, tabs)) < 100);
});

test("a tab that is back from the cache has what it missed, once", async () => {
  const { world, tabs } = await together(3);
  const tab = tabs[1];
  tab.dispatch("pagehide");
  for (let count = 0; count < 10; count += 1) world.write(count % 2);
  await world.until(world.now + 1_000);
  tab.dispatch("pageshow");
  tab.dispatch("pageshow"); // as at the end of loading
  await world.until(world.now + 5_000);
  check(tab, world, "the tab", true);
  assert.equal(world.connections, 1);
});

test("tabs of different filters and logins share nothing", async () => {
  const world = new World(2);
  world.losesMessages = false;
  for (const options of [{}, { filters: { key: 1 } }, { share: "a" }, { share: "-b" }, { share: "-b" }, { start: "live" }]) {
    world.open({ share: true, ...options });
    await world.until(world.now + 3_000);
  }
  assert.equal(world.connections, 5);
});

test("a refusal concerns all tabs, and any of them may try again", async () => {
  const { world, tabs } = await together(3);
  world.refuses = true;
  world.cut();
  await world.until(world.now + 2_000);
  for (const { stream } of tabs) assert.deepEqual([stream.state.state, stream.state.status], ["refused", 403]);
  world.refuses = false;
  world.write(0);
  await world.until(world.now + 10_000);
  assert.equal(world.connections, 0);
  tabs[2].stream.retry();
  await world.until(world.now + 5_000);
  for (const tab of tabs) check(tab, world, "a tab", true);
  assert.equal(world.connections, 1);
});
