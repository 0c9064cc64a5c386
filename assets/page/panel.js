// The side panel with all of one row, as the feed shows an event. It follows its row. What it is made of is loaded when the
// first row is opened.
import { h, loadStyle, replaceChildren, setText } from "./dom.js";

// `on.close()`.
export function createPanel(session, { formats, announce, on }) {
  const note = h("p", { class: "row-panel-note", role: "status" });
  const body = h("div", { class: "event" });
  const close = h("button", { type: "button", class: "plain", title: "Escape", on: { click: () => on.close() } }, "Close");
  const element = h("aside", { class: "row-panel", "aria-label": "Record", tabindex: "-1", hidden: true }, h("div", { class: "event-bar" }, note, close), body);
  let shown = null;

  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    on.close();
  });

  const controls = () => [...body.querySelectorAll("button, a")];

  async function write(row) {
    try {
      const [{ renderEvent }, { openConnect }] = await Promise.all([
        import("./event_panel.js"), import("./connect.js"), loadStyle("assets/page/feed.css"),
      ]);
      if (row !== shown || (getSelection().toString() && body.contains(getSelection().anchorNode))) return; // not what is being copied
      const focused = controls().indexOf(document.activeElement);
      const actions = { filter: null, connect: (id) => openConnect(session, { id, announce }), announce };
      replaceChildren(body, renderEvent(row, row.previous, { actions, formatTime: (at) => formats.cell(at, { format: "date" }).text }));
      controls()[focused]?.focus();
    } catch (error) {
      console.error(error);
      replaceChildren(body, h("p", { class: "notice" }, `The record cannot be shown: ${error.message}`));
    }
  }

  return {
    element,
    get isOpen() { return !element.hidden; },
    get keyText() { return shown?.keyText ?? null; },
    // Shows a row, again if it has changed; `null`: it is gone.
    show(row) {
      element.hidden = false;
      const isGone = row === null;
      setText(note, isGone ? "Deleted. This is what it was." : "");
      element.toggleAttribute("data-deleted", isGone);
      if (isGone || row === shown) return;
      shown = row;
      write(row);
    },
    focus() { element.focus(); },
    hide() {
      element.hidden = true;
      shown = null;
      body.replaceChildren();
    },
  };
}
