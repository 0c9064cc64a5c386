// JSON as it is written: numbers keep their digits, which JavaScript would change in 12345678901234567890 or 1.50. Pure.

export class Exact {
  constructor(source) {
    this.source = source;
  }

  toString() {
    return this.source;
  }
}

// The value of a JSON text. A number whose digits would change is an `Exact`, where the browser tells how it is written (the
// third parameter of a reviver). Throws where the text is not JSON.
export function parseExact(text) {
  return JSON.parse(text, (name, value, context) =>
    typeof value === "number" && context?.source !== undefined && context.source !== String(value)
      ? new Exact(context.source)
      : value);
}

// The value of an entry of a session as it is written. A text that is not JSON is a string.
export function exactValue(entry) {
  if (typeof entry.text !== "string") return entry.value;
  try {
    return parseExact(entry.text);
  } catch {
    return entry.value;
  }
}

export const isScalar = (value) => value === null || typeof value !== "object" || value instanceof Exact;

// The text of a scalar by which the server's filters compare it; undefined for objects and arrays.
export function scalarText(value) {
  return isScalar(value) && value !== undefined ? String(value) : undefined;
}

// The scalars of a value with the names that lead to them, those with the fewest names first: at most `limit` of them, from at
// most `depth` levels.
export function* leaves(value, limit = 200, depth = 6) {
  const open = [{ value, path: [] }];
  for (let next = 0; next < open.length; next += 1) {
    const { value: at, path } = open[next];
    if (isScalar(at)) {
      if (path.length > 0) yield { path, value: at };
      continue;
    }
    if (path.length >= depth) continue;
    for (const name of Object.keys(at)) {
      if (open.length > limit) break;
      open.push({ value: at[name], path: [...path, name] });
    }
  }
}
