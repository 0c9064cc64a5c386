// Prints every event of a stream as a line of JSON: node follow.mjs http://127.0.0.1:3000/orders
import { follow } from "kafka-sse-bridge-client";

for await (const { type, text, lastEventId } of follow(process.argv[2])) {
  console.log(JSON.stringify({ event: type, data: text, id: lastEventId }));
}
