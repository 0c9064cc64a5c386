// Prints what cuts.mjs finds: node cut.mjs http://127.0.0.1:3000/orders
import { follow } from "kafka-sse-bridge-client";
import { cutEverywhere } from "./cuts.mjs";

console.log(JSON.stringify(await cutEverywhere(follow, [process.argv[2]], 100, {})));
