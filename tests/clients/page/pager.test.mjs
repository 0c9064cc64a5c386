// A wall display's view shows all of its pages, stands still for whoever uses it, and goes on where it was.
import assert from "node:assert/strict";
import { mock, test } from "node:test";

let now = 0;
let isReduced = false;
const listeners = {};
mock.timers.enable({ apis: ["setInterval", "setTimeout"] });
mock.method(performance, "now", () => now);
Object.assign(globalThis, {
  document: { hidden: false },
  matchMedia: () => ({ matches: isReduced }),
  addEventListener: (type, listener) => (listeners[type] = listener),
});
const { nextTop, Pager } = await import("../../../assets/page/pager.js");

function pass(seconds) {
  for (let second = 0; second < seconds; second++) {
    now += 1000;
    mock.timers.tick(1000);
  }
}

// A view of three pages and a half, of 100 px each.
function open(name, seconds = 0) {
  const turns = [];
  const scroller = {
    scrollTop: 0, clientHeight: 100, scrollHeight: 350,
    scrollTo({ top, behavior }) {
      turns.push([top, behavior]);
      if (behavior === "instant") this.scrollTop = top;
      else setTimeout(() => (this.scrollTop = top), 500);
    },
  };
  const pager = new Pager({ name, seconds, look: () => ({ scroller, next: () => scroller.scrollTop + 100 }) });
  pager.start();
  return { pager, scroller, turns };
}

test("every page is shown, and the first again after the last", () => {
  const { pager, turns } = open("all");
  pass(14);
  assert.deepEqual(turns, []);
  pass(61);
  assert.deepEqual(turns, [[100, "smooth"], [200, "smooth"], [250, "smooth"], [0, "instant"], [100, "smooth"]]);
  isReduced = true;
  pass(15);
  assert.deepEqual(turns.at(-1), [200, "instant"]);
  isReduced = false;
  pager.stop();
  pass(60);
  assert.equal(turns.length, 6);
});

test("what fits, and a tab that nobody sees, stays as it is", () => {
  const { pager, scroller, turns } = open("fits");
  document.hidden = true;
  pass(60);
  assert.deepEqual(turns, []);
  document.hidden = false;
  scroller.scrollHeight = 100;
  pass(60);
  assert.equal(scroller.scrollTop, 0);
  pager.stop();
});

test("it stands still for pointer and keys, and for a while after", () => {
  const { pager, turns } = open("used");
  for (const [type, event] of [["keydown", {}], ["wheel", {}], ["pointerdown", {}], ["pointermove", { screenX: 5, screenY: 5 }]]) {
    listeners[type](event);
    pass(29);
    assert.deepEqual(turns, [], type);
  }
  // A pointer that rests is none that is used.
  listeners.pointermove({ screenX: 5, screenY: 5 });
  pass(16);
  assert.deepEqual(turns, [[100, "smooth"]]);
  pager.stop();
});

test("a view that is shown again goes on with the next page, once there is so much", () => {
  const first = open("again", 4);
  pass(5);
  assert.deepEqual(first.turns, [[100, "smooth"]], "pages take no longer than the kiosk's time");
  pass(2);
  first.pager.stop();
  first.pager.stop();
  const second = open("again", 4);
  second.scroller.scrollHeight = 150;
  second.pager.resume();
  assert.equal(second.scroller.scrollTop, 0);
  second.scroller.scrollHeight = 350;
  second.pager.resume();
  assert.equal(second.scroller.scrollTop, 200);
  // Ended right after it turned, that page was not read.
  pass(4);
  assert.deepEqual(second.turns, [[250, "smooth"]]);
  assert.equal(second.scroller.scrollTop, 200, "on the way");
  second.pager.stop();
  const third = open("again", 4);
  third.pager.resume();
  assert.equal(third.scroller.scrollTop, 250, "the last page");
  // One that was not shown changes nothing.
  new Pager({ name: "again", seconds: 4, look: () => assert.fail() }).stop();
  third.pager.stop();
});

test("a page begins with what was not seen whole", () => {
  const element = (top, bottom) => ({ getBoundingClientRect: () => ({ top, bottom }) });
  const scroller = { scrollTop: 1000, ...element(50, 450) };
  assert.equal(nextTop(scroller, [element(0, 60), element(100, 400), element(400, 500), element(500, 600)], 30), 1000 + 320);
  assert.equal(nextTop(scroller, [element(80, 900), element(900, 1000)], 30), 1000 + 370, "one that is higher than the window goes on");
  assert.equal(nextTop(scroller, [element(80, 450)], 30), 1000 + 370);
});
