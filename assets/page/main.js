// The page: which stream, which view of it, and what surrounds them. Everything is where the link says
// (router.js); a view is imported when it is first shown.

import { Access } from "./access.js";
import { Announcer } from "./announce.js";
import { readBrand } from "./brand.js";
import { copyText, h, isTyping, loadStyle, replaceChildren, setAttribute, setText } from "./dom.js";
import { askForParameters, Home, showMissing, showOpener } from "./home.js";
import { Keys } from "./keys.js";
import { Kiosk } from "./kiosk.js";
import { sentencesOf } from "./problems.js";
import { chooseView, findStream, formatLink, hasDots, kioskOf, labelOf, parametersOf, parseLink, viewNames, viewsOf } from "./router.js";
import { openSession } from "./session.js";
import { StatusBar } from "./status.js";
import { definitionOf, Streams } from "./streams.js";
import { count } from "./words.js";

const VIEWS = {
  table: { module: "./table.js", style: "assets/page/table.css" },
  cards: { module: "./cards.js", style: "assets/page/table.css" },
  feed: { module: "./feed.js", style: "assets/page/feed.css" },
  chart: { module: "./chart.js", style: "assets/page/feed.css" },
};
const SESSIONS = 3; // open at once: browsers have six connections to a server without HTTP/2, for all tabs
const SESSION_REST_MS = 60_000; // how long one that is not looked at stays open

const byId = (id) => document.getElementById(id);
const brand = readBrand(document.documentElement);
const announcer = new Announcer(byId("announcer"));
const keys = new Keys(byId("help"));
const streams = new Streams(document.baseURI);
const home = new Home(streams);
const status = new StatusBar(announcer);
const access = new Access({ useToken, recheck: () => location.reload() });
const kiosk = new Kiosk({ pages: kioskPages, go: (page) => go(page) });
const sessions = new Map(); // key -> { session, token, closing (timer) }

let token = ""; // in memory only: storage of browsers is on disk, and open to other pages of this origin
let shown = null; // { kind: "stream" | "home" | …, key, … }: what is in #view
let routed = 0; // routes that began later make an earlier one void

// ---- Links ----------------------------------------------------------------------------------

function currentLink() {
  const link = parseLink(location.hash);
  if (!link.kiosk.on) link.kiosk = { ...kioskOf(new URLSearchParams(location.search)), inQuery: true };
  return link;
}

// A kiosk that the query asks for stays there.
function kioskInLink() {
  const { kiosk: asked } = currentLink();
  return asked.inQuery ? null : asked;
}

function go(page) {
  location.hash = formatLink({ ...page, kiosk: kioskInLink() });
}

function replaceLink(page) {
  history.replaceState(history.state, "", formatLink({ ...page, kiosk: kioskInLink() }));
}

// The link in place of one without a path, or null for the list of streams. The default view is for who opens the page, not
// for who goes to the list.
function firstPage({ kiosk: asked }) {
  const { pages } = kioskPages();
  if (location.hash === "" && brand.defaultView) return parseLink(brand.defaultView);
  if (streams.entries.length === 1 && !streams.hidden) return { path: streams.entries[0].path };
  return asked.seconds && pages.length ? pages[0] : null;
}

async function route() {
  routed += 1;
  const link = currentLink();
  document.body.toggleAttribute("data-kiosk", link.kiosk.on);
  kiosk.set(link.kiosk, location.hash);
  if (!streams.isKnown && !streams.failedSince) return;
  if (link.path === null) {
    const first = firstPage(link);
    if (!first) return showHome();
    replaceLink(first);
    return route();
  }
  const found = hasDots(link.path) ? null : findStream(streams.entries, link.path);
  if (!found && (streams.isFull || hasDots(link.path))) return show({ kind: "missing", key: link.path, title: "Not found" }, (into) => showMissing(into, link.path, streams.entries));
  if (found && !found.values) {
    return show({ kind: "parameters", key: link.path, title: found.entry.path }, (into) => askForParameters(into, found.entry, (path) => go({ ...link, path })));
  }
  // The server may serve it all the same: to a known client, or where it does not list its streams. What is shown already
  // stays what it is, also while a login has ended.
  const known = shown?.kind === "stream" && shown.link.path === link.path ? shown.entry : { path: link.path, topics: [] };
  return showStream(found?.entry ?? known, link);
}

// Puts something that is no stream into the page.
function show(page, fill) {
  if (shown?.kind === page.kind && shown.key === page.key) return;
  leave();
  shown = page;
  document.body.dataset.page = page.kind;
  byId("where").hidden = page.kind === "home";
  setText(byId("heading"), page.title ?? "");
  byId("strip").hidden = true;
  byId("switch").hidden = true;
  byId("heading").classList.remove("away");
  status.clear();
  setText(byId("curl"), "");
  document.title = page.kind === "home" ? brand.title : `${page.title} – ${brand.title}`;
  byId("view").replaceChildren();
  fill(byId("view"));
  settleFocus();
}

function showHome() {
  streams.setPace("home");
  show({ kind: "home", key: "" }, (into) => {
    if (streams.isMissing) showOpener(into, (path) => go({ path }));
    else home.show(into);
  });
  const header = token || streams.accepts.includes("bearer") ? "-H \"Authorization: Bearer $TOKEN\" " : "";
  setText(byId("curl"), streams.isMissing ? "" : `curl ${header}${new URL("streams", document.baseURI)}`);
}

let isBegun = false;

// What had the focus may be gone with the page before. Where a page begins, the focus is the browser's.
function settleFocus() {
  if (isBegun && document.activeElement === document.body) byId("main").focus({ preventScroll: true });
  isBegun = true;
}

function leave() {
  if (!shown) return;
  if (shown.kind === "home") home.hide();
  if (shown.kind === "stream") leaveView();
  access.hide();
  shown = null;
}

function leaveView() {
  shown.removeKeys?.forEach((remove) => remove());
  shown.view?.hide();
  shown.view?.destroy();
  shown.unsubscribe?.();
  rest(shown.sessionKey);
}

// ---- A stream -------------------------------------------------------------------------------

async function showStream(entry, link) {
  streams.setPace("stream");
  const views = viewsOf(entry);
  const { view, name } = chooseView(views, link.view);
  const filters = { ...(link.isBare ? {} : view.filter), ...link.filters };
  const sessionKey = JSON.stringify([link.path, filters, link.from, definitionOf(entry)]);
  const key = keyOf(sessionKey, name, link, views);
  if (shown?.kind === "stream" && shown.key === key) return refreshStream(entry);
  const route = routed;
  const isSameStream = shown?.kind === "stream" && shown.sessionKey === sessionKey;
  const session = take(sessionKey, entry, { path: link.path, filters, from: link.from });
  // Opened anew because the server reads it differently now: the old one shows what is no longer true.
  const former = shown?.kind === "stream" && !isSameStream && shown.link.path === link.path && definitionOf(shown.entry) !== definitionOf(entry) ? shown.sessionKey : null;
  if (isSameStream) leaveView();
  else leave();
  if (former) close(former);
  const page = { kind: "stream", key, sessionKey, session, name, link, entry, view: null, removeKeys: [], isFlowing: false };
  shown = page;
  document.body.dataset.page = "stream";
  page.unsubscribe = session.subscribe((change) => { if (change.status) showStatus(page); });
  dressStream(page, views);
  showStatus(page);
  refreshStream(entry);
  const made = await makeView(view, page);
  if (route !== routed && shown !== page) return made?.destroy();
  page.view = made;
  if (made) {
    byId("view").replaceChildren(made.element);
    made.show();
  }
  settleFocus();
}

// What a view is made of, and made anew for.
function keyOf(sessionKey, name, { params, kiosk: { on, seconds } }, views) {
  return JSON.stringify([sessionKey, name, String(params), on, seconds, views]);
}

async function makeView(view, page) {
  const kind = Object.hasOwn(VIEWS, view.kind) ? view.kind : "feed";
  const { module, style } = VIEWS[kind];
  if (!page.view) byId("view").replaceChildren(h("p", { class: "waiting" }, "Loading…"));
  try {
    const [{ createView }] = await Promise.all([import(module), loadStyle(style)]);
    return shown === page ? createView(page.session, { ...view, kind }, contextOf(page, view)) : null;
  } catch (error) {
    console.error(error);
    if (shown === page) replaceChildren(byId("view"), h("p", { class: "notice" }, `This view cannot be shown: ${error.message}`));
    return null;
  }
}

function contextOf(page, view) {
  const { kiosk: { on, seconds } } = page.link;
  const set = (changes) => {
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === undefined || value === false) page.link.params.delete(name);
      else page.link.params.set(name, value);
    }
    const link = { ...page.link, view: page.link.view ?? page.name };
    replaceLink(link);
    page.key = keyOf(page.sessionKey, page.name, page.link, viewsOf(page.entry));
  };
  return {
    params: page.link.params,
    setParams: set,
    // Where the view's own filter goes, the link says so.
    setFilters: (filters) => go({ ...page.link, view: page.name, filters, isBare: Object.keys(view.filter ?? {}).some((name) => !Object.hasOwn(filters, name)) }),
    setStart: (from) => go({ ...page.link, view: page.name, from }),
    link: (params, view = page.name) => formatLink({ path: page.link.path, view, filters: page.link.filters, from: page.link.from, params }),
    announce: (text) => announcer.say(text),
    keys: (list) => {
      const remove = keys.add(list);
      page.removeKeys.push(remove);
      return remove;
    },
    kiosk: on,
    kioskSeconds: seconds,
    name: JSON.stringify([page.sessionKey, page.name]),
    locale: navigator.language,
  };
}

// The names, tabs and links around a view.
function dressStream(page, views) {
  const { link, name, session, entry } = page;
  const names = viewNames(views);
  const tabs = views.map((view, index) => h("a", {
    href: formatLink({ path: link.path, view: names[index], filters: link.filters, from: link.from }),
    "aria-current": names[index] === name ? "page" : null,
  }, labelOf(view)));
  byId("where").hidden = false;
  byId("strip").hidden = views.length < 2; // one view alone says itself what it is
  setText(byId("heading"), link.path);
  fillSwitch(link.path);
  const focused = [...byId("tabs").children].indexOf(document.activeElement);
  replaceChildren(byId("tabs"), tabs);
  if (focused >= 0) tabs[Math.min(focused, tabs.length - 1)].focus();
  const title = labelOf(views[names.indexOf(name)]);
  document.title = `${title} · ${link.path} – ${brand.title}`;
  kiosk.name(views.length > 1 || streams.entries.length > 1 ? `${title} · ${link.path}` : title);
  announcer.say(`${title} of ${link.path}`);
  setText(byId("curl"), session.curl);
}

// With several streams, their list is in the place of the heading; one with parameters is in it with their values.
function fillSwitch(path) {
  const select = byId("streams");
  const isUseful = streams.entries.length > 1;
  byId("switch").hidden = !isUseful;
  byId("heading").classList.toggle("away", isUseful);
  const options = [...new Set([...streams.entries.map((each) => each.path), path])];
  if (JSON.stringify([...select.options].map(({ value }) => value)) !== JSON.stringify(options)) {
    replaceChildren(select, options.map((value) => h("option", { value }, value)));
  }
  select.value = path;
}

// What the server's list says anew about the stream that is shown.
function refreshStream(entry) {
  const { session, link } = shown;
  shown.entry = entry;
  const problems = streams.problemsOf(entry);
  session.hear({
    percent: streams.percentOf(entry),
    problems: problems.filter(({ outdated }) => outdated).map(sentencesOf),
    remarks: problems.filter(({ outdated, stream, topic }) => !outdated && (stream || topic)).map(sentencesOf),
  });
  fillSwitch(link.path);
}

function showStatus(page) {
  const { session } = page;
  const { state } = session.status;
  // What was wrong while it loaded may be over.
  const isFlowing = state === "live" || state === "stale";
  if (isFlowing && !page.isFlowing && streams.problems.length) streams.refresh();
  page.isFlowing = isFlowing;
  status.show(session);
  access.show(session.status, brand.loginUrl);
  setAttribute(byId("main"), "data-access", state === "unauthorised" ? "refused" : null);
  setText(byId("curl"), session.curl);
  const rows = session.rows.size ? count(session.rows.size, "key") : "";
  const topics = (page.entry.topics ?? []).map(({ topic }) => topic).join(", ");
  setText(byId("facts"), [rows, topics].filter(Boolean).join(" · "));
  kiosk.say(session.status);
}

// ---- Sessions: a few stay open for a while, so that going back is at once --------------------

function take(key, entry, options) {
  const found = sessions.get(key);
  if (found) {
    clearTimeout(found.closing);
    sessions.delete(key);
    sessions.set(key, found); // the newest last
    if (["refused", "unauthorised"].includes(found.session.status.state)) found.session.retry(); // whoever comes back asks again
    return found.session;
  }
  for (const [other] of sessions) if (sessions.size >= SESSIONS) close(other);
  const session = openSession(entry, { ...options, token });
  sessions.set(key, { session, token, closing: 0 });
  return session;
}

function rest(key) {
  const found = sessions.get(key);
  if (found) found.closing = setTimeout(() => close(key), SESSION_REST_MS);
}

function close(key) {
  const found = sessions.get(key);
  clearTimeout(found?.closing);
  found?.session.close();
  sessions.delete(key);
}

async function useToken(given) {
  token = given;
  for (const key of [...sessions.keys()]) if (key !== shown?.sessionKey) close(key);
  await streams.useToken(token);
  // By what the server says now it may have been opened anew, with the token.
  const found = sessions.get(shown?.sessionKey);
  if (!found || found.token === token) return;
  found.token = token;
  found.session.useToken(token);
}

// ---- Around it ------------------------------------------------------------------------------

function kioskPages() {
  const pages = streams.entries.filter((entry) => !parametersOf(entry.path).length)
    .flatMap((entry) => viewNames(viewsOf(entry)).map((view) => ({ path: entry.path, view })));
  const link = currentLink();
  return { pages, current: pages.findIndex(({ path, view }) => path === link.path && view === (shown?.name ?? link.view)) };
}

function step(by) {
  const plain = streams.entries.map(({ path }) => path);
  if (plain.length > 1) go({ path: plain.at((plain.indexOf(shown?.entry?.path) + by) % plain.length) });
}

keys.add([
  { key: "h", label: "List of streams", run: () => go({ path: null }) },
  { key: "[", label: "Previous stream", run: () => step(-1) },
  { key: "]", label: "Next stream", run: () => step(1) },
  { key: "1", upTo: "9", label: "First to ninth view of the stream", run: (key) => byId("tabs").children[Number(key) - 1]?.click() },
  { key: "r", label: "Reconnect now", run: () => { if (shown?.session && shown.session.status.state !== "live") shown.session.retry(); } },
  { key: "k", label: "Kiosk: hide everything but the view, or show it again", run: () => toggleKiosk() },
  { key: "t", label: "Light, dark, or as the system says", run: () => announcer.say(brand.nextTheme()) },
], "Everywhere");

function toggleKiosk() {
  const link = currentLink();
  if (link.kiosk.inQuery && link.kiosk.on) return; // who opened it so wants it so
  location.hash = formatLink({ ...link, kiosk: { on: !link.kiosk.on, seconds: 0 } });
}

byId("streams").addEventListener("change", ({ target }) => go({ path: target.value }));
byId("skip").addEventListener("click", () => byId("main").focus());
byId("copy-curl").addEventListener("click", async ({ target }) => {
  const copied = await copyText(byId("curl").textContent);
  announcer.say(copied ? "Copied" : "It could not be copied");
  setText(target, copied ? "Copied" : "Not copied");
  setTimeout(() => setText(target, "Copy"), 2000);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.body.hasAttribute("data-kiosk") && !isTyping(event.target)) toggleKiosk();
});
window.addEventListener("hashchange", route);
streams.subscribe(() => {
  status.hear(streams);
  access.hear(streams, shown?.kind === "home", brand.loginUrl);
  if (shown?.kind === "home") home.update();
  route();
});
streams.refresh();
