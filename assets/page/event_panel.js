// One event of a stream, whole: its key, where it is in Kafka, its value as a tree, and what has changed since the key's last
// value.

import { difference, pathKey } from "./difference.js";
import { copyText, h, replaceChildren } from "./dom.js";
import { exactValue, isScalar } from "./exact.js";
import { clip, preview } from "./format.js";
import { renderTree } from "./json_tree.js";
import { formatPath } from "./paths.js";
import { number } from "./words.js";

const SIGNS = { added: "+", removed: "−", changed: "~" };
const COPIED_TEXT = 8 << 20; // what is longer is for a download

export const keyLabel = (key) => (typeof key === "string" ? key || "\"\"" : key === undefined || key === null ? "no key" : JSON.stringify(key));

// Members that the server adds to values and that differ with every record: where it is in Kafka. A Set. `of`: of /streams.
export const addedNames = (of) => new Set([of.partition_field, of.offset_field, of.timestamp_field].filter(Boolean));

// `actions`: { filter(entry) or null, connect(id), announce(text) }. `formatTime(ms)`: a time with its milliseconds. `ignored`:
// members that are no change.
export function renderEvent(entry, previous, { actions, formatTime, ignored }) {
  const isDelete = entry.type === "delete";
  const changes = previous === undefined || isDelete ? null : difference(previous, entry.value, { ignored });
  return [
    h("header", null,
      h("p", { class: "event-kind", "data-kind": entry.type }, isDelete ? "Deleted" : previous === undefined ? "Record" : "Update"),
      h("h2", { class: "event-key" }, h("bdi", null, clip(keyLabel(entry.key), 400)))),
    facts(entry, formatTime),
    buttons(entry, actions),
    changes ? changed(changes) : null,
    isDelete
      ? previous === undefined ? null : section("Before it was deleted", renderTree(previous, { label: "Value before" }))
      : section("Value", renderTree(exactValue(entry), { label: "Value", marks: marksOf(changes) })),
  ];
}

function section(title, ...children) {
  return h("section", null, h("h3", null, title), ...children);
}

function marksOf(changes) {
  const shown = changes?.changes.filter(({ kind, path }) => kind !== "removed" && path.length > 0) ?? [];
  return new Map(shown.map(({ path, kind }) => [pathKey(path), kind]));
}

function facts(entry, formatTime) {
  const list = [];
  const add = (name, value, title) => list.push(h("div", null, h("dt", null, name), h("dd", { title }, h("bdi", null, value))));
  if (Number.isFinite(entry.timestamp)) add("Written", formatTime(entry.timestamp), instant(entry.timestamp));
  add("Received", formatTime(entry.at), instant(entry.at));
  if (entry.topic !== undefined) add("Topic", clip(String(entry.topic), 200));
  if (entry.partition !== undefined) add("Partition", String(entry.partition));
  if (entry.offset !== undefined) add("Offset", number(entry.offset), String(entry.offset));
  for (const [name, value] of Object.entries(entry.headers ?? {}).slice(0, 50)) {
    add(`Header ${clip(name, 60)}`, clip(typeof value === "string" ? value : preview(value), 400));
  }
  return h("dl", { class: "event-facts" }, list);
}

function instant(ms) {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? null : date.toISOString();
}

function buttons(entry, { filter, connect, announce }) {
  const button = (text, run) => h("button", { type: "button", on: { click: run } }, text);
  const copying = (text, read) => {
    const made = button(text, async () => {
      made.textContent = (await copyText(read())) ? "Copied" : "Cannot copy";
      announce?.(made.textContent);
      setTimeout(() => { made.textContent = text; }, 2_000);
    });
    return made;
  };
  const text = typeof entry.text === "string" ? entry.text : "";
  return h("p", { class: "event-actions" },
    filter ? button("Only this key", () => filter(entry)) : null,
    entry.type === "message" && text.length <= COPIED_TEXT ? copying("Copy value", () => text) : null,
    entry.id ? copying("Copy event id", () => entry.id) : null,
    entry.id ? button("Continue after it…", () => connect(entry.id)) : null);
}

// A list of changes: sign, path, what was, what is.
function changed({ changes, more }) {
  if (changes.length === 0 && !more) return section("What has changed", h("p", { class: "muted" }, "Nothing: the value is the same as before."));
  const items = changes.map((change) => h("li", { "data-mark": change.kind },
    h("span", { class: "change-sign", "aria-hidden": "true" }, SIGNS[change.kind]),
    h("span", { class: "away" }, `${change.kind} `),
    h("span", { class: "change-path" }, h("bdi", null, clip(formatPath(change.path.map(String)), 200) || "value")),
    " ",
    change.kind === "added" ? null : h("del", null, glimpse(change.before)),
    change.kind === "changed" ? h("span", { class: "change-arrow", "aria-hidden": "true" }, " → ") : null,
    change.kind === "removed" ? null : h("ins", null, glimpse(change.after))));
  return section("What has changed", h("ul", { class: "changes" }, items),
    more ? h("p", { class: "muted" }, "There are more changes than are shown here.") : null);
}

function glimpse(value) {
  return isScalar(value) ? clip(JSON.stringify(value) ?? String(value), 160) : preview(value, 160);
}

// The first changes between two values on one line, as parts [{ text, class }] for a row of the list.
export function changeParts(previous, value, ignored) {
  const { changes, more } = difference(previous, value, { limit: 5, work: 2_000, ignored });
  if (changes.length === 0) return [{ text: more ? "changed" : "no change", class: "muted" }];
  const parts = [];
  for (const { path, kind, before, after } of changes) {
    if (parts.length > 0) parts.push({ text: " · ", class: "muted" });
    parts.push({ text: `${kind === "changed" ? "" : SIGNS[kind]}${clip(formatPath(path.map(String)), 60) || "value"} `, class: "muted" });
    if (kind !== "added") parts.push({ text: short(before), class: "was" });
    if (kind === "changed") parts.push({ text: " → ", class: "muted" });
    if (kind !== "removed") parts.push({ text: short(after), class: "is" });
  }
  if (more) parts.push({ text: " …", class: "muted" });
  return parts;
}

const short = (value) => (isScalar(value) ? clip(typeof value === "string" ? value : String(value), 40) : preview(value, 40));

export function renderInto(panel, ...event) {
  replaceChildren(panel, renderEvent(...event));
}
