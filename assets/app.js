// Follows one event stream and keeps the table of continents up to date.
// Data from the stream only ever becomes text or an attribute value, never markup.
"use strict";

const COUNTRIES_SHOWN = 3;
const RETRY_FIRST_MS = 4_000;
const RETRY_MAX_MS = 30_000;
const SILENCE_MIN_MS = 30_000; // never call a connection dead before this
const STATES = {
  connecting: "Connecting",
  live: "Live",
  reconnecting: "Reconnecting",
  ended: "Ended, retrying",
};

const main = document.querySelector("main");
const byId = (id) => document.getElementById(id);
const numbers = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat("en", { timeStyle: "medium", hourCycle: "h23" });
const collator = new Intl.Collator("en");

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// ---- The table: one row per continent -------------------------------------------------------

const rows = new Map(); // continent -> { tr, texts: Map of country code -> what was shown }
let caughtUp = false;
let updates = 0;

function update({ continent, nrs }) {
  if (typeof continent !== "string" || !Array.isArray(nrs)) {
    throw new TypeError("expected a continent and its countries (nrs)");
  }
  const before = rows.get(continent);
  const row = { tr: element("tr"), texts: new Map() };
  const list = element("ol");
  list.setAttribute("role", "list"); // Safari drops the role of lists without markers

  for (const country of nrs.filter((entry) => entry !== null).slice(0, COUNTRIES_SHOWN)) {
    const item = countryItem(country);
    row.texts.set(item.dataset.code, item.textContent);
    if (before && before.texts.get(item.dataset.code) !== item.textContent) {
      item.dataset.changed = "";
    }
    list.append(item);
  }

  const head = element("th", continent);
  head.scope = "row";
  if (caughtUp) head.append(" ", element("small", `changed ${clock.format(new Date())}`));
  const cell = element("td");
  cell.append(list.childElementCount ? list : "–");
  row.tr.dataset.continent = continent;
  row.tr.setAttribute("role", "row"); // as in index.html: the narrow layout is no CSS table
  head.setAttribute("role", "rowheader");
  cell.setAttribute("role", "cell");
  row.tr.append(head, cell);

  // A new element every time, so that the highlight's animation starts afresh.
  for (const { tr } of rows.values()) delete tr.dataset.newest;
  row.tr.dataset.newest = "";
  if (before) {
    before.tr.replaceWith(row.tr);
  } else {
    const after = [...rows].filter(([name]) => collator.compare(name, continent) > 0);
    after.sort(([a], [b]) => collator.compare(a, b));
    byId("rows").insertBefore(row.tr, after.length ? after[0][1].tr : null);
  }
  rows.set(continent, row);
  counted();
}

function countryItem({ code, name, size, population }) {
  const item = element("li");
  item.dataset.code = String(code);
  const shown = (value) => (Number.isFinite(value) ? numbers.format(value) : "–");
  const area = element("span", shown(size), "size");
  area.append(element("span", "\u00a0km²", "unit"));
  const people = element("span", `${shown(population)} inhabitants`, "population");
  item.append(element("span", String(name ?? code), "name"), " ", area, " ", people);
  return item;
}

function remove({ continent }) {
  rows.get(continent)?.tr.remove();
  rows.delete(continent);
  counted();
}

function clear() {
  rows.clear();
  byId("rows").replaceChildren();
  byId("empty").hidden = false;
}

function counted() {
  updates += 1;
  byId("updates").value = String(updates);
  byId("updates").textContent = numbers.format(updates);
  byId("empty").hidden = rows.size > 0;
}

// ---- What the page says about the connection ------------------------------------------------

function showState(state) {
  const shown = byId("state");
  if (shown.dataset.state === state) return; // say each state once to those who listen
  shown.dataset.state = state;
  shown.textContent = STATES[state];
  if (state === "reconnecting" || state === "ended") showCaughtUp(false, "May be outdated");
}

function showCaughtUp(now, text = now ? "Caught up" : "Catching up") {
  caughtUp = now;
  byId("caught-up").dataset.caughtUp = String(now);
  byId("caught-up").textContent = text;
}

function showHeartbeat({ time }) {
  const at = new Date(time);
  byId("heartbeat").textContent = clock.format(at); // throws on a time that is none
  byId("heartbeat").dateTime = time;
  byId("heartbeat").title = at.toString();
}

// ---- The connection -------------------------------------------------------------------------
// EventSource reconnects by itself after a lost connection, but gives up for good after an answer
// that is no event stream (a proxy's 502, say), and never notices a peer that vanished silently.
// Both are mended here by a new EventSource that brings the last id seen.

const stream = new URL(main.dataset.stream, document.baseURI);
let source = null;
let lastId = "";
let opened = false;
let failures = 0;
let lastEventAt = 0;
let lastBeatAt = 0; // on this connection; 0: none yet
let longestBeat = 0; // longest time between two heartbeats of this connection

function connect() {
  const url = new URL(stream);
  if (lastId) url.searchParams.set("lastEventId", lastId);
  const mine = new EventSource(url);
  source = mine;

  mine.addEventListener("open", () => {
    if (mine !== source) return;
    if (!lastId) clear(); // without a position everything comes anew
    opened = true;
    failures = 0;
    lastBeatAt = longestBeat = 0;
    showCaughtUp(false);
    showState("live");
  });
  mine.addEventListener("error", () => {
    if (mine !== source) return;
    lastBeatAt = longestBeat = 0;
    if (mine.readyState !== EventSource.CLOSED) {
      showState(opened ? "reconnecting" : "connecting");
      return;
    }
    showState("ended");
    const delay = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** failures);
    failures += 1;
    setTimeout(connect, delay * (0.5 + Math.random() / 2));
  });

  const on = (type, handle) => mine.addEventListener(type, (event) => {
    if (mine !== source) return;
    lastEventAt = performance.now();
    if (event.lastEventId) lastId = event.lastEventId;
    try {
      handle(event);
    } catch (error) {
      console.warn(`ignored a ${type} event:`, error, event.data);
    }
  });
  on(main.dataset.event || "message", (event) => update(JSON.parse(event.data)));
  on("delete", (event) => remove(JSON.parse(event.data)));
  on("reset", () => { clear(); showCaughtUp(false); });
  on("caught-up", () => showCaughtUp(true));
  on("goodbye", () => showState("reconnecting"));
  on("heartbeat", (event) => {
    if (lastBeatAt) longestBeat = Math.max(longestBeat, lastEventAt - lastBeatAt);
    lastBeatAt = lastEventAt;
    showHeartbeat(JSON.parse(event.data));
  });
  for (const type of ["gap", "conflated", "checkpoint"]) on(type, () => {}); // for their ids
}

// A stream whose heartbeats stay away, and everything else too, is no longer there.
setInterval(() => {
  const silence = performance.now() - lastEventAt;
  if (longestBeat && silence > Math.max(SILENCE_MIN_MS, 3 * longestBeat)) {
    source.close();
    lastBeatAt = longestBeat = 0;
    showState("reconnecting");
    connect();
  }
}, 5_000);

byId("curl").textContent = `curl -N ${stream}`;
connect();
