// Bundles the examples for frameworks, as a bundler with their plugins does: node build.mjs EXAMPLES OUT. Started where
// node_modules has the packages.

import { createRequire } from "node:module";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";

const [examples, out] = process.argv.slice(2);
const require = createRequire(path.join(process.cwd(), "package.json"));
const esbuild = require("esbuild");
const { compileScript, parse } = require("vue/compiler-sfc");
const svelte = await import(path.join(process.cwd(), "node_modules/svelte/src/compiler/index.js"));

const components = {
  name: "components",
  setup(build) {
    build.onLoad({ filter: /\.vue$/ }, async ({ path: file }) => {
      const { descriptor } = parse(await readFile(file, "utf8"), { filename: file });
      const { content } = compileScript(descriptor, { id: "orders", inlineTemplate: true });
      return { contents: content, loader: "js", resolveDir: process.cwd() };
    });
    build.onLoad({ filter: /\.svelte$/ }, async ({ path: file }) => {
      const { js } = svelte.compile(await readFile(file, "utf8"), { filename: file });
      return { contents: js.code, loader: "js", resolveDir: process.cwd() };
    });
    build.onLoad({ filter: /\.jsx$/ }, async ({ path: file }) => ({
      contents: await readFile(file, "utf8"),
      loader: "jsx",
      resolveDir: process.cwd(),
    }));
  },
};

const mounts = {
  react: `import { createElement } from "react"; import { createRoot } from "react-dom/client";
    import Orders from "./Orders.jsx"; createRoot(document.getElementById("app")).render(createElement(Orders));`,
  vue: `import { createApp } from "vue"; import Orders from "./Orders.vue"; createApp(Orders).mount("#app");`,
  svelte: `import { mount } from "svelte"; import Orders from "./Orders.svelte";
    mount(Orders, { target: document.getElementById("app") });`,
};

for (const [name, mount] of Object.entries(mounts)) {
  // The component from its directory, packages from this one.
  const contents = mount.replaceAll("./Orders", path.join(examples, "Orders"));
  await esbuild.build({
    stdin: { contents, resolveDir: process.cwd() },
    outfile: path.join(out, `${name}.js`),
    bundle: true,
    format: "esm",
    jsx: "automatic",
    minify: true,
    conditions: ["browser", "production"],
    define: {
      "process.env.NODE_ENV": '"production"',
      __VUE_OPTIONS_API__: "false",
      __VUE_PROD_DEVTOOLS__: "false",
      __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false",
    },
    nodePaths: [path.join(process.cwd(), "node_modules")],
    plugins: [components],
  });
  await writeFile(
    path.join(out, `${name}.html`),
    `<!doctype html><meta charset="utf-8"><title>${name}</title><div id="app"></div><script type="module" src="assets/${name}.js"></script>\n`,
  );
}
