// Prints every event of a stream as a line of JSON: node follow.mjs http://127.0.0.1:3000/orders
import { EventSource } from "eventsource";

const stream = process.argv[2];
const names = ["message", "delete", "reset", "gap", "conflated", "caught-up", "checkpoint", "heartbeat",
  "reauthenticate", "goodbye"];
names.push("update"); // the stream's own name for its records, where `event` gives it one
let lastId = "";

function handle({ type, data, lastEventId }) {
  // Unlike a browser's, this lastEventId is empty where the event itself has no id.
  lastId = lastEventId || lastId;
  console.log(JSON.stringify({ event: type, data, id: lastId }));
}

function follow() {
  // Coming back by itself, an EventSource sends the id; a new one cannot, so it goes into the URL.
  const source = new EventSource(lastId ? `${stream}?lastEventId=${encodeURIComponent(lastId)}` : stream);
  for (const name of names) source.addEventListener(name, handle);
  source.addEventListener("error", ({ code, message }) => {
    console.error("reconnecting:", code ?? "", message ?? "the stream ended");
    // CLOSED: it was answered with something other than a stream, and has given up for good.
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 5000);
  });
}

follow();
