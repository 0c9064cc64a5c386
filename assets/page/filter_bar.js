// The filters of a stream: those in use, a field for another with completion from what was seen, and the URL they make.

import { copyText, h, replaceChildren, setText } from "./dom.js";
import { Seen, filtersOf, parseTerm, sizeProblem, terms } from "./filters.js";
import { clip } from "./format.js";
import { number } from "./words.js";

const SLICE_MS = 6; // of looking at what was seen, before others have their turn
const ROWS = 2_000; // of the table that are looked at, beside the log

// Codes of answers that are about the filters of a request.
const CODES = new Set(["bad_filter", "filters_forbidden", "hidden_value", "missing_claim", "too_many_filter_paths",
  "too_many_unindexed_filters", "unknown_parameter", "uri_too_long"]);

let returnsFocus = false; // filters make the view anew; the field in it goes on where the last one was

// { element, add(name, value), focus(), update(), destroy() } for a view. `update()` shows the state of the session again.
export function createFilterBar(session, context) {
  return new FilterBar(session, context);
}

class FilterBar {
  #session;
  #context;
  #seen = new Seen();
  #looking = 0;
  #options = [];
  #chosen = -1;
  #id = `filter-${Math.random().toString(36).slice(2)}`; // several views may be in the page

  constructor(session, context) {
    this.#session = session;
    this.#context = context;
    this.input = h("input", {
      type: "text", class: "filter-input", autocomplete: "off", autocapitalize: "off", spellcheck: "false", enterkeyhint: "done",
      placeholder: "Filter: key=… or value.name=…", role: "combobox", "aria-label": "Add a filter", "aria-autocomplete": "list",
      "aria-expanded": "false", "aria-controls": `${this.#id}-list`, "aria-describedby": `${this.#id}-problem`, dir: "ltr",
    });
    this.list = h("ul", { class: "filter-list", id: `${this.#id}-list`, role: "listbox", "aria-label": "What was seen", hidden: true });
    this.chips = h("ul", { class: "filter-chips", "aria-label": "Filters" });
    this.problem = h("p", { class: "filter-problem", id: `${this.#id}-problem`, role: "alert" });
    this.url = h("code", { class: "filter-url", dir: "ltr" });
    this.copy = h("button", { type: "button", class: "plain" }, "Copy URL");
    const url = h("p", { class: "filter-made" }, this.url, this.copy);
    this.copy.addEventListener("click", () => this.#copy());
    const isAllowed = session.entry.client_filters !== false;
    this.element = h("div", { class: "filter-bar" },
      isAllowed
        ? h("div", { class: "filter-field" }, this.chips, h("div", { class: "filter-combo" }, this.input, this.list))
        : h("p", { class: "filter-none" }, "This stream takes no filters of clients."),
      this.problem, url);
    this.#listen();
    this.#showChips();
    this.update();
    if (returnsFocus) requestAnimationFrame(() => this.input.focus());
    returnsFocus = false;
  }

  focus() {
    this.input.focus();
  }

  destroy() {
    clearTimeout(this.#looking);
  }

  update() {
    setText(this.url, this.#session.url.href);
    const { code, message } = this.#session.status;
    const isOurs = CODES.has(code) && terms(this.#session.filters).length > 0;
    if (isOurs) this.#say(`The server refuses this: ${message}`);
    else if (this.problem.dataset.of === "server") this.#say("");
    this.problem.dataset.of = isOurs ? "server" : "";
  }

  // Adds a filter, and has the stream begin anew with it. Whether it could.
  add(name, value) {
    const filters = filtersOf([...terms(this.#session.filters), [name, value]]);
    const problem = sizeProblem(filters);
    this.#say(problem ?? "");
    if (!problem) this.#set(filters);
    return !problem;
  }

  #set(filters) {
    this.#context.announce?.("Filters changed. The stream begins anew.");
    this.#context.setFilters(filters);
  }

  #say(text) {
    setText(this.problem, text);
    this.input.setAttribute("aria-invalid", String(text !== ""));
  }

  async #copy() {
    const copied = await copyText(this.#session.url.href);
    this.copy.textContent = copied ? "Copied" : "Select it to copy";
    this.#context.announce?.(this.copy.textContent);
    setTimeout(() => { this.copy.textContent = "Copy URL"; }, 2_000);
  }

  #showChips() {
    const all = terms(this.#session.filters);
    const chips = all.map(([name, value], index) => {
      const remove = h("button", { type: "button", class: "chip", "aria-label": `Remove the filter ${name}=${clip(value, 100)}` },
        h("span", { class: "chip-name" }, clip(name, 60)), h("span", { class: "chip-is" }, "="), h("bdi", null, clip(value, 60)),
        h("span", { class: "chip-x", "aria-hidden": "true" }, "×"));
      remove.addEventListener("click", () => {
        returnsFocus = true;
        this.#set(filtersOf(all.filter((_, other) => other !== index)));
      });
      // The same name again is another possibility, another name another condition.
      const isOr = index > 0 && all[index - 1][0] === name;
      const word = index > 0 ? h("span", { class: "chip-word" }, isOr ? "or" : "and") : null;
      return h("li", null, word, remove);
    });
    replaceChildren(this.chips, chips);
    this.chips.hidden = chips.length === 0;
  }

  // ---- The field ----

  #listen() {
    const { input } = this;
    input.addEventListener("focus", () => {
      this.#look();
      this.#offer();
    });
    input.addEventListener("input", () => {
      if (this.#seen.names.length === 0) this.#look();
      if (this.problem.dataset.of !== "server") this.#say("");
      this.#offer();
    });
    input.addEventListener("blur", () => this.#close());
    input.addEventListener("keydown", (event) => this.#key(event));
    // Before the field loses the focus.
    this.list.addEventListener("pointerdown", (event) => event.preventDefault());
    this.list.addEventListener("click", (event) => {
      const index = [...this.list.children].indexOf(event.target.closest("[role=option]"));
      if (index >= 0) this.#take(this.#options[index]);
    });
  }

  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.isComposing) return;
    if (step && this.#options.length) {
      const count = this.#options.length;
      this.#choose(this.#chosen < 0 && step < 0 ? count - 1 : (this.#chosen + step + count) % count);
    } else if (event.key === "Enter") {
      if (this.#chosen >= 0) this.#take(this.#options[this.#chosen]);
      else this.#submit();
    } else if (event.key === "Tab" && !event.shiftKey && this.#chosen >= 0) {
      this.#take(this.#options[this.#chosen]);
    } else if (event.key === "Escape" && !this.list.hidden) {
      this.#close();
    } else if (event.key === "Backspace" && this.input.value === "" && terms(this.#session.filters).length > 0) {
      returnsFocus = true;
      this.#set(filtersOf(terms(this.#session.filters).slice(0, -1)));
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #submit() {
    const text = this.input.value;
    if (text.trim() === "") return;
    const term = parseTerm(text, this.#names());
    if (term.problem) return this.#say(`${term.problem}.`);
    returnsFocus = true;
    if (this.add(term.name, term.value)) this.input.value = "";
    else returnsFocus = false;
  }

  #take(option) {
    this.input.value = option.text;
    if (option.isWhole) this.#submit();
    else this.#offer();
  }

  #names() {
    const known = this.#seen.names;
    return known.includes("key") ? known : ["key", ...known];
  }

  #offer() {
    this.#options = document.activeElement === this.input ? this.#seen.complete(this.input.value) : [];
    this.#chosen = -1;
    const items = this.#options.map((option, index) => h("li", { role: "option", id: `${this.#id}-${index}`, "aria-selected": "false" },
      h("bdi", null, clip(option.label, 80) || "(empty)"),
      h("span", { class: "filter-count" }, option.isWhole ? `${number(option.count)}×` : option.count === 1 ? "1 value" : `${number(option.count)} values`)));
    replaceChildren(this.list, items);
    this.#show(items.length > 0);
  }

  #show(isOpen) {
    this.list.hidden = !isOpen;
    this.input.setAttribute("aria-expanded", String(isOpen));
    if (!isOpen || this.#chosen < 0) this.input.removeAttribute("aria-activedescendant");
  }

  #close() {
    this.#options = [];
    this.#chosen = -1;
    this.#show(false);
  }

  #choose(index) {
    this.list.children[this.#chosen]?.setAttribute("aria-selected", "false");
    this.#chosen = index;
    const option = this.list.children[index];
    option.setAttribute("aria-selected", "true");
    option.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", option.id);
  }

  // ---- What was seen ----

  // Looks at the newest events, then at rows, a few milliseconds at a time; only while the field is in use.
  #look() {
    if (this.#looking) return;
    const entries = this.#everything();
    const step = () => {
      const end = performance.now() + SLICE_MS;
      while (performance.now() < end) {
        const { value, done } = entries.next();
        if (done) {
          this.#looking = 0;
          if (this.#chosen < 0) this.#offer();
          return;
        }
        this.#seen.add(value);
      }
      this.#looking = setTimeout(step, SLICE_MS);
    };
    this.#seen = new Seen();
    step();
  }

  *#everything() {
    const { log, rows } = this.#session;
    for (let number = log.next - 1; number >= log.first; number -= 1) {
      const entry = log.get(number);
      if (entry) yield entry;
    }
    let count = 0;
    for (const row of rows.values()) {
      count += 1;
      if (count > ROWS) return;
      if (row.number < log.first) yield row;
    }
  }
}
