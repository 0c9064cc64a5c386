// Whether a row contains what is searched for: every word of the search, each in any of the columns, as shown or as sent. Pure.
import { preview } from "./format.js";

const MOST = 4096; // characters of a text that are looked at
const DATES = new Set(["date", "time"]);

// A function that says so of a row, or null for an empty search.
export function matcher(search, columns, formats) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return null;
  const phrase = search.trim().toLowerCase();
  return (row) => {
    const found = new Array(words.length).fill(false);
    let missing = words.length;
    for (const column of columns) {
      const value = column.read(row);
      if (value === undefined || value === null) continue;
      const [sent, shown] = textsOf(value, column, formats, phrase);
      for (let index = 0; index < words.length; index++) {
        if (found[index] || !(sent.includes(words[index]) || shown.includes(words[index]))) continue;
        found[index] = true;
        missing -= 1;
      }
      if (missing === 0) return true;
    }
    return false;
  };
}

function textsOf(value, column, formats, phrase) {
  switch (typeof value) {
    case "string": {
      const sent = (value.length > MOST ? value.slice(0, MOST) : value).toLowerCase();
      return [sent, DATES.has(column.format) ? formats.cell(value, column).text.toLowerCase() : ""];
    }
    case "number": {
      const sent = String(value);
      const isShownOtherwise = DATES.has(column.format) || /\d[^\d.\s-]/.test(phrase); // with separators of thousands
      return [sent, isShownOtherwise ? formats.cell(value, column).text.toLowerCase() : ""];
    }
    case "object": return [preview(value, MOST).toLowerCase(), ""];
    default: return [String(value), ""];
  }
}
