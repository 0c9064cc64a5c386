// A browser, a broker and daemons in one process and in virtual time: tabs that share one connection, and everything that can
// happen to them. Each seed is one course of events. The channel here keeps less order than any browser's: only messages of
// the same sender arrive in order, and some are lost.

import { readFileSync } from "node:fs";

const SOURCE = readFileSync(process.env.CLIENT ?? new URL("../../../assets/client/client.js", import.meta.url), "utf8");
const GLOBALS = [
  "globalThis", "navigator", "BroadcastChannel", "fetch", "setTimeout", "clearTimeout", "setInterval", "clearInterval", "Math",
];
const load = new Function(...GLOBALS, `${SOURCE.replaceAll(/^export /gm, "")}\nreturn { follow, table };`);

const PARTITIONS = 2;

/** A generator of numbers from 0 up to 1 (mulberry32). */
export function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** An id as the daemon makes it on a stream with a table, without epochs. */
function writeId(position, time) {
  const varint = (value) => (value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))]);
  return Buffer.from([2, ...varint(time), 1, 2, 3, 4, 0, 0, 0, 0, ...[PARTITIONS, ...position].flatMap(varint)]).toString("base64url");
}

function readId(id) {
  const bytes = [...Buffer.from(id, "base64url")];
  let at = 1;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++];
      value += (byte % 128) * factor;
      if (byte < 128) return value;
    }
  };
  varint();
  at += 8;
  varint();
  return Array.from({ length: PARTITIONS }, varint);
}

export class World {
  now = 0;
  tabs = [];
  #tasks = []; // sorted by time, then by number
  #number = 0;
  #locks = new Map(); // name -> [{ tab, callback, resolve, reject, signal }], the first holds it
  #logs = [[], []]; // of two daemons that read the partitions in different interleavings: [partition, offset]
  #written = new Array(PARTITIONS).fill(0);
  #connections = new Set();
  isDown = false;
  refuses = false;
  losesMessages = true;

  constructor(seed) {
    this.random = random(seed);
  }

  between(from, to) {
    return from + this.random() * (to - from);
  }

  chance(part) {
    return this.random() < part;
  }

  /** Runs `run` in a tab after `delay`. A frozen tab does so when it wakes, a dead one never. */
  task(tab, delay, run) {
    const task = { at: this.now + delay, number: (this.#number += 1), tab, run, isOver: false };
    this.#insert(task);
    return task;
  }

  #insert(task) {
    let low = 0;
    let high = this.#tasks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#tasks[middle].at <= task.at) low = middle + 1;
      else high = middle;
    }
    this.#tasks.splice(low, 0, task);
  }

  /** Runs all tasks up to this time. */
  async until(time) {
    while (this.#tasks.length && this.#tasks[0].at <= time) {
      const task = this.#tasks.shift();
      this.now = task.at;
      if (task.isOver || task.tab?.isDead) continue;
      if (task.tab?.isFrozen) {
        task.tab.backlog.push(task);
        continue;
      }
      task.isOver = true;
      task.run();
      await new Promise(setImmediate); // everything that follows from it without waiting
    }
    this.now = time;
  }

  thaw(tab) {
    tab.isFrozen = false;
    for (const task of tab.backlog.splice(0)) {
      task.at = this.now;
      this.#insert(task);
    }
  }

  kill(tab) {
    tab.isDead = true;
    this.#endConnections((connection) => connection.tab === tab);
    for (const [name, queue] of this.#locks) {
      const [holder] = queue;
      this.#locks.set(name, queue.filter((request) => request.tab !== tab));
      if (holder?.tab === tab) this.#grant(name);
    }
    for (const channel of tab.channels) channel.close();
  }

  // ---- Locks

  locks(tab) {
    return {
      request: (name, { signal, steal }, callback) => new Promise((resolve, reject) => {
        if (name.startsWith("-")) return reject(new DOMException("a name that is reserved", "NotSupportedError"));
        const request = { tab, callback, resolve, reject };
        let queue = this.#locks.get(name) ?? [];
        if (steal) {
          const [holder] = queue;
          queue = queue.slice(1);
          if (holder) this.task(holder.tab, 1, () => holder.reject(new DOMException("stolen", "AbortError")));
          queue.unshift(request);
        } else {
          queue.push(request);
        }
        this.#locks.set(name, queue);
        signal?.addEventListener("abort", () => {
          const now = this.#locks.get(name);
          if (request.isGranted || !now.includes(request)) return;
          now.splice(now.indexOf(request), 1);
          if (now.length) this.#grant(name);
          reject(new DOMException("aborted", "AbortError"));
        });
        if (queue[0] === request) this.#grant(name);
      }),
    };
  }

  #grant(name) {
    const [request] = this.#locks.get(name) ?? [];
    if (!request || request.isGranted || request.isOnItsWay) return;
    request.isOnItsWay = true;
    this.task(request.tab, this.between(0.1, 5), () => {
      if (this.#locks.get(name)[0] !== request) return;
      request.isGranted = true;
      const release = (value) => {
        const queue = this.#locks.get(name);
        if (queue[0] === request) {
          queue.shift();
          this.#grant(name);
        }
        request.resolve(value);
      };
      Promise.resolve(request.callback({})).then(release);
    });
  }

  // ---- Channels

  channelClass(tab) {
    const world = this;
    return class {
      constructor(name) {
        this.name = name;
        this.arrivals = new Map(); // receiver -> when the last message arrives
        tab.channels.add(this);
      }

      postMessage(message) {
        if (!tab.channels.has(this)) throw new DOMException("closed", "InvalidStateError");
        const copy = structuredClone(message);
        for (const other of world.tabs) {
          for (const channel of other.channels) {
            if (channel === this || channel.name !== this.name) continue;
            if (world.losesMessages && world.chance(0.01)) continue;
            const at = Math.max(this.arrivals.get(channel) ?? 0, world.now + world.between(0.1, world.chance(0.1) ? 50 : 3));
            this.arrivals.set(channel, at);
            world.task(other, at - world.now, () => other.channels.has(channel) && channel.onmessage?.({ data: copy }));
          }
        }
      }

      close() {
        tab.channels.delete(this);
      }
    };
  }

  // ---- Daemons

  /** Both daemons read the record, in their own interleaving. */
  write(partition) {
    const record = [partition, this.#written[partition]];
    this.#written[partition] += 1;
    for (const log of this.#logs) {
      const delay = this.between(0, 20);
      log.arrival = log.arrival ?? new Array(PARTITIONS).fill(0);
      const at = Math.max(log.arrival[partition], this.now + delay);
      log.arrival[partition] = at;
      this.task(null, at - this.now, () => {
        log.push(record);
        for (const connection of this.#connections) if (connection.log === log) connection.send();
      });
    }
  }

  get written() {
    return [...this.#written];
  }

  get connections() {
    return this.#connections.size;
  }

  /** The daemons end; `down()` until `isDown` is cleared. With or without a goodbye. */
  down(isPolite) {
    this.isDown = true;
    if (isPolite) for (const connection of this.#connections) connection.goodbye();
    this.#endConnections(() => true);
  }

  cut() {
    const all = [...this.#connections];
    const one = all[Math.floor(this.random() * all.length)];
    this.#endConnections((connection) => connection === one);
  }

  #endConnections(which) {
    for (const connection of [...this.#connections]) if (which(connection)) connection.end();
  }

  fetch(tab, url, { headers, signal }) {
    const id = headers.get("last-event-id");
    return new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason));
      this.task(tab, this.between(1, 10), () => {
        if (signal.aborted) return;
        if (this.refuses) return resolve(new Response("{}", { status: 403 }));
        if (this.isDown && this.chance(0.5)) return reject(new TypeError("refused"));
        if (this.isDown) return resolve(new Response("<h1>", { status: 502, headers: { "content-type": "text/html" } }));
        resolve(this.#stream(tab, id, url.searchParams.get("start"), signal));
      });
    });
  }

  #stream(tab, id, start, signal) {
    const world = this;
    const log = this.#logs[this.chance(0.5) ? 0 : 1];
    const heads = () => Array.from({ length: PARTITIONS }, (_, index) => log.filter(([partition]) => partition === index).length);
    const position = id ? readId(id) : start === "live" ? heads() : new Array(PARTITIONS).fill(0);
    const chunks = []; // that the tab has not read
    let wake;
    let arrival = 0;
    let isOver = false;
    let index = 0;
    let rows = 0;
    let hasCaughtUp = false;
    const put = (chunk) => {
      // In order, each after a while of its own.
      arrival = Math.max(arrival, world.now + world.between(0.1, 5));
      world.task(tab, arrival - world.now, () => {
        chunks.push(chunk);
        wake?.();
      });
    };
    const text = (string) => {
      const bytes = new TextEncoder().encode(string);
      const middle = Math.floor(world.random() * bytes.length);
      put(bytes.subarray(0, middle));
      put(bytes.subarray(middle));
    };
    const connection = {
      tab,
      log,
      send() {
        let out = "";
        for (; index < log.length; index += 1) {
          const [partition, offset] = log[index];
          if (offset < position[partition]) continue;
          if (offset > position[partition]) throw new Error("the daemon's log has a hole");
          position[partition] += 1;
          // Among old records some have no id of their own, as rows of a table.
          const hasId = hasCaughtUp || rows++ % 5 === 0;
          const line = hasId ? `id: ${writeId(position, Math.floor(world.now / 1000))}\n` : "";
          out += `${line}data: ${JSON.stringify({ partition, offset })}\n\n`;
        }
        if (!hasCaughtUp) {
          hasCaughtUp = true;
          out += `id: ${writeId(position, Math.floor(world.now / 1000))}\nevent: caught-up\ndata: {}\n\n`;
        }
        if (out) text(out);
      },
      goodbye() {
        text(`retry: 20\nid: ${writeId(position, Math.floor(world.now / 1000))}\nevent: goodbye\ndata: {"reason":"shutdown"}\n\n`);
      },
      end() {
        world.#connections.delete(connection);
        put(null);
      },
      keepalive() {
        if (!world.#connections.has(connection)) return;
        text(":\n");
        world.task(null, 300, () => connection.keepalive());
      },
    };
    this.#connections.add(connection);
    text(`retry: ${Math.floor(this.between(20, 60))}\n: hello\n`);
    connection.send();
    this.task(null, 300, () => connection.keepalive());
    signal.addEventListener("abort", () => {
      isOver = true;
      this.#connections.delete(connection);
      wake?.();
    });
    const read = async () => {
      for (;;) {
        if (isOver) throw new DOMException("aborted", "AbortError");
        if (chunks.length) {
          const chunk = chunks.shift();
          if (chunk) return { value: chunk, done: false };
          if (world.chance(0.5)) throw new TypeError("network error");
          return { done: true };
        }
        await new Promise((done) => (wake = done));
      }
    };
    const headers = new Headers({ "content-type": "text/event-stream; charset=utf-8" });
    return { status: 200, ok: true, type: "basic", headers, body: { getReader: () => ({ read }) } };
  }

  // ---- Tabs

  /** A tab that follows `/s` with these options; `seen` has its records, `states` its states. */
  open(options) {
    const tab = { isDead: false, isFrozen: false, backlog: [], channels: new Set(), seen: [], states: [], listeners: new Map() };
    this.tabs.push(tab);
    const timers = new Map();
    let number = 0;
    const later = (run, delay, isRepeated) => {
      const id = (number += 1);
      const start = () => timers.set(id, this.task(tab, delay, () => {
        timers.delete(id);
        if (isRepeated) start();
        run();
      }));
      start();
      return id;
    };
    const cancel = (id) => {
      const task = timers.get(id);
      if (task) task.isOver = true;
      timers.delete(id);
    };
    const navigator = { locks: this.locks(tab) };
    const BroadcastChannel = this.channelClass(tab);
    const math = Object.create(Math, { random: { value: this.random } });
    const global = {
      navigator,
      BroadcastChannel,
      addEventListener(type, listener, { signal }) {
        const listeners = tab.listeners.get(type) ?? new Set();
        tab.listeners.set(type, listeners.add(listener));
        signal.addEventListener("abort", () => listeners.delete(listener));
      },
    };
    const { follow } = load(
      global, navigator, BroadcastChannel, (url, init) => this.fetch(tab, url, init),
      (run, delay) => later(run, delay, false), cancel, (run, delay) => later(run, delay, true), cancel, math,
    );
    tab.dispatch = (type) => tab.listeners.get(type)?.forEach((listener) => listener());
    this.task(tab, 0, () => {
      tab.stream = follow("http://daemon/s", {
        silence: 1_000,
        ...options,
        onEvent: (event) => event.type === "message" && tab.seen.push([event.data.partition, event.data.offset]),
        onState: ({ state }) => tab.states.push(state),
      });
    });
    return tab;
  }
}
