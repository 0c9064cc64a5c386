// What the configuration says of the page's looks: title, logo, accent colour, where it begins. They come as attributes of
// <html>; one that the server has not filled counts as absent.

const THEMES = ["system", "light", "dark"];
const STORED = "kafka-sse-bridge.theme";

function attribute(root, name) {
  const value = root.dataset[name] ?? "";
  return value.startsWith("{{") ? "" : value;
}

// { title, loginUrl, defaultView (a fragment, or ""), nextTheme() }
export function readBrand(root) {
  const configured = attribute(root, "accent");
  const accent = configured && plainColour(configured);
  const logo = attribute(root, "logo");
  const asked = new URLSearchParams(location.search).get("theme");
  setTheme(root, THEMES.includes(asked) ? asked : stored(), accent);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => tint(root, accent));
  if (logo) document.getElementById("logo").src = logo;
  const view = attribute(root, "defaultView");
  return {
    title: attribute(root, "title") || document.title,
    loginUrl: attribute(root, "loginUrl"),
    defaultView: view ? `#${view.replace(/^#?\/?/, "/")}` : "",
    nextTheme() {
      const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "system") + 1) % THEMES.length];
      store(next);
      setTheme(root, next, accent);
      return { system: "Colours as the system says", light: "Light colours", dark: "Dark colours" }[next];
    },
  };
}

function setTheme(root, theme, accent) {
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
  tint(root, accent);
}

// In a frame of another site there may be no storage.
function stored() {
  try {
    return THEMES.find((theme) => theme === localStorage.getItem(STORED)) ?? "system";
  } catch {
    return "system";
  }
}

function store(theme) {
  try {
    if (theme === "system") localStorage.removeItem(STORED);
    else localStorage.setItem(STORED, theme);
  } catch {
    // It holds until the page is closed.
  }
}

// A colour that CSS knows, as parseColour reads it.
function plainColour(text) {
  const context = document.createElement("canvas").getContext("2d");
  context.fillStyle = text;
  return context.fillStyle;
}

// The accent is made lighter or darker until text in it can be read on the page's paper (WCAG AA: 4.5).
function tint(root, accent) {
  const colour = parseColour(accent);
  for (const name of ["--accent", "--flash", "--tint"]) root.style.removeProperty(name);
  if (!colour) return;
  const styles = getComputedStyle(root);
  const paper = parseColour(styles.getPropertyValue("--paper")) ?? [255, 255, 255];
  const card = parseColour(styles.getPropertyValue("--card")) ?? paper;
  const muted = parseColour(styles.getPropertyValue("--muted")) ?? [96, 96, 96];
  const readable = readableOn(colour, [paper, card]);
  root.style.setProperty("--accent", css(readable));
  root.style.setProperty("--flash", css(washOf(readable, card, muted, 0.22)));
  root.style.setProperty("--tint", css(washOf(readable, card, muted, 0.07)));
}

// A background of the colour in which even muted text can be read.
function washOf(colour, card, muted, most) {
  let share = most;
  while (share > 0.02 && contrast(muted, mix(card, colour, share)) < 4.5) share -= 0.02;
  return mix(card, colour, share);
}

export function parseColour(text) {
  const [, parts] = /^rgba\((.*)\)$/.exec(text) ?? []; // of a colour that is not opaque
  if (parts) return parts.split(",").slice(0, 3).map(Number);
  const digits = /^\s*#([\da-f]{3}|[\da-f]{6})\s*$/i.exec(text ?? "")?.[1];
  if (!digits) return null;
  const wide = digits.length === 3 ? [...digits].map((digit) => digit + digit).join("") : digits;
  return [0, 2, 4].map((at) => Number.parseInt(wide.slice(at, at + 2), 16));
}

function css(colour) {
  return `#${colour.map((part) => Math.round(part).toString(16).padStart(2, "0")).join("")}`;
}

function mix(one, other, share) {
  return one.map((part, index) => part + (other[index] - part) * share);
}

function luminance(colour) {
  const [red, green, blue] = colour.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

export function contrast(one, other) {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

export function readableOn(colour, papers) {
  const towards = luminance(papers[0]) < 0.2 ? [255, 255, 255] : [0, 0, 0];
  for (let share = 0; share < 1; share += 0.04) {
    const mixed = mix(colour, towards, share);
    if (papers.every((paper) => contrast(mixed, paper) >= 4.6)) return mixed;
  }
  return towards;
}
