// A number over the last minutes, by uPlot: a line per key or per value of another member, or events per second where values have no
// number. Drawn at most once per frame, and only where it would look different.

import { choiceOf, fieldsOf, groupReader, numberReader, ofValue } from "./chart_fields.js";
import { h, loadStyle, replaceChildren, setText } from "./dom.js";
import { createFilterBar } from "./filter_bar.js";
import { clip } from "./format.js";
import { isKeyed } from "./router.js";
import { GROUPS, Means, Series } from "./series.js";
import { count, number } from "./words.js";

const MINUTES = [1, 5, 15, 60];
const MOST_MINUTES = 1_440;
const DOT_SPACE = 14; // pixels per value from which on each has a dot
const SHORTEST_MS = 10_000; // of the axis
const LEGEND_MS = 250; // how often the figures of the legend change
const LOOK_MS = 2_000; // how often new members are looked for, until there are some

let library = null;

// uPlot is a classic script, byte for byte that of its npm package.
function loadLibrary() {
  library ??= Promise.all([
    new Promise((resolve, reject) => {
      const src = new URL("vendor/uPlot.iife.min.js", import.meta.url).href;
      document.head.append(h("script", { src, on: { load: () => resolve(globalThis.uPlot), error: () => reject(new Error(`${src} cannot be loaded`)) } }));
    }),
    loadStyle(new URL("vendor/uPlot.min.css", import.meta.url).href),
  ]).then(([made]) => made);
  library.catch(() => { library = null; }); // the next view tries again
  return library;
}

export function createView(session, view, context) {
  return new Chart(session, view, context);
}

class Chart {
  #session;
  #view;
  #context;
  #bar;
  #uPlot = null;
  #plot = null;
  #unsubscribe = null;
  #removeKeys = null;
  #frame = 0;
  #field;
  #group;
  #minutes;
  #isChosen; // by a link or the configuration, not by what was found
  #series = new Map(); // by minutes
  #readNumber;
  #readGroup;
  #means = null; // where a line is about several keys
  #next = 0; // number of the first entry that is not in the series
  #drawnLines = null; // what the legend is about
  #without = 0; // events without the number
  #isDirty = true;
  #drawnAt = 0; // ms since 1970 at the right edge
  #left = 0; // at the left one
  #legendAt = 0;
  #pointedAt = null; // pixels
  #lookedAt = 0;
  #hidden = new Set();
  #shape = "";
  #colors = [];
  #resized;
  #dark = matchMedia("(prefers-color-scheme: dark)");
  #still = matchMedia("(prefers-reduced-motion: reduce)");
  #recolor = () => this.#remake();

  constructor(session, view, context) {
    this.#session = session;
    this.#view = view;
    this.#context = context;
    this.#bar = createFilterBar(session, context);
    const asked = Number(context.params.get("minutes") ?? view.minutes);
    this.#minutes = asked >= 1 && asked <= MOST_MINUTES ? asked : 5;
    this.#build();
    this.#choose();
    this.#resized = new ResizeObserver(() => this.#resize());
  }

  show() {
    this.#unsubscribe ??= this.#session.subscribe((change) => this.#heed(change));
    this.#removeKeys ??= this.#context.keys?.([{ key: "/", label: "Add a filter", run: () => this.#bar.focus() }]) ?? null;
    this.#dark.addEventListener("change", this.#recolor);
    this.#resized.observe(this.plotPlace);
    this.#bar.update();
    this.#take();
    this.#frame ||= requestAnimationFrame(() => this.#tick());
    if (this.#uPlot) return;
    loadLibrary().then((uPlot) => {
      this.#uPlot = uPlot;
      this.#isDirty = true;
    }, (error) => {
      setText(this.note, `The chart cannot be drawn: ${error.message}`);
    });
  }

  hide() {
    this.#unsubscribe?.();
    this.#unsubscribe = null;
    this.#removeKeys?.();
    this.#removeKeys = null;
    this.#dark.removeEventListener("change", this.#recolor);
    this.#resized.disconnect();
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
  }

  destroy() {
    this.hide();
    this.#bar.destroy();
    this.#plot?.destroy();
    this.#plot = null;
    this.element.remove();
  }

  settings() {
    return { field: this.#isChosen ? this.#field : null, group: this.#isChosen ? this.#group : null, minutes: String(this.#minutes) };
  }

  // ---- Parts ----

  #build() {
    const select = (label, run) => {
      const made = h("select", { on: { change: () => run(made.value) } });
      return [made, h("label", null, h("span", null, label), made)];
    };
    const [field, fieldLabel] = select("Value", (value) => this.#set({ field: value }));
    const [group, groupLabel] = select("Line per", (value) => this.#set({ group: value }));
    const [minutes, minutesLabel] = select("Last", (value) => this.#set({ minutes: Number(value) }));
    Object.assign(this, { field, group, minutes });
    const all = [...new Set([...MINUTES, this.#minutes])].sort((one, other) => one - other);
    replaceChildren(minutes, all.map((value) => h("option", { value }, count(value, "minute"))));
    minutes.value = String(this.#minutes);
    this.plotPlace = h("div", { class: "chart-plot", role: "img" });
    this.caption = h("p", { class: "chart-caption" });
    this.legend = h("ul", { class: "chart-legend", "aria-label": "Lines" });
    this.note = h("p", { class: "chart-note" });
    this.element = h("div", { class: "chart", "data-kiosk": Boolean(this.#context.kiosk) },
      h("div", { class: "feed-bar" }, this.#bar.element,
        h("div", { class: "feed-tools", on: { focusin: () => this.#offer(this.#find()), pointerenter: () => this.#offer(this.#find()) } }, fieldLabel, groupLabel, minutesLabel)),
      h("figure", { class: "chart-figure" }, h("figcaption", null, this.caption), this.plotPlace, this.legend, this.note));
  }

  // ---- What is chosen ----

  #choose() {
    const { params } = this.#context;
    const { value, group } = this.#view;
    const found = this.#find();
    const asked = choiceOf(params.get("field"), ["rate"]) ?? (value === undefined ? null : ofValue(value));
    const askedGroup = choiceOf(params.get("group"), ["key", "topic", "partition", "none"]) ?? (group === undefined ? null : ofValue(group));
    this.#isChosen = asked !== null || askedGroup !== null;
    this.#field = asked ?? (found.measures.length > 0 ? ofValue(found.measures[0]) : "rate");
    this.#group = askedGroup ?? this.#likelyGroup(found, value !== undefined);
    this.#offer(found);
    this.#rebuild();
  }

  // A configured chart without a group has a line per key, as the documentation says.
  #likelyGroup({ keys, few }, isConfigured) {
    if (isConfigured ? isKeyed(this.#session.entry) : keys > 0 && keys <= GROUPS) return "key";
    if (few !== null && this.#field !== "rate") return ofValue(few);
    return "none";
  }

  #find() {
    const { log, rows } = this.#session;
    this.#lookedAt = performance.now();
    return fieldsOf((function* newest() {
      for (let number = log.next - 1; number >= log.first; number -= 1) if (log.get(number)) yield log.get(number);
      yield* rows.values();
    })());
  }

  #offer({ fields, groups }) {
    const { entry } = this.#session;
    const options = (select, all, chosen) => {
      if (!all.some(([value]) => value === chosen)) all.push([chosen, clip(chosen.replace(/^value\./, ""), 60)]);
      const isSame = select.options.length === all.length && all.every(([value], index) => select.options[index].value === value);
      if (!isSame) replaceChildren(select, all.map(([value, label]) => h("option", { value }, label)));
      select.value = chosen;
    };
    const named = (path) => [ofValue(path), clip(path, 60)];
    options(this.field, [...fields.map(named), ["rate", "Events per second"]], this.#field);
    options(this.group, [
      ["none", "All together"],
      ...(isKeyed(entry) ? [["key", "Key"]] : []),
      ...(entry.topics?.length > 1 ? [["topic", "Topic"]] : []),
      ...(entry.format === "envelope" || entry.partition_field ? [["partition", "Partition"]] : []),
      ...groups.map(named),
    ], this.#group);
  }

  #set({ field = this.#field, group = this.#group, minutes = this.#minutes }) {
    const isOther = field !== this.#field || group !== this.#group;
    [this.#field, this.#group, this.#minutes] = [field, group, minutes];
    if (isOther) {
      this.#isChosen = true;
      this.#rebuild();
    }
    this.#remake();
    this.#context.setParams?.(this.settings());
    this.#context.announce?.(this.#title());
  }

  // ---- The series ----

  #rebuild() {
    const isMean = this.#field !== "rate" && this.#group !== "key" && this.#group !== "none" && isKeyed(this.#session.entry);
    this.#means = isMean ? new Means() : null;
    const kind = this.#field === "rate" ? "rate" : this.#group === "key" || isMean ? "latest" : "mean";
    this.#series = new Map([...new Set([...MINUTES, this.#minutes])].map((minutes) => [minutes, new Series({ minutes, kind })]));
    this.#readNumber = numberReader(this.#field);
    this.#readGroup = groupReader(this.#group);
    this.#without = 0;
    this.#hidden.clear();
    const { log } = this.#session;
    this.#next = log.first;
    if (isMean) this.#prime();
    this.#reserve();
    this.#take({ isAnew: true });
  }

  // A mean of the few keys that have come first would not be that of all: each key begins with the oldest value that is known.
  #prime() {
    const { log, rows } = this.#session;
    for (const row of rows.values()) if (row.number < log.first) this.#means.set(row.keyText, this.#readGroup(row), this.#readNumber(row));
    for (const entry of log) {
      const isNew = entry.type === "message" && entry.keyText !== null && !this.#means.has(entry.keyText);
      if (isNew) this.#means.set(entry.keyText, this.#readGroup(entry), this.#readNumber(entry));
    }
  }

  // Lines for the groups with most events, as far as it is known, in the order of their names.
  #reserve() {
    const counts = new Map();
    for (const entry of this.#session.log) {
      const group = entry.type === "message" ? this.#readGroup(entry) : null;
      if (group !== null && this.#readNumber(entry) !== null) counts.set(group, (counts.get(group) ?? 0) + 1);
    }
    const most = [...counts].sort(([, one], [, other]) => other - one).slice(0, GROUPS).map(([group]) => group);
    const { compare } = new Intl.Collator(this.#context.locale, { numeric: true });
    most.sort(compare);
    for (const series of this.#series.values()) series.reserve(most);
  }

  // Takes what the log has got since; all of it anew once a snapshot is complete.
  #take({ isAnew = false } = {}) {
    const { log } = this.#session;
    let isComplete = false;
    const now = Date.now();
    const from = Math.max(this.#next, log.first);
    for (let place = from; place < log.next; place += 1) {
      const entry = log.get(place);
      if (entry?.type === "message") this.#add(entry, now);
      else if (entry?.type === "delete") this.#means?.delete(entry.keyText);
      else if (entry?.type === "caught-up") isComplete ||= entry.value?.reason === "snapshot";
    }
    if (from < log.next) this.#isDirty = true;
    this.#next = log.next;
    if (isComplete && !isAnew) this.#rebuild();
  }

  #add(entry, now) {
    const group = this.#readGroup(entry);
    const value = this.#readNumber(entry);
    if (group === null || value === null) {
      this.#without += 1;
      return;
    }
    const shown = this.#means && entry.keyText !== null ? this.#means.set(entry.keyText, group, value) : value;
    const time = Number.isFinite(entry.timestamp) ? entry.timestamp : entry.at;
    for (const series of this.#series.values()) {
      series.since(entry.at);
      series.add(group, time, shown, now);
    }
  }

  #heed({ cleared, status }) {
    if (status) this.#bar.update();
    if (cleared && this.#session.log.size === 0) return this.#rebuild();
    this.#take();
    // A stream that was empty may have got values with numbers meanwhile.
    if (this.#isChosen || this.#field !== "rate" || performance.now() - this.#lookedAt < LOOK_MS) return;
    if (this.#find().measures.length > 0) this.#choose();
  }

  // ---- Drawing ----

  #tick() {
    this.#frame = requestAnimationFrame(() => this.#tick());
    const now = Date.now();
    const width = this.plotPlace.clientWidth;
    if (!this.#uPlot || width === 0) return;
    const passed = Math.abs(now - this.#drawnAt); // a clock may be set back
    const perPixel = (this.#drawnAt - this.#left) / (width * devicePixelRatio);
    if (this.#still.matches ? passed < 1_000 : !this.#isDirty && passed < perPixel / 2) return;
    this.#draw(now);
  }

  #draw(now) {
    this.#isDirty = false;
    this.#drawnAt = now;
    const series = this.#series.get(this.#minutes);
    const { x, lines } = series.data(now);
    this.#left = this.#leftOf(x, lines, now);
    const data = [x];
    for (const { y, low, high } of lines) {
      data.push(y);
      if (this.#hasBand(lines)) data.push(high, low);
    }
    const shape = JSON.stringify([this.#minutes, series.kind, lines.map(({ name }) => name)]);
    if (shape !== this.#shape || !this.#plot) {
      this.#shape = shape;
      this.#make(lines, data);
    } else {
      this.#plot.setData(data);
    }
    this.#drawnLines = lines;
    if (performance.now() - this.#legendAt > LEGEND_MS) this.#showLegend(lines, series);
  }

  // Where the axis begins: with the first value, as long as there are few.
  #leftOf(x, lines, now) {
    const begin = now - this.#minutes * 60_000;
    const first = x.findIndex((_, index) => lines.some(({ y }) => y[index] !== null));
    if (first < 0) return begin;
    return Math.max(begin, Math.min(x[first] * 1000 - this.#series.get(this.#minutes).width, now - SHORTEST_MS));
  }

  // The least and the largest, where there is one line.
  #hasBand(lines) {
    return lines.length === 1 && lines[0].low !== undefined;
  }

  #make(lines, data) {
    this.#plot?.destroy();
    const style = getComputedStyle(this.element);
    const color = (name) => style.getPropertyValue(name).trim();
    this.#colors = Array.from({ length: GROUPS }, (_, slot) => color(`--chart-${slot + 1}`));
    const size = Number.parseFloat(style.fontSize) * 0.85; // of the texts at the axes
    const font = `${size}px ${style.fontFamily}`;
    const axis = { stroke: color("--muted"), font, grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1, size: 4 } };
    const drawn = lines.flatMap((line) => this.#drawn(line, lines, size / 6));
    const clock = new Intl.DateTimeFormat(this.#context.locale, { hour: "2-digit", minute: "2-digit", second: this.#minutes < 30 ? "2-digit" : undefined, hourCycle: "h23" });
    const figures = new Intl.NumberFormat(this.#context.locale, { maximumSignificantDigits: 6, notation: "compact" });
    const options = {
      ...this.#size(),
      padding: [size, size * 2.5, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false, setScale: false }, points: { size: 7 } },
      scales: {
        x: { time: true, range: () => [this.#left / 1000, this.#drawnAt / 1000] },
        y: { range: (plot, low, high) => rangeOf(low, high, this.#field === "rate") },
      },
      axes: [
        { ...axis, space: size * 8, size: size * 2.4, values: (plot, ticks) => ticks.map((tick) => clock.format(tick * 1000)) },
        { ...axis, space: size * 3.5, size: (plot, values) => size * (1.5 + 0.65 * Math.max(1, ...(values ?? []).map((text) => text.length))), values: (plot, ticks) => ticks.map((tick) => figures.format(tick)) },
      ],
      series: [{}, ...drawn],
      bands: this.#hasBand(lines) ? [{ series: [2, 3], fill: color("--chart-band") }] : [],
      hooks: { setCursor: [(plot) => this.#point(plot.cursor.left)] },
    };
    this.#plot = new this.#uPlot(options, data, this.plotPlace);
    this.plotPlace.plot = this.#plot; // for the console of a browser, and for tests
    this.#legendAt = 0;
  }

  #drawn({ name, slot }, lines, width) {
    const few = (plot, index) => plot.data[index].reduce((sum, value) => sum + (value === null ? 0 : DOT_SPACE), 0) <= plot.width;
    const stroke = this.#colors[slot];
    const line = {
      label: name, stroke, width, spanGaps: this.#field !== "rate", show: !this.#hidden.has(name),
      dash: slot < GROUPS / 2 ? undefined : [7, 4],
      points: { show: few, size: width * 2.4, fill: stroke, stroke },
    };
    const edge = { stroke: "transparent", width: 0, spanGaps: true, points: { show: false } };
    return this.#hasBand(lines) ? [line, { ...edge, label: "largest" }, { ...edge, label: "least" }] : [line];
  }

  // uPlot calls this with every drawing, too.
  #point(left) {
    if (left === this.#pointedAt) return;
    this.#pointedAt = left;
    if (this.#drawnLines) this.#showLegend(this.#drawnLines, this.#series.get(this.#minutes));
  }

  #size() {
    return { width: Math.max(120, this.plotPlace.clientWidth), height: Math.max(120, this.plotPlace.clientHeight) };
  }

  #resize() {
    this.#plot?.setSize(this.#size());
    this.#isDirty = true;
  }

  #remake() {
    this.#shape = "";
    this.#isDirty = true;
  }

  // ---- Words ----

  // Whether it shows what its title is about.
  get #isAsConfigured() {
    const { value, group } = this.#view;
    const isSo = (path, chosen) => path === undefined || ofValue(path) === chosen;
    return isSo(value, this.#field) && isSo(group, this.#group);
  }

  #title() {
    const what = this.#field === "rate" ? "Events per second" : this.#field.slice("value.".length);
    const by = this.#group === "none" ? "" : ` by ${this.#group.replace(/^value\./, "")}`;
    return `${what}${by}, last ${this.#minutes === 1 ? "minute" : count(this.#minutes, "minute")}`;
  }

  #showLegend(lines, series) {
    this.#legendAt = performance.now();
    setText(this.caption, (this.#isAsConfigured && this.#view.title) || this.#title());
    this.plotPlace.setAttribute("aria-label", this.#title());
    const isMean = this.#means !== null || series.kind !== "latest";
    const figures = new Intl.NumberFormat(this.#context.locale, { maximumSignificantDigits: isMean ? 4 : 15 });
    const at = this.#plot?.cursor.idx;
    const isPointed = at !== null && at !== undefined && this.#pointedAt >= 0 && this.#pointedAt !== null;
    const items = lines.map(({ name, slot, last, y }) => {
      const rate = y.findLast((value) => value !== null);
      const value = isPointed ? y[at] : this.#field === "rate" ? rate : last;
      return { name, slot, text: value === null || value === undefined ? "–" : figures.format(value) };
    });
    this.#fillLegend(items);
    setText(this.note, this.#notes(series, lines).join(" "));
  }

  #fillLegend(items) {
    const { legend } = this;
    const names = JSON.stringify(items.map(({ name, slot }) => [name, slot]));
    if (legend.dataset.names !== names) {
      legend.dataset.names = names;
      replaceChildren(legend, items.map(({ name, slot }) => {
        const toggle = h("button", { type: "button", class: "chart-line", "data-slot": slot + 1, "aria-pressed": String(!this.#hidden.has(name)) },
          h("span", { class: "chart-swatch", "aria-hidden": "true" }),
          h("bdi", { class: "chart-name" }, this.#group === "none" ? "All" : clip(name, 60) || "(empty)"), h("span", { class: "chart-last" }));
        toggle.addEventListener("click", () => this.#toggle(name, toggle));
        return h("li", null, toggle);
      }));
    }
    for (const [index, { text }] of items.entries()) setText(legend.children[index].querySelector(".chart-last"), text);
  }

  #toggle(name, button) {
    if (!this.#hidden.delete(name)) this.#hidden.add(name);
    button.setAttribute("aria-pressed", String(!this.#hidden.has(name)));
    this.#remake();
  }

  #notes(series, lines) {
    const notes = [];
    if (series.others > 0) notes.push(`${number(lines.length)} of ${number(lines.length + series.others)} groups are shown; a filter chooses others.`);
    if (lines.length === 0) notes.push(this.#session.log.size > 0 && this.#without > 0 ? "No event has had this number so far." : "Values appear here as they arrive.");
    else if (this.#without > 0) notes.push(`${count(this.#without, "event")} had no such number.`);
    const width = series.width / 1000;
    if (this.#means && lines.length > 0) notes.push("A line is the mean of the latest values of its keys.");
    if (series.kind === "mean" && lines.length > 0) notes.push(`Each point is the mean of ${width === 1 ? "a second" : `${width.toLocaleString(this.#context.locale)} s`}${this.#hasBand(lines) ? ", the band from the least to the largest value" : ""}.`);
    return notes;
  }
}

// The range of the axis: with some space, and from 0 on where that is near.
function rangeOf(low, high, isRate) {
  if (low === null || high === null || low === undefined) return [0, 1];
  if (isRate) return [0, Math.max(1, high * 1.1)];
  if (low === high) return low === 0 ? [-1, 1] : [low - Math.abs(low) * 0.1, low + Math.abs(low) * 0.1];
  const space = (high - low) * 0.08;
  const from = low >= 0 && low < (high - low) * 0.25 ? 0 : low - space;
  return [from, high + space];
}
