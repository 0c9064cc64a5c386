// Numbers, times and sentences. Numbers and dates are written as the reader's browser writes them; sentences are English.

const integers = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const decimals = new Intl.NumberFormat(undefined, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const compacts = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const percents = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 0 });
const clocks = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const days = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
const plurals = new Intl.PluralRules("en");

export const number = (value) => integers.format(value);
export const compact = (value) => (Math.abs(value) < 10_000 ? integers.format(value) : compacts.format(value));
export const percent = (value) => percents.format(value / 100);

// A rate, with a digit behind the point only where it says something.
export const rate = (perSecond) => (perSecond > 0 && perSecond < 10 ? decimals.format(perSecond) : compact(perSecond));

// A time in milliseconds since 1970; with its day unless that is today.
export function clock(at) {
  const date = new Date(at);
  return date.toDateString() === new Date().toDateString() ? clocks.format(date) : days.format(date);
}

const UNITS = [["second", 60], ["minute", 60], ["hour", 24], ["day", 7], ["week", 4.35], ["month", 12], ["year", Infinity]];

export function ago(at, now = Date.now()) {
  let value = (at - now) / 1000;
  for (const [unit, count] of UNITS) {
    if (Math.abs(Math.round(value)) < count) return relative.format(Math.round(value), unit);
    value /= count;
  }
  return "";
}

const SIZES = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];

export function bytes(count) {
  const step = Math.min(SIZES.length - 1, Math.floor(Math.log10(Math.max(1, Math.abs(count))) / 3));
  const unit = { style: "unit", unit: SIZES[step], unitDisplay: step ? "short" : "long", maximumFractionDigits: step ? 1 : 0 };
  return new Intl.NumberFormat(undefined, unit).format(count / 1000 ** step);
}

// How long something lasts, in milliseconds: a latency.
export function duration(ms) {
  if (ms < 1000) return `${number(ms)}\u00a0ms`;
  if (ms < 60_000) return `${decimals.format(ms / 1000)}\u00a0s`;
  return ms < 3_600_000 ? `${number(ms / 60_000)}\u00a0min` : `${number(ms / 3_600_000)}\u00a0h`;
}

// "1 record", "2 records".
export function count(value, one, more = `${one}s`) {
  return `${number(value)}\u00a0${plurals.select(value) === "one" ? one : more}`;
}

const lists = new Intl.ListFormat("en", { type: "disjunction" });

// "a, b, or c"
export const list = (texts) => lists.format(texts);

const RESETS = {
  "unknown-id": "The server does not know the position that this page was at.",
  "other-stream": "The position that this page was at is of another stream.",
  recreated: "The topic was deleted and created anew.",
  "ahead-of-topic": "The topic ends before the position that this page was at.",
  "too-old": "What was deleted meanwhile is no longer known.",
  truncated: "Kafka has lost records that were shown.",
  reconfigured: "The stream's configuration was changed.",
};

// A control event in words, or null where there is nothing to say. `data` is what the event holds.
export function noteOf(type, data) {
  const topic = typeof data?.topic === "string" ? `Topic ${data.topic}: ` : "";
  if (type === "reset") return `${topic}${RESETS[data?.reason] ?? "The server began anew."} What is shown was loaded again.`;
  if (type === "conflated") {
    return `This page was too slow for all updates: ${count(Number(data?.skipped) || 0, "record")} left out. Every key shows its latest value.`;
  }
  if (type !== "gap") return null;
  const [from, to] = [Number(data?.from), Number(data?.to)];
  const where = `${data?.topic}, partition ${data?.partition}`;
  if (data?.reason === "truncated") {
    return `Kafka has lost ${count(to - from, "record")} of ${where} that were shown; those that it has in their place follow.`;
  }
  return `${count(to - from, "record")} of ${where} ${to - from === 1 ? "is" : "are"} missing: Kafka deleted them before this page got them.`;
}
