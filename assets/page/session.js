// One followed stream, whatever views look at it: its rows, its newest events, and the state of its connection. Views
// learn of changes at most once per animation frame; nothing here touches the document but to know whether it is seen.

import { follow } from "../client.js";
import { Entry, Log } from "./log.js";
import { streamUrl } from "./router.js";
import { curl } from "./snippets.js";
import { noteOf } from "./words.js";

const LOOSE_ROWS = 10_000; // of a stream without a table on the server, which alone bounds the number of keys
const PENDING_KEYS = 200_000; // above that a view reads all rows anew
const NOTES = 20;
const RATE_SECONDS = 10;
const LATENCIES = 64;
const QUIET = new Set(["heartbeat", "checkpoint", "open"]); // no entries of the log
const RECORDS = new Set(["message", "delete"]);

// Tells keys apart as the server does: a string is itself, anything else its JSON. A string that could be taken for that
// is quoted.
export function keyTextOf(key, isText = true) {
  if (typeof key !== "string") return JSON.stringify(key);
  const isMistakable = isText ? key.startsWith("{\"base64\":") : /^(?:[-\d{["]|true$|false$|null$)/.test(key);
  return isMistakable ? JSON.stringify(key) : key;
}

class Session {
  entry; // of /streams
  path; // with the values of its parameters
  rows = new Map(); // key text -> Entry
  log = new Log();
  liveFrom = Infinity; // number of the first entry that was written while it was looked at. No time: clocks may be set back
  columns = null; // a view's: `session.columns ??= session.observe(new Columns())`
  status = {
    state: "connecting", percent: null, resumed: false, retryAt: null, reason: null, code: null, status: null, message: null,
    accepts: [], eventsPerSecond: 0, latency: null, total: 0, notes: [], staleSince: null, endsAt: null, heartbeatAt: null,
    problems: [], remarks: [],
  };

  #filters;
  #from;
  #token;
  #names; // of the members that the stream adds to values
  #onlyTopic; // of a stream of one topic
  #follow = null;
  #attempt = null; // whose events and states count
  #connection = "connecting"; // state of the client library
  #lastAt = 0; // when the last event or keepalive is known to have arrived
  #observers = new Set();
  #listeners = new Set();
  #pending = this.#nothing();
  #frame = 0;
  #ticks;
  #counts = new Float64Array(RATE_SECONDS + 1);
  #second = 0;
  #liveAt = 0; // since when records are counted
  #latencies = [];
  #reopening = 0;

  constructor(entry, { path, filters = {}, from = {}, token = "" }) {
    this.entry = entry;
    this.path = path ?? entry.path;
    this.#filters = filters;
    this.#from = from;
    this.#token = token;
    this.#names = {
      key: entry.key_field, topic: entry.topic_field, partition: entry.partition_field, offset: entry.offset_field,
      timestamp: entry.timestamp_field, headers: entry.headers_field,
    };
    this.#onlyTopic = entry.topics?.length === 1 ? entry.topics[0].topic : undefined;
    this.#ticks = setInterval(() => this.#tick(), 1000);
    document.addEventListener("visibilitychange", this.#schedule);
    this.#open();
  }

  get filters() {
    return this.#filters;
  }

  get hasToken() {
    return this.#token !== "";
  }

  // The stream's URL, as one would write it: with the filters.
  get url() {
    const url = streamUrl(this.path, document.baseURI);
    for (const [name, values] of Object.entries(this.#filters)) for (const value of [values].flat()) url.searchParams.append(name, value);
    for (const [name, value] of Object.entries(this.#from)) if (value) url.searchParams.append(name, value);
    return url;
  }

  get curl() {
    const isAsked = this.status.state === "unauthorised" && this.status.accepts.includes("bearer");
    return curl(this.url.href, { token: this.hasToken || isAsked });
  }

  // ---- What views call ----

  // Calls `listener({ changed, removed, cleared, entries, status })`; gives a function that ends that.
  subscribe(listener) {
    if (!this.#listeners.size) this.#pending = this.#nothing(); // what it draws first has all of it
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  // Calls `observer.add(entry)`, `.remove(entry)` and `.clear()` for every row at once: for what is derived from all rows.
  observe(observer) {
    this.#observers.add(observer);
    for (const row of this.rows.values()) observer.add(row);
    return observer;
  }

  setFilters(filters) {
    this.#filters = filters;
    this.#beginAnew();
  }

  retry() {
    if (this.#follow?.retry) this.#follow.retry();
    else this.#open();
  }

  // Another token may be another client's: nothing of what is there remains.
  useToken(token) {
    this.#token = token;
    this.#beginAnew();
  }

  close() {
    clearTimeout(this.#reopening);
    clearInterval(this.#ticks);
    cancelAnimationFrame(this.#frame);
    document.removeEventListener("visibilitychange", this.#schedule);
    this.#listeners.clear();
    this.#attempt = null;
    this.#follow?.close();
  }

  // What the server says about the stream beside it: { percent, problems (texts; they make the rows outdated), remarks (texts of
  // other problems) }.
  hear({ percent = null, problems = [], remarks = [] }) {
    const { status } = this;
    const heard = { percent, problems, remarks };
    if (Object.entries(heard).every(([name, value]) => String(status[name]) === String(value))) return;
    Object.assign(status, heard);
    this.#showState();
  }

  // ---- The connection ----

  #beginAnew() {
    this.#clear();
    this.#open();
  }

  #open() {
    clearTimeout(this.#reopening);
    this.#follow?.close();
    const { entry } = this;
    const attempt = {};
    this.#attempt = attempt;
    this.#connection = "connecting";
    Object.assign(this.status, { retryAt: null, reason: null, code: null, status: null, message: null, accepts: [], endsAt: null });
    this.#showState();
    const start = this.#from.since ? undefined : this.#from.start ?? (entry.keeps_table ? "snapshot" : undefined);
    this.#follow = follow(streamUrl(this.path, document.baseURI).href, {
      transport: "fetch",
      // Other tabs may be another client's, unless anybody may read it.
      ...(this.#token ? { headers: { Authorization: `Bearer ${this.#token}` } } : { share: entry.public === true }),
      ...(entry.event ? { event: entry.event } : {}),
      ...(start ? { start } : {}),
      ...(this.#from.since ? { since: this.#from.since } : {}),
      filters: this.#filters,
      onEvent: (event) => { if (this.#attempt === attempt) this.#take(event); },
      onState: (status) => { if (this.#attempt === attempt) this.#heed(status); },
    });
  }

  #heed({ state, resumed = false, at = null, reason = null, status = null, code = null, message = null, accepts = [] }) {
    // Without a position everything comes anew.
    if (state === "loading" && !resumed && this.status.total > 0 && this.#connection !== "loading") this.#clear();
    if (state === "live" || state === "loading") this.#lastAt = Date.now();
    if (state === "live" && this.#connection !== "live") this.#liveAt = performance.now();
    if (state === "live") this.liveFrom = Math.min(this.liveFrom, this.log.next);
    this.#connection = state;
    Object.assign(this.status, { resumed, retryAt: at, reason, status, code, message, accepts });
    if (state === "refused" && isAccess(status, code)) this.#forget(); // it is no longer for this client
    this.#showState();
  }

  #showState() {
    const { status } = this;
    status.state = this.#stateOf();
    if (status.state === "live" || status.state === "connecting") status.staleSince = null;
    else if (["reconnecting", "draining", "stale", "refused"].includes(status.state)) status.staleSince ??= this.#lastAt || null;
    this.#pending.status = true;
    this.#schedule();
  }

  #stateOf() {
    const { reason, resumed, problems, status, code } = this.status;
    switch (this.#connection) {
      case "loading": return resumed ? "catching-up" : "loading";
      case "live": return problems.length ? "stale" : "live";
      case "reconnecting": return reason === "shutdown" ? "draining" : "reconnecting";
      case "refused": return isAccess(status, code) ? "unauthorised" : "refused";
      default: return this.#connection;
    }
  }

  // ---- Events ----

  #take({ type, data, text, lastEventId }) {
    this.#lastAt = Date.now();
    if (type === "heartbeat") this.status.heartbeatAt = Date.parse(data?.time) || this.#lastAt;
    if (QUIET.has(type)) return;
    const entry = new Entry(this.log.next, type, lastEventId ?? "", text);
    entry.value = data;
    const size = entry.size;
    if (RECORDS.has(type)) this.#record(entry, data);
    else this.#control(entry, data);
    this.log.push(entry, size);
    if (this.#pending.first < this.log.first) this.#pending.first = this.log.first;
    this.#schedule();
  }

  #record(entry, data) {
    const { status } = this;
    const isDelete = entry.type === "delete";
    const isEnvelope = this.entry.format === "envelope" && typeof data?.encoding === "string";
    const names = isEnvelope ? ENVELOPE : this.#names;
    entry.topic = member(data, names.topic) ?? this.#onlyTopic ?? (isDelete ? member(data, "topic") : undefined);
    entry.partition = member(data, names.partition);
    entry.offset = member(data, names.offset);
    entry.timestamp = member(data, names.timestamp) ?? undefined;
    entry.headers = member(data, names.headers);
    const key = member(data, names.key ?? (isDelete ? "key" : null));
    if (isEnvelope) entry.value = data.value;
    if (isDelete) entry.value = null;
    if (isEnvelope || isDelete) entry.hideText();
    status.total += 1;
    if (this.#connection === "live") this.#arrived(entry);
    if (key === undefined || key === null) return;
    entry.key = key;
    entry.keyText = this.#keyText(key, entry.topic);
    const before = this.rows.get(entry.keyText);
    entry.previous = before?.value;
    if (isDelete) this.#remove(entry.keyText, before);
    else this.#set(entry, before);
  }

  #keyText(key, topic) {
    const text = keyTextOf(key, (this.entry.key_format ?? "text") === "text");
    return this.entry.topics?.length > 1 && topic !== undefined ? `${topic}\u0000${text}` : text;
  }

  #set(entry, before) {
    const { keyText } = entry;
    if (before && this.#observers.size) for (const observer of this.#observers) observer.remove(before);
    if (this.entry.keeps_table === false) {
      this.rows.delete(keyText); // the first is the one that has not changed for longest
      const [oldest] = this.rows.size >= LOOSE_ROWS ? this.rows.keys() : [];
      if (oldest !== undefined) this.#remove(oldest, this.rows.get(oldest));
    }
    this.rows.set(keyText, entry);
    for (const observer of this.#observers) observer.add(entry);
    this.#pending.removed.delete(keyText);
    this.#changed(this.#pending.changed, keyText);
  }

  #remove(keyText, row) {
    if (!row) return;
    this.rows.delete(keyText);
    for (const observer of this.#observers) observer.remove(row);
    this.#pending.changed.delete(keyText);
    this.#changed(this.#pending.removed, keyText);
  }

  #changed(keys, keyText) {
    const pending = this.#pending;
    keys.add(keyText);
    if (pending.changed.size + pending.removed.size <= PENDING_KEYS) return;
    pending.changed.clear();
    pending.removed.clear();
    pending.cleared = pending.all = true;
  }

  #control(entry, data) {
    const { status } = this;
    const { type } = entry;
    const note = noteOf(type, data);
    if (note) status.notes = [...status.notes, { at: entry.at, type, text: note }].slice(-NOTES);
    if (type === "reset") this.#reset(data?.topic);
    if (type === "reauthenticate" && Number.isFinite(data?.seconds)) status.endsAt = Date.now() + data.seconds * 1000;
    if (type === "goodbye" && data?.reason === "unauthorized") this.#forget();
    if (note || status.endsAt) this.#pending.status = true;
  }

  #reset(topic) {
    if (typeof topic !== "string" || this.#onlyTopic === topic || !this.rows.size) {
      this.#clearRows();
      return;
    }
    // Where rows do not name their topics, which of them go is not known: all come anew, after this event.
    const isUnknown = [...this.rows.values()].some((row) => row.topic === undefined);
    if (isUnknown) {
      this.#reopening = setTimeout(() => this.#beginAnew(), 0);
      return;
    }
    for (const [keyText, row] of this.rows) if (row.topic === topic) this.#remove(keyText, row);
  }

  // The next login may be another client's, so the next connection begins anew.
  #forget() {
    this.#clear();
    this.#follow?.forget();
  }

  #clear() {
    this.log.clear();
    this.liveFrom = Infinity;
    this.#pending.first = this.log.first;
    this.status.notes = [];
    this.#clearRows();
  }

  #clearRows() {
    this.rows.clear();
    for (const observer of this.#observers) observer.clear();
    this.#pending.changed.clear();
    this.#pending.removed.clear();
    this.#pending.cleared = true;
    this.#schedule();
  }

  // ---- Figures ----

  // What comes while it loads or catches up says nothing about how much is written.
  #arrived({ at, timestamp }) {
    if (Number.isFinite(timestamp)) this.#sample(at - timestamp);
    const second = Math.floor(performance.now() / 1000);
    this.#pass(second);
    this.#counts[second % this.#counts.length] += 1;
  }

  #pass(second) {
    const passed = Math.min(second - this.#second, this.#counts.length);
    for (let step = 1; step <= passed; step += 1) this.#counts[(this.#second + step) % this.#counts.length] = 0;
    this.#second = Math.max(this.#second, second);
  }

  #sample(latency) {
    this.#latencies.push(Math.max(0, latency));
    if (this.#latencies.length > LATENCIES) this.#latencies.shift();
  }

  #tick() {
    const now = performance.now();
    const second = Math.floor(now / 1000);
    this.#pass(second);
    const current = this.#counts[second % this.#counts.length];
    const sum = this.#counts.reduce((all, one) => all + one, 0) - current;
    const seconds = Math.min(RATE_SECONDS, Math.max(1, Math.floor((now - this.#liveAt) / 1000)));
    this.status.eventsPerSecond = sum / seconds;
    const sorted = [...this.#latencies].sort((one, other) => one - other);
    this.status.latency = sorted.length ? sorted[sorted.length >> 1] : null;
    this.#pending.status = true;
    this.#schedule();
  }

  // ---- Once per frame ----

  #schedule = () => {
    if (!this.#frame && this.#listeners.size && !document.hidden) this.#frame = requestAnimationFrame(() => this.#tell());
  };

  // `first`: number of the first entry that listeners have not got; `all`: too many keys to name.
  #nothing() {
    return { changed: new Set(), removed: new Set(), cleared: false, all: false, first: this.log.next, status: false };
  }

  #tell() {
    this.#frame = 0;
    const { changed, removed, cleared, first, status, all } = this.#pending;
    const from = Math.max(first, this.log.first);
    const entries = [];
    for (let number = from; number < this.log.next; number += 1) entries.push(this.log.get(number));
    this.#pending = this.#nothing();
    const change = { changed: all ? new Set(this.rows.keys()) : changed, removed, cleared, entries, status };
    for (const listener of [...this.#listeners]) {
      try {
        listener(change);
      } catch (error) {
        console.error(error);
      }
    }
  }
}

const ENVELOPE = { key: "key", topic: "topic", partition: "partition", offset: "offset", timestamp: "timestamp", headers: "headers" };

function member(data, name) {
  return name && data !== null && typeof data === "object" && Object.hasOwn(data, name) ? data[name] : undefined;
}

// Whether a login would help: a redirect (0), or a page in place of the stream, is that of a proxy.
function isAccess(status, code) {
  return status === 401 || status === 0 || (status >= 200 && status < 300) || (status === 403 && code !== "filters_forbidden" && code !== "hidden_value");
}

// `entry` is that of /streams. Options: `path` (that of the entry with its parameters' values), `filters`, `from`
// ({ start, since }), `token`.
export function openSession(entry, options = {}) {
  return new Session(entry, options);
}
