// The newest events of a stream: a list that runs, that one can hold and search the past in, and beside it one event, whole.
// What is drawn depends on what is seen, not on how many events arrive.

import { openConnect } from "./connect.js";
import { replaceChildren, setAttribute, setText, h } from "./dom.js";
import { csv, fileName, ndjson, save } from "./download.js";
import { addedNames, keyLabel, renderInto } from "./event_panel.js";
import { FeedList } from "./feed_list.js";
import { RowWriter, isRecord, makeRow } from "./feed_row.js";
import { createFilterBar } from "./filter_bar.js";
import { keyFilter } from "./filters.js";
import { clip, preview } from "./format.js";
import { isKeyed } from "./router.js";
import { count, number } from "./words.js";

const SPARE_ROWS = 6; // above and below what is seen
const MANY = 3; // events per frame above which the list is drawn every HURRY_MS
const HURRY_MS = 100;
const FOLLOW_MS = 700; // how long the panel shows an event at least, where it shows the newest
const CALM = 12; // events per second up to which a new one is marked for a moment

export function createView(session, view, context) {
  return new Feed(session, view, context);
}

class Feed {
  #session;
  #context;
  #list;
  #bar;
  #unsubscribe = null;
  #isPaused = false;
  #isPressed = false;
  #selected = null; // { entry, previous }, or null: the panel shows the newest
  #shownInPanel = null;
  #followedAt = 0;
  #drawnAt = 0;
  #timer = 0;
  #ignored;
  #wanted; // key of a link whose newest event is to be chosen
  #rowHeight = 36;
  #byEntry = new Map(); // rows in the list
  #spare = [];
  #writer;
  #exactTimes;
  #resized;
  #removeKeys = null;

  constructor(session, view, context) {
    this.#session = session;
    this.#context = context;
    this.#list = new FeedList(session.log);
    this.#ignored = addedNames(session.entry);
    this.#wanted = context.params.get("key");
    this.#writer = new RowWriter(session.entry, context.locale);
    this.#writer.showsChanges = context.params.get("show") === "changes";
    this.#exactTimes = new Intl.DateTimeFormat(context.locale, {
      year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23",
    });
    this.#bar = createFilterBar(session, context);
    this.#build();
    this.#resized = new ResizeObserver(() => {
      this.#measure();
      this.#draw();
    });
  }

  show() {
    this.#unsubscribe ??= this.#session.subscribe((change) => this.#heed(change));
    this.#removeKeys ??= this.#context.keys?.([
      { key: "p", label: "Pause or resume the feed", run: () => this.#pause(!this.#isPaused) },
      { key: "/", label: "Add a filter", run: () => this.#bar.focus() },
      { key: "e", label: "Go to the events; arrows choose one", run: () => this.scroller.focus() },
      { key: "c", label: "Show values or changes", run: () => this.#showChanges(!this.#writer.showsChanges) },
    ]) ?? null;
    this.#resized.observe(this.scroller);
    this.#bar.update();
    this.#chooseWanted([...this.#session.log]);
    this.#measure();
    this.#draw();
  }

  hide() {
    this.#unsubscribe?.();
    this.#unsubscribe = null;
    this.#removeKeys?.();
    this.#removeKeys = null;
    this.#resized.disconnect();
    clearTimeout(this.#timer);
    this.#timer = 0;
  }

  destroy() {
    this.hide();
    this.#bar.destroy();
    this.element.remove();
  }

  settings() {
    return { show: this.#writer.showsChanges ? "changes" : null, key: this.#wanted ?? (this.#selected ? keyFilter(this.#selected.entry.key) : null) };
  }

  // ---- Parts ----

  #build() {
    const { entry } = this.#session;
    const button = (text, run, attributes) => h("button", { type: "button", ...attributes, on: { click: run } }, text);
    this.pauseButton = button("Pause", () => this.#pause(!this.#isPaused), { class: "feed-pause", "aria-keyshortcuts": "p" });
    this.valuesButton = button("Values", () => this.#showChanges(false));
    // Where there is room for one of the two, it goes back and forth.
    this.changesButton = button("Changes", () => this.#showChanges(!this.#writer.showsChanges || this.valuesButton.offsetWidth > 0));
    this.downloadNote = h("p", { class: "muted" });
    this.downloadMenu = h("details", { class: "menu feed-download" },
      h("summary", null, "Download"),
      h("div", null, this.downloadNote,
        button("NDJSON, a line of JSON per event", () => this.#download("ndjson"), { "data-format": "ndjson" }),
        button("CSV, for a spreadsheet", () => this.#download("csv"), { "data-format": "csv" })));
    this.downloadMenu.addEventListener("toggle", () => {
      setText(this.downloadNote, `The ${count(this.#list.size, "event")} of this list`);
    });
    this.downloadMenu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      this.downloadMenu.open = false;
      this.downloadMenu.querySelector("summary").focus();
    });
    this.downloadMenu.addEventListener("focusout", (event) => {
      if (event.relatedTarget && !this.downloadMenu.contains(event.relatedTarget)) this.downloadMenu.open = false;
    });
    const hasKeys = isKeyed(entry);
    const bar = h("div", { class: "feed-bar" }, this.#bar.element,
      h("div", { class: "feed-tools" }, this.pauseButton,
        hasKeys ? h("div", { class: "choice", role: "group", "aria-label": "Rows show" }, this.valuesButton, this.changesButton) : null,
        button("Copy as…", () => this.#connect(""), { class: "feed-connect" }), this.downloadMenu));

    this.rows = h("ol", { class: "feed-rows" });
    this.space = h("div", { class: "feed-space" }, this.rows);
    this.probe = h("div", { class: "feed-row feed-probe", "aria-hidden": "true" });
    this.empty = h("p", { class: "feed-empty" });
    this.scroller = h("div", { class: "feed-list", tabindex: "0", role: "region", "aria-label": "Events, newest first" },
      this.probe, this.space, this.empty);
    this.newer = button("", () => this.#toNewest(), { class: "feed-newer", hidden: true });
    this.panel = h("div", { class: "event" });
    this.panelState = h("p", { class: "event-state" });
    this.closeButton = button("", () => this.#select(null), { class: "plain event-close" });
    this.closeButton.append(h("span", { class: "wide" }, "Follow the newest"), h("span", { class: "narrow" }, "Close"));
    this.aside = h("aside", { class: "feed-event", "aria-label": "One event" },
      h("div", { class: "event-bar" }, this.panelState, this.closeButton), this.panel);
    this.head = h("div", { class: "feed-head", "aria-hidden": "true" },
      h("span", null, "Time"), hasKeys ? h("span", null, "Key") : null, h("span", { class: "feed-value" }, "Value"),
      h("span", { class: "feed-place" }, this.#hasPlace() ? "Partition, offset" : ""));
    this.element = h("div", {
      class: "feed", "data-keyed": hasKeys, "data-kiosk": Boolean(this.#context.kiosk), "data-place": this.#hasPlace(),
    }, bar, h("div", { class: "feed-main" }, h("div", { class: "feed-side" }, this.head, this.scroller, this.newer), this.aside));
    this.#listen();
    this.#showChoice();
  }

  #hasPlace() {
    const { entry } = this.#session;
    return entry.format === "envelope" || Boolean(entry.partition_field || entry.offset_field) || entry.topics?.length > 1;
  }

  #listen() {
    const { scroller } = this;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    // A row must not move away from under a finger.
    scroller.addEventListener("pointerdown", (event) => {
      if (!event.target.closest(".feed-row")) return;
      this.#isPressed = true;
      this.#holdOrNot();
      const released = () => {
        for (const type of ["pointerup", "pointercancel"]) removeEventListener(type, released);
        // After the click.
        setTimeout(() => {
          this.#isPressed = false;
          this.#holdOrNot();
        });
      };
      for (const type of ["pointerup", "pointercancel"]) addEventListener(type, released);
    });
    scroller.addEventListener("click", (event) => {
      const row = event.target.closest(".feed-row");
      const entry = row && [...this.#byEntry].find(([, made]) => made.element === row)?.[0];
      if (entry && isRecord(entry)) this.#select(entry, { toggle: true });
    });
    scroller.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) this.#step(step);
      else if (event.key === "Escape" && this.#selected) this.#select(null);
      else return;
      event.preventDefault();
    });
    this.aside.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#selected) this.#select(null);
    });
    // Whoever looks into the newest event keeps it.
    for (const type of ["pointerdown", "focusin"]) {
      this.panel.addEventListener(type, () => {
        if (!this.#selected && this.#shownInPanel) this.#select(this.#shownInPanel);
      });
    }
  }

  // ---- What is shown ----

  #heed({ cleared, status, entries }) {
    if (cleared && this.#session.log.size === 0) this.#forget();
    this.#chooseWanted(entries);
    if (status) this.#bar.update();
    this.#drawSoon(entries.length);
  }

  // At once; where so many come that nobody can read them as they pass, ten times per second.
  #drawSoon(count) {
    const passed = performance.now() - this.#drawnAt;
    if (count <= MANY || passed >= HURRY_MS) return this.#draw();
    this.#timer ||= setTimeout(() => this.#draw(), HURRY_MS - passed);
  }

  // What the session has no more may no longer be for this reader.
  #forget() {
    this.#list.release();
    this.#isPaused = false;
    this.#selected = this.#shownInPanel = null;
    replaceChildren(this.panel);
    this.#showPause();
  }

  #measure() {
    this.#rowHeight = this.probe.offsetHeight || this.#rowHeight;
    // Its columns are those of the rows, beside which there is a scroll bar.
    this.head.style.marginInlineEnd = `${this.scroller.offsetWidth - this.scroller.clientWidth}px`;
  }

  #draw() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#drawnAt = performance.now();
    const { scroller, space, rows } = this;
    const height = this.#rowHeight;
    const size = this.#list.size;
    const from = Math.max(0, Math.min(size, Math.floor(scroller.scrollTop / height)) - SPARE_ROWS);
    const to = Math.min(size, Math.ceil((scroller.scrollTop + scroller.clientHeight) / height) + SPARE_ROWS);
    space.style.blockSize = `${size * height}px`;
    rows.style.transform = `translateY(${from * height}px)`;
    const before = this.#byEntry;
    this.#byEntry = new Map();
    for (let index = from; index < to; index += 1) {
      const entry = this.#list.at(index);
      this.#byEntry.set(entry, before.get(entry));
    }
    for (const [entry, row] of before) {
      if (this.#byEntry.has(entry)) continue;
      row.element.remove();
      this.#spare.push(row);
    }
    let next = rows.firstElementChild;
    for (const [entry, known] of this.#byEntry) {
      const row = known ?? this.#newRow(entry);
      if (!known) this.#byEntry.set(entry, row);
      if (row.element === next) next = next.nextElementSibling;
      else rows.insertBefore(row.element, next);
      setAttribute(row.element, "aria-current", this.#selected?.entry === entry ? "true" : null);
    }
    this.#spare.length = Math.min(this.#spare.length, 100);
    this.#say(size);
    this.#follow();
  }

  #say(size) {
    this.empty.hidden = size > 0;
    if (size === 0) {
      const isFiltered = Object.keys(this.#session.filters).length > 0;
      const isLive = this.#session.status.state === "live";
      setText(this.empty, !isLive ? "Events appear here as they arrive." : isFiltered ? "No event has passed the filters so far." : "No events yet. They appear here as they arrive.");
    }
    const { arrived, isHeld } = this.#list;
    this.newer.hidden = !isHeld || (arrived === 0 && this.scroller.scrollTop < this.#rowHeight) || this.#isPressed;
    if (!this.newer.hidden) setText(this.newer, arrived > 0 ? `${number(arrived)} new ↑` : "Newest ↑");
    this.#showPause();
  }

  #newRow(entry) {
    const row = this.#spare.pop() ?? makeRow();
    this.#writer.write(row, entry, this.#list.previousOf(entry));
    row.element.classList.toggle("fresh", this.#isFresh(entry));
    return row;
  }

  // An event that has just come is marked for a moment, where there are few.
  #isFresh(entry) {
    const { state, eventsPerSecond } = this.#session.status;
    const isNew = entry.number >= this.#session.liveFrom && Math.abs(Date.now() - entry.at) < 1_000;
    return isNew && !this.#list.isHeld && state === "live" && eventsPerSecond <= CALM;
  }

  // ---- Holding ----

  get #isScrolled() {
    return this.scroller.scrollTop > this.#rowHeight / 2;
  }

  #scrolled() {
    this.#holdOrNot();
    this.#draw();
  }

  #holdOrNot() {
    const wants = this.#isPaused || this.#isPressed || this.#isScrolled;
    if (wants === this.#list.isHeld) return;
    if (wants) this.#list.hold();
    else {
      this.#list.release();
      this.#draw();
    }
  }

  #pause(isPaused) {
    this.#isPaused = isPaused;
    // Somebody who is down in the list stays there; what has come is above.
    if (!isPaused && this.#isScrolled) this.#takeIn();
    this.#holdOrNot();
    this.#context.announce?.(isPaused ? "Paused" : "Resumed");
    this.#draw();
  }

  #takeIn() {
    const { scroller } = this;
    const top = Math.floor(scroller.scrollTop / this.#rowHeight);
    const anchor = this.#list.at(top);
    this.#list.hold();
    const moved = Math.max(0, this.#list.indexOf(anchor) - top) * this.#rowHeight;
    this.space.style.blockSize = `${this.#list.size * this.#rowHeight}px`; // so that there is room to scroll to
    scroller.scrollTop += moved;
  }

  #toNewest() {
    this.#isPaused = false;
    this.scroller.scrollTop = 0;
    this.#holdOrNot();
    this.#draw();
    this.scroller.focus({ preventScroll: true });
  }

  #showPause() {
    const { arrived } = this.#list;
    const text = !this.#isPaused ? "Pause" : arrived > 0 ? `Resume (${number(arrived)} new)` : "Resume";
    setText(this.pauseButton, text);
    setAttribute(this.pauseButton, "data-paused", this.#isPaused);
  }

  #showChanges(shows) {
    this.#writer.showsChanges = shows;
    for (const [entry, row] of this.#byEntry) if (isRecord(entry)) this.#writer.writeValue(row, entry, this.#list.previousOf(entry));
    this.#showChoice();
    this.#context.setParams?.(this.settings());
  }

  #showChoice() {
    this.valuesButton.setAttribute("aria-pressed", String(!this.#writer.showsChanges));
    this.changesButton.setAttribute("aria-pressed", String(this.#writer.showsChanges));
  }

  // ---- One event ----

  // Chooses the newest of these entries that has the key of the link, once.
  #chooseWanted(entries) {
    if (this.#wanted === null) return;
    const found = this.#session.rows.get(this.#wanted) ?? entries.findLast((entry) => isRecord(entry) && keyFilter(entry.key) === this.#wanted);
    if (found) this.#select(found);
  }

  #step(step) {
    const from = this.#selected ? this.#list.indexOf(this.#selected.entry) : -1;
    for (let index = from < 0 ? 0 : from + step; index >= 0 && index < this.#list.size; index += step) {
      const entry = this.#list.at(index);
      if (!isRecord(entry)) continue;
      this.#select(entry);
      const top = index * this.#rowHeight;
      const { scroller } = this;
      if (top < scroller.scrollTop) scroller.scrollTop = top;
      else if (top + this.#rowHeight > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + this.#rowHeight - scroller.clientHeight;
      this.#context.announce?.(`${keyLabel(entry.key)}: ${clip(preview(entry.value, 100), 100)}`);
      return;
    }
  }

  #select(entry, { toggle = false } = {}) {
    const isSame = entry !== null && this.#selected?.entry === entry;
    this.#selected = entry === null || (toggle && isSame) ? null : { entry, previous: this.#list.previousOf(entry) };
    this.#followedAt = 0;
    this.#wanted = null;
    setAttribute(this.element, "data-selected", this.#selected !== null);
    this.#context.setParams?.(this.settings());
    this.#draw();
  }

  // Shows the selected event, or the newest one for a while.
  #follow() {
    let shown = this.#selected;
    if (!shown) {
      const now = performance.now();
      if (now - this.#followedAt < FOLLOW_MS && this.#shownInPanel) return;
      const newest = this.#newest();
      if (newest === this.#shownInPanel && this.#followedAt > 0) return;
      this.#followedAt = now;
      shown = newest && { entry: newest, previous: this.#list.previousOf(newest) };
    }
    setText(this.panelState, this.#selected ? "Selected event" : "Newest event");
    this.closeButton.hidden = !this.#selected;
    this.aside.hidden = !shown;
    if (!shown || shown.entry === this.#shownInPanel) return;
    this.#shownInPanel = shown.entry;
    const formatTime = (ms) => (Math.abs(ms) < 8.64e15 ? this.#exactTimes.format(ms) : String(ms));
    renderInto(this.panel, shown.entry, shown.previous, { actions: this.#actions(shown.entry), formatTime, ignored: this.#ignored });
    this.panel.scrollTop = 0;
  }

  #newest() {
    for (let index = 0; index < Math.min(this.#list.size, 50); index += 1) {
      const entry = this.#list.at(index);
      if (isRecord(entry)) return entry;
    }
    return null;
  }

  #actions(entry) {
    const key = keyFilter(entry.key);
    const isAllowed = this.#session.entry.client_filters !== false;
    return {
      filter: key !== null && isAllowed ? () => this.#bar.add("key", key) : null,
      connect: (id) => this.#connect(id),
      announce: this.#context.announce,
    };
  }

  #connect(id) {
    openConnect(this.#session, { id, announce: this.#context.announce });
  }

  #download(format) {
    const entries = [...this.#list].filter(({ type }) => type !== "lost");
    const [type, pieces] = format === "csv" ? ["text/csv;charset=utf-8", csv(entries)] : ["application/x-ndjson", ndjson(entries)];
    save(fileName(this.#session.path ?? this.#session.entry.path, Date.now(), format), type, pieces);
    this.downloadMenu.open = false;
  }
}
