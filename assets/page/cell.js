// A described cell (format.js) as text and elements. Data only ever becomes text, an href of http(s), or a custom property.
import { h } from "./dom.js";

// Whether two descriptions look the same; then nothing is written.
export function isSame(a, b) {
  if (a === null || a.kind === "items" || b.kind === "items") return false;
  return a.text === b.text && a.kind === b.kind && a.tone === b.tone && a.color === b.color && a.unit === b.unit
    && a.share === b.share && a.title === b.title && a.href === b.href;
}

// Writes a cell into an element. `before`: texts of the items shown until now, by their first text, or null; items that differ
// are marked. Gives the texts of the items.
export function writeCell(element, cell, column, before = null) {
  if (cell.title === undefined) element.removeAttribute("title");
  else element.title = cell.title;
  element.dataset.kind = cell.kind;
  switch (cell.kind) {
    case "badge": return element.replaceChildren(badge(cell));
    case "link": return element.replaceChildren(h("a", { href: cell.href, target: "_blank", rel: "noopener noreferrer", tabindex: "-1" }, cell.text));
    case "items": return writeItems(element, cell, column, before);
    default:
      if (cell.tone) element.dataset.tone = cell.tone;
      else delete element.dataset.tone;
      return writeText(element, cell);
  }
}

function writeText(element, { text, unit, share }) {
  const only = element.firstChild;
  if (!unit && share === undefined && only?.nodeType === Node.TEXT_NODE && !only.nextSibling) {
    only.nodeValue = text; // no new node: most cells of most changes
    return undefined;
  }
  element.replaceChildren(text);
  if (unit) element.append(h("span", { class: "unit" }, `\u00a0${unit}`));
  if (share !== undefined) element.append(bar(share));
  return undefined;
}

function bar(share) {
  const made = h("span", { class: "share-bar", "aria-hidden": "true" });
  made.style.setProperty("--share", share.toFixed(4));
  return made;
}

function badge({ text, tone, color }) {
  const made = h("span", { class: "badge", "data-tone": tone ?? null }, text);
  if (color) made.style.setProperty("--tone", color);
  return made;
}

// An ordered list: each item has its first member and, at the end of the line, its first number; the rest is below.
function writeItems(element, { items, more }, column, before) {
  const texts = new Map();
  const list = h("ol", { role: "list" }); // Safari drops the role of lists without markers
  const size = column.items.findIndex(({ format }, index) => index > 0 && (format === "number" || format === "bytes"));
  for (const cells of items) {
    const line = h("li");
    const parts = cells.map((cell, index) => {
      const part = h("span", { class: index === 0 ? "name" : index === size ? "size" : "more" });
      writeCell(part, { ...cell, share: undefined }, column.items[index]);
      if (cell.kind === "none") part.textContent = index <= Math.max(size, 0) ? "–" : "";
      return part;
    });
    line.append(parts[0], " ");
    if (size > 0) {
      line.append(parts[size], " ");
      if (cells[size].share !== undefined) line.append(bar(cells[size].share));
    }
    for (const [index, part] of parts.entries()) {
      if (index === 0 || index === size || !part.textContent) continue;
      if (column.items[index].isLabelled) part.prepend(`${column.items[index].label} `);
      line.append(part, " ");
    }
    const name = cells[0].text;
    texts.set(name, line.textContent);
    if (before && before.get(name) !== line.textContent) line.dataset.changed = "";
    list.append(line);
  }
  element.replaceChildren(items.length ? list : "–");
  if (more > 0) element.append(h("small", { class: "rest" }, `+ ${more}`));
  return texts;
}
