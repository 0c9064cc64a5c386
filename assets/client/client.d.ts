/**
 * Follows event streams of kafka-sse-bridge: {@link follow} hands on events, {@link table} keeps the latest value of every key.
 *
 * Both come back after any failure, continue behind the last event, and hand on every event exactly once: an id counts only
 * with its event, and events that have no id of their own (rows of a table) are handed on with the next one that has.
 */

/** Names of the events of a stream. A record has `message`, whatever the stream's own name for records is. */
export type EventType =
  | "message"
  | "delete"
  | "caught-up"
  | "checkpoint"
  | "conflated"
  | "gap"
  | "goodbye"
  | "heartbeat"
  | "reauthenticate"
  | "reset"
  | (string & {});

/** An event. */
export interface StreamEvent<Data = any> {
  /** `message` for a record, `delete` for a tombstone, otherwise the name of a control event. */
  readonly type: EventType;
  /** The data as it was sent. */
  readonly text: string;
  /** The data as JSON, parsed when it is first asked for; {@link text} where it is no JSON. */
  readonly data: Data;
  /** The id to continue behind this event with, as `lastEventId` of another `follow`. Opaque; empty before the first. */
  readonly lastEventId: string;
}

/** The first attempt, or the one after {@link Follow.retry}, has not been answered yet. */
export interface Connecting {
  readonly state: "connecting";
}

/** Connected; what comes is older than the connection. */
export interface Loading {
  readonly state: "loading";
  /** Whether it continues where it was, instead of beginning. */
  readonly resumed: boolean;
}

/** Connected, and caught up: events come as they are written. */
export interface Live {
  readonly state: "live";
}

/** Not connected; it comes back by itself. */
export interface Reconnecting {
  readonly state: "reconnecting";
  /** When it tries again, in milliseconds since 1970. */
  readonly at: number;
  /** How many attempts there were since the last event, with the next one. */
  readonly attempt: number;
  /**
   * `lost`: the connection broke, or there was none. `silent`: nothing came for `silence`. `refused`: the answer was no
   * stream, and `status`, `code` and `message` say what it was. Otherwise the reason of `goodbye`: `shutdown`, `slow`,
   * `lifetime`, `stream-removed`, `unauthorized`, `unavailable` or `overloaded`.
   */
  readonly reason: "lost" | "silent" | "refused" | (string & {});
  /** With `refused`: the HTTP status. */
  readonly status?: number;
  /** With `refused`: the daemon's code; empty if something in front of it answered. */
  readonly code?: string;
  /** For people, not translated. */
  readonly message?: string;
  readonly accepts?: readonly string[];
}

/**
 * Final: the URL is wrong, or the stream is not for this client. {@link Follow.retry} tries again. A status of 408, 425 and
 * 429, or from 500 on, is not final; it is tried again no sooner than `Retry-After` says.
 */
export interface Refused {
  readonly state: "refused";
  /** The HTTP status; 0 for a redirect, to a login for instance. */
  readonly status: number;
  /** The daemon's code, such as `unauthorized` or `forbidden`; `redirected` for a redirect; empty from anything else. */
  readonly code: string;
  /** For people, not translated. */
  readonly message: string;
  /** How a client may say who it is: any of `bearer`, `cookie`, `query`, `proxy` and `certificate`. */
  readonly accepts: readonly string[];
}

/** After {@link Follow.close}, or when the signal was aborted. */
export interface Closed {
  readonly state: "closed";
}

export type Status = Connecting | Loading | Live | Reconnecting | Refused | Closed;

type Term = string | number | boolean | null;

export interface FollowOptions<Data = any> {
  /**
   * Called with every event, control events included, one after the other. What it throws is reported like an uncaught
   * error, and stops nothing.
   */
  onEvent?(event: StreamEvent<Data>): void;
  /** Called whenever the status changes. */
  onState?(status: Status): void;
  /** Ends it, like {@link Follow.close}. */
  signal?: AbortSignal;
  /** Continues behind the event with this id. */
  lastEventId?: string;
  /** Where it begins without an id; by default as the stream is configured. */
  start?: "live" | "earliest" | "snapshot";
  /** Begins at a time instead: an instant of RFC 3339, milliseconds since 1970, or how long ago (`15m`). */
  since?: string | number;
  /** Each key of a table at most once in this time, such as `1s`. */
  throttle?: string;
  /** Filters by name, as in the URL: `{ key: "17", "value.city": ["Paris", "Rome"] }`. */
  filters?: Record<string, Term | readonly Term[]>;
  /** The stream's own name for its records, where its configuration has one (`event`). */
  event?: string;
  /**
   * By default the browser's EventSource, where there is one and there are no `headers`. `fetch` notices silence on streams
   * without heartbeats too, and keeps the reconnect time that the server asks for.
   */
  transport?: "eventsource" | "fetch";
  /** Sent with every request, by fetch. A function is called for each attempt, so that it can renew a token. */
  headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>);
  /** Sends cookies to another origin. */
  withCredentials?: boolean;
  /**
   * After how many milliseconds without a sign of life a connection counts as lost; 45,000 by default. Keep it above the
   * daemon's `keepalive`; with EventSource, which does not show keepalives, above `heartbeat_interval`. `Infinity` is never.
   */
  silence?: number;
  /**
   * One connection for all tabs of the origin that follow the same URL with the same filters, start and throttle. Tabs that
   * share see what the login of one of them may see: where streams are not for everybody, give a string that differs between
   * logins. With `headers` it must be one.
   * Where a browser has no Web Locks (pages without HTTPS, other than of localhost) each tab has its own connection.
   */
  share?: boolean | string;
}

/**
 * A stream that is followed. As an iterator it hands on the same events as `onEvent`; leaving the loop closes it, a refusal is
 * thrown as an `Error` with the members of {@link Refused}. While 1,000 events wait for the iterator, nothing more is read
 * (by fetch, unless it is shared).
 */
export interface Follow<Data = any> extends AsyncIterable<StreamEvent<Data>> {
  /** The last status. */
  readonly state: Status;
  /** The id of the last event that was handed on. */
  readonly lastEventId: string;
  /** Connects anew at once, behind the last event: after a refusal, or to shorten the wait. */
  retry(): void;
  /** The next connection begins anew, without an id: where another login may see another stream. */
  forget(): void;
  /** Ends it. Nothing is handed on any more. */
  close(): void;
}

/**
 * Follows a stream until it is closed.
 *
 * @param url of the stream. A relative one is resolved against the page.
 * @throws TypeError if the URL cannot be resolved, or `share` is `true` beside `headers`.
 */
export function follow<Data = any>(url: string | URL, options?: FollowOptions<Data>): Follow<Data>;

/** The key of a row: a string or a number, or the JSON of any other. */
export type Key = string | number | boolean;

/** A change of a table. */
export type Change<Value = any> =
  | { readonly type: "set"; readonly key: Key; readonly value: Value; readonly previous: Value | undefined }
  | { readonly type: "delete"; readonly key: Key; readonly value: undefined; readonly previous: Value | undefined }
  | { readonly type: "clear" };

export interface TableOptions<Value = any, Data = any> extends FollowOptions<Data> {
  /**
   * The key of a record: the name of a member, `key` by default as in an envelope, or else the stream's `key_field`; or a
   * function, which is called with the data of deletes too. Records without a key are no rows.
   */
  key?: string | ((data: Data) => unknown);
  /** The value of a row: the name of a member, or a function. By default the data, or `value` of an envelope. */
  value?: string | ((data: Data) => Value);
  /**
   * The topic of a record, on a stream of several topics: the name of a member (`topic_field`), or a function. By default that
   * of an envelope. Only needed so that `reset` of one topic leaves the rows of others; keys of several topics may be equal,
   * so give a `key` that contains the topic.
   */
  topic?: string | ((data: Data) => string);
  /**
   * Called with what has changed, at most once per animation frame (every 100 ms in hidden tabs, and outside of browsers).
   * At most one change per key, with the value before all of them; `clear` comes first.
   */
  onChange?(changes: Change<Value>[]): void;
}

/** A table that is kept up to date. */
export interface Table<Value = any, Data = any> extends Follow<Data> {
  /** The rows, always as of the last event. Do not change it. */
  readonly rows: ReadonlyMap<Key, Value>;
}

/**
 * Follows a stream that keeps a table, or any keyed one, as a live map: right through `reset`, `delete`, `conflated` and
 * reconnecting. It is cleared when access ends (`refused`, `goodbye` with `unauthorized`), because the next login may see other
 * rows, and begins anew then.
 *
 * @param url as for {@link follow}.
 */
export function table<Value = any, Data = any>(url: string | URL, options?: TableOptions<Value, Data>): Table<Value, Data>;
