// Values as texts for people. Pure: a cell is described, not made. A value that is not what its column's format expects is
// shown as what it is. Numbers and dates go through Intl.
import { toneOf, unitOfTime } from "./columns.js";
import { isObject } from "./paths.js";

export const MAX_TEXT = 300; // characters of a text in a cell; the side panel has all
const MAX_PREVIEW = 120; // of an object or a list
const PREVIEW_DEPTH = 3;
const LIST_LIMIT = 8;

const DECIMAL = /^-?(?:0|[1-9]\d{0,30})(?:\.\d{1,20})?$/;
const INSTANT = /^[+-]?\d{4,6}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?: ?(?:Z|[+-]\d\d:?\d\d))?)?$/i;
const DAY = /^[+-]?\d{4,6}-\d\d-\d\d$/;
const CLOCK = /^\d\d:\d\d(?::\d\d(?:\.\d+)?)?/;
const MAX_DATE = 8.64e15;

const SPANS = [["second", 60], ["minute", 60], ["hour", 24], ["day", 7], ["week", 4.348], ["month", 12], ["year", Infinity]];
const BYTES = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte", "petabyte"];

const COLOR_WORDS = new Set(["good", "wait", "bad", "accent", "muted"]);

// An instant in milliseconds since 1970, or null. A number's unit is found by its size.
export function instantOf(value) {
  if (typeof value === "number") {
    const unit = unitOfTime(value);
    return unit && Math.abs(value * unit) <= MAX_DATE ? value * unit : null;
  }
  if (typeof value !== "string" || !INSTANT.test(value)) return null;
  const time = Date.parse(value.replace(" ", "T").replace(",", ".").replace(/ (?=[+-Z])/, ""));
  return Number.isNaN(time) ? null : time;
}

// A number, also one that is sent as a text to keep its decimals (Avro, Debezium); otherwise null.
export function numberOf(value) {
  if (typeof value === "number") return value;
  return typeof value === "string" && DECIMAL.test(value) ? Number(value) : null;
}

export function clip(text, most = MAX_TEXT) {
  if (text.length <= most) return text;
  const end = /[\uD800-\uDBFF]/.test(text[most - 1]) ? most - 1 : most; // not half a character
  return `${text.slice(0, end)}…`;
}

// The beginning of a value as JSON on one line. Its cost is bounded by `most`, however wide or deep the value is.
export function preview(value, most = MAX_PREVIEW) {
  let out = "";
  const write = (text) => {
    out += text;
    return out.length < most;
  };
  const visit = (item, depth) => {
    if (typeof item === "string") return write(JSON.stringify(item.length > most ? item.slice(0, most) : item));
    if (typeof item !== "object" || item === null) return write(String(item));
    const isList = Array.isArray(item);
    if (depth >= PREVIEW_DEPTH) return write(isList ? (item.length ? "[…]" : "[]") : "{…}");
    let isFirst = true;
    if (!write(isList ? "[" : "{")) return false;
    if (isList) {
      for (const element of item) {
        if (!isFirst && !write(", ")) return false;
        isFirst = false;
        if (!visit(element, depth + 1)) return false;
      }
    } else {
      for (const name in item) {
        if (!Object.hasOwn(item, name)) continue;
        if (!isFirst && !write(", ")) return false;
        isFirst = false;
        if (!write(`${/^[\p{L}_$][\p{L}\p{N}_$-]*$/u.test(clip(name, 64)) ? clip(name, 64) : JSON.stringify(clip(name, 64))}: `)) return false;
        if (!visit(item[name], depth + 1)) return false;
      }
    }
    return write(isList ? "]" : "}");
  };
  const isWhole = visit(value, 0);
  return isWhole && out.length <= most ? out : `${clip(out, most).replace(/…$/, "")}…`;
}

// Describes cells: `cell(value, column)` is { kind, text } and, where they apply, `title` (the exact value where the text
// leaves something out), `unit`, `href`, `tone` or `color` (of a badge), `share` (0 to 1, of a bar), `items`, `more`.
// Kinds: text, number, date, badge, link, list, json, bool, null, none. `now()` is in milliseconds since 1970; `scaleOf(column)` the largest
// size of a column's numbers, for bars.
export class Formats {
  #locale;
  #now;
  #scaleOf;
  #numbers = new Map();
  #dates = new Map();
  #relative;

  constructor({ locale, now = Date.now, scaleOf = () => 0 } = {}) {
    this.#locale = locale;
    this.#now = now;
    this.#scaleOf = scaleOf;
  }

  cell(value, column) {
    if (value === undefined) return { kind: "none", text: "" };
    if (value === null) return { kind: "null", text: "null" };
    switch (column.format) {
      case "number": return this.#number(value, column) ?? this.#any(value);
      case "bytes": return this.#bytes(value, column) ?? this.#any(value);
      case "date": return this.#date(value, column) ?? this.#any(value);
      case "time": return this.#time(value) ?? this.#any(value);
      case "relative": return this.#ago(value) ?? this.#any(value);
      case "badge": return this.#badge(value, column) ?? this.#any(value);
      case "link": return link(value) ?? this.#any(value);
      case "list": return this.#list(value, column) ?? this.#any(value);
      case "json": return { kind: "json", text: preview(value), title: undefined };
      case "bool": return bool(value) ?? this.#any(value);
      default: return this.#any(value);
    }
  }

  // A value by its own type.
  #any(value) {
    switch (typeof value) {
      case "number": return this.#number(value, {});
      case "boolean": return bool(value);
      case "string": return text(value);
      case "object": return value === null ? { kind: "null", text: "null" } : { kind: "json", text: preview(value) };
      default: return { kind: "none", text: "" };
    }
  }

  #number(value, column) {
    const number = numberOf(value);
    if (number === null) return null;
    const { digits, unit, bar, isGrouped = true } = column;
    const format = this.#numberFormat(digits ?? null, isGrouped);
    // A text keeps all its digits in engines that format decimal texts; a number beyond 2^53 has lost some when it was parsed.
    const isUnsafe = typeof value === "number" && Math.abs(value) > Number.MAX_SAFE_INTEGER && Number.isInteger(value);
    const shown = format.format(typeof value === "string" ? value : number);
    const made = { kind: "number", text: isUnsafe ? `≈\u00a0${shown}` : shown };
    if (isUnsafe) made.title = "About: the number is too large to be exact here";
    else if (decimals(value) > format.resolvedOptions().maximumFractionDigits) made.title = String(value);
    if (unit) made.unit = unit;
    if (bar) made.share = share(number, this.#scaleOf(column));
    return made;
  }

  #numberFormat(digits, isGrouped) {
    const name = `${digits}/${isGrouped}`;
    let format = this.#numbers.get(name);
    if (!format) {
      const places = digits === null ? { maximumFractionDigits: 6 } : { minimumFractionDigits: digits, maximumFractionDigits: digits };
      format = new Intl.NumberFormat(this.#locale, { ...places, useGrouping: isGrouped });
      this.#numbers.set(name, format);
    }
    return format;
  }

  #bytes(value, column) {
    const number = numberOf(value);
    if (number === null) return null;
    let size = Math.abs(number);
    let index = 0;
    while (size >= 999.5 && index < BYTES.length - 1) {
      size /= 1000;
      index += 1;
    }
    const digits = index === 0 || size >= 99.95 ? 0 : 1;
    const name = `${BYTES[index]}/${digits}`;
    let format = this.#numbers.get(name);
    if (!format) {
      const style = { style: "unit", unit: BYTES[index], unitDisplay: index ? "short" : "long" };
      format = new Intl.NumberFormat(this.#locale, { ...style, minimumFractionDigits: digits, maximumFractionDigits: digits });
      this.#numbers.set(name, format);
    }
    const made = { kind: "number", text: format.format(Math.sign(number) * size) };
    if (index) made.title = String(value);
    if (column.bar) made.share = share(number, this.#scaleOf(column));
    return made;
  }

  #dateFormat(name, options) {
    let format = this.#dates.get(name);
    if (!format) {
      format = new Intl.DateTimeFormat(this.#locale, options);
      this.#dates.set(name, format);
    }
    return format;
  }

  #date(value, column) {
    const time = instantOf(value);
    if (time === null) return null;
    const isDay = column.isDay || (typeof value === "string" && DAY.test(value));
    // A day is the same day in every time zone.
    const format = isDay
      ? this.#dateFormat("day", { dateStyle: "medium", timeZone: "UTC" })
      : this.#dateFormat("date", { dateStyle: "medium", timeStyle: "medium" });
    return { kind: "date", text: format.format(time), title: String(value) };
  }

  #time(value) {
    if (typeof value === "string" && CLOCK.test(value)) return text(value);
    const time = instantOf(value);
    if (time === null) return null;
    return { kind: "date", text: this.#dateFormat("time", { timeStyle: "medium" }).format(time), title: this.#exact(time) };
  }

  #exact(time) {
    return this.#dateFormat("exact", { dateStyle: "medium", timeStyle: "long" }).format(time);
  }

  #ago(value) {
    const time = instantOf(value);
    if (time === null) return null;
    this.#relative ??= new Intl.RelativeTimeFormat(this.#locale, { numeric: "auto" });
    let span = (time - this.#now()) / 1000;
    for (const [unit, count] of SPANS) {
      if (Math.abs(Math.round(span)) < count) return { kind: "date", text: this.#relative.format(Math.round(span), unit), title: this.#exact(time) };
      span /= count;
    }
    return null;
  }

  #badge(value, { colors }) {
    if (typeof value === "object" || value === "") return null;
    const word = String(value);
    const made = { kind: "badge", text: clip(word, 60) };
    const color = colors && Object.hasOwn(colors, word) ? colors[word] : undefined;
    if (color === undefined) made.tone = colors ? "muted" : toneOf(word) ?? "muted";
    else if (COLOR_WORDS.has(color)) made.tone = color;
    else made.color = color;
    return made;
  }

  #list(value, column) {
    if (!Array.isArray(value)) return null;
    const { items, limit } = column;
    if (!items?.length) {
      const shown = value.slice(0, limit ?? LIST_LIMIT);
      const words = shown.map((element) => (typeof element === "object" && element !== null ? preview(element, 40) : clip(String(element), 80)));
      const more = value.length - shown.length;
      return { kind: "list", text: clip(words.join(", ") + (more ? ` + ${this.#count(more)}` : "")) };
    }
    // Lists of fixed length may hold null where there is no element.
    const elements = value.filter((element) => element !== null);
    const shown = elements.slice(0, limit ?? LIST_LIMIT);
    return {
      kind: "items",
      text: "",
      items: shown.map((element) => items.map((item) => this.cell(isObject(element) || Array.isArray(element) ? item.readValue(element) : item === items[0] ? element : undefined, item))),
      more: elements.length - shown.length,
    };
  }

  #count(number) {
    return this.#numberFormat(0, true).format(number);
  }
}

function text(value) {
  if (value === "") return { kind: "null", text: "\"\"" }; // an empty text is not a missing one
  if (value.length <= MAX_TEXT) return { kind: "text", text: value };
  return { kind: "text", text: clip(value), title: undefined };
}

function bool(value) {
  return typeof value === "boolean" ? { kind: "bool", text: String(value), tone: value ? "yes" : "no" } : null;
}

function link(value) {
  if (typeof value !== "string" || !/^https?:\/\//i.test(value)) return null;
  try {
    const { href } = new URL(value); // parses it: a URL that cannot be is a text
    return { kind: "link", text: clip(value.replace(/^https?:\/\//i, "").replace(/\/$/, ""), 120), href, title: clip(value, 500) };
  } catch {
    return null;
  }
}

function share(number, scale) {
  return scale > 0 ? Math.min(Math.max(number / scale, 0), 1) : 0;
}

function decimals(value) {
  const [, fraction = ""] = String(value).split(".");
  return fraction.length;
}

// What a value is sorted by: a number, a text, or null for what is not there and comes last in both directions.
// Parts of digits in a text compare as numbers, so that item-2 comes before item-10.
export function sortKey(value, format) {
  if (value === undefined || value === null || value === "") return null;
  switch (typeof value) {
    case "number": return format === "date" || format === "time" || format === "relative" ? instantOf(value) ?? value : value;
    case "boolean": return value ? "true" : "false";
    case "string": {
      if (format === "date" || format === "relative") return instantOf(value) ?? natural(value);
      return numberOf(value.length < 16 ? value : null) ?? natural(value);
    }
    default: {
      if (Array.isArray(value)) return value.length === 0 ? null : sortKey(value[0], null) ?? value.length;
      return preview(value, 64);
    }
  }
}

function natural(value) {
  return value.slice(0, 64).replace(/\d+/g, (digits) => digits.padStart(16, "0"));
}
