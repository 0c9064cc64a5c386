// A table of any number of rows: those that are seen are in the document. An ARIA grid: the table has the focus, and names
// its active row. Rows with lists in them (`isTall`) have heights of their own while there are few.
import { h, setAttribute } from "./dom.js";
import { isSame, writeCell } from "./cell.js";
import { MIN_WIDTH } from "./column_set.js";
import { clip } from "./format.js";
import { nextTop } from "./pager.js";
import { Virtual } from "./virtual.js";

const FLOWING = 60; // rows that are all in the document, with heights of their own
const FEW = 3; // columns that are laid out as a page, where there are lists
const STILL = 150; // ms without scrolling before rows are held in place
const WIDEST = 340; // px of a column, until it is resized
const PADDING = 30; // px of a cell, both sides
const STEP = 16; // px that a key resizes by
const PINNED_SHARE = 0.6; // of the width; more pinned columns than that would leave nothing to scroll
const NEARLY = 1.08; // widths that are this much too large are made to fit
const SAMPLE = 60; // rows whose texts are measured for widths

let ids = 0;

// A row in the document. It is used again for other rows.
class RowView {
  row = null;
  rowIndex = -1;
  cells = []; // as described
  texts = []; // of items of lists

  // With roles, because a narrow window shows rows with lists in another layout than that of a table.
  constructor(columns) {
    this.element = h("tr", { id: `row-${++ids}`, role: "row" });
    this.parts = columns.map((column, index) => {
      const part = index === 0 ? h("th", { scope: "row", role: "rowheader" }) : h("td", { role: "gridcell" });
      part.dataset.align = column.align;
      part.dataset.label = column.label; // where columns are stacked
      if (column.isPinned) {
        part.dataset.pin = "";
        part.style.insetInlineStart = `var(--pin-${index})`;
      }
      this.element.append(part);
      return part;
    });
    this.note = h("small", { class: "changed" });
  }
}

export class Grid {
  #on;
  #formats;
  #virtual = new Virtual();
  #columns = [];
  #views = new Map(); // keyText -> RowView
  #free = [];
  #body = h("tbody", { role: "rowgroup" });
  #head = h("thead", { role: "rowgroup" });
  #widths = h("colgroup");
  #table = h("table", { role: "grid", tabindex: "0" });
  #space = h("div", { class: "space" });
  #active = null; // keyText
  #newest = null;
  #scrolledAt = 0;
  #scrollTop = 0;
  #height = 0;
  #headHeight = 0;
  #isMeasured = false; // how high a row is
  #measuredAt = 0; // rows there were when widths were measured
  #turn = false;
  #order = null;
  #anchor = null; // { keyText, index }: a row that is kept where it is
  #isStale = true;
  element = h("div", { class: "grid" });
  isTall = false;
  openedKey = null; // of the row in the side panel

  // `on.sort(column)`, `on.open(row)`, `on.resize(column, width)`; `noteOf(row)` is a text below a tall row's first cell.
  constructor({ formats, label, on, noteOf }) {
    this.#formats = formats;
    this.#on = on;
    this.noteOf = noteOf;
    this.#table.setAttribute("aria-label", label);
    this.#table.append(this.#widths, this.#head, this.#body);
    this.#space.append(this.#table);
    this.element.append(this.#space);
    this.element.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#table.addEventListener("keydown", (event) => this.#key(event));
    this.#body.addEventListener("click", (event) => this.#click(event));
    this.sizes = new ResizeObserver(() => this.#resized());
    this.sizes.observe(this.element);
  }

  destroy() {
    this.sizes.disconnect();
  }

  // Whether the rows are laid out as a page of their own.
  get isFew() {
    return this.isTall && this.#columns.length <= FEW;
  }

  // ---- Columns ----

  setColumns(columns, sort) {
    const hadFocus = this.#head.contains(document.activeElement) ? document.activeElement.closest("th")?.dataset.column : null;
    this.#columns = columns;
    this.isTall = columns.some(({ items }) => items?.length);
    this.element.toggleAttribute("data-tall", this.isTall);
    this.element.toggleAttribute("data-few", this.isFew);
    this.#views.clear();
    this.#free = [];
    this.#body.replaceChildren();
    this.#widths.replaceChildren(...columns.map(() => h("col")));
    this.#head.replaceChildren(h("tr", { role: "row", "aria-rowindex": "1" }, columns.map((column, index) => this.#header(column, index))));
    this.#table.setAttribute("aria-colcount", String(columns.length));
    this.#table.hidden = columns.length === 0;
    this.setSort(sort);
    this.#measuredAt = 0;
    this.#isMeasured = false;
    this.#isStale = true;
    this.#readSizes();
    if (hadFocus) this.#headers.find((header) => header.dataset.column === hadFocus)?.querySelector("button").focus();
  }

  get #headers() {
    return [...this.#head.querySelectorAll("th")];
  }

  #header(column, index) {
    const hint = "Sorts by this column. Shift and arrow keys resize it.";
    const button = h("button", { type: "button", class: "sort", tabindex: index === 0 ? "0" : "-1", title: column.path === column.label ? hint : `${clip(column.path, 200)}. ${hint}` },
      h("span", { class: "label" }, column.label), h("span", { class: "mark", "aria-hidden": "true" }));
    button.addEventListener("click", () => this.#on.sort(column));
    button.addEventListener("keydown", (event) => this.#headerKey(event, column, index));
    const handle = h("span", { class: "handle", "aria-hidden": "true" });
    handle.addEventListener("pointerdown", (event) => this.#drag(event, handle, column, index));
    handle.addEventListener("dblclick", () => this.#on.resize(column, this.#natural(index)));
    const header = h("th", { scope: "col", role: "columnheader", "data-column": column.id, "data-align": column.align }, button, handle);
    if (column.isPinned) {
      header.dataset.pin = "";
      header.style.insetInlineStart = `var(--pin-${index})`;
    }
    return header;
  }

  setSort(sort) {
    for (const header of this.#headers) {
      const isSorted = sort?.id === header.dataset.column;
      setAttribute(header, "aria-sort", isSorted ? (sort.isDescending ? "descending" : "ascending") : null);
    }
  }

  #headerKey(event, column, index) {
    const isRtl = getComputedStyle(this.element).direction === "rtl";
    const step = { ArrowLeft: isRtl ? 1 : -1, ArrowRight: isRtl ? -1 : 1 }[event.key];
    if (event.key === "ArrowDown") this.#table.focus();
    else if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    else if (event.shiftKey) this.#on.resize(column, this.#width(index) + step * STEP);
    else {
      const buttons = this.#headers.map((header) => header.querySelector("button"));
      const next = buttons[Math.min(Math.max(index + step, 0), buttons.length - 1)];
      for (const button of buttons) button.tabIndex = button === next ? 0 : -1;
      next.focus();
    }
    event.preventDefault();
  }

  #drag(event, handle, column, index) {
    if (event.button !== 0) return;
    event.preventDefault();
    const isRtl = getComputedStyle(this.element).direction === "rtl";
    const start = event.clientX;
    const width = this.#width(index);
    const stop = new AbortController();
    handle.setPointerCapture(event.pointerId);
    this.element.toggleAttribute("data-resizing", true);
    let wanted = width;
    handle.addEventListener("pointermove", (move) => {
      wanted = Math.max(width + (move.clientX - start) * (isRtl ? -1 : 1), MIN_WIDTH);
      this.#columns[index].width = wanted;
      this.#layOut();
    }, { signal: stop.signal });
    const end = () => {
      stop.abort();
      this.element.toggleAttribute("data-resizing", false);
      if (wanted !== width) this.#on.resize(column, wanted);
    };
    for (const type of ["pointerup", "pointercancel"]) handle.addEventListener(type, end, { signal: stop.signal });
  }

  setWidth(id, width) {
    const column = this.#columns.find((one) => one.id === id);
    if (column) column.width = width;
    this.#layOut();
  }

  #width(index) {
    return this.#headers[index].getBoundingClientRect().width;
  }

  // How wide the texts of a column are, in px.
  #natural(index) {
    const column = this.#columns[index];
    const canvas = document.createElement("canvas").getContext("2d");
    const style = getComputedStyle(this.#table);
    const weight = index === 0 ? "600" : "400";
    canvas.font = `${weight} ${style.fontSize} ${style.fontFamily}`;
    let widest = canvas.measureText(column.label).width + 22;
    for (const row of this.#order?.slice(0, SAMPLE) ?? []) {
      const { text, unit, kind } = this.#formats.cell(column.read(row), column);
      const extra = kind === "badge" ? 24 : 0;
      widest = Math.max(widest, canvas.measureText(text.slice(0, 200)).width + (unit ? canvas.measureText(` ${unit}`).width : 0) + extra);
    }
    return Math.ceil(widest + PADDING);
  }

  #layOut() {
    if (this.isTall) return this.#layOutTall();
    let sum = 0;
    let pinned = 0;
    const whole = this.element.clientWidth;
    for (const [index, column] of this.#columns.entries()) {
      column.natural ??= Math.min(this.#natural(index), WIDEST);
      sum += column.width ?? column.natural;
    }
    const isNearlyWhole = sum > whole && sum <= whole * NEARLY;
    const fit = isNearlyWhole ? whole / sum : 1;
    sum = 0;
    for (const [index, col] of [...this.#widths.children].entries()) {
      const column = this.#columns[index];
      const width = Math.floor((column.width ?? column.natural) * fit);
      col.style.width = `${width}px`;
      if (column.isPinned) {
        this.#table.style.setProperty(`--pin-${index}`, pinned + width <= whole * PINNED_SHARE ? `${pinned}px` : "auto");
        pinned += width;
      }
      sum += width;
    }
    // Two or three narrow columns are not spread over all of a wide window.
    this.#table.style.width = `${Math.max(sum, Math.min(whole, sum * 3))}px`;
  }

  // The browser finds the widths, by what is in the rows.
  #layOutTall() {
    const widths = [...this.#widths.children];
    for (const [index, col] of widths.entries()) col.style.width = this.#columns[index].width ? `${this.#columns[index].width}px` : "";
    let pinned = 0;
    for (const [index, column] of this.#columns.entries()) {
      if (!column.isPinned) return;
      const width = this.#width(index);
      this.#table.style.setProperty(`--pin-${index}`, pinned + width <= this.element.clientWidth * PINNED_SHARE ? `${pinned}px` : "auto");
      pinned += width;
    }
  }

  // ---- Rows ----

  // Draws the rows of an order that are seen. `changed`: keys of rows to highlight.
  draw(order, changed, isMoved) {
    const before = this.#order;
    this.#order = order;
    if (before !== order || this.#virtual.count !== order.size || isMoved) this.#isStale = true;
    this.#virtual.count = order.size;
    setAttribute(this.#table, "aria-rowcount", String(order.size + 1));
    if (this.#measuredAt < Math.min(order.size, SAMPLE / 2)) this.#measure(order);
    if (isMoved) this.#hold(changed);
    this.#place(changed);
  }

  #measure(order) {
    this.#measuredAt = order.size;
    for (const column of this.#columns) delete column.natural;
    this.#layOut();
  }

  get #isFlowing() {
    return this.isTall && this.#virtual.count <= FLOWING;
  }

  // Rows that come and go above do not move those that are being read.
  #hold(changed) {
    const anchor = this.#anchor;
    if (!anchor || this.#isFlowing || performance.now() - this.#scrolledAt < STILL || changed.has(anchor.keyText)) return;
    const index = this.#order.indexOf(anchor.keyText);
    if (index < 0 || index === anchor.index) return;
    this.#space.style.height = `${this.#virtual.height + this.#headHeight}px`;
    this.#scrollTo(this.#scrollTop + (index - anchor.index) * this.#virtual.rowHeight);
  }

  scrollToStart() {
    this.#anchor = null;
    this.#scrollTo(0);
  }

  // Where the rows behind those that are seen begin in `scroller`, in px.
  nextPage(scroller) {
    return this.#isFlowing ? nextTop(scroller, this.#body.rows, this.#headHeight) : this.#virtual.next(this.#scrollTop);
  }

  #scrollTo(scrollTop) {
    this.element.scrollTop = scrollTop;
    this.#scrollTop = this.element.scrollTop;
  }

  // Read when they change only: to read them while rows are written would lay the page out once more.
  #readSizes() {
    this.#height = this.element.clientHeight;
    this.#headHeight = this.#head.offsetHeight;
    this.#scrollTop = this.element.scrollTop;
  }

  #scrolled() {
    this.#scrolledAt = performance.now();
    this.#scrollTop = this.element.scrollTop;
    if (this.#order) this.#place(new Set());
  }

  #resized() {
    this.#layOut();
    this.#readSizes();
    this.#isMeasured = false;
    this.#isStale = true;
    if (this.#order) this.#place(new Set());
  }

  #place(changed) {
    const isFlowing = this.#isFlowing;
    const virtual = this.#virtual;
    virtual.viewport = Math.max(this.#height - this.#headHeight, 0);
    const { from, to, before } = isFlowing ? { from: 0, to: virtual.count, before: 0 } : virtual.window(this.#scrollTop, this.#isStale);
    this.#isStale = false;
    if (this.element.hasAttribute("data-flowing") !== isFlowing) {
      this.element.toggleAttribute("data-flowing", isFlowing);
      this.#isMeasured = false;
    }
    const rows = this.#order.slice(from, to);
    this.#arrange(rows, from, changed);
    this.#space.style.height = isFlowing ? "" : `${virtual.height + this.#headHeight}px`;
    this.#table.style.marginBlockStart = before ? `${before}px` : "";
    const { first } = virtual.seen(this.#scrollTop);
    this.#anchor = !isFlowing && this.#scrollTop > 0 && rows[first - from] ? { keyText: rows[first - from].keyText, index: first } : null;
    this.#showActive();
    if (!isFlowing && rows.length && !this.#isMeasured) this.#measureRows();
  }

  // All rows are as high as the highest one seen; the style says how high they are at least.
  #measureRows() {
    this.#isMeasured = !this.isTall;
    let highest = 0;
    for (const row of this.isTall ? this.#body.rows : [this.#body.rows[0]]) highest = Math.max(highest, row.getBoundingClientRect().height);
    if (highest < 8 || Math.abs(highest - this.#virtual.rowHeight) < 0.01) return;
    this.#virtual.rowHeight = highest;
    if (this.isTall) this.element.style.setProperty("--row", `${highest}px`);
    this.#isStale = true;
    this.#place(new Set());
  }

  #arrange(rows, from, changed) {
    const wanted = new Set(rows.map(({ keyText }) => keyText));
    for (const [keyText, view] of this.#views) {
      if (wanted.has(keyText)) continue;
      this.#views.delete(keyText);
      this.#free.push(view);
      view.element.remove();
    }
    let cursor = this.#body.firstChild;
    for (const [offset, row] of rows.entries()) {
      let view = this.#views.get(row.keyText);
      if (!view) {
        view = this.#free.pop() ?? new RowView(this.#columns);
        this.#reuse(view);
        this.#views.set(row.keyText, view);
        view.element.dataset.key = row.keyText;
      }
      this.#fill(view, row, changed.has(row.keyText));
      if (view.rowIndex !== from + offset) {
        view.rowIndex = from + offset;
        view.element.setAttribute("aria-rowindex", String(view.rowIndex + 2));
      }
      if (cursor !== view.element && cursor?.nextSibling === view.element) { // the row before has gone down
        const gone = cursor;
        cursor = view.element;
        gone.remove();
      }
      if (cursor === view.element) cursor = cursor.nextSibling;
      else this.#body.insertBefore(view.element, cursor);
    }
    this.#free.length = Math.min(this.#free.length, 64);
    this.#markNewest(changed);
  }

  #reuse(view) {
    view.row = null;
    delete view.element.dataset.newest;
    for (const part of view.parts) delete part.dataset.changed;
  }

  #fill(view, row, isChanged) {
    if (view.row === row) return;
    const isSameRow = view.row !== null;
    view.row = row;
    this.#turn = !this.#turn;
    for (const [index, column] of this.#columns.entries()) this.#write(view, index, column, isSameRow, isSameRow && isChanged);
  }

  #write(view, index, column, isKnown, isMarked) {
    const cell = this.#formats.cell(column.read(view.row), column);
    const before = view.cells[index] ?? null;
    if (before !== null && isSame(before, cell)) return;
    const part = view.parts[index];
    view.texts[index] = writeCell(part, cell, column, isKnown ? view.texts[index] : null);
    view.cells[index] = cell;
    if (isMarked && column.format !== "relative") part.dataset.changed = this.#turn ? "a" : "b"; // another name starts the animation afresh
    if (index === 0 && this.isTall) {
      view.cells[index] = null; // the note below it is written anew, too
      view.note.textContent = this.noteOf(view.row);
      part.append(view.note);
    }
  }

  #markNewest(changed) {
    let newest = null;
    for (const keyText of changed) {
      const view = this.#views.get(keyText);
      if (view && (!newest || view.row.order > newest.row.order)) newest = view;
    }
    if (!newest) return;
    const last = this.#views.get(this.#newest);
    if (last && last !== newest) delete last.element.dataset.newest;
    newest.element.dataset.newest = newest.element.dataset.newest === "a" ? "b" : "a";
    this.#newest = newest.row.keyText;
  }

  // Writes cells anew whose text depends on more than their row: on the time, or on the other rows.
  refresh(isDependent) {
    for (const [index, column] of this.#columns.entries()) {
      if (isDependent(column)) for (const view of this.#views.values()) this.#write(view, index, column, false, false);
    }
  }

  // ---- The active row ----

  get active() {
    return this.#active;
  }

  // Makes a row the active one, and brings it into view.
  activate(keyText, { scrolls = true } = {}) {
    this.#active = keyText;
    const index = this.#order?.indexOf(keyText) ?? -1;
    if (scrolls && index >= 0) {
      if (this.#isFlowing) this.#views.get(keyText)?.element.scrollIntoView({ block: "nearest" });
      else this.#scrollTo(this.#virtual.scrollTo(index, this.#scrollTop));
      this.#place(new Set());
    }
    this.#showActive();
  }

  // Marks the row that the side panel shows.
  set opened(keyText) {
    for (const view of this.#views.values()) view.element.toggleAttribute("data-open", view.row.keyText === keyText);
    this.openedKey = keyText;
  }

  #showActive() {
    const view = this.#active === null ? undefined : this.#views.get(this.#active);
    for (const element of this.#body.querySelectorAll("tr[aria-selected], tr[data-open]")) {
      if (element !== view?.element) element.removeAttribute("aria-selected");
      element.removeAttribute("data-open");
    }
    setAttribute(this.#table, "aria-activedescendant", view?.element.id ?? null);
    view?.element.setAttribute("aria-selected", "true");
    if (this.openedKey) this.#views.get(this.openedKey)?.element.setAttribute("data-open", "");
  }

  #key(event) {
    if (event.target !== this.#table || event.altKey || event.ctrlKey || event.metaKey || !this.#order) return;
    const last = this.#order.size - 1;
    const found = this.#active === null ? -1 : this.#order.indexOf(this.#active);
    const index = found < 0 ? this.#virtual.seen(this.#scrollTop).first - 1 : found;
    const page = this.#isFlowing ? 3 : this.#virtual.page;
    const steps = { ArrowDown: index + 1, ArrowUp: index - 1, PageDown: index + page, PageUp: index - page, Home: 0, End: last };
    if (Object.hasOwn(steps, event.key)) {
      const [row] = this.#order.slice(...range(Math.min(Math.max(steps[event.key], 0), last)));
      if (row) this.activate(row.keyText);
    } else if ((event.key === "Enter" || event.key === " ") && found >= 0) {
      this.#on.open(this.#order.slice(...range(found))[0]);
    } else return;
    event.preventDefault();
  }

  #click(event) {
    const element = event.target.closest("tr");
    if (!element || event.target.closest("a") || getSelection()?.toString()) return;
    for (const view of this.#views.values()) {
      if (view.element !== element) continue;
      this.activate(view.row.keyText, { scrolls: false });
      this.#on.open(view.row);
      return;
    }
  }

  focus() {
    this.#table.focus({ preventScroll: true });
  }
}

function range(index) {
  return [index, index + 1];
}
