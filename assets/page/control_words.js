// What the control events of a stream say, in a sentence (docs/wire.md lists them). Pure.

import { count, noteOf } from "./words.js";

const GOODBYES = new Map([
  ["shutdown", "The server shuts down. The page connects again by itself, and continues here."],
  ["slow", "This page was too slow for the stream and was disconnected. It connects again and continues here."],
  ["lifetime", "The connection has lasted as long as the server allows. The page connects again and continues here."],
  ["stream-removed", "The server no longer serves this stream."],
  ["unauthorized", "The access has ended."],
  ["unavailable", "The server cannot check the access now. The page tries again."],
  ["overloaded", "The server has as many clients as it allows. The page tries again."],
]);

const CAUGHT_UP = new Map([
  ["snapshot", "The table is complete. All that follows is live."],
  ["live", "All that follows is live."],
  ["replay", "All that was written before is here. All that follows is live."],
]);

// A sentence for a control event, with how serious it is: "info", "wait" or "bad". An event of a later version is shown as it is.
export function words(type, data) {
  const reason = String(data?.reason ?? "");
  const note = noteOf(type, data);
  if (note !== null) return { text: note, tone: type === "gap" ? "bad" : "wait" };
  if (type === "caught-up") return { text: CAUGHT_UP.get(reason) ?? CAUGHT_UP.get("live"), tone: "info" };
  if (type === "goodbye") return { text: GOODBYES.get(reason) ?? `The server has ended the stream: ${reason}.`, tone: "wait" };
  if (type === "reauthenticate") return { text: `The access ends in ${count(Number(data?.seconds) || 0, "second")}.`, tone: "wait" };
  return { text: `${type}: ${JSON.stringify(data)}`, tone: "info" };
}
