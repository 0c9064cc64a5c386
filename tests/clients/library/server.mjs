// A server of event streams that does what a test scripts, and the helpers of its tests.

import { createServer } from "node:http";

/** Serves by `answer(request, response)`; closed with the test. */
export async function serve(context, answer) {
  const requests = [];
  const server = createServer((request, response) => {
    requests.push({ url: request.url, id: request.headers["last-event-id"] ?? "", headers: request.headers });
    answer(request, response, requests.length);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { origin: `http://127.0.0.1:${server.address().port}`, requests };
}

/** Begins a stream. */
export function open(response, text = "") {
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  response.write(text || ":\n");
}

export function refuse(response, status, body, headers = {}) {
  response.writeHead(status, { "content-type": typeof body === "string" ? "text/html" : "application/json", ...headers });
  response.end(typeof body === "string" ? body : JSON.stringify(body));
}

/** Resolves with the first event or status for which `is` is true. Give `see` as callback. */
export function first(is) {
  let found;
  const seen = new Promise((resolve) => (found = resolve));
  return { seen, see: (value) => is(value) && found(value) };
}

export const isState = (state) => first((status) => status.state === state);
export const isType = (type) => first((event) => event.type === type);
