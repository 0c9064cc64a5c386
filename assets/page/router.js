// Links of the page: `#/orders?view=feed&key=17` is the stream at /orders, shown as a feed; `#/` is the list of streams.
// Pure functions; nothing here looks at the page. A path is as in a URL, with its escapes.

const FILTER = "f."; // before the name of a filter: `f.key=17`

// What a link shows: { path (null: the list of streams), view (its name, or null), filters: { name: [values] }, from: where
// the stream begins ({ start, since }), isBare: without the filter that the view is configured with, params: URLSearchParams
// (what is left: the view's own), kiosk: { on, seconds } }.
export function parseLink(hash) {
  const text = hash.replace(/^#/, "");
  const question = text.indexOf("?");
  const path = question < 0 ? text : text.slice(0, question);
  const params = new URLSearchParams(question < 0 ? "" : text.slice(question + 1));
  const filters = {};
  const from = {};
  let view = null;
  for (const [name, value] of [...params]) {
    if (name === "view") view = value;
    else if (name === "start" || name === "since") from[name] = value;
    else if (name.startsWith(FILTER) && name.length > FILTER.length) {
      const filter = name.slice(FILTER.length);
      if (!Object.hasOwn(filters, filter)) define(filters, filter, []);
      filters[filter].push(value);
    } else continue;
    params.delete(name);
  }
  const kiosk = kioskOf(params);
  const isBare = params.has("unfiltered");
  for (const name of ["kiosk", "unfiltered"]) params.delete(name);
  return { path: path === "" || path === "/" ? null : path.replace(/^(?!\/)/, "/"), view, filters, from, isBare, params, kiosk };
}

// A filter may be called `__proto__`.
function define(object, name, value) {
  Object.defineProperty(object, name, { value, writable: true, enumerable: true, configurable: true });
}

// The link that shows this; the reverse of parseLink.
export function formatLink({ path = null, view = null, filters = {}, from = {}, isBare = false, params = null, kiosk = null }) {
  if (path === null) return `#/${kiosk?.on ? query([["kiosk", kiosk.seconds || ""]]) : ""}`;
  const parts = [];
  if (view !== null) parts.push(["view", view]);
  for (const [name, values] of Object.entries(filters)) for (const value of [values].flat()) parts.push([FILTER + name, value]);
  if (isBare) parts.push(["unfiltered", ""]);
  for (const [name, value] of Object.entries(from)) if (value) parts.push([name, value]);
  if (params) parts.push(...(params instanceof URLSearchParams ? params : Object.entries(params)));
  if (kiosk?.on) parts.push(["kiosk", kiosk.seconds || ""]);
  return `#${path}${query(parts)}`;
}

// Readable: in a fragment only a few characters need an escape.
function query(parts) {
  const escape = (text) => encodeURIComponent(String(text)).replace(/%(?:2F|3A|40|2C|5B|5D|24|3B)/gi, decodeURIComponent);
  const texts = parts.map(([name, value]) => (value === "" ? escape(name) : `${escape(name)}=${escape(value)}`));
  return texts.length ? `?${texts.join("&")}` : "";
}

// `?kiosk` shows no bars, `?kiosk=30` shows every view of every stream for 30 seconds. In the query or in the fragment.
export function kioskOf(params) {
  const value = params.get("kiosk");
  const on = value !== null && !/^(?:0|false|off|no)$/i.test(value);
  const seconds = on ? Number.parseFloat(value) : Number.NaN;
  return { on, seconds: Number.isFinite(seconds) && seconds > 0 ? Math.min(Math.max(seconds, 2), 86_400) : 0 };
}

// The names of the parameters in a configured path: `/users/{id}/orders` has `id`.
export function parametersOf(pattern) {
  return [...pattern.matchAll(/\{([^{}]+)\}/g)].map(([, name]) => name);
}

// Whether a URL would lead elsewhere than the path says: browsers take dot segments out of it, also those with escapes.
export function hasDots(path) {
  return /[\\/](?:\.|%2e){1,2}(?:[\\/]|$)/i.test(path);
}

// The values of a pattern's parameters in a path, decoded, or null if it is another path. A Map.
export function matchPath(pattern, path) {
  const wanted = pattern.split("/");
  const given = path.split("/");
  if (wanted.length !== given.length) return null;
  const values = new Map();
  for (const [index, segment] of wanted.entries()) {
    const name = /^\{([^{}]+)\}$/.exec(segment)?.[1];
    if (name === undefined ? segment !== given[index] : given[index] === "") return null;
    if (name === undefined) continue;
    try {
      values.set(name, decodeURIComponent(given[index]));
    } catch {
      return null;
    }
  }
  return values;
}

// The path of a pattern with these values (a Map); null while one is missing, or cannot be part of a path.
export function fillPath(pattern, values) {
  let isComplete = true;
  const path = pattern.replace(/\{([^{}]+)\}/g, (_, name) => {
    const value = values.get(name) ?? "";
    if (value === "" || value === "." || value === ".." || value.includes("/")) isComplete = false;
    return encodeURIComponent(value);
  });
  return isComplete ? path : null;
}

// The stream that a path leads to: { entry, values (a Map, or null: its parameters have no values yet) }, or null. A literal
// path comes before one with parameters, as on the server.
export function findStream(entries, path) {
  const escaped = (text) => text.replace(/%7B/gi, "{").replace(/%7D/gi, "}");
  const literal = entries.find((entry) => entry.path === path);
  if (literal && !parametersOf(literal.path).length) return { entry: literal, values: new Map() };
  const asked = entries.find((entry) => parametersOf(entry.path).length && entry.path === escaped(path));
  if (asked) return { entry: asked, values: null };
  for (const entry of entries) {
    const values = parametersOf(entry.path).length ? matchPath(entry.path, path) : null;
    if (values) return { entry, values };
  }
  return null;
}

// The path of a stream as a URL that is relative to the page, so that it works under a proxy's path prefix.
export function streamUrl(path, base) {
  return new URL(`.${path}`, base);
}

// The views of a stream: those configured, or those that fit. The first one is shown by default.
export function viewsOf(entry) {
  if (entry.views?.length) return entry.views;
  const kinds = isKeyed(entry) ? ["table", "feed", "chart"] : ["feed", "chart"];
  return kinds.map((kind) => ({ kind }));
}

const LABELS = { table: "Table", cards: "Cards", feed: "Feed", chart: "Chart" };

// What a view is called.
export function labelOf({ kind, title }) {
  return title ?? LABELS[kind] ?? kind;
}

// Whether records have keys that the page sees.
export function isKeyed(entry) {
  return entry.format === "envelope" || Boolean(entry.key_field);
}

// The view that a link names, by its number in the configuration or by its kind: { view, name }.
export function chooseView(views, name) {
  const names = viewNames(views);
  const index = name === null ? 0 : names.indexOf(name);
  if (index >= 0) return { view: views[index], name: names[index] };
  return { view: views[0], name: names[0] };
}

// How links name the views of a stream: by kind, from the second of a kind on with its number (`table`, `table-2`).
export function viewNames(views) {
  const counts = new Map();
  return views.map(({ kind }) => {
    const count = (counts.get(kind) ?? 0) + 1;
    counts.set(kind, count);
    return count === 1 ? kind : `${kind}-${count}`;
  });
}
