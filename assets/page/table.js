// A stream's table: one row per key, as columns that are configured or found in the data.
import { createColumnMenu } from "./column_menu.js";
import { h, setText } from "./dom.js";
import { Grid } from "./grid.js";
import { LiveRows, formatSort } from "./live_rows.js";
import { filteredBy, whyNone } from "./no_rows.js";
import { Pager } from "./pager.js";
import { createPanel } from "./panel.js";

const SEARCH_PAUSE = 150; // ms without typing before a search begins
const RELATIVE_PAUSE = 1000; // ms between looks at relative times

export function createView(session, view, context) {
  const { params, kiosk = false, locale } = context;
  const label = view.title ?? session.entry.path;
  const numbers = new Intl.NumberFormat(locale);
  let columnsVersion = -1;
  let orderVersion = -1;
  let scalesVersion = -1;
  let clock = 0;
  let searching = 0;
  let wanted = params.get("key"); // a row that the link opens, once it is there
  let removeKeys = () => {};
  let searchSaid = "";

  const live = new LiveRows(session, view, context, draw);
  const grid = new Grid({
    formats: live.formats,
    label,
    noteOf: (row) => (live.isLive(row) ? `changed ${live.formats.cell(row.at, { format: "time" }).text}` : ""),
    on: { sort: sortBy, open: openRow, resize: (column, width) => { live.columns.set(column.id, "width", width); grid.setWidth(column.id, width); } },
  });
  const panel = createPanel(session, { formats: live.formats, announce: context.announce, on: { close: closeRow } });
  const menu = createColumnMenu(live.columns, { set: setColumn, reset: resetColumns });
  const search = h("input", { type: "search", placeholder: "Search", "aria-label": "Search the table", autocomplete: "off", spellcheck: "false", value: live.search });
  const count = h("p", { class: "count" });
  const empty = h("p", { class: "table-empty" });
  const title = view.title ? h("h2", { class: "table-title" }, view.title) : null;
  const tools = kiosk ? [] : [search, count, filteredBy(session, view, context), menu.element];
  const frame = h("div", { class: "table-frame" }, grid.element, empty);
  const element = h("section", { class: "table-view", "aria-label": label, "data-kiosk": kiosk },
    title || tools.length ? h("div", { class: "table-bar" }, title, tools) : null, h("div", { class: "table-main" }, frame, panel.element));

  // Rows of heights of their own scroll with their title.
  const scroller = () => (grid.isFew && grid.element.hasAttribute("data-flowing") ? element : grid.element);
  const pager = kiosk ? new Pager({ name: context.name, seconds: context.kioskSeconds, look: () => ({ scroller: scroller(), next: () => grid.nextPage(scroller()) }) }) : null;

  search.addEventListener("input", () => {
    clearTimeout(searching);
    searching = setTimeout(searchNow, SEARCH_PAUSE);
  });
  search.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") grid.focus();
    else if (event.key === "Escape" && search.value) search.value = "";
    else if (event.key !== "Enter") return;
    event.preventDefault();
    searchNow();
  });

  function settings() {
    return { sort: live.sort === live.defaultSort ? null : formatSort(live.sort) ?? "", q: live.search || null, key: panel.keyText, ...live.columns.params };
  }

  function remember() {
    context.setParams(settings());
  }

  function searchNow() {
    clearTimeout(searching);
    if (search.value === live.search) return;
    live.search = search.value;
    searchSaid = "pending";
    grid.scrollToStart();
    remember();
  }

  // Upwards, downwards, and as it was.
  function sortBy({ id, label: name }) {
    const isSame = live.sort?.id === id;
    const isUndone = isSame && live.sort.isDescending;
    live.sort = isUndone ? null : { id, isDescending: isSame };
    grid.setSort(live.sort);
    grid.scrollToStart();
    context.announce(live.sort ? `Sorted by ${name}, ${live.sort.isDescending ? "descending" : "ascending"}` : "Sorted by key");
    remember();
  }

  function setColumn(id, setting, value) {
    live.columns.set(id, setting, value);
    live.columnsChanged();
    remember();
  }

  function resetColumns() {
    live.columns.reset();
    live.columnsChanged();
    remember();
  }

  function openRow(row) {
    panel.show(row);
    panel.focus();
    grid.opened = row.keyText;
    remember();
  }

  function closeRow() {
    panel.hide();
    grid.opened = null;
    grid.focus();
    remember();
  }

  function openWanted() {
    const row = session.rows.get(wanted);
    if (!row || live.order.indexOf(wanted) < 0) return;
    panel.show(row);
    grid.opened = wanted;
    grid.activate(wanted);
    wanted = null;
  }

  function draw({ changed }) {
    if (columnsVersion !== live.columnsVersion || (columnsVersion < 0 && live.columns.isConfigured)) {
      columnsVersion = Math.max(live.columnsVersion, 0);
      const shown = live.columns.shown;
      grid.setColumns(shown, live.sort);
      element.toggleAttribute("data-few", grid.isFew);
      menu.update(live.isCut);
      clearInterval(clock);
      const isRelative = ({ format }) => format === "relative";
      clock = shown.some(isRelative) ? setInterval(() => grid.refresh(isRelative), RELATIVE_PAUSE) : 0;
    }
    const isMoved = orderVersion !== live.order.version;
    orderVersion = live.order.version;
    grid.draw(live.order, session.status.state === "live" ? changed : NONE, isMoved);
    if (scalesVersion !== live.scales.version) {
      scalesVersion = live.scales.version;
      grid.refresh((column) => column.bar || column.items?.some(({ bar: isBar }) => isBar));
    }
    drawCount();
    pager?.resume();
    if (wanted !== null) openWanted();
    else if (panel.isOpen) panel.show(session.rows.get(panel.keyText) ?? null);
  }

  function drawCount() {
    const { size, total } = live.order;
    const all = numbers.format(total);
    setText(count, live.search ? `${numbers.format(size)} of ${all} rows` : `${all} ${total === 1 ? "row" : "rows"}`);
    setText(empty, size ? "" : emptyText(total));
    empty.hidden = size > 0;
    grid.element.toggleAttribute("data-empty", size === 0);
    if (searchSaid === "pending" && live.isSettled) {
      searchSaid = "";
      context.announce(live.search ? `${numbers.format(size)} of ${all} rows` : `${all} rows`);
    }
  }

  function emptyText(total) {
    if (total) return live.isSettled ? `No row contains “${live.search}”.` : "Searching…";
    const records = [...session.log].filter(({ type }) => type === "message");
    if (session.status.state === "live" && records.length && records.every(({ keyText }) => keyText === null)) {
      return "These records have no key, so there is no table of them. The feed shows them one by one.";
    }
    return whyNone(session);
  }

  return {
    element,
    show() {
      columnsVersion = -1;
      live.start();
      pager?.start();
      removeKeys = context.keys?.([{ key: "/", label: "Search the table", run: () => search.focus() }]) ?? removeKeys;
    },
    hide() {
      live.stop();
      pager?.stop();
      clearInterval(clock);
      clearTimeout(searching);
      removeKeys();
    },
    destroy() {
      this.hide();
      grid.destroy();
      menu.destroy();
    },
    settings,
  };
}

const NONE = new Set();
