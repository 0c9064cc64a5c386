// Events as a file: lines of JSON, or CSV for a spreadsheet. Pure, apart from `save`.

import { exactValue, isScalar, leaves, scalarText } from "./exact.js";
import { formatPath } from "./paths.js";

const COLUMNS = 200; // of values; what has more is in the column with the whole value
const FACTS = ["time", "event", "key", "topic", "partition", "offset", "timestamp", "id"];

// The JSON text of an entry's value on one line, with numbers as they are written.
function jsonOf(entry) {
  if (typeof entry.text === "string") {
    try {
      JSON.parse(entry.text);
      // Between its tokens only: within strings, JSON has no raw line ends.
      return entry.text.replace(/[\r\n]+/g, " ");
    } catch {
      return JSON.stringify(entry.text);
    }
  }
  return JSON.stringify(entry.value) ?? "null";
}

const instant = (milliseconds) => (Number.isFinite(milliseconds) ? new Date(milliseconds).toISOString() : null);

// Lines of JSON, as pieces of a Blob. `received` is when this browser got the event; what is not known is left out.
export function ndjson(entries) {
  return entries.map((entry) => {
    const known = { event: entry.type, received: instant(entry.at) };
    if (entry.id) known.id = entry.id;
    for (const name of ["topic", "partition", "offset", "timestamp", "key", "headers"]) {
      if (entry[name] !== undefined && (entry[name] !== null || name === "key")) known[name] = entry[name];
    }
    const head = JSON.stringify(known);
    return `${head.slice(0, -1)},"value":${jsonOf(entry)}}\n`;
  });
}

// A field of RFC 4180. A text that a spreadsheet would take for a formula has an apostrophe in front; a JSON number is none.
export function csvField(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  let text = String(value);
  if (/^\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|^[\t\r\n]/.test(text)) text = `'${text}`;
  // Semicolons and tabs separate fields in some spreadsheets.
  return /[",;\t\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const keyText = (key) => (typeof key === "string" ? key : key === null || key === undefined ? "" : JSON.stringify(key));

function flat(entry) {
  const fields = new Map();
  const value = exactValue(entry);
  if (isScalar(value)) return { fields, whole: scalarText(value) ?? "" };
  let count = 0;
  for (const leaf of leaves(value, COLUMNS, 16)) {
    count += 1;
    // A number as it is written; of the rest, strings alone may be taken for a formula.
    const isText = typeof leaf.value === "string";
    fields.set(formatPath(leaf.path), isText ? leaf.value : { source: scalarText(leaf.value) });
  }
  return { fields, whole: count < COLUMNS ? null : jsonOf(entry) };
}

// CSV of the records and deletes among the entries, as pieces of a Blob. Columns of values are named by their paths, in the order
// in which they were found; `value` has what is no object, or has more members than there are columns.
export function csv(entries) {
  const records = entries.filter((entry) => entry.type === "message" || entry.type === "delete");
  const names = new Map();
  const rows = records.map((entry) => {
    const row = flat(entry);
    let isWhole = row.whole === null;
    for (const name of row.fields.keys()) {
      if (names.has(name)) continue;
      if (names.size < COLUMNS) names.set(name, names.size);
      else isWhole = false;
    }
    return { entry, fields: row.fields, whole: isWhole ? null : row.whole ?? jsonOf(entry) };
  });
  const hasWhole = rows.some((row) => row.whole !== null);
  const shown = FACTS.filter((name) => name === "time" || name === "event" ||
    records.some((entry) => (name === "key" ? keyText(entry.key) !== "" : entry[name] !== undefined && entry[name] !== null)));
  const line = (fields) => `${fields.join(",")}\r\n`;
  // A column of the value may have the name of a fact.
  const head = [...shown, ...[...names.keys()].map((name) => (FACTS.includes(name) || name === "value" ? `value.${name}` : name))];
  if (hasWhole) head.push("value");
  const pieces = [line(head.map(csvField))];
  for (const { entry, fields, whole } of rows) {
    const facts = {
      time: instant(entry.at), event: entry.type, key: keyText(entry.key), topic: entry.topic, partition: entry.partition,
      offset: entry.offset, timestamp: instant(entry.timestamp), id: entry.id,
    };
    const cells = shown.map((name) => csvField(facts[name]));
    for (const name of names.keys()) {
      const field = fields.get(name);
      cells.push(field?.source ?? csvField(field));
    }
    if (hasWhole) cells.push(csvField(whole));
    pieces.push(line(cells));
  }
  return pieces;
}

// "orders-2026-11-29T14-05-06.csv" for /orders.
export function fileName(path, time, extension) {
  const name = path.replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[-.]+|-+$/g, "") || "events";
  return `${name}-${new Date(time).toISOString().slice(0, 19).replaceAll(":", "-")}.${extension}`;
}

export function save(name, type, pieces) {
  const url = URL.createObjectURL(new Blob(pieces, { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The browser has begun to read it by then.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
