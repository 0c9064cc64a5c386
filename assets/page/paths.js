// Paths of members in values: `address.city`, `tags.0`, `log\.level` (the dot is part of the name), as in filters of the
// server. Only a value's own members are found, so that `__proto__` and `constructor` are names like others.

// The names of a path. A backslash before anything but a dot or a backslash is an ordinary character here.
export function parsePath(text) {
  const names = [];
  let name = "";
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === "\\" && (text[at + 1] === "." || text[at + 1] === "\\")) name += text[++at];
    else if (character === ".") {
      names.push(name);
      name = "";
    } else name += character;
  }
  names.push(name);
  return names;
}

export function formatPath(names) {
  return names.map((name) => name.replace(/[\\.]/g, "\\$&")).join(".");
}

export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

// A member of an object or an element of an array, or undefined.
export function member(value, name) {
  if (typeof value !== "object" || value === null) return undefined;
  if (Array.isArray(value)) return /^\d+$/.test(name) ? value[Number(name)] : undefined;
  return Object.hasOwn(value, name) ? value[name] : undefined;
}

// A function that reads exactly these names from a value.
export function readNames(names) {
  if (names.length === 1) return (value) => member(value, names[0]);
  return (value) => {
    let found = value;
    for (const name of names) {
      found = member(found, name);
      if (found === undefined) return undefined;
    }
    return found;
  };
}

// A function that reads a configured path from a value. As in filters, a scalar member that has the whole rest of the path as
// its name comes before the next name of the path: `log.level` reads {"log.level": "error"} and {"log": {"level": "error"}}.
export function readPath(text) {
  const names = parsePath(text);
  if (names.length === 1) return readNames(names);
  const rests = names.map((_, index) => names.slice(index).join("."));
  return (value) => {
    let found = value;
    for (const [index, name] of names.entries()) {
      const whole = isObject(found) ? member(found, rests[index]) : undefined;
      if (whole !== undefined && (typeof whole !== "object" || whole === null)) return whole;
      found = member(found, name);
      if (found === undefined) return undefined;
    }
    return found;
  };
}

// What a record has besides its value, by names that no path in a value has by accident.
const OF_RECORD = new Map([
  ["@key", (row) => row.key],
  ["@value", (row) => row.value],
  ["@topic", (row) => row.topic],
  ["@partition", (row) => row.partition],
  ["@offset", (row) => row.offset],
  ["@timestamp", (row) => row.timestamp],
  ["@changed", (row) => row.at],
]);

// A function that reads a path from a row of the session. A member of the value that is called `@key` comes first.
export function readRow(read, text) {
  const ofRecord = OF_RECORD.get(text);
  if (!ofRecord) return (row) => read(row.value);
  return (row) => read(row.value) ?? ofRecord(row) ?? undefined;
}
