// What applications write with types: compiled by tsc, never run.
import { follow, table, type Change, type Status, type StreamEvent } from "kafka-sse-bridge-client";

interface Order {
  order: string;
  status: "new" | "paid";
  total: number;
}

const controller = new AbortController();

const stream = follow<Order>("orders", {
  start: "snapshot",
  filters: { key: ["17", 18], "value.paid": true, "value.note": null },
  share: true,
  signal: controller.signal,
  onEvent({ type, data, lastEventId }: StreamEvent<Order>) {
    if (type === "message") console.log(data.total.toFixed(2), lastEventId.length);
  },
  onState(status) {
    if (status.state === "reconnecting") console.log(new Date(status.at), status.attempt, status.reason, status.message);
    else if (status.state === "refused") console.log(status.status, status.code, status.accepts.join());
    else if (status.state === "loading") console.log(status.resumed);
  },
});
const status: Status = stream.state;
console.log(status.state, stream.lastEventId);
stream.retry();
stream.forget();
stream.close();

export async function read(token: () => Promise<string>): Promise<number> {
  let total = 0;
  const options = { headers: async () => ({ Authorization: `Bearer ${await token()}` }) };
  for await (const { data } of follow<Order>(new URL("http://localhost/orders"), options)) total += data.total;
  return total;
}

const orders = table<number, Order>("orders", {
  key: "order",
  value: ({ total }) => total,
  onChange(changes: Change<number>[]) {
    for (const change of changes) {
      if (change.type === "set") console.log(change.key, change.value.toFixed(2), change.previous ?? 0);
      else if (change.type === "delete") console.log(change.key, change.previous);
    }
  },
});
console.log(orders.rows.get("17")?.toFixed(2));

// @ts-expect-error no such start
follow("orders", { start: "yesterday" });
// @ts-expect-error no such option
follow("orders", { onMessage() {} });
// @ts-expect-error the rows are the library's
orders.rows.set("17", 1);
