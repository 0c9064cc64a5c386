// What a view of rows says besides them: why there are none, and that a link leaves some out.

import { h } from "./dom.js";
import { terms } from "./filters.js";
import { clip } from "./format.js";

// Why there are no rows; empty where something else says it.
export function whyNone({ status: { state, percent }, filters }) {
  switch (state) {
    case "connecting":
    case "loading": return percent ? `Loading, ${percent} %…` : "Loading…";
    case "refused":
    case "unauthorised": return "";
    default: return terms(filters).length ? "No row passes the filters so far." : "Waiting for the first record…";
  }
}

// The filters of a link, which this view has no bar for, and a way back; null where there are none but the view's own.
export function filteredBy(session, view, context) {
  const own = view.filter ?? {};
  const all = terms(session.filters);
  if (JSON.stringify(all) === JSON.stringify(terms(own)) || context.kiosk) return null;
  return h("p", { class: "filtered" }, "Filtered by ",
    all.map(([name, value], index) => [index ? ", " : null, h("bdi", {}, `${clip(name, 60)}=${clip(value, 60)}`)]), " ",
    h("button", { type: "button", class: "plain", on: { click: () => context.setFilters(own) } }, "Show all"));
}
