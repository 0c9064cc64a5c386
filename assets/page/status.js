// What the page says about a stream's connection, and whether what it shows is true. The countdown and the figures are not
// read out; a change of state is, once.

import { h, replaceChildren, setAttribute, setText } from "./dom.js";
import { clock, count, duration, number, percent, rate } from "./words.js";

const byId = (id) => document.getElementById(id);
const NOTES_SHOWN = 3;
const LATE_MS = 5_000; // a connection that takes longer than that is worth a sentence

// The state in a few words.
export function stateWords({ state, percent: read, retryAt }) {
  switch (state) {
    case "connecting": return "Connecting";
    case "loading": return read === null ? "Loading" : `Loading ${percent(read)}`;
    case "catching-up": return "Catching up";
    case "live": return "Live";
    case "stale": return "Outdated";
    case "draining": return `Server restarts${countdown(retryAt)}`;
    case "reconnecting": return `Reconnecting${countdown(retryAt)}`;
    case "unauthorised": return "No access";
    case "refused": return "Refused";
    default: return "Ended";
  }
}

function countdown(at) {
  if (at === null) return "";
  const seconds = Math.ceil((at - Date.now()) / 1000);
  return seconds > 0 ? ` in ${number(seconds)}\u00a0s` : "";
}

const REASONS = {
  lost: "The connection was lost.",
  silent: "Nothing has arrived for a while, not even a sign of life.",
  shutdown: "The server ends, probably to start again.",
  slow: "This page was too slow for the stream.",
  lifetime: "The server ends connections after a time.",
  "stream-removed": "The server no longer serves this stream.",
  unauthorized: "The login has ended.",
  unavailable: "The server cannot verify the login now.",
  overloaded: "The server has as many clients as it allows.",
};

// Why the rows may not be the newest, and what happens: a sentence or two, or null.
function trouble({ state, reason, message, problems, staleSince }) {
  const since = staleSince ? ` What is shown is as of ${clock(staleSince)}.` : "";
  switch (state) {
    case "stale": return `${problems[0]}${since}`;
    case "connecting":
    case "loading":
    case "catching-up": return problems[0] ?? null;
    case "draining":
    case "reconnecting": {
      const why = `${reason === "refused" ? message : REASONS[reason] ?? REASONS.lost}${since}`;
      return reason === "stream-removed" ? why : `${why} Nothing is missed: it continues where it was.`;
    }
    case "refused": return message ?? "The server refuses this stream.";
    default: return null;
  }
}

export class StatusBar {
  #announcer;
  #state = null; // last announced
  #dismissed = new Set(); // notes and remarks that are not shown
  #lostAt = null;
  #refresh = () => {};
  #server = null; // problems of the server, while no stream is shown

  constructor(announcer) {
    this.#announcer = announcer;
  }

  clear() {
    byId("status").hidden = true;
    this.#state = null;
    this.#fill([]);
  }

  // Draws the server's own troubles where no stream tells.
  hear({ failedSince }) {
    if (!byId("status").hidden) return;
    this.#fill(failedSince === null ? [] : [{ key: "server", kind: "wait", text: `The server has not answered since ${clock(failedSince)}. The page asks again by itself.` }]);
  }

  // Called once per second, and when something changes.
  show(session) {
    this.#refresh = () => this.#fill(this.#notices(session));
    const { status } = session;
    const state = byId("state");
    byId("status").hidden = false;
    setAttribute(state, "data-state", status.state);
    setText(state, stateWords(status));
    if (status.heartbeatAt !== null) {
      state.dataset.heartbeat = new Date(status.heartbeatAt).toISOString();
      state.title = `Last heartbeat of the server: ${clock(status.heartbeatAt)}`;
    } else {
      delete state.dataset.heartbeat;
      state.title = "";
    }
    const isFlowing = status.state === "live" || status.state === "stale";
    byId("rate").dataset.total = status.total;
    byId("rate").title = `Events per second, over the last ten seconds; ${count(status.total, "record")} since the page began`;
    setText(byId("rate"), isFlowing ? `${rate(status.eventsPerSecond)}/s` : "");
    setText(byId("latency"), isFlowing && status.latency !== null ? duration(status.latency) : "");
    this.#announce(status);
    this.#refresh();
  }

  #announce({ state, percent: read, retryAt }) {
    const before = this.#state;
    if (before === state) return;
    this.#state = state;
    // A stream that loads at once has nothing to say on the way.
    if (state === "live" ? before !== null : !["connecting", "loading", "catching-up"].includes(state)) {
      this.#announcer.say(stateWords({ state, percent: read, retryAt: null }));
    }
  }

  #notices(session) {
    const { status } = session;
    const notices = [];
    const text = trouble(status);
    const isBrief = status.state === "reconnecting" && Date.now() - (this.#lostAt ??= Date.now()) < LATE_MS && status.reason === "lifetime";
    if (status.state !== "reconnecting") this.#lostAt = null;
    if (text && !isBrief) notices.push({ key: status.state, kind: status.state === "refused" ? "bad" : "wait", text, retry: ["draining", "reconnecting", "refused"].includes(status.state) ? () => session.retry() : null });
    for (const remark of status.remarks) notices.push({ key: remark, kind: "note", text: remark, about: [remark] });
    const { notes } = status;
    for (const [index, note] of notes.entries()) {
      if (index < notes.length - NOTES_SHOWN) continue;
      notices.push({ key: `${note.at} ${note.text}`, kind: "note", at: note.at, text: note.text, about: notes.slice(0, index + 1).reverse() });
    }
    return notices.filter(({ about: [it] = [] }) => !this.#dismissed.has(it));
  }

  // One element per notice, which stays while the notice does.
  #fill(notices) {
    const place = byId("notices");
    const there = new Map([...place.children].map((element) => [element.dataset.key, element]));
    const elements = notices.map((notice) => {
      const element = there.get(notice.key) ?? this.#make(notice);
      setText(element.querySelector(".notice-text"), notice.text);
      return element;
    });
    if (elements.length !== place.children.length || elements.some((element, index) => element !== place.children[index])) replaceChildren(place, elements);
  }

  // `about`: what is dismissed with it.
  #make({ key, kind, text, at, retry, about }) {
    if (kind === "note" || key === "loading") this.#announcer.say(text);
    return h("div", { class: "notice", "data-kind": kind, "data-key": key },
      at ? h("time", { datetime: new Date(at).toISOString() }, clock(at)) : null,
      h("p", { class: "notice-text" }),
      retry ? h("button", { type: "button", on: { click: retry } }, "Try now") : null,
      kind === "note" ? h("button", { type: "button", class: "plain", "aria-label": "Dismiss", on: { click: () => this.#dismiss(about) } }, "✕") : null);
  }

  #dismiss(about) {
    for (const it of about) this.#dismissed.add(it);
    this.#refresh();
  }
}
