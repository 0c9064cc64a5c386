// Keeps the table of continents up to date by one event stream.
// Data from the stream only ever becomes text or an attribute value, never markup.
import { EventStream } from "./stream.js";

const COUNTRIES_SHOWN = 3;
const SILENCE_MIN_MS = 30_000; // never call a connection dead before this
const STATES = {
  connecting: "Connecting",
  live: "Live",
  reconnecting: "Reconnecting",
  ended: "Refused, retrying",
  refused: "No access",
};

const main = document.querySelector("main");
const byId = (id) => document.getElementById(id);
const emptyCell = byId("empty").querySelector("td");
const emptyText = emptyCell.textContent;
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
  if (state !== "live" && state !== "connecting") showCaughtUp(false, "May be outdated");
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

// ---- Access ---------------------------------------------------------------------------------
// A login is the server's or its proxy's business, and its cookie comes along by itself. A token is asked for where the
// server takes one.

function askForAccess(title, why, takesToken) {
  byId("access-title").textContent = title;
  byId("access-why").textContent = why;
  byId("token-form").hidden = !takesToken;
  byId("login").hidden = !byId("login").getAttribute("href");
  byId("access").hidden = false;
  if (takesToken) byId("curl").textContent = `curl -N -H "Authorization: Bearer $TOKEN" ${url}`;
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = byId("token").value;
  byId("token-form").reset();
  hasToken = true;
  stream.open(token);
});
byId("again").addEventListener("click", () => location.reload()); // leads through the login of a proxy, too

// ---- The connection -------------------------------------------------------------------------

const url = new URL(main.dataset.stream, document.baseURI);
let hasToken = false;
let lastEventAt = 0;
let lastBeatAt = 0; // on this connection; 0: none yet
let longestBeat = 0; // longest time between two heartbeats of this connection

function forgetBeats() {
  lastBeatAt = longestBeat = 0;
}

const handlers = {
  delete: (data) => remove(JSON.parse(data)),
  reset: () => { clear(); showCaughtUp(false); },
  "caught-up": () => showCaughtUp(true),
  goodbye: (data) => {
    showState("reconnecting");
    if (JSON.parse(data).reason !== "unauthorized") return;
    stream.forget(); // the next login may be another client's
    clear();
  },
  heartbeat: (data) => {
    if (lastBeatAt) longestBeat = Math.max(longestBeat, lastEventAt - lastBeatAt);
    lastBeatAt = lastEventAt;
    showHeartbeat(JSON.parse(data));
  },
  reauthenticate: (data) => {
    const { seconds } = JSON.parse(data);
    askForAccess("Your access ends soon", `It ends in ${numbers.format(seconds)} seconds.`, hasToken);
  },
  [main.dataset.event || "message"]: (data) => update(JSON.parse(data)),
};

const stream = new EventStream(url, {
  open(isResumed) {
    if (!isResumed) clear(); // without a position everything comes anew
    forgetBeats();
    emptyCell.textContent = emptyText;
    byId("access").hidden = true;
    delete main.dataset.access;
    showCaughtUp(false);
    showState("live");
  },
  event({ type, data }) {
    lastEventAt = performance.now();
    try {
      handlers[type]?.(data);
    } catch (error) {
      console.warn(`ignored a ${type} event:`, error, data);
    }
  },
  lost() {
    forgetBeats();
    showState(lastEventAt ? "reconnecting" : "connecting");
  },
  refused({ status, message, accepts, isFinal }) {
    forgetBeats();
    showState(isFinal ? "refused" : "ended");
    emptyCell.textContent = message; // seen while there is no row
    if (!isFinal) return;
    clear(); // it is no longer for this client
    main.dataset.access = "refused";
    const titles = { 401: hasToken ? "This token is not accepted" : "Please log in", 403: "You may not read this" };
    askForAccess(titles[status] ?? "Please log in", message, accepts.includes("bearer"));
  },
});

// A stream whose heartbeats stay away, and everything else too, is no longer there.
setInterval(() => {
  const silence = performance.now() - lastEventAt;
  if (longestBeat && silence > Math.max(SILENCE_MIN_MS, 3 * longestBeat)) {
    forgetBeats();
    showState("reconnecting");
    stream.open();
  }
}, 5_000);

byId("curl").textContent = `curl -N ${url}`;
stream.open();
