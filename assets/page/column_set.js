// Which columns a table shows, in which order, how wide: those configured or found in the data, and what the reader has changed.
// Changes are kept per stream in the browser's storage, where it has one, and (but for widths) in the link.
import { clip } from "./format.js";
import { readPath, readRow } from "./paths.js";

export const SHOWN = 24; // columns found in the data that are shown until the reader asks for more
export const MIN_WIDTH = 48; // px
const MAX_WIDTH = 1600;
const MAX_LABEL = 80; // characters; names of members may be of any length
const CHANGES = [["hide", "hidden", true], ["show", "hidden", false], ["pin", "pinned", true], ["unpin", "pinned", false]];
const AT_END = new Set(["number", "bytes"]);

// A configured column with functions that read it: `read(row)`, and as an item of a list `readValue(element)`.
function configured(column, index, all) {
  const readValue = readPath(column.path);
  const same = all.slice(0, index).filter(({ path }) => path === column.path).length;
  return {
    ...column,
    id: same ? `${column.path}~${same + 1}` : column.path,
    label: column.label ?? clip(column.path.replace(/^@/, ""), MAX_LABEL),
    isLabelled: column.label !== undefined,
    read: readRow(readValue, column.path),
    readValue,
    align: column.align ?? (AT_END.has(column.format) ? "end" : "start"),
    items: column.items?.map(configured),
  };
}

function found(column, index) {
  return { ...column, id: column.path, label: clip(column.label, MAX_LABEL), align: AT_END.has(column.format) ? "end" : "start", hidden: index >= SHOWN, pinned: column.isPinned };
}

// A path in a list in a link.
const escape = (path) => path.replace(/[,%]/g, encodeURIComponent);
const unescape = (path) => path.replace(/%(?:2C|25)/gi, decodeURIComponent);

// The browser's storage may be full, blocked or hold something else.
export function storedSettings(storage, name) {
  try {
    const settings = JSON.parse(storage().getItem(name));
    return new Map(Array.isArray(settings) ? settings.filter((pair) => Array.isArray(pair) && typeof pair[1] === "object" && pair[1]) : []);
  } catch {
    return new Map();
  }
}

export class ColumnSet {
  #all = [];
  #settings; // id -> { hidden, pinned, width }: what differs from the default
  #isConfigured;
  #storage;
  #name;

  // `columns`: those configured, or null. `params`: the link's. `storage()` gives a Storage, or throws.
  constructor({ columns = null, params, storage = () => localStorage, name }) {
    this.#isConfigured = Boolean(columns?.length);
    if (this.#isConfigured) this.#all = columns.map(configured);
    this.#storage = storage;
    this.#name = name;
    this.#settings = storedSettings(storage, name);
    this.#apply(params);
  }

  // What a link says comes before what is stored.
  #apply(params) {
    if (!CHANGES.some(([name]) => params.get(name) !== null)) return;
    for (const settings of this.#settings.values()) {
      delete settings.hidden;
      delete settings.pinned;
    }
    for (const [name, setting, value] of CHANGES) {
      for (const id of (params.get(name) ?? "").split(",").filter(Boolean).map(unescape)) this.#settingsOf(id)[setting] = value;
    }
  }

  #settingsOf(id) {
    if (!this.#settings.has(id)) this.#settings.set(id, {});
    return this.#settings.get(id);
  }

  get isConfigured() {
    return this.#isConfigured;
  }

  // Takes over columns found in the data. When a row has changed is a column too, for those who ask for it.
  find(list) {
    if (this.#isConfigured) return;
    this.#all = list.map(found);
    this.#all.push({ ...configured({ path: "@changed", label: "Changed", format: "time" }, 0, []), hidden: true });
  }

  // All columns, as configured or found: { …, isHidden, isPinned, width (px, or undefined) }.
  get all() {
    return this.#all.map((column) => {
      const { hidden = Boolean(column.hidden), pinned = Boolean(column.pinned), width } = this.#settings.get(column.id) ?? {};
      const isWidth = Number.isFinite(width) && width >= MIN_WIDTH && width <= MAX_WIDTH;
      return { ...column, isHidden: hidden, isPinned: pinned, width: isWidth ? width : undefined };
    });
  }

  // The column of an id; also of a path that has none, to sort by.
  at(id) {
    return this.all.find((column) => column.id === id) ?? configured({ path: id }, 0, []);
  }

  // Those that are shown, pinned ones first.
  get shown() {
    const shown = this.all.filter(({ isHidden }) => !isHidden);
    return [...shown.filter(({ isPinned }) => isPinned), ...shown.filter(({ isPinned }) => !isPinned)];
  }


  get isChanged() {
    return [...this.#settings.values()].some((settings) => Object.keys(settings).length > 0);
  }

  set(id, setting, value) {
    const column = this.#all.find((one) => one.id === id);
    const settings = this.#settingsOf(id);
    if (setting === "width") settings.width = Math.round(Math.min(Math.max(value, MIN_WIDTH), MAX_WIDTH));
    else if (Boolean(column?.[setting]) === value) delete settings[setting];
    else settings[setting] = value;
    this.#save();
  }

  reset() {
    this.#settings.clear();
    this.#save();
  }

  // The link's parameters; null for what is as by default.
  get params() {
    const listed = (setting, value) => {
      const ids = [...this.#settings].filter(([, settings]) => settings[setting] === value).map(([id]) => escape(id));
      return ids.length ? ids.join(",") : null;
    };
    return Object.fromEntries(CHANGES.map(([name, setting, value]) => [name, listed(setting, value)]));
  }

  #save() {
    const settings = [...this.#settings].filter(([, one]) => Object.keys(one).length);
    try {
      if (settings.length) this.#storage().setItem(this.#name, JSON.stringify(settings));
      else this.#storage().removeItem(this.#name);
    } catch {
      // Kept while the page is open.
    }
  }
}
