// Shows every event of a stream as a line of JSON, by the client library: /assets/library.html?stream=orders&transport=fetch
import { follow } from "./client.js";

const parameters = new URLSearchParams(location.search);
const stream = parameters.get("stream");
const name = stream === "updates" ? "update" : "message"; // the stream's own, which the library calls "message"
const list = document.getElementById("events");

follow(`../${stream}`, {
  event: name,
  transport: parameters.get("transport") ?? undefined,
  share: parameters.has("share"),
  onEvent({ type, text, lastEventId }) {
    const line = document.createElement("li");
    line.textContent = JSON.stringify({ event: type === "message" ? name : type, data: text, id: lastEventId });
    list.append(line);
  },
});
