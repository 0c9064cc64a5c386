// The server's filters, as one writes them: `key=17`, `value.address.city=Paris`. Pure. docs/wire.md has their rules.

import { leaves, exactValue, scalarText } from "./exact.js";
import { formatPath, parsePath } from "./paths.js";

export const MAX_TERMS = 16;
export const MAX_BYTES = 2_048;
const MAX_NAMES_IN_PATH = 32;
const NAMES = 300; // that are remembered
const VALUES = 100; // of each
const VALUE = 200; // characters of one that is offered
const OFFERED = 12;

const utf8 = new TextEncoder();
const base64 = (text) => btoa(String.fromCharCode(...utf8.encode(text)));

// The text by which `?key=` finds a key, or null for none.
export function keyFilter(key) {
  if (key === null || key === undefined) return null;
  // A text that begins like this would be taken for bytes.
  if (typeof key === "string") return key.startsWith("base64:") ? `base64:${base64(key)}` : key;
  const isBytes = typeof key.base64 === "string" && Object.keys(key).length === 1;
  return isBytes ? `base64:${key.base64}` : JSON.stringify(key);
}

// Why a name is none, or null.
function nameProblem(name) {
  if (name === "key" || name === "topic" || name === "partition") return null;
  if (/^header\../s.test(name)) return null;
  if (!name.startsWith("value.")) return `${name === "" ? "A filter" : `"${name}"`} is none of key, topic, partition, header.NAME and value.PATH`;
  const path = name.slice(6);
  if (/\\(?![.\\])/.test(path)) return "A backslash is written twice; alone, it can only be before a dot";
  const names = parsePath(path);
  if (names.includes("")) return `"${name}" lacks a name between its dots`;
  return names.length > MAX_NAMES_IN_PATH ? `A path has at most ${MAX_NAMES_IN_PATH} names` : null;
}

// Splits a term: { name, value }, or { problem }. A name may contain "="; of those in `known` the longest counts, otherwise what
// is before the first "=". A name that is a path in `known` does not need its `value.`.
export function parseTerm(text, known = []) {
  const isNameOf = (name) => text.startsWith(`${name}=`);
  const found = [...known].filter(isNameOf).sort((one, other) => other.length - one.length)[0];
  const end = found === undefined ? text.indexOf("=") : found.length;
  if (end < 0) return { problem: "Write a filter as name=value, such as key=17 or value.city=Paris" };
  let name = text.slice(0, end).trim();
  const value = text.slice(end + 1);
  if (nameProblem(name) && known.includes(`value.${name}`)) name = `value.${name}`;
  const problem = nameProblem(name);
  if (problem) return { problem };
  if (name === "partition" && !/^\d+$/.test(value)) return { problem: "A partition is a number" };
  return { name, value };
}

// The terms of filters as [name, value], in their order.
export function terms(filters) {
  return Object.entries(filters).flatMap(([name, values]) => [values].flat().map((value) => [name, String(value)]));
}

// The filters of terms. Null prototype: a filter may be called `__proto__`.
export function filtersOf(list) {
  const filters = Object.create(null);
  for (const [name, value] of list) {
    filters[name] ??= [];
    if (!filters[name].includes(value)) filters[name].push(value);
  }
  return filters;
}

// Why the server would refuse these filters for their size, or null.
export function sizeProblem(filters) {
  const all = terms(filters);
  if (all.length > MAX_TERMS) return `A stream takes at most ${MAX_TERMS} filters`;
  const bytes = all.reduce((sum, [name, value]) => sum + utf8.encode(name).length + utf8.encode(value).length, 0);
  return bytes > MAX_BYTES ? "Filters have at most 2 KiB together" : null;
}

// What was seen, to complete a filter with: names, and values of each with the number of records that had them. Bounded.
export class Seen {
  #values = new Map(); // name -> Map of value -> count

  get names() {
    return [...this.#values.keys()];
  }

  add(entry) {
    if (entry.type !== "message" && entry.type !== "delete") return;
    this.#note("key", keyFilter(entry.key));
    this.#note("topic", entry.topic);
    this.#note("partition", entry.partition);
    for (const [name, value] of Object.entries(entry.headers ?? {})) {
      for (const one of [value].flat()) if (typeof one === "string") this.#note(`header.${name}`, one);
    }
    for (const { path, value } of leaves(exactValue(entry), 60, 5)) this.#note(`value.${formatPath(path)}`, scalarText(value));
  }

  #note(name, value) {
    if (value === undefined || value === null) return;
    const text = String(value);
    if (text.length > VALUE) return;
    let values = this.#values.get(name);
    if (!values) {
      if (this.#values.size >= NAMES) return;
      this.#values.set(name, values = new Map());
    }
    if (values.has(text) || values.size < VALUES) values.set(text, (values.get(text) ?? 0) + 1);
  }

  // What the text could become: [{ text, label, note }], `isWhole` where it is a name with a value.
  complete(text) {
    const name = this.names.filter((known) => text.startsWith(`${known}=`)).sort((one, other) => other.length - one.length)[0];
    if (name !== undefined) {
      const values = [...this.#values.get(name)].map(([value, count]) => ({ text: `${name}=${value}`, label: value, count, isWhole: true }));
      return best(values, text.slice(name.length + 1), (one, other) => other.count - one.count);
    }
    const names = this.names.map((known) => ({ text: `${known}=`, label: known, count: this.#values.get(known).size, isWhole: false }));
    return best(names, text, () => 0);
  }
}

// Those with the text in their label: at its beginning first, then at the beginning of a part of it.
function best(all, text, compare) {
  const wanted = text.toLowerCase();
  const rank = ({ label }) => {
    const at = label.toLowerCase().indexOf(wanted);
    return at <= 0 ? at : /[.\s_-]/.test(label[at - 1]) ? 1 : 2;
  };
  const ranked = all.map((one) => ({ one, rank: rank(one) })).filter((ranked) => ranked.rank >= 0 && ranked.one.label !== text);
  ranked.sort((one, other) => one.rank - other.rank || compare(one.one, other.one));
  return ranked.slice(0, OFFERED).map(({ one }) => one);
}
