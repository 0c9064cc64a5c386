// The menu of columns: which are shown, and which stay in place when the table is scrolled sideways.
import { h, replaceChildren } from "./dom.js";

let ids = 0;

// `on.set(id, setting, value)`, `on.reset()`.
export function createColumnMenu(columns, on) {
  const id = `columns-${++ids}`;
  const button = h("button", { type: "button", "aria-expanded": "false", "aria-controls": id }, "Columns");
  const list = h("ul", { role: "list" });
  const reset = h("button", { type: "button", on: { click: () => { on.reset(); draw(); } } }, "Reset");
  const note = h("p", { class: "hint" });
  const menu = h("div", { id, class: "column-menu", role: "group", "aria-label": "Columns", hidden: true }, list, note, reset);
  const element = h("div", { class: "column-menu-of" }, button, menu);
  let isCut = false;

  function toggle(isOpen, keepsFocus = false) {
    menu.hidden = !isOpen;
    button.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) {
      draw();
      list.querySelector("input")?.focus();
    } else if (!keepsFocus) button.focus();
  }

  function draw() {
    const shown = columns.all;
    replaceChildren(list, shown.map((column) => {
      const box = h("input", { type: "checkbox" });
      box.checked = !column.isHidden;
      box.addEventListener("change", () => on.set(column.id, "hidden", !box.checked));
      const pin = h("button", {
        type: "button", class: "pin", "aria-pressed": String(column.isPinned), "aria-label": `Pin ${column.label}`, title: "Stays in place when the table is scrolled sideways",
      }, "Pin");
      pin.addEventListener("click", () => {
        const isPinned = pin.getAttribute("aria-pressed") !== "true";
        pin.setAttribute("aria-pressed", String(isPinned));
        on.set(column.id, "pinned", isPinned);
      });
      return h("li", null, h("label", null, box, h("span", { dir: "auto" }, column.label)), pin);
    }));
    note.textContent = isCut ? "The data has more members than there are columns. Click a row to see all of it." : "";
    reset.disabled = !columns.isChanged;
  }

  button.addEventListener("click", () => toggle(menu.hidden));
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || menu.hidden) return;
    event.stopPropagation();
    toggle(false);
  });
  element.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !element.contains(event.relatedTarget)) toggle(false, true);
  });
  const outside = (event) => {
    if (!menu.hidden && !element.contains(event.target)) toggle(false, true);
  };
  document.addEventListener("pointerdown", outside);

  return {
    element,
    button,
    // `isWide`: there are members without a column.
    update(isWide) {
      isCut = isWide;
      const hidden = columns.all.filter(({ isHidden, path }) => isHidden && path !== "@changed").length;
      replaceChildren(button, "Columns", hidden ? h("span", { class: "hidden-columns" }, ` (${hidden} hidden)`) : null);
      reset.disabled = !columns.isChanged;
    },
    destroy() { document.removeEventListener("pointerdown", outside); },
  };
}
