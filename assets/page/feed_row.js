// One line of the feed: time, key, value and where it is in Kafka, or what the stream says of itself.

import { words } from "./control_words.js";
import { h, replaceChildren, setText } from "./dom.js";
import { addedNames, changeParts, keyLabel } from "./event_panel.js";
import { clip, preview } from "./format.js";
import { isObject } from "./paths.js";
import { count, number } from "./words.js";

const PREVIEW = 400; // characters of a value
const PREVIEW_MEMBERS = 60;
const TODAY_MS = 43_200_000; // how far away a time is that needs no day

export const isRecord = (entry) => entry.type === "message" || entry.type === "delete";

export function makeRow() {
  const time = h("span", { class: "feed-time" });
  const key = h("bdi", { class: "feed-key" });
  const value = h("span", { class: "feed-value", dir: "auto" });
  const place = h("span", { class: "feed-place" });
  const element = h("li", { class: "feed-row" }, time, key, value, place);
  return { element, time, key, value, place };
}

// Fills rows for the entries of one stream.
export class RowWriter {
  showsChanges = false;
  #stream;
  #ignored;
  #times;
  #days;

  // `stream`: of /streams.
  constructor(stream, locale) {
    this.#stream = stream;
    this.#ignored = addedNames(stream);
    const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
    this.#times = new Intl.DateTimeFormat(locale, { ...clock, second: "2-digit", fractionalSecondDigits: 3 });
    this.#days = new Intl.DateTimeFormat(locale, { ...clock, month: "short", day: "numeric" });
  }

  // `previous`: the value of its key before.
  write(row, entry, previous) {
    const { element, time, key, value, place } = row;
    element.dataset.kind = isRecord(entry) ? entry.type : "control";
    element.dataset.number = entry.number;
    setText(time, entry.at === undefined ? "" : this.#time(entry));
    if (isRecord(entry)) {
      delete element.dataset.tone;
      setText(key, clip(keyLabel(entry.key), 120));
      this.writeValue(row, entry, previous);
      setText(place, this.#place(entry));
      return;
    }
    const { text, tone } = entry.type === "lost"
      ? { text: `${count(entry.count, "event")} came meanwhile that this page no longer has.`, tone: "wait" }
      : words(entry.type, entry.value);
    element.dataset.tone = tone;
    setText(key, "");
    setText(value, text);
    setText(place, "");
  }

  writeValue({ value }, entry, previous) {
    if (entry.type === "delete") setText(value, "deleted");
    else if (this.showsChanges && previous !== undefined) {
      replaceChildren(value, changeParts(previous, entry.value, this.#ignored).map((part) => h("span", { class: part.class }, part.text)));
    } else if (typeof entry.value === "string") setText(value, clip(entry.value, PREVIEW));
    else setText(value, preview(this.#shown(entry.value), PREVIEW));
  }

  // Of the record, or else of its arrival; with the day, and less exact, where that is another.
  #time({ timestamp, at }) {
    const time = Number.isFinite(timestamp) && Math.abs(timestamp) < 8.64e15 ? timestamp : at;
    return (Math.abs(Date.now() - time) < TODAY_MS ? this.#times : this.#days).format(time);
  }

  // A value without the members that have columns of their own; of a large one, its beginning.
  #shown(value) {
    if (!isObject(value)) return value;
    const shown = Object.create(null);
    let members = 0;
    for (const name in value) {
      if (name === this.#stream.key_field || this.#ignored.has(name)) continue;
      shown[name] = value[name];
      members += 1;
      if (members === PREVIEW_MEMBERS) break;
    }
    return shown;
  }

  #place({ topic, partition, offset }) {
    const parts = [];
    if (this.#stream.topics?.length > 1 && topic !== undefined) parts.push(clip(String(topic), 60));
    if (partition !== undefined) parts.push(String(partition));
    if (offset !== undefined) parts.push(number(offset));
    return parts.join(" · ");
  }
}
