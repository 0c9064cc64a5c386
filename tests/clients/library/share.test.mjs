// Tabs that share one connection see every event exactly once, whatever happens to them and to the connection.

import assert from "node:assert/strict";
import test from "node:test";
import { World } from "./world.mjs";

const SEEDS = Number(process.env.SEEDS ?? 300);
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
