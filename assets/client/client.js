// Follows event streams of kafka-sse-bridge. Documented in client.d.ts.

const MAX_WAIT = 30_000; // ms, beyond the server's reconnect time
const MAX_QUEUE = 1_000; // events before an iterator; then reading pauses
const MAX_HEARD = 1_000; // messages, while a tab catches up
const TICKS = 3; // in `silence`. Counted, not measured: clocks may jump
const LONGEST = 2 ** 31 - 1; // ms of a timer; longer ones end at once

// Their id is that of the position. Others may lack one, and count with the next event that has one.
const MARKS = ["caught-up", "checkpoint", "goodbye", "heartbeat", "reauthenticate"];
const NAMES = [...MARKS, "conflated", "delete", "gap", "message", "reset"];

class StreamEvent {
  #data;
  constructor(type, text, lastEventId) {
    Object.assign(this, { type, text, lastEventId });
  }

  get data() {
    if (this.#data === undefined) {
      try {
        this.#data = JSON.parse(this.text);
      } catch {
        this.#data = this.text;
      }
    }
    return this.#data;
  }
}

// ---- One connection: on.open(), on.heard(), on.retry(ms), on.event(type, text, id), at its end on.lost(why)

async function byFetch(url, id, { headers, withCredentials }, signal, on) {
  let why;
  try {
    const sent = new Headers(await (typeof headers === "function" ? headers() : headers));
    sent.set("Accept", "text/event-stream");
    if (id) sent.set("Last-Event-ID", id);
    const credentials = withCredentials ? "include" : "same-origin";
    const response = await fetch(url, { headers: sent, credentials, signal, cache: "no-store", redirect: "manual" });
    why = await refusal(response);
    if (!why) {
      on.open();
      const parse = parser(id, on);
      const decoder = new TextDecoder();
      const reader = response.body.getReader();
      for (let part; !signal.aborted && !(part = await reader.read()).done; await on.full?.()) {
        on.heard();
        parse(decoder.decode(part.value, { stream: true }));
      }
    }
  } catch (error) {
    why = { message: error?.message }; // an application's function may throw anything
  }
  if (!signal.aborted) on.lost(why);
}

// Splits text into events (HTML standard, section 9.2.6).
function parser(id, on) {
  let rest = "";
  let type = "";
  let data = [];
  return (text) => {
    const lines = text.split("\n");
    lines[0] = rest + lines[0];
    rest = lines.pop();
    for (let line of lines) {
      if (line.endsWith("\r")) line = line.slice(0, -1);
      const [, name, value] = /^([^:]*)(?:: ?)?([^]*)/.exec(line);
      if (name === "data") data.push(value);
      else if (name === "event") type = value;
      else if (name === "id") id = value;
      else if (name === "retry" && /^\d+$/.test(value)) on.retry(Number(value));
      if (line !== "") continue;
      if (data.length) on.event(type || "message", data.join("\n"), id);
      type = "";
      data = [];
    }
  };
}

// Why a response is no stream.
async function refusal(response) {
  const { status, ok, headers } = response;
  const type = headers.get("content-type") ?? "";
  if (ok && type.startsWith("text/event-stream")) return;
  const redirects = response.type === "opaqueredirect" || (status > 299 && status < 400);
  // Anything but JSON is not read: it may never end.
  const error = redirects ? { code: "redirected", message: "Please log in." }
    : type.includes("json") && (await response.json().catch(() => null))?.error;
  const isBearer = /^bearer/i.test(headers.get("www-authenticate"));
  const after = headers.get("retry-after"); // seconds or a date, which is by the server's clock
  return {
    final: redirects || ok || (status > 399 && status < 500 && ![408, 425, 429].includes(status)),
    wait: 1_000 * after || Date.parse(after) - (Date.parse(headers.get("date")) || Date.now()) || 0,
    reason: "refused",
    status,
    code: error?.code ?? "",
    message: error?.message ?? `The server answers ${status} without a stream.`,
    accepts: error?.accepts ?? (isBearer ? ["bearer"] : []),
  };
}

function byEventSource(url, id, options, signal, on) {
  // A new EventSource sends no id, so it goes into the URL.
  const target = new URL(url);
  if (id) target.searchParams.set("lastEventId", id);
  const source = new EventSource(target, options);
  signal.addEventListener("abort", () => source.close());
  source.onopen = () => on.open(true);
  const hear = ({ type, data, lastEventId }) => {
    on.heard();
    on.event(type, data, lastEventId || id);
  };
  for (const name of new Set([...NAMES, options.event ?? "message"])) source.addEventListener(name, hear);
  source.onerror = () => {
    // Given up: a fetch says why.
    if (source.readyState === EventSource.CLOSED) byFetch(url, id, options, signal, on);
    else on.lost();
  };
}

// ---- Stays connected: on.events(events, id before them), on.status(status), on.full()

function stayConnected(url, options, on) {
  const { event: own, headers, silence = 45_000, transport } = options;
  const isNative = transport ? transport === "eventsource" : !headers && globalThis.EventSource;
  const connect = isNative ? byEventSource : byFetch;
  let position = ""; // the last id that came with its event
  let retry = 1_500 + 1_000 * Math.random(); // until the server says, which EventSource keeps to itself
  let attempt = 0;
  let connection, watch, timer;

  function halt() {
    connection?.abort();
    clearInterval(watch);
    clearTimeout(timer);
  }

  function lost({ final, wait = 0, reason = "lost", ...more } = {}) {
    halt();
    if (final) return on.status({ state: "refused", ...more });
    wait = Math.min(Math.max(wait, retry) + Math.random() * Math.min(MAX_WAIT, retry * (2 ** attempt - 1)), LONGEST);
    attempt += 1;
    timer = setTimeout(open, wait);
    on.status({ state: "reconnecting", at: Math.round(Date.now() + wait), attempt, reason, ...more });
  }

  function open() {
    halt();
    let held = [];
    let quiet = 0;
    let limit = TICKS;
    const { signal } = (connection = new AbortController());
    watch = setInterval(() => {
      quiet = on.full?.() ? 0 : quiet + 1;
      if (quiet > limit) lost({ reason: "silent" });
    }, Math.min(silence / TICKS, LONGEST));
    const resumed = position !== "";
    connect(url, position, options, signal, {
      full: on.full,
      lost,
      open(hidesComments) {
        if (hidesComments) limit = Infinity; // until there are heartbeats
        on.status({ state: "loading", resumed });
      },
      heard: () => (quiet = 0),
      retry: (ms) => (retry = ms || retry),
      event(type, text, id) {
        if (signal.aborted) return;
        if (type === own) type = "message";
        if (type === "heartbeat") limit = TICKS;
        if (type === "goodbye" && id === position) held = [];
        held.push(new StreamEvent(type, text, id));
        if (id && id === position && !MARKS.includes(type)) return;
        const events = held;
        const from = position;
        held = [];
        position = id;
        if (type !== "goodbye") attempt = 0;
        on.events(events, from);
        if (signal.aborted) return;
        if (type === "caught-up") on.status({ state: "live" });
        if (type === "goodbye") {
          const { reason } = events.at(-1).data;
          lost({ reason, wait: isNative && /overl|unav/.test(reason) ? 15_000 * (1 + 3 * Math.random()) : 0 });
        }
      },
    });
  }

  return {
    isOpen: false,
    open(id = position) {
      this.isOpen = true;
      position = id;
      attempt = 0;
      open();
    },
    retry() {
      on.status({ state: "connecting" }); // so that the same refusal again is said again
      this.open();
    },
    close() {
      this.isOpen = false;
      halt();
    },
    forget: () => (position = ""),
  };
}

// ---- One connection for all tabs
//
// A lock elects a leader, which has the connection, and posts its events with the id before them. Another tab delivers a
// message if and only if that id is its own position. So whatever is lost, late, doubled or out of order (a leader that slept
// and wakes, two at once, a tab back from the browser's cache), each tab sees what a connection of its own would have shown.
// A tab that does not get on by what it hears (it begins in the past, or missed something) reads a connection of its own
// until it has an id that was heard.

function shared(name, url, options, on) {
  const { lastEventId, silence = 45_000, start, transport = "fetch" } = options;
  let at = lastEventId || (start === "live" ? undefined : ""); // the position; undefined is wherever the leader is
  let heard = []; // messages that begin elsewhere
  let head; // the last id heard
  let status = { state: "connecting" }; // of this tab's feed, or the leader's that it follows
  let leaderStatus = status;
  let isLeading, isSettled, quiet, channel, election, timer, watch;

  const feed = stayConnected(url, { ...options, transport }, {
    events(events, from) {
      at = events.at(-1).lastEventId;
      if (isLeading) say(from, events);
      on.events(events);
      if (channel && !isLeading) proceed();
    },
    status(now) {
      status = now;
      if (isLeading) say();
      on.status(now);
    },
  });

  const ask = (what) => channel?.postMessage({ ask: what });

  function say(from = at, events) {
    const posted = events?.map(({ type, text, lastEventId }) => [type, text, lastEventId]);
    channel.postMessage({ from, id: at, events: posted, status });
  }

  function hear({ data }) {
    if (!data.ask) {
      quiet = 0;
      head = data.id;
      leaderStatus = data.status;
      heard = [...heard.slice(1 - MAX_HEARD), data];
      if (!isLeading) proceed();
    } else if (isLeading) {
      if (data.ask === "retry") feed.retry();
      say();
    }
  }

  // Delivers what leads on from here.
  function proceed() {
    at ??= heard[0]?.from;
    for (let index = 0; index < heard.length; index += 1) {
      const { from, id, events = [] } = heard[index];
      // What is without progress is of the leader's connection alone.
      if (!isSame(from, at) || (feed.isOpen && isSame(from, id))) continue;
      heard.splice(0, index + 1);
      index = -1;
      feed.close();
      at = id;
      on.events(events.map((event) => new StreamEvent(...event)));
      if (!channel) return;
    }
    if (head !== undefined && isSame(head, at)) {
      feed.close();
      heard = [];
      settle();
      on.status((status = leaderStatus));
    } else if (!feed.isOpen) {
      if (isSettled) timer ??= setTimeout(catchUp, 1_000); // a new leader may be about to say it
      else catchUp();
    }
  }

  function settle() {
    isSettled = true;
    clearTimeout(timer);
    timer = undefined;
  }

  function catchUp() {
    settle();
    feed.open((at ??= ""));
  }

  function elect(steal) {
    election?.abort();
    const { signal } = (election = new AbortController());
    const hold = (release) => {
      signal.addEventListener("abort", release);
      isLeading = true;
      heard = [];
      if (!feed.isOpen) catchUp();
      say();
    };
    navigator.locks.request(name, steal ? { steal } : { signal }, () => signal.aborted || new Promise(hold))
      .catch((error) => {
        if (signal.aborted) return;
        isLeading = false;
        if (error.name !== "AbortError") return feed.isOpen || catchUp(); // no locks for this page
        // Stolen, because this tab was asleep.
        elect();
        ask("status");
        proceed();
      });
  }

  function join() {
    if (channel) return;
    channel = new BroadcastChannel(name);
    channel.onmessage = hear;
    quiet = 0;
    elect();
    ask("status");
    timer = setTimeout(catchUp, 1_000); // nobody leads, nobody answers
    watch = setInterval(() => {
      if (isLeading) return;
      quiet += 1;
      if (quiet === TICKS - 1) ask("status");
      if (quiet > TICKS) {
        quiet = 0;
        elect(true); // the leader is asleep
      }
    }, Math.min(silence / TICKS, LONGEST));
  }

  function leave() {
    election?.abort();
    channel?.close();
    clearInterval(watch);
    settle();
    feed.close();
    heard = [];
    channel = head = isLeading = undefined;
  }

  // A page that is frozen or cached lets others lead.
  const gone = new AbortController();
  for (const [type, listener] of [["freeze", leave], ["pagehide", leave], ["resume", join], ["pageshow", join]]) {
    globalThis.addEventListener?.(type, listener, { capture: true, signal: gone.signal });
  }

  return {
    open: join,
    retry: () => (feed.isOpen ? feed.retry() : ask("retry")),
    forget() {
      at = "";
      heard = [];
      feed.forget();
    },
    close() {
      gone.abort();
      leave();
    },
  };
}

function isSame(id, other) {
  return id === other || place(id) === place(other);
}

// An id without the time up to which deletes are known, which differs between connections.
function place(id = "") {
  try {
    const bytes = atob(id.replaceAll("-", "+").replaceAll("_", "/"));
    return bytes.charCodeAt(0) % 2 ? bytes : bytes.replace(/^.[\x80-\xff]*[^]/, "");
  } catch {
    return id; // of KafkaSSE
  }
}

export function follow(url, options = {}) {
  const { filters, headers, onEvent, onState, share, signal, since, start, throttle } = options;
  const target = new URL(url, globalThis.document?.baseURI ?? globalThis.location);
  for (const [name, values] of Object.entries({ ...filters, since, start, throttle })) {
    for (const value of [values].flat()) if (value !== undefined) target.searchParams.append(name, value);
  }
  const queue = []; // for the iterator
  let isIterated = false;
  let last; // what next() has promised
  let wake, space, resume;

  function status(now) {
    if (self.state.state === "closed" || JSON.stringify(now) === JSON.stringify(self.state)) return;
    self.state = now;
    wake?.();
    call(onState, now);
  }

  const on = {
    status,
    events(events) {
      for (const event of events) {
        if (self.state.state === "closed") return;
        self.lastEventId = event.lastEventId;
        if (isIterated) queue.push(event);
        call(onEvent, event);
      }
      wake?.();
    },
    full: () => (queue.length > MAX_QUEUE ? (space ??= new Promise((done) => (resume = done))) : undefined),
  };

  async function take() {
    while (!queue.length) {
      resume?.();
      space = undefined;
      const { state } = self.state;
      if (state === "closed") return { done: true };
      if (state === "refused") {
        const error = Object.assign(new Error(self.state.message), self.state);
        self.close();
        throw error;
      }
      await new Promise((done) => (wake = done));
    }
    return { value: queue.shift(), done: false };
  }

  const self = {
    state: { state: "connecting" },
    lastEventId: options.lastEventId ?? "",
    retry: () => self.state.state === "closed" || source.retry(),
    forget() {
      self.lastEventId = "";
      source.forget();
    },
    close() {
      if (self.state.state === "closed") return;
      signal?.removeEventListener("abort", self.close);
      source.close();
      queue.length = 0;
      resume?.();
      status({ state: "closed" });
    },
    // No generator: that would let return() wait for an event, as next() does.
    [Symbol.asyncIterator]() {
      isIterated = true;
      return {
        next: () => (last = Promise.allSettled([last]).then(take)),
        async return(value) {
          self.close();
          return { value, done: true };
        },
      };
    },
  };

  if (headers && share === true) throw new TypeError("with headers, share is a string that names the login");
  const canShare = share && globalThis.navigator?.locks && globalThis.BroadcastChannel;
  // The URL first: the name of a lock must not begin with a hyphen.
  const source = canShare ? shared(`${target} ${share}`, target, options, on) : stayConnected(target, options, on);
  if (signal?.aborted) self.close();
  else {
    signal?.addEventListener("abort", self.close);
    source.open(self.lastEventId);
  }
  return self;
}

// Reports what the application's functions throw.
function call(callback, value) {
  try {
    callback?.(value);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

export function table(url, options = {}) {
  const { key = "key", topic, value, onChange, onEvent, onState } = options;
  const rows = new Map();
  const topics = new Map(); // of keys, where they are known
  const changes = new Map();
  let timer;

  const member = (data, name) => (typeof name === "function" ? name(data) : data?.[name]);

  function keyOf(data) {
    const found = member(data, key) ?? undefined;
    return typeof found === "object" ? JSON.stringify(found) : found;
  }

  function change(type, changed, now) {
    const before = rows.get(changed);
    if (type === "set") rows.set(changed, now);
    else if (!rows.delete(changed)) return;
    else topics.delete(changed);
    const earlier = changes.get(changed);
    changes.delete(changed);
    changes.set(changed, { type, key: changed, value: now, previous: earlier ? earlier.previous : before });
    soon();
  }

  function clear() {
    rows.clear();
    topics.clear();
    changes.clear();
    changes.set(changes, { type: "clear" });
    soon();
  }

  function soon() {
    if (timer) return;
    globalThis.requestAnimationFrame?.(flush);
    timer = setTimeout(flush, 100); // hidden tabs have no frames
  }

  function flush() {
    if (!timer) return;
    clearTimeout(timer);
    timer = 0;
    const list = [...changes.values()];
    changes.clear();
    if (self.state.state !== "closed") call(onChange, list);
  }

  function apply({ type, data }) {
    if (type === "reset") {
      if (!data.topic) return clear();
      for (const one of [...rows.keys()]) if ((topics.get(one) ?? data.topic) === data.topic) change("delete", one);
    } else if (type === "goodbye" && data.reason === "unauthorized") {
      expel();
    } else if (type === "message" || type === "delete") {
      const found = keyOf(data);
      if (found === undefined) return;
      const isEnvelope = data?.encoding !== undefined && "value" in data;
      const from = topic ? member(data, topic) : isEnvelope ? data.topic : undefined;
      if (type === "delete") return change("delete", found);
      if (from !== undefined) topics.set(found, from);
      change("set", found, value ? member(data, value) : isEnvelope ? data.value : data);
    }
  }

  // The next login may be another client's, which sees other rows.
  function expel() {
    clear();
    self.forget();
  }

  const self = follow(url, {
    ...options,
    onEvent(event) {
      call(apply, event);
      call(onEvent, event);
    },
    onState(now) {
      if (now.state === "refused") expel();
      call(onState, now);
    },
  });
  return Object.assign(self, { rows });
}
