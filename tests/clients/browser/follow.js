// Shows every event of a stream as a line of JSON: /?stream=orders
const stream = new URLSearchParams(location.search).get("stream"); // relative: works behind a path prefix too
const names = ["message", "delete", "reset", "gap", "conflated", "caught-up", "checkpoint", "heartbeat",
  "reauthenticate", "goodbye"];
names.push("update"); // the stream's own name for its records, where `event` gives it one
const list = document.getElementById("events");
let lastId = "";

function handle({ type, data, lastEventId }) {
  lastId = lastEventId;
  const line = document.createElement("li");
  line.textContent = JSON.stringify({ event: type, data, id: lastEventId });
  list.append(line);
}

function follow() {
  // Coming back by itself, an EventSource sends the id; a new one cannot, so it goes into the URL.
  const source = new EventSource(lastId ? `${stream}?lastEventId=${encodeURIComponent(lastId)}` : stream);
  for (const name of names) source.addEventListener(name, handle);
  source.addEventListener("error", () => {
    // CONNECTING: it comes back by itself. CLOSED: it was answered with something other than a stream
    // (a proxy's 502, say), and has given up for good.
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 5000);
  });
}

follow();
