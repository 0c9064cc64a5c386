// A JSON value as a tree that folds. Lazy: what is folded, and what is beyond the first elements or characters, is not there
// until somebody asks for it, so a record of many megabytes costs as much as what is seen of it.

import { pathKey } from "./difference.js";
import { h, safeHref } from "./dom.js";
import { Exact, isScalar } from "./exact.js";
import { preview } from "./format.js";
import { count, number } from "./words.js";

const ELEMENTS = 100; // of an object or array at a time
const CHARACTERS = 1_000; // of a text at first
const MORE_CHARACTERS = 50_000;
const NAME = 200; // characters of a name
const MARKED_DEPTH = 8; // levels that open by themselves where something has changed

// Renders a value. `open`: levels that are open at first. `marks`: what has changed, as a Map from difference.js's pathKey to
// "added" or "changed"; the way there is open. `label`: what the tree is called.
export function renderTree(value, { open = 2, marks = new Map(), label = "Value" } = {}) {
  const tree = new Tree(open, marks);
  const list = h("ul", { class: "json", "aria-label": label });
  if (isScalar(value)) list.append(tree.item(null, value, []));
  else tree.fill(list, value, []);
  return list;
}

class Tree {
  #open;
  #marks;
  #ways = new Set(); // keys of the paths that lead to a mark

  constructor(open, marks) {
    this.#open = open;
    this.#marks = marks;
    for (const key of marks.keys()) {
      const path = JSON.parse(key);
      for (let depth = 0; depth < Math.min(path.length, MARKED_DEPTH); depth += 1) this.#ways.add(pathKey(path.slice(0, depth)));
    }
  }

  // Puts the next elements of an object or array at the end of a list.
  fill(list, value, path, from = 0) {
    const names = Array.isArray(value) ? null : Object.keys(value);
    const size = names?.length ?? value.length;
    const to = Math.min(size, from + ELEMENTS);
    for (let index = from; index < to; index += 1) {
      const name = names ? names[index] : String(index);
      list.append(this.item(name, value[name], [...path, name]));
    }
    if (size === 0) list.append(h("li", null, h("span", { class: "json-empty" }, names ? "{ }" : "[ ]")));
    if (to === size) return;
    const more = h("button", { type: "button", class: "json-more" }, `${number(size - to)} more`);
    const item = h("li", null, more);
    more.addEventListener("click", () => {
      item.remove();
      const before = list.lastElementChild;
      this.fill(list, value, path, to);
      (before?.nextElementSibling?.querySelector("button") ?? list.closest("[tabindex]"))?.focus();
    });
    list.append(item);
  }

  item(name, value, path) {
    const key = this.#marks.size > 0 ? pathKey(path) : "";
    const mark = this.#marks.get(key);
    const item = h("li", { "data-mark": mark });
    if (isScalar(value)) {
      item.append(...nameOf(name), scalar(value));
      if (mark) item.append(h("span", { class: "away" }, ` (${mark})`));
      return item;
    }
    const size = Array.isArray(value) ? value.length : Object.keys(value).length;
    if (size === 0) {
      item.append(...nameOf(name), h("span", { class: "json-empty" }, Array.isArray(value) ? "[ ]" : "{ }"));
      return item;
    }
    const what = Array.isArray(value) ? `[${number(size)}]` : `{${number(size)}}`;
    const glimpse = h("span", { class: "json-glimpse" });
    const fold = h("button", { type: "button", class: "json-fold", "aria-expanded": "false" },
      ...nameOf(name), h("span", { class: "json-size" }, what), " ", glimpse);
    let list = null;
    const show = (isOpen) => {
      fold.setAttribute("aria-expanded", String(isOpen));
      glimpse.textContent = isOpen ? "" : preview(value, 60);
      if (!isOpen) list?.remove();
      else if (list) item.append(list);
      else {
        list = h("ul");
        item.append(list);
        this.fill(list, value, path);
      }
    };
    fold.addEventListener("click", () => show(fold.getAttribute("aria-expanded") === "false"));
    item.append(fold);
    show(path.length < this.#open || this.#ways.has(key));
    return item;
  }
}

function nameOf(name) {
  if (name === null) return [];
  const shown = name.length > NAME ? `${name.slice(0, NAME)}…` : name;
  return [h("span", { class: "json-name" }, shown === "" ? "\"\"" : shown), ": "];
}

function scalar(value) {
  if (typeof value === "string") return text(value);
  const type = value instanceof Exact ? "number" : value === null ? "null" : typeof value;
  return h("span", { class: `json-${type}` }, String(value));
}

function text(value) {
  const href = value.length <= 2_000 ? safeHref(value) : null;
  if (href) return h("a", { class: "json-string", href, target: "_blank", rel: "noopener noreferrer" }, value);
  if (value.length <= CHARACTERS) return h("span", { class: "json-string" }, JSON.stringify(value));
  // Not quoted: its parts are shown as they are.
  const shown = h("span", { class: "json-string json-long" }, value.slice(0, CHARACTERS));
  const more = h("button", { type: "button", class: "json-more" });
  let end = CHARACTERS;
  const say = () => { more.textContent = `${count(value.length - end, "character")} more`; };
  more.addEventListener("click", () => {
    shown.append(value.slice(end, end + MORE_CHARACTERS));
    end = Math.min(value.length, end + MORE_CHARACTERS);
    if (end < value.length) say();
    else more.remove();
  });
  say();
  return h("span", null, shown, " ", more);
}
