// The rows of a session in an order, for the table and the cards: what has changed is worked in during a few milliseconds of
// each frame, and then drawn.
import { Columns } from "./columns.js";
import { ColumnSet } from "./column_set.js";
import { Formats, sortKey } from "./format.js";
import { Order } from "./order.js";
import { Scales } from "./scales.js";
import { matcher } from "./search.js";

const MANY = 10_000; // changes at once, after which all rows are gone through in slices
const BUDGET = 7; // ms of a frame for work on the order; the rest is for drawing

// `-price` is price, largest first.
export function parseSort(text) {
  if (!text) return null;
  return text.startsWith("-") ? { id: text.slice(1), isDescending: true } : { id: text, isDescending: false };
}

export function formatSort(sort) {
  return sort && `${sort.isDescending ? "-" : ""}${sort.id}`;
}

export class LiveRows {
  #session;
  #draw;
  #intake = null; // rows of the session that are not in the order yet
  #measuring = null;
  #frame = 0;
  #unsubscribe = null;
  #found;
  #foundVersion = -1;
  #sort;
  #search = "";
  columns;
  order;
  formats;
  scales;
  columnsVersion = 0; // rises with the columns that are shown

  // `draw({ changed })` is called at most once per frame; `changed` has the keys of rows that changed since the last time, and
  // since the table was complete.
  constructor(session, view, context, draw) {
    this.#session = session;
    this.#draw = draw;
    const { locale, params } = context;
    const name = `kafka-sse-bridge:columns:${session.entry.path}:${view.kind}:${view.title ?? ""}`;
    this.columns = new ColumnSet({ columns: view.columns, params, name });
    this.formats = new Formats({ locale, scaleOf: (column) => this.scales.of(column) });
    this.scales = new Scales(this.columns.all);
    this.#found = this.columns.isConfigured ? null : new Columns({ keyField: session.entry.key_field });
    this.order = new Order({ locale, onRow: (row) => this.#note(row) });
    this.defaultSort = parseSort(view.sort);
    this.#sort = params.get("sort") === null ? this.defaultSort : parseSort(params.get("sort"));
    this.#search = params.get("q") ?? "";
    this.#configure();
  }

  #note(row) {
    this.#found?.add(row);
    this.scales.note(row);
  }

  start() {
    if (this.#unsubscribe) return;
    this.order.clear();
    this.scales.clear();
    this.#intake = this.#session.rows.values();
    this.#unsubscribe = this.#session.subscribe((change) => this.#take(change));
    this.#work(new Set());
  }

  stop() {
    this.#unsubscribe?.();
    this.#unsubscribe = null;
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
  }

  // { id, isDescending }, or null: by key.
  get sort() {
    return this.#sort;
  }

  set sort(sort) {
    this.#sort = sort;
    this.#configure();
    this.#later();
  }

  get search() {
    return this.#search;
  }

  set search(search) {
    this.#search = search;
    this.#configure();
    this.#later();
  }

  get isCut() {
    return this.#found?.isCut ?? false;
  }

  // Whether all rows there are have been worked in.
  get isSettled() {
    return this.#intake === null && this.order.isSettled;
  }

  // Whether this row has changed since the table was complete.
  isLive(row) {
    return row.number >= this.#session.liveFrom;
  }

  // After columns were hidden, shown, pinned or reset.
  columnsChanged() {
    this.columnsVersion += 1;
    if (this.#search) this.#configure();
    this.#later();
  }

  #configure() {
    const column = this.#sort && this.columns.at(this.#sort.id);
    this.order.configure({
      sortKey: column ? (row) => sortKey(column.read(row), column.format) : (row) => sortKey(row.key, null),
      isDescending: Boolean(column && this.#sort.isDescending),
      matches: matcher(this.#search, this.columns.shown, this.formats),
    });
  }

  #take({ changed, removed, cleared, status }) {
    if (cleared) {
      this.order.clear();
      this.scales.clear();
      this.#found?.clear();
      this.#intake = null;
    }
    for (const keyText of removed) {
      this.order.remove(keyText);
      this.scales.remove(keyText);
    }
    if (changed.size > MANY) this.#intake = this.#session.rows.values();
    else for (const keyText of changed) {
      const row = this.#session.rows.get(keyText);
      if (row) this.order.change(row);
    }
    if (changed.size || removed.size || cleared || status) this.#work(this.#liveOf(changed));
  }

  // Rows may come in one frame with the news that the table is complete.
  #liveOf(changed) {
    const { rows } = this.#session;
    return new Set([...changed].filter((keyText) => rows.has(keyText) && this.isLive(rows.get(keyText))));
  }

  #later() {
    if (!this.#frame && this.#unsubscribe) {
      this.#frame = requestAnimationFrame(() => {
        this.#frame = 0;
        this.#work(new Set());
      });
    }
  }

  #work(changed) {
    const end = performance.now() + BUDGET;
    const isTimeUp = () => performance.now() >= end;
    while (this.#intake && !isTimeUp()) this.#takeIn();
    const isMore = this.order.step(isTimeUp);
    this.#findColumns();
    if (!this.#measuring && this.scales.isStale) this.#measuring = this.scales.measure(this.#session.rows.values());
    while (this.#measuring && !isTimeUp()) if (this.#measuring.next().done) this.#measuring = null;
    this.#draw({ changed });
    if (isMore || this.#intake || this.#measuring) this.#later();
  }

  #takeIn() {
    for (let count = 0; count < 64; count++) {
      const { value, done } = this.#intake.next();
      if (done) {
        this.#intake = null;
        return;
      }
      this.order.change(value);
    }
  }

  #findColumns() {
    if (!this.#found || this.#found.version === this.#foundVersion) return;
    this.#foundVersion = this.#found.version;
    const before = this.#sort && this.columns.at(this.#sort.id);
    this.columns.find(this.#found.list);
    const after = this.#sort && this.columns.at(this.#sort.id);
    this.columnsVersion += 1;
    if ((this.#sort && before?.format !== after?.format) || this.#search) this.#configure();
  }
}
