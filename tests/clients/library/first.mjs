// Prints the records up to now: node first.mjs http://127.0.0.1:3000/orders
import { follow } from "kafka-sse-bridge-client";

for await (const { type, text } of follow(process.argv[2])) {
  console.log(type === "caught-up" ? type : `${type} ${text}`);
  if (type === "caught-up") break;
}
