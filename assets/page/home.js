// The list of streams: a card for each, and what is wrong, in words with what to do.

import { h, replaceChildren, setAttribute, setText, svg } from "./dom.js";
import { fillPath, formatLink, labelOf, parametersOf, viewNames, viewsOf } from "./router.js";
import { ago, compact, count, percent, rate } from "./words.js";

const WIDTH = 240; // of a sparkline, in its own units
const HEIGHT = 40;
const POINTS = 60;

export class Home {
  #streams;
  #cards = new Map(); // path -> Card
  #element = null;
  #list;
  #problems;
  #empty;

  constructor(streams) {
    this.#streams = streams;
  }

  show(into) {
    this.#list = h("ul", { class: "streams", role: "list" });
    this.#problems = h("ul", { class: "problems", role: "list", "aria-label": "Problems" });
    this.#empty = h("p", { class: "waiting", hidden: true });
    this.#element = h("div", { class: "home" }, h("h1", { class: "away" }, "Streams"), this.#problems, this.#list, this.#empty);
    into.append(this.#element);
    this.update();
  }

  hide() {
    this.#element = null;
    this.#cards.clear();
  }

  update() {
    if (!this.#element) return;
    const { entries, hidden, isKnown, problems } = this.#streams;
    this.#tellProblems(problems);
    const cards = entries.map((entry) => {
      const card = this.#cards.get(entry.path) ?? new Card(entry);
      this.#cards.set(entry.path, card);
      card.update(entry, this.#streams);
      return card.element;
    });
    if (cards.length !== this.#list.children.length || cards.some((card, index) => card !== this.#list.children[index])) replaceChildren(this.#list, cards);
    this.#empty.hidden = entries.length > 0 || hidden || !isKnown;
    setText(this.#empty, "This server has no stream. Its configuration names them: [[stream]].");
  }

  #tellProblems(problems) {
    const texts = problems.map(({ title, text }) => `${title}\n${text ?? ""}`).join("\n\n");
    if (this.#problems.dataset.texts === texts) return;
    this.#problems.dataset.texts = texts;
    replaceChildren(this.#problems, problems.map(({ title, text, remedy, outdated }) => h(
      "li", { class: "problem", "data-kind": outdated ? "wait" : "note" },
      h("h2", {}, title), text ? h("p", {}, text) : null, remedy ? h("p", { class: "remedy" }, coded(remedy)) : null,
    )));
  }
}

// Text between back quotes is code.
function coded(text) {
  return text.split("\u0060").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

class Card {
  element;
  #link = h("a", { class: "card-link" });
  #state = h("span", { class: "card-state" });
  #topics = h("p", { class: "card-topics" });
  #rate = h("span", { class: "card-rate" });
  #line = svg("path", { class: "line", fill: "none", "vector-effect": "non-scaling-stroke" });
  #area = svg("path", { class: "area" });
  #picture;
  #figures = h("dl", { class: "card-figures" });
  #views = h("nav", { class: "card-views" });
  #named = ""; // the views that are shown

  constructor({ path }) {
    setText(this.#link, path);
    this.#link.href = formatLink({ path });
    this.#picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true", class: "spark" }, this.#area, this.#line);
    this.element = h("li", { class: "card" },
      h("div", { class: "card-head" }, h("h2", {}, this.#link), this.#state),
      this.#topics,
      h("div", { class: "card-pulse" }, this.#picture, this.#rate),
      this.#figures,
      this.#views);
  }

  update(entry, streams) {
    const problems = streams.problemsOf(entry);
    const [state, words] = stateOf(entry, streams, problems);
    setAttribute(this.#state, "data-state", state);
    setText(this.#state, words);
    setText(this.#topics, (entry.topics ?? []).map(({ topic }) => topic).join(", "));
    const samples = streams.rates.get(entry.path);
    this.#picture.parentElement.hidden = !Number.isFinite(entry.records);
    setText(this.#rate, samples?.length ? `${rate(samples.at(-1).rate)} records/s` : "…");
    this.#draw(samples ?? []);
    this.#tell(entry);
    this.#nameViews(entry);
  }

  // Its views, by what they are called in the tabs. One view alone is the card's own link.
  #nameViews(entry) {
    const views = viewsOf(entry);
    const labels = views.map(labelOf);
    if (JSON.stringify(labels) === this.#named) return;
    this.#named = JSON.stringify(labels);
    setAttribute(this.#views, "aria-label", `Views of ${entry.path}`);
    this.#views.hidden = views.length < 2 || parametersOf(entry.path).length > 0;
    replaceChildren(this.#views, viewNames(views).map((view, index) => h("a", { href: formatLink({ path: entry.path, view }) }, labels[index])));
  }

  // The newest at the end; what is not known yet is left out, so that the line grows from there.
  #draw(samples) {
    const most = 1.2 * Math.max(1, ...samples.map((sample) => sample.rate));
    const points = samples.map((sample, index) => {
      const x = WIDTH - (samples.length - 1 - index) * (WIDTH / (POINTS - 1));
      return `${x.toFixed(1)} ${(HEIGHT - 2 - (sample.rate / most) * (HEIGHT - 5)).toFixed(1)}`;
    });
    if (points.length < 2) points.splice(0);
    setAttribute(this.#line, "d", points.length ? `M${points.join("L")}` : "");
    const start = points[0]?.split(" ")[0];
    setAttribute(this.#area, "d", points.length ? `M${start} ${HEIGHT}L${points.join("L")}L${WIDTH} ${HEIGHT}Z` : "");
  }

  #tell(entry) {
    const facts = [
      ["Records", Number.isFinite(entry.records) ? compact(entry.records) : null],
      ["Keys", Number.isFinite(entry.table?.keys) ? compact(entry.table.keys) : null],
      ["Clients", Number.isFinite(entry.clients) ? compact(entry.clients) : null],
      ["Lag", Number.isFinite(entry.lag) ? compact(entry.lag) : null],
    ].filter(([, value]) => value !== null);
    if (this.#figures.children.length !== facts.length) replaceChildren(this.#figures, facts.map(([name]) => h("div", {}, h("dt", {}, name), h("dd", {}))));
    for (const [index, [name, value]] of facts.entries()) {
      setText(this.#figures.children[index].firstElementChild, name);
      setText(this.#figures.children[index].lastElementChild, value);
    }
  }
}

function stateOf(entry, streams, problems) {
  if (streams.failedSince !== null) return ["reconnecting", `Unknown since ${ago(streams.failedSince)}`];
  if (entry.failure) return ["refused", "Failed"];
  if (streams.draining) return ["draining", "Server ends"];
  if (entry.loaded === false) {
    const read = streams.percentOf(entry);
    return ["loading", read === null ? "Loading" : `Loading ${percent(read)}`];
  }
  if (problems.some(({ outdated }) => outdated)) return ["stale", "Outdated"];
  if (problems.some((problem) => problem.stream || problem.topic)) return ["stale", count(problems.length, "problem")];
  return entry.loaded ? ["live", "Live"] : ["unknown", ""];
}

// Asks for the values of a path's parameters, then calls `open(path)`.
export function askForParameters(into, entry, open) {
  const fields = parametersOf(entry.path).map((name, index) => [name, h("input", { id: `parameter-${index}`, required: true, maxlength: 256, autocomplete: "off", spellcheck: "false", pattern: "(?!\\.\\.?$)[^\\/]+", title: "Without a slash" })]);
  const form = h("form", { class: "panel parameters", "aria-labelledby": "parameters-title", on: { submit: (event) => {
    event.preventDefault();
    const path = fillPath(entry.path, new Map(fields.map(([name, field]) => [name, field.value])));
    if (path) open(path);
  } } },
  h("h2", { id: "parameters-title" }, "Which one?"),
  h("p", {}, "This stream has a URL for each value of ", h("code", {}, entry.path), "."),
  fields.map(([name, field]) => h("p", { class: "field" }, h("label", { for: field.id }, name), field)),
  h("p", { class: "actions" }, h("button", {}, "Show")));
  into.append(form);
  fields[0]?.[1].focus();
}

// A path that no stream has.
export function showMissing(into, path, entries) {
  into.append(h("div", { class: "panel" },
    h("h2", {}, "There is no such stream"),
    h("p", {}, "The server serves nothing at ", h("code", {}, path), "."),
    entries.length ? h("ul", { role: "list" }, entries.map((entry) => h("li", {}, h("a", { href: formatLink({ path: entry.path }) }, entry.path)))) : null));
}

// Where the server does not list its streams, one is opened by its path.
export function showOpener(into, open) {
  const field = h("input", { id: "opener", required: true, placeholder: "/orders", pattern: "/.+", title: "A path, with a slash before it", autocomplete: "off", spellcheck: "false" });
  into.append(h("form", { class: "panel parameters", on: { submit: (event) => {
    event.preventDefault();
    open(field.value.trim());
  } } },
  h("h2", {}, "Which stream?"),
  h("p", {}, "This server does not list its streams."),
  h("p", { class: "field" }, h("label", { for: "opener" }, "Path"), field),
  h("p", { class: "actions" }, h("button", {}, "Show"))));
  field.focus();
}

