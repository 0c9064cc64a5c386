// Columns found in the data: which members the values have, in a stable order, and what they are. Pure, and incremental: each
// record costs bounded work, whatever it contains. Small nested objects become columns with dotted paths; an object that is
// large, deep, or has ever new names (a map) becomes one column. Names are keys of Maps: `__proto__` is one like any other.
import { formatPath, isObject, readNames, readRow } from "./paths.js";

export const MAX_COLUMNS = 128;
const MAX_DEPTH = 3; // names in a path
const MAX_CHILDREN = 12; // of a nested object, before it becomes one column
const MAX_VISITS = 512; // members looked at per record
const MAX_WORDS = 8; // different texts that still look like a state
const WORDS_AFTER = 24; // records before a column of few words is called one
const MAX_WORD = 24;
const MAX_DIGITS = 6;
const MAX_ELEMENTS = 8; // of an array, looked at

const NULL = 1, BOOL = 2, NUMBER = 4, TEXT = 8, ARRAY = 16, OBJECT = 32;

const DAY = /^\d{4}-\d\d-\d\d$/;
const DATE = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?: ?(?:Z|[+-]\d\d:?\d\d))?$/;
const LINK = /^https?:\/\/[^\s]+$/i;
const TIME_NAME = /(?:^|[_.\- ])(?:time|timestamp|date|datetime|ts|at|since|until|created|updated|modified|expires)(?:[_.\- ]?(?:ms|millis|us|ns|s|sec))?$|[a-z](?:Time|Timestamp|Date|At|Since|Until)(?:Ms|Millis)?$/i;
const NAME_OF_NUMBER = /(?:^|[_.\- ])(?:id|no|nr|num|year|zip|plz|postcode|code|port|version|phone|isbn|ean|sku|pid)$|[a-z](?:Id|No|Nr|Num|Year|Code|Port)$|^key$/;

// Words whose meaning is usual, for badges without configured colours.
const TONES = new Map(Object.entries({
  good: "ok up online active ready healthy done paid success succeeded successful completed complete delivered open running moving green approved",
  wait: "pending waiting new queued created starting paused warning warn degraded processing shipped unknown retrying draft delayed charging yellow amber",
  bad: "error failed failure down offline dead critical rejected refused cancelled canceled expired blocked fatal red refunded overdue",
}).flatMap(([tone, words]) => words.split(" ").map((word) => [word, tone])));

// "good", "wait", "bad", or undefined.
export function toneOf(word) {
  return TONES.get(word.toLowerCase());
}

// The unit of a number that is a time, by its size: milliseconds per unit, or 0 for one that is no time after 1973.
export function unitOfTime(number) {
  const size = Math.abs(number);
  if (size >= 1e17) return size < 1e20 ? 1e-6 : 0;
  if (size >= 1e14) return 1e-3;
  if (size >= 1e11) return 1;
  return size >= 1e8 ? 1000 : 0;
}

class Node {
  children = new Map();
  types = 0;
  seen = 0;
  isFolded = false;
  digits = 0;
  isTime = true; // until a number is none
  isDay = true; // until a text is none
  isDate = true;
  isLink = true;
  isFlat = true; // until an array has an object in it
  words = new Set(); // null: too many, or too long

  constructor(names) {
    this.names = names;
  }
}

export class Columns {
  #root = new Node([]);
  #whole = new Node(["@value"]); // of values that are no objects
  #key = new Node(["@key"]);
  #keyField;
  #leaves = 0;
  #visits = 0;
  #isDirty = false;
  #list = [];
  #version = 0;
  isCut = false; // there are members without a column

  // `keyField`: the member that the server puts a record's key into, if any; it comes first.
  constructor({ keyField = null } = {}) {
    this.#keyField = keyField;
  }

  // Looks at a row of the session.
  add({ key, value }) {
    this.#visits = MAX_VISITS;
    if (key !== undefined && key !== null) this.#note(this.#key, key);
    if (isObject(value)) this.#walk(this.#root, value);
    else if (value !== undefined) this.#note(this.#whole, value);
  }

  // A column stays when the row that brought it goes: columns that come and go could not be read.
  remove() {}

  clear() {
    this.#root = new Node([]);
    this.#whole = new Node(["@value"]);
    this.#key = new Node(["@key"]);
    this.#leaves = 0;
    this.isCut = false;
    this.#isDirty = true;
  }

  // Rises whenever `list` differs.
  get version() {
    this.#refresh();
    return this.#version;
  }

  // Columns in their order: { path, names, label, format, digits, isGrouped, isDay, isPinned, read(row) }.
  get list() {
    this.#refresh();
    return this.#list;
  }

  #walk(node, object) {
    for (const name in object) {
      if (!Object.hasOwn(object, name)) continue;
      if (this.#visits <= 0) {
        this.#cut();
        return;
      }
      this.#visits -= 1;
      let child = node.children.get(name);
      if (!child) {
        child = this.#grow(node, name);
        if (node.isFolded) return;
        if (!child) continue;
      }
      this.#note(child, object[name]);
    }
  }

  #cut() {
    if (this.isCut) return;
    this.isCut = true;
    this.#isDirty = true;
  }

  #grow(node, name) {
    if (node !== this.#root && node.children.size >= MAX_CHILDREN) {
      this.#fold(node);
      return null;
    }
    if (this.#leaves >= MAX_COLUMNS) {
      this.#cut();
      return null;
    }
    const child = new Node([...node.names, name]);
    node.children.set(name, child);
    this.#leaves += 1;
    this.#isDirty = true;
    return child;
  }

  #fold(node) {
    const count = ({ children }) => [...children.values()].reduce((sum, child) => sum + 1 + count(child), 0);
    this.#leaves -= count(node);
    node.children.clear();
    node.isFolded = true;
    this.#isDirty = true;
  }

  #note(node, value) {
    node.seen += 1;
    const type = typeOf(value);
    if (!(node.types & type)) {
      node.types |= type;
      this.#isDirty = true;
      const isMixed = node.types & OBJECT && node.types & ~(OBJECT | NULL);
      if (isMixed && !node.isFolded) this.#fold(node);
    }
    if (type === TEXT) this.#noteText(node, value);
    else if (type === NUMBER) this.#noteNumber(node, value);
    else if (type === ARRAY) this.#noteArray(node, value);
    else if (type === OBJECT && !node.isFolded && node !== this.#whole && node !== this.#key) {
      if (node.names.length >= MAX_DEPTH) this.#fold(node);
      else this.#walk(node, value);
    }
    if (node.seen === WORDS_AFTER) this.#isDirty = true; // a column of few words may become badges
  }

  #noteText(node, text) {
    if (node.isDay && !DAY.test(text)) node.isDay = this.#no();
    if (node.isDate && !(text.length <= 40 && (DATE.test(text) || DAY.test(text)))) node.isDate = this.#no();
    if (node.isLink && !(text.length <= 2048 && LINK.test(text))) node.isLink = this.#no();
    if (!node.words || node.words.has(text)) return;
    const isWord = text.length > 0 && text.length <= MAX_WORD && node.words.size < MAX_WORDS;
    if (isWord) node.words.add(text);
    else {
      node.words = null;
      this.#isDirty = true;
    }
  }

  #noteNumber(node, number) {
    if (node.isTime && !unitOfTime(number)) node.isTime = this.#no();
    const text = String(number);
    const dot = text.indexOf(".");
    const digits = dot < 0 || text.includes("e") ? 0 : Math.min(text.length - dot - 1, MAX_DIGITS);
    if (digits > node.digits) {
      node.digits = digits;
      this.#isDirty = true;
    }
  }

  #noteArray(node, array) {
    if (!node.isFlat) return;
    for (let index = 0; index < Math.min(array.length, MAX_ELEMENTS); index++) {
      if (typeof array[index] === "object" && array[index] !== null) node.isFlat = this.#no();
    }
  }

  #no() {
    this.#isDirty = true;
    return false;
  }

  #refresh() {
    if (!this.#isDirty) return;
    this.#isDirty = false;
    const list = [];
    const first = this.#keyField !== null ? this.#root.children.get(this.#keyField) : undefined;
    if (first) list.push({ ...describe(first), isPinned: true });
    else if (this.#key.seen) list.push({ ...describe(this.#key), label: "Key", isPinned: true, read: (row) => row.key });
    const visit = (node) => {
      if (node === first) return;
      if (node.children.size) for (const child of node.children.values()) visit(child);
      else if (node !== this.#root && formatPath(node.names) !== list[0]?.path) list.push(describe(node)); // no record has two keys
    };
    visit(this.#root);
    if (this.#whole.seen) list.push({ ...describe(this.#whole), label: "Value" });
    const text = signature(list);
    if (text !== signature(this.#list)) this.#version += 1;
    this.#list = list;
  }
}

function signature(list) {
  return JSON.stringify(list.map(({ path, format, digits }) => [path, format, digits]));
}

function typeOf(value) {
  if (value === null) return NULL;
  switch (typeof value) {
    case "boolean": return BOOL;
    case "number": return NUMBER;
    case "object": return Array.isArray(value) ? ARRAY : OBJECT;
    default: return TEXT;
  }
}

function describe(node) {
  const path = formatPath(node.names);
  const name = node.names.at(-1);
  const own = readNames(node.names);
  const isOfRecord = node.names.length === 1 && name.startsWith("@");
  return {
    path,
    names: node.names,
    label: path,
    ...guess(node, name),
    isPinned: false,
    read: isOfRecord ? readRow(own, name) : (row) => own(row.value),
  };
}

// The format of a column; null where values of several types are shown each as what it is.
function guess(node, name) {
  const made = (format, more) => ({ format, digits: null, isGrouped: true, isDay: false, ...more });
  switch (node.types & ~NULL) {
    case BOOL: return made("bool");
    case NUMBER:
      if (node.isTime && TIME_NAME.test(name)) return made("date");
      return made("number", { digits: node.digits, isGrouped: node.digits > 0 || !NAME_OF_NUMBER.test(name) });
    case TEXT:
      if (node.isDate) return made("date", { isDay: node.isDay });
      if (node.isLink) return made("link");
      if (node.words && node.seen >= WORDS_AFTER && name !== "@key" && [...node.words].some(toneOf)) return made("badge");
      return made("text");
    case ARRAY: return made(node.isFlat ? "list" : "json");
    case OBJECT: return made("json");
    default: return made(null);
  }
}
