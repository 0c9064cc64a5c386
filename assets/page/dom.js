// Elements from data, safely: text only ever becomes a text node or an attribute's value, never markup.

// Attributes that would run their value, or take another page's place.
const REFUSED = /^(?:on|style$|srcdoc$|innerhtml$)/i;

// Makes an element. `attributes`: names with texts, `true` (present), or `false`, `null`, `undefined` (left out); `class`,
// `data-…`, `aria-…` as in markup; `on` is an object of event listeners. `children`: nodes and texts; null is left out.
export function h(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes ?? {})) {
    if (attribute === "on") for (const [type, run] of Object.entries(value)) made.addEventListener(type, run);
    else if (REFUSED.test(attribute)) throw new TypeError(`${attribute}: not set from script`);
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(attribute, value === true ? "" : String(value));
  }
  append(made, children);
  return made;
}

function append(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) parent.append(child);
  }
}

const SVG = "http://www.w3.org/2000/svg";

// The same for SVG. No listeners.
export function svg(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes ?? {})) {
    if (REFUSED.test(attribute)) throw new TypeError(`${attribute}: not set from script`);
    made.setAttribute(attribute, String(value));
  }
  append(made, children);
  return made;
}

export function replaceChildren(parent, ...children) {
  parent.replaceChildren();
  append(parent, children);
}

// Writes only what differs: a text node that is written anew is painted, and perhaps read out, anew.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else {
    const text = value === true ? "" : String(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

// The URL as a link may have it, or null: http and https only, no `javascript:` from a record.
export function safeHref(text) {
  if (typeof text !== "string" || !/^https?:\/\//i.test(text)) return null;
  try {
    return new URL(text).href;
  } catch {
    return null;
  }
}

const styles = new Map(); // URL -> promise

// Loads a style sheet once; resolves when it applies, or cannot be loaded.
export function loadStyle(url) {
  const { href } = new URL(url, document.baseURI);
  if (!styles.has(href)) {
    styles.set(href, new Promise((resolve) => {
      document.head.append(h("link", { rel: "stylesheet", href, on: { load: resolve, error: resolve } }));
    }));
  }
  return styles.get(href);
}

// Whether the text is in the clipboard now. Without TLS there is no navigator.clipboard; an older way serves then.
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "away", "aria-hidden": "true", tabindex: "-1" });
    const dialog = document.querySelector("dialog[open]") ?? document.body; // elsewhere it could not be focused
    const before = document.activeElement;
    area.value = text;
    dialog.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    before?.focus?.();
    return copied;
  }
}

// Whether keys go into a field now.
export function isTyping(target) {
  return target instanceof Element
    && (target.closest("input:not([type=checkbox], [type=radio], [type=button]), textarea, select") !== null || target.isContentEditable);
}
