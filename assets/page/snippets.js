// A stream as something to paste: a command for a shell, JavaScript with EventSource, JavaScript with the client library. Whatever
// a URL, an id or an event's name contains, it stays data there. Pure.

// One word for a POSIX shell.
export function shellWord(text) {
  return `'${String(text).replaceAll("'", "'\\''")}'`;
}

// A string literal of JavaScript that can also be inside a <script> of HTML.
export function literal(text) {
  return JSON.stringify(String(text))
    .replaceAll("<", "\\u003c")
    .replaceAll("\u2028", "\\u2028")
    .replaceAll("\u2029", "\\u2029");
}

// The URL with the id after which it continues. EventSource sends later ids by itself.
export function urlAfter(url, lastEventId) {
  if (!lastEventId) return String(url);
  const whole = new URL(url);
  whole.searchParams.set("lastEventId", lastEventId);
  return whole.href;
}

// `token`: whether the reader came by a token; it is never written out.
export function curl(url, { lastEventId = "", token = false } = {}) {
  const words = ["curl -N"]; // unbuffered
  if (/[[\]{}]/.test(url)) words.push("-g"); // to curl, these are patterns of URLs
  if (token) words.push('-H "Authorization: Bearer $TOKEN"');
  if (lastEventId) words.push(`-H ${shellWord(`Last-Event-ID: ${lastEventId}`)}`);
  words.push(shellWord(url));
  return words.join(" ");
}

// `event`: the name of the stream's events, null for unnamed ones. `isKeyed`: whether there are deletes to be told of.
export function eventSource(url, { lastEventId = "", event = null, isKeyed = false } = {}) {
  const lines = [
    `const events = new EventSource(${literal(urlAfter(url, lastEventId))});`,
    `events.addEventListener(${literal(event ?? "message")}, (event) => {`,
    "  console.log(event.lastEventId, event.data);",
    "});",
  ];
  if (isKeyed) lines.push('events.addEventListener("delete", (event) => console.log("deleted", event.data));');
  return lines.join("\n");
}

// `library`: URL of client.js. `filters`: names with a value or several.
export function clientLibrary(url, { library, lastEventId = "", event = null, filters = {} } = {}) {
  const options = [];
  if (event !== null) options.push(`  event: ${literal(event)},`);
  if (lastEventId) options.push(`  lastEventId: ${literal(lastEventId)},`);
  const terms = Object.entries(filters);
  if (terms.length > 0) {
    const text = ([name, values]) => {
      const all = [values].flat().map(literal);
      // In brackets where it would set the object's prototype.
      const written = name === "__proto__" ? `[${literal(name)}]` : literal(name);
      return `    ${written}: ${all.length === 1 ? all[0] : `[${all.join(", ")}]`},`;
    };
    options.push("  filters: {", ...terms.map(text), "  },");
  }
  const given = options.length > 0 ? `, {\n${options.join("\n")}\n}` : "";
  return [
    `import { follow } from ${literal(library)};`,
    "",
    `for await (const event of follow(${literal(url)}${given})) {`,
    "  console.log(event.type, event.lastEventId, event.data);",
    "}",
  ].join("\n");
}
