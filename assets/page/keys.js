// Single keys, and the map of them that `?` shows. They can be turned off there, for those whose speech or switches send
// keys that they do not mean (WCAG 2.1.4).

import { h, isTyping, replaceChildren } from "./dom.js";

const STORED = "kafka-sse-bridge.keys";

export class Keys {
  #groups = new Map(); // list -> name of the group
  #dialog = null;
  #isOn = stored() !== "off";

  constructor(button) {
    button.addEventListener("click", () => this.#toggle());
    document.addEventListener("keydown", (event) => this.#pressed(event));
  }

  // `list`: { key, upTo (the last of a range), label, run(key) }. Gives a function that removes them.
  add(list, group = "In this view") {
    this.#groups.set(list, group);
    return () => this.#groups.delete(list);
  }

  #pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented || isTyping(event.target)) return;
    if (!this.#isOn || (document.querySelector("dialog[open]") && event.key !== "?")) return;
    if (event.key === "?") {
      event.preventDefault();
      this.#toggle();
      return;
    }
    const found = this.#find(event.key);
    if (!found) return;
    event.preventDefault();
    found.run(event.key);
  }

  // The newest first: a view may take a key from the page.
  #find(key) {
    for (const list of [...this.#groups.keys()].reverse()) {
      const found = list.find((each) => (each.upTo ? key.length === 1 && key >= each.key && key <= each.upTo : key === each.key));
      if (found) return found;
    }
    return null;
  }

  #toggle() {
    this.#dialog ??= this.#make();
    if (this.#dialog.open) {
      this.#dialog.close();
      return;
    }
    this.#fill();
    this.#dialog.showModal();
  }

  #make() {
    // A click beside it closes it, as Escape does.
    const dialog = h("dialog", { id: "keys", "aria-labelledby": "keys-title", on: { click: ({ target }) => { if (target === dialog) dialog.close(); } } });
    document.body.append(dialog);
    return dialog;
  }

  #fill() {
    const names = [...new Set(this.#groups.values())].sort((one, other) => Number(one === "Everywhere") - Number(other === "Everywhere"));
    const lists = names.map((name) => [
      h("h3", {}, name),
      h("dl", {}, [...this.#groups].filter(([, group]) => group === name).flatMap(([list]) => list).map(({ key, upTo, label }) => h(
        "div", {}, h("dt", {}, h("kbd", {}, spell(key)), upTo ? [" – ", h("kbd", {}, upTo)] : null), h("dd", {}, label),
      ))),
    ]);
    const box = h("input", { type: "checkbox", id: "keys-on", checked: this.#isOn, on: { change: () => this.#turn(box.checked) } });
    replaceChildren(
      this.#dialog,
      h("div", { class: "dialog" },
        h("header", {}, h("h2", { id: "keys-title" }, "Keys"), h("button", { type: "button", class: "plain", on: { click: () => this.#dialog.close() } }, "Close")),
        h("div", { class: "key-lists" }, lists.map((list) => h("section", {}, list))),
        h("p", {}, box, " ", h("label", { for: "keys-on" }, "Single keys are on")),
        h("p", { class: "hint" }, "Tab and Enter reach everything without them.")),
    );
  }

  #turn(isOn) {
    this.#isOn = isOn;
    try {
      if (isOn) localStorage.removeItem(STORED);
      else localStorage.setItem(STORED, "off");
    } catch {
      // It holds until the page is closed.
    }
  }
}

function spell(key) {
  return { " ": "Space", ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc" }[key] ?? key;
}

function stored() {
  try {
    return localStorage.getItem(STORED);
  } catch {
    return null;
  }
}
