// Whether somebody is at the page: what moves by itself stands still for them, and for a while after.

const REST_MS = 30_000; // without pointer or keys until everything moves again

let usedAt = -Infinity;
let pointer = "";

// Browsers also report a pointer that rests, where the page moves below it.
function moved({ screenX, screenY }) {
  const before = pointer;
  pointer = `${screenX} ${screenY}`;
  if (pointer !== before) use();
}

function use() {
  usedAt = performance.now();
}

const options = { capture: true, passive: true };
globalThis.addEventListener?.("pointermove", moved, options);
for (const type of ["pointerdown", "wheel", "keydown"]) globalThis.addEventListener?.(type, use, options);

export function isUsed() {
  return performance.now() - usedAt < REST_MS;
}
