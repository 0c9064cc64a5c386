// A tab that shares the connection of a stream: /?stream=events&silence=1500. What it has seen is in `seen` and `states`.
import { follow } from "./client.js";

const parameters = new URLSearchParams(location.search);
window.seen = [];
window.states = [];
window.stream = follow(parameters.get("stream"), {
  share: true,
  silence: Number(parameters.get("silence")),
  onEvent: ({ type, text }) => type === "message" && window.seen.push(text),
  onState: ({ state }) => window.states.push(state),
});

/** Whether this tab holds the lock of those that share. */
window.leads = async () => {
  const mine = `mine ${Math.random()}`;
  const query = () => navigator.locks.query();
  const { held } = await navigator.locks.request(mine, query);
  const leader = held.find(({ name }) => name.endsWith(" true"));
  return leader?.clientId === held.find(({ name }) => name === mine).clientId;
};

/** Has this tab do nothing at all for a while, from soon on; `asleep` says so in the others. */
const naps = new BroadcastChannel("naps");
naps.onmessage = () => (window.asleep = true);
window.sleep = (seconds) => setTimeout(() => {
  naps.postMessage("asleep");
  const wakes = performance.now() + 1_000 * seconds;
  while (performance.now() < wakes);
  window.hasSlept = true;
}, 500);
