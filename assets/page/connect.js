// The dialog with ways to read a stream from elsewhere: its URL, curl, EventSource and the client library, from now on or after one
// event.

import { copyText, h } from "./dom.js";
import { isKeyed } from "./router.js";
import { clientLibrary, curl, eventSource, urlAfter } from "./snippets.js";

// The snippets for a session's stream with its filters: [{ name, title, code }]. `id`: of the event after which they begin, or "".
export function snippetsOf(session, id = "") {
  const { entry } = session;
  const url = session.url.href;
  const bare = new URL(url);
  for (const name of Object.keys(session.filters)) bare.searchParams.delete(name);
  const event = entry.event ?? null;
  const library = new URL("assets/client.js", document.baseURI).href;
  return [
    { name: "curl", title: "Terminal", code: curl(url, { lastEventId: id, token: session.hasToken === true }) },
    { name: "eventsource", title: "EventSource", code: eventSource(url, { lastEventId: id, event, isKeyed: isKeyed(entry) }) },
    { name: "library", title: "Client library", code: clientLibrary(bare.href, { library, lastEventId: id, event, filters: session.filters }) },
    { name: "url", title: "URL", code: urlAfter(url, id) },
  ];
}

// Opens the dialog; it is gone when it closes.
export function openConnect(session, { id = "", announce }) {
  const title = id ? "Continue after this event" : "Use this stream";
  const dialog = h("dialog", { class: "connect", "aria-labelledby": "connect-title" },
    h("header", null,
      h("h2", { id: "connect-title" }, title),
      h("button", { type: "button", class: "plain", on: { click: () => dialog.close() } }, "Close")),
    id ? h("p", null, "All of these begin with the event that follows it. Its id: ", h("code", { dir: "ltr" }, id)) : null,
    snippetsOf(session, id).map(({ name, title: of, code }) => {
      const copy = h("button", { type: "button", "aria-label": `Copy: ${of}` }, "Copy");
      copy.addEventListener("click", async () => {
        copy.textContent = (await copyText(code)) ? "Copied" : "Select it to copy";
        announce?.(copy.textContent);
        setTimeout(() => { copy.textContent = "Copy"; }, 2_000);
      });
      return h("section", { "data-snippet": name },
        h("div", null, h("h3", null, of), copy),
        h("pre", { tabindex: "0", role: "group", dir: "ltr", "aria-label": of }, h("code", null, code)));
    }));
  dialog.addEventListener("close", () => dialog.remove());
  // Outside of it: the dialog itself is hit nowhere but at its edge.
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
