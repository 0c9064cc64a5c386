// What the server says about its streams: /streams and /health/ready, asked again and again while the page is seen. Either
// may be reduced, or missing; then less is known, and the page shows less.

import { explain } from "./problems.js";

const PAUSE_MS = { home: 2_000, stream: 5_000 };
const PAUSE_MAX_MS = 20_000;
const TIMEOUT_MS = 10_000;
const SAMPLES = 60;

// Members of an entry that change what a session reads.
const DEFINING = [
  "format", "event", "key_field", "topic_field", "partition_field", "offset_field", "timestamp_field", "headers_field",
  "key_format", "value_format", "keeps_table",
];

export function definitionOf(entry) {
  return JSON.stringify([DEFINING.map((name) => entry[name] ?? null), entry.topics?.map(({ topic }) => topic) ?? []]);
}

export class Streams {
  entries = []; // as in /streams, which may lack any member
  isKnown = false; // whether the server has said which streams there are
  isFull = false; // with figures, for operators
  isMissing = false; // the server does not list its streams
  hidden = false; // there are others, which a known client may see
  accepts = []; // how clients may say who they are
  error = null; // { code, message }: why the token, or the certificate, is not accepted
  problems = []; // of explain()
  ready = null;
  draining = false;
  failedSince = null; // when the server last stopped answering, in milliseconds since 1970
  rates = new Map(); // path -> [{ at, rate }], the newest last

  #base;
  #token = "";
  #hasHealth = true;
  #hasDetails = false;
  #progress = {};
  #counts = new Map(); // path -> { at, records }
  #listeners = new Set();
  #pause = "stream";
  #failures = 0;
  #timer = 0;
  #round = null;

  constructor(base) {
    this.#base = base;
    document.addEventListener("visibilitychange", () => {
      clearTimeout(this.#timer);
      if (!document.hidden) this.refresh();
    });
  }

  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  // How often to ask: "home" or "stream".
  setPace(pace) {
    const isFaster = PAUSE_MS[pace] < PAUSE_MS[this.#pause];
    this.#pause = pace;
    if (isFaster) this.refresh();
  }

  // What another client may see is asked anew.
  useToken(token) {
    this.#token = token;
    this.#round?.abort();
    this.#round = null;
    return this.refresh();
  }

  // Asks now. Resolves when the answers are there.
  async refresh() {
    if (this.#round) return;
    clearTimeout(this.#timer);
    const round = new AbortController();
    this.#round = round;
    const timeout = setTimeout(() => round.abort(), TIMEOUT_MS);
    try {
      const [streams, health] = await Promise.all([this.#ask("streams", round.signal), this.#hasHealth ? this.#ask("health/ready", round.signal) : null]);
      if (this.#round !== round) return;
      this.#takeHealth(health);
      this.#takeStreams(streams);
      this.#failures = 0;
      this.failedSince = null;
    } catch {
      if (this.#round !== round) return;
      this.#failures += 1;
      this.failedSince ??= Date.now();
    } finally {
      clearTimeout(timeout);
    }
    this.#round = null;
    const pause = Math.min(PAUSE_MAX_MS, PAUSE_MS[this.#pause] * 2 ** this.#failures);
    if (!document.hidden) this.#timer = setTimeout(() => this.refresh(), pause);
    for (const listener of [...this.#listeners]) listener(this);
  }

  async #ask(path, signal) {
    const headers = { Accept: "application/json", ...(this.#token ? { Authorization: `Bearer ${this.#token}` } : {}) };
    const response = await fetch(new URL(path, this.#base), { headers, signal, cache: "no-store", redirect: "manual" });
    const isJson = /^application\/json\b/i.test(response.headers.get("content-type") ?? "");
    const body = isJson ? await response.json() : null;
    if (!isJson && response.status >= 500) throw new Error(`${path}: ${response.status}`); // of a proxy: the server is away
    return { status: response.type === "opaqueredirect" ? 401 : response.status, body };
  }

  #takeHealth(answer) {
    if (!answer) return;
    const { status, body } = answer;
    if (typeof body?.ready !== "boolean") {
      if (status === 404) this.#hasHealth = false;
      return;
    }
    this.ready = body.ready;
    this.draining = body.draining === true;
    this.#hasDetails = Array.isArray(body.degraded);
    this.#progress = body.progress ?? {};
    this.problems = this.#hasDetails ? body.degraded.map(explain) : [];
  }

  #takeStreams({ status, body }) {
    if (!Array.isArray(body?.streams)) {
      this.isMissing = status === 404;
      this.error = status === 401 || status === 403 ? body?.error ?? null : null;
      this.accepts = this.error?.accepts ?? [];
      this.hidden = status === 401 || status === 403;
      if (this.hidden) this.entries = [];
      this.isKnown = this.isKnown || this.isMissing || this.hidden;
      this.isFull = false;
      return;
    }
    this.isMissing = false;
    this.isKnown = true;
    this.entries = body.streams.filter((entry) => typeof entry?.path === "string" && entry.path.startsWith("/"));
    this.isFull = Boolean(body.http); // without, it is the reduced form
    this.error = body.error ?? null;
    this.hidden = body.hidden === true;
    this.accepts = Array.isArray(body.accepts) ? body.accepts : [];
    if (!this.#hasDetails && Array.isArray(body.kafka?.degraded)) this.problems = body.kafka.degraded.map(explain);
    const at = performance.now();
    for (const entry of this.entries) this.#count(entry, at);
    for (const path of this.rates.keys()) if (!this.entries.some((entry) => entry.path === path)) this.#lose(path);
  }

  #lose(path) {
    this.rates.delete(path);
    this.#counts.delete(path);
  }

  #count({ path, records }, at) {
    if (!Number.isFinite(records)) return this.#lose(path);
    const before = this.#counts.get(path);
    this.#counts.set(path, { at, records });
    // Fewer than before: another daemon, or the same after a restart.
    if (!before || records < before.records || at - before.at < 200) return;
    const samples = this.rates.get(path) ?? [];
    samples.push({ at: Date.now(), rate: (records - before.records) / ((at - before.at) / 1000) });
    this.rates.set(path, samples.slice(-SAMPLES));
  }

  // How much of a stream's topics the server has read, in percent, rounded down; null when all, or not known.
  percentOf(entry) {
    if (entry.loaded !== false) return null;
    if (Number.isFinite(entry.progress)) return entry.progress;
    const known = (entry.topics ?? []).map(({ topic }) => (Object.hasOwn(this.#progress, topic) ? this.#progress[topic] : null));
    const numbers = known.filter(Number.isFinite);
    return numbers.length ? Math.min(...numbers) : null;
  }

  // The problems that concern a stream.
  problemsOf(entry) {
    return this.problems.filter(({ stream, topic }) => (stream ? stream === entry.path
      : topic ? entry.topics?.some((each) => each.topic === topic) : true));
  }
}
