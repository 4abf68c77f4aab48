// What is shipped: its size, and the module for pages.
import { test } from "node:test";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { same } from "./support/check.js";

const HERE = new URL("../../", import.meta.url);
const MOST = 4_096; // bytes of the core, with gzip -9

/** What a page loads that imports this. */
async function shipped(source: string): Promise<string> {
  const resolveDir = fileURLToPath(HERE);
  const { outputFiles } = await build({
    stdin: { contents: source, resolveDir },
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    write: false,
    external: ["react"],
  });
  return outputFiles[0]!.text;
}

const size = (text: string) => gzipSync(text, { level: 9 }).length;

test("the core is small, and what is not imported is not loaded", async t => {
  const core = await shipped(`export { connect } from "@ws-rooms/client"`);
  const all = await shipped(`export * from "@ws-rooms/client"`);
  const hooks = await shipped(`export * from "@ws-rooms/client/react"`);
  t.diagnostic(`core ${size(core)} bytes, everything ${size(all)}, with the hooks ${size(hooks)}`);
  if (size(core) > MOST) throw new Error(`the core has ${size(core)} bytes, and ${MOST} are the most`);
  const optional = ["text/event-stream", "queue_full", "PublishError", "viewer_left"];
  same(optional.filter(text => core.includes(text)), []);
  same(optional.filter(text => !all.includes(text)), []);
});

test("what is published has what its exports name, and no more than what is used", () => {
  const packed = spawnSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: fileURLToPath(HERE), encoding: "utf8" });
  const said = JSON.parse(packed.stdout) as { files: { path: string }[] }[] | Record<string, { files: { path: string }[] }>;
  const files = Object.values(said)[0]!.files.map(({ path }) => `./${path}`);
  const { exports } = JSON.parse(readFileSync(new URL("package.json", HERE), "utf8")) as { exports: Record<string, string | object> };
  const named = Object.values(exports).flatMap(it => (typeof it === "string" ? [it] : Object.values(it)));
  same(named.filter(path => !files.includes(path)), []);
  same(files.filter(path => !/^\.\/(dist\/|bin\/|README\.md$|package\.json$|LICENSE-)/.test(path) || path.includes("page.")), []);
});

test("what is to be run with npx is named by its package, and not by a name that is somebody else's", () => {
  const texts = ["README.md", "../../src/guide/typed_rooms.md"].map(path => readFileSync(new URL(path, HERE), "utf8"));
  const said = texts.flatMap(text => text.match(/(?<=\| )npx .*?ws-rooms-types/g) ?? []);
  same([said.length, ...new Set(said)], [4, "npx -p @ws-rooms/client ws-rooms-types"]);
});

test("the module for pages is what `npm run build` makes", async () => {
  // A script, which is not compiled with the tests.
  const script = new URL("../../scripts/page_client.js", import.meta.url).href;
  const { PAGE_CLIENT, pageClient } = (await import(script)) as { PAGE_CLIENT: string; pageClient(): Promise<string> };
  if (readFileSync(PAGE_CLIENT, "utf8") !== (await pageClient())) throw new Error(`${PAGE_CLIENT}: \`npm run build\` writes it anew`);
});
