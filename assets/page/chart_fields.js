// What a chart can show of a stream: the numbers in its values, and by what they can be grouped. Pure.

import { leaves, scalarText } from "./exact.js";
import { formatPath, parsePath, readPath } from "./paths.js";
import { clip, numberOf } from "./format.js";

const SAMPLE = 200; // entries that are looked at
const DISTINCT = 40; // values of a member up to which it is offered to group by
const LINES = 12;

// Members that are numbers, but measure nothing.
const NO_MEASURE = /(?:^|[_.\- ])(?:id|no|nr|num|year|zip|plz|code|port|version|phone|ts|time|timestamp|at|lat|lon|lng|latitude|longitude|seq|sequence|offset|partition)$|[a-z](?:Id|No|Nr|Code|Time|Timestamp|At)(?:Ms|Millis)?$/;

// { fields: [paths], groups: [paths], keys: number of different keys } of some newest entries; what is most likely wanted first.
export function fieldsOf(entries) {
  const numbers = new Map(); // path -> { count, values }
  const words = new Map();
  const keys = new Set();
  let size = 0;
  for (const entry of entries) {
    if (entry.type !== "message") continue;
    size += 1;
    if (size > SAMPLE) break;
    if (entry.keyText !== null && entry.keyText !== undefined) keys.add(entry.keyText);
    for (const { path, value } of leaves(entry.value, 60, 4)) {
      const kind = typeof value === "number" ? numbers : typeof value === "string" || typeof value === "boolean" ? words : null;
      if (!kind) continue;
      const name = formatPath(path);
      if (!kind.has(name)) kind.set(name, { count: 0, values: new Set() });
      const seen = kind.get(name);
      seen.count += 1;
      if (seen.values.size <= DISTINCT) seen.values.add(clip(scalarText(value), 80));
    }
  }
  const isMeasure = ([name]) => !NO_MEASURE.test(name) && !/(?:^|\.)\d+(?:\.|$)/.test(name);
  const rank = (one) => (isMeasure(one) ? 0 : 2) + (one[1].values.size > 1 ? 0 : 1);
  const fields = [...numbers].sort((one, other) => rank(one) - rank(other)).map(([name]) => name);
  const groups = [...words]
    .filter(([, { count, values }]) => values.size > 1 && values.size <= DISTINCT && values.size < count)
    .sort(([, one], [, other]) => Number(one.values.size > LINES) - Number(other.values.size > LINES))
    .map(([name]) => name);
  const measures = [...numbers].filter(isMeasure).map(([name]) => name);
  const few = groups.find((name) => words.get(name).values.size <= LINES) ?? null;
  return { fields, groups, keys: keys.size, measures, few };
}

// How links name a choice: `value.price`, `key`, `topic`, `partition`, `rate`, `none`.
export const ofValue = (path) => `value.${path}`;

// A function that reads the group of an entry as a text; null where it has none. `group` as in links.
export function groupReader(group) {
  if (group === "none") return () => "";
  if (group === "key") return (entry) => (entry.key === undefined || entry.key === null ? null : typeof entry.key === "string" ? entry.key : JSON.stringify(entry.key));
  if (group === "topic" || group === "partition") return (entry) => (entry[group] === undefined ? null : String(entry[group]));
  const read = readPath(group.slice("value.".length));
  return (entry) => {
    const text = scalarText(read(entry.value));
    return text === undefined ? null : clip(text, 200);
  };
}

// A function that reads the number of an entry, or null. `field` as in links; of a rate every event is 1.
export function numberReader(field) {
  if (field === "rate") return () => 1;
  const read = readPath(field.slice("value.".length));
  return (entry) => {
    const value = numberOf(read(entry.value));
    return Number.isFinite(value) ? value : null;
  };
}

// A choice of a link, or null for what is none.
export function choiceOf(text, words) {
  if (text === null || text === undefined || text === "") return null;
  if (words.includes(text)) return text;
  const path = text.startsWith("value.") ? text.slice("value.".length) : null;
  return path !== null && parsePath(path).every((name) => name !== "") ? text : null;
}
