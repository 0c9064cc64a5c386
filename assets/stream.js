// Follows an event stream by fetch. EventSource does not suffice: it sends no Authorization, and does not say why a stream
// is refused. It knows nothing of the page. Framing, ids and reconnecting are those of the HTML standard, section 9.2.

const RETRY_MS = 3_000; // until the server sends another
const PAUSE_MAX_MS = 30_000;

// Splits text into events, and calls `on.event({ type, data, lastEventId })` and `on.retry(milliseconds)`.
export class Parser {
  #on;
  #rest = "";
  #type = "";
  #data = [];
  #id;
  lastEventId; // of the last complete block

  constructor(on, lastEventId = "") {
    this.#on = on;
    this.#id = this.lastEventId = lastEventId;
  }

  forget() {
    this.#id = this.lastEventId = "";
  }

  feed(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/); // a CR at the end may be half of a CRLF
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (name === "data") this.#data.push(value);
    if (name === "event") this.#type = value;
    if (name === "id" && !value.includes("\0")) this.#id = value;
    if (name === "retry" && /^\d+$/.test(value)) this.#on.retry(Number(value));
  }

  #dispatch() {
    this.lastEventId = this.#id;
    const event = { type: this.#type || "message", data: this.#data.join("\n"), lastEventId: this.lastEventId };
    const isEvent = this.#data.length > 0;
    this.#type = "";
    this.#data = [];
    if (isEvent) this.#on.event(event);
  }
}

// Opens the stream at `url`, and again whenever it is lost. Calls
//   on.open(isResumed)
//   on.event({ type, data, lastEventId })
//   on.lost()            reconnects after a while
//   on.refused(refusal)  { status, code, message, accepts, isFinal }: reconnects after a while unless it is final
export class EventStream {
  #url;
  #on;
  #token = ""; // in memory only: storage of browsers is on disk, and open to other pages of this origin
  #lastEventId = "";
  #retry = RETRY_MS;
  #failures = 0;
  #parser = null; // of the connection
  #attempt = new AbortController();
  #timer = 0;

  constructor(url, on) {
    this.#url = url;
    this.#on = on;
  }

  // Connects. With another token it begins anew, because that may be another client's.
  open(token) {
    this.close();
    if (token !== undefined) {
      this.#token = token;
      this.#lastEventId = "";
    }
    this.#attempt = new AbortController();
    this.#connect(this.#attempt.signal);
  }

  // Begins anew with the next connection.
  forget() {
    this.#lastEventId = "";
    this.#parser?.forget();
  }

  close() {
    clearTimeout(this.#timer);
    this.#attempt.abort();
  }

  async #connect(signal) {
    let refusal = null;
    try {
      const headers = { Accept: "text/event-stream" };
      if (this.#token) headers.Authorization = `Bearer ${this.#token}`;
      if (this.#lastEventId) headers["Last-Event-ID"] = this.#lastEventId;
      const response = await fetch(this.#url, { headers, signal, cache: "no-store", redirect: "manual" });
      refusal = await refusalOf(response);
      if (!refusal && !signal.aborted) await this.#read(response.body, signal);
    } catch (error) {
      if (!signal.aborted) console.info(`${this.#url}: ${error.message}`);
    }
    if (signal.aborted) return;
    if (refusal) this.#on.refused(refusal);
    else this.#on.lost();
    if (refusal?.isFinal) return;
    const pause = Math.max(this.#retry, Math.min(PAUSE_MAX_MS, this.#retry * 2 ** this.#failures));
    this.#failures += 1;
    this.#timer = setTimeout(() => this.open(), pause * (0.75 + Math.random() / 2));
  }

  async #read(body, signal) {
    this.#failures = 0;
    this.#on.open(this.#lastEventId !== "");
    const parser = new Parser({
      retry: (milliseconds) => { this.#retry = milliseconds; },
      event: (event) => this.#on.event(event),
    }, this.#lastEventId);
    this.#parser = parser;
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done || signal.aborted) return;
      parser.feed(value);
      this.#lastEventId = parser.lastEventId;
    }
  }
}

// Why a response is no stream, or null. Errors of the daemon are JSON; those of a proxy in front may be anything.
async function refusalOf(response) {
  if (response.type === "opaqueredirect") {
    return { status: 0, code: "redirected", message: "The server asks for a login first.", accepts: [], isFinal: true };
  }
  const type = response.headers.get("content-type") ?? "";
  if (response.ok && /^text\/event-stream\b/i.test(type)) return null;
  const challenge = response.headers.get("www-authenticate") ?? "";
  const error = await response.json().then((body) => body.error, () => null);
  const { status } = response;
  return {
    status,
    code: error?.code ?? "",
    message: error?.message ?? `The server answers ${status} without a stream.`,
    accepts: error?.accepts ?? (/^bearer\b/i.test(challenge) ? ["bearer"] : []),
    isFinal: response.ok || status === 401 || status === 403,
  };
}
