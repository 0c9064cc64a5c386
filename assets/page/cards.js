// A stream's rows as cards, one per key, for a wall display: a title, a state, a large number, and a few facts.
import { isSame, writeCell } from "./cell.js";
import { h, setText } from "./dom.js";
import { LiveRows } from "./live_rows.js";
import { filteredBy, whyNone } from "./no_rows.js";
import { nextTop, Pager } from "./pager.js";

const MOST = 400; // cards in the document
const FACTS = 6; // of a card, where columns are not configured
const RELATIVE_PAUSE = 1000; // ms between looks at relative times

// Which column is what on a card.
function roles(columns, isConfigured) {
  const [title, ...others] = columns;
  const state = others.find(({ format }) => format === "badge");
  const figure = others.find(({ format }) => format === "number" || format === "bytes");
  const facts = others.filter((column) => column !== state && column !== figure);
  return { title, state, figure, facts: isConfigured ? facts : facts.slice(0, FACTS) };
}

class Card {
  row = null;
  #cells = new Map(); // column -> what is written
  #parts = new Map(); // column -> element
  #texts = new Map();

  constructor({ title, state, figure, facts }) {
    const part = (column, name) => {
      const made = h(name, { dir: "auto" });
      this.#parts.set(column, made);
      return made;
    };
    this.element = h("li", { class: "row-card" },
      title && h("header", null, part(title, "h2"), state && part(state, "p")),
      figure && h("div", { class: "row-figure" }, h("span", { class: "label" }, figure.label), part(figure, "p")),
      facts.length > 0 && h("dl", null, facts.map((column) => h("div", null, h("dt", null, column.label), part(column, "dd")))));
  }

  write(row, formats, isChanged) {
    const isKnown = this.row !== null;
    const isMarked = isKnown && isChanged;
    this.row = row;
    for (const [column, part] of this.#parts) {
      const cell = formats.cell(column.read(row), column);
      if (isSame(this.#cells.get(column) ?? null, cell)) continue;
      this.#cells.set(column, cell);
      this.#texts.set(column, writeCell(part, cell, column, isKnown ? this.#texts.get(column) ?? null : null));
      if (isMarked && column.format !== "relative") part.dataset.changed = part.dataset.changed === "a" ? "b" : "a"; // another name starts the animation afresh
    }
    if (isChanged) this.element.dataset.newest = this.element.dataset.newest === "a" ? "b" : "a";
  }
}

export function createView(session, view, context) {
  const cards = new Map(); // keyText -> Card
  const label = view.title ?? session.entry.path;
  const numbers = new Intl.NumberFormat(context.locale);
  const list = h("ul", { class: "cards", role: "list", "aria-label": label, tabindex: "0" });
  const note = h("p", { class: "cards-note" });
  const element = h("section", { class: "cards-view", "data-kiosk": context.kiosk ?? false }, filteredBy(session, view, context), list, note);
  const live = new LiveRows(session, view, context, draw);
  const look = () => ({ scroller: list, next: () => nextTop(list, list.children) });
  const pager = context.kiosk ? new Pager({ name: context.name, seconds: context.kioskSeconds, look }) : null;
  let columnsVersion = -1;
  let scalesVersion = -1;
  let parts = null;
  let clock = 0;

  function prepare() {
    if (columnsVersion === live.columnsVersion) return;
    columnsVersion = live.columnsVersion;
    parts = roles(live.columns.shown, live.columns.isConfigured);
    cards.clear();
    list.replaceChildren();
    clearInterval(clock);
    const isRelative = live.columns.shown.some(({ format }) => format === "relative");
    clock = isRelative ? setInterval(rewrite, RELATIVE_PAUSE) : 0;
  }

  function rewrite() {
    for (const card of cards.values()) card.write(card.row, live.formats, false);
  }

  function draw({ changed }) {
    prepare();
    const isLive = session.status.state === "live";
    const rows = live.order.slice(0, MOST);
    const wanted = new Set(rows.map(({ keyText }) => keyText));
    for (const [keyText, card] of cards) {
      if (wanted.has(keyText)) continue;
      card.element.remove();
      cards.delete(keyText);
    }
    let cursor = list.firstChild;
    for (const row of rows) {
      let card = cards.get(row.keyText);
      if (!card) {
        card = new Card(parts);
        card.element.dataset.key = row.keyText;
        cards.set(row.keyText, card);
      }
      if (card.row !== row) card.write(row, live.formats, isLive && changed.has(row.keyText));
      if (cursor === card.element) cursor = cursor.nextSibling;
      else list.insertBefore(card.element, cursor);
    }
    if (scalesVersion !== live.scales.version) {
      scalesVersion = live.scales.version;
      rewrite();
    }
    const { size } = live.order;
    setText(note, size > MOST ? `The first ${numbers.format(MOST)} of ${numbers.format(size)}.` : size ? "" : whyNone(session));
    note.hidden = note.textContent === "";
    list.hidden = size === 0;
    pager?.resume();
  }

  return {
    element,
    show() {
      columnsVersion = -1;
      live.start();
      pager?.start();
    },
    hide() {
      live.stop();
      pager?.stop();
      clearInterval(clock);
    },
    destroy() { this.hide(); },
    settings: () => ({}),
  };
}
