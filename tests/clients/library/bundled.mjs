// Bundles first.mjs, with the installed package in it: node bundled.mjs OUT. Started in the project.
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(process.cwd(), "package.json"));
await require("esbuild").build({ entryPoints: ["first.mjs"], outfile: process.argv[2], bundle: true, format: "esm", minify: true });
