// Examples are compiled as their reader would, with the types that are shipped.
import { test } from "node:test";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { same } from "./support/check.js";

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));

test("the examples of the README compile", () => {
  const readme = readFileSync(path("../../README.md"), "utf8");
  const examples = [...readme.matchAll(/^```(tsx?)\n(.*?)^```$/gms)];
  same(examples.length, (readme.match(/^```t/gm) ?? []).length);
  same(examples.length > 4, true);
  const files = examples.map(([, language, code], n) => [`example_${n}.${language}`, code!] as const);
  compile("readme", files, { noUnusedLocals: false });
});

test("the types need no DOM", () => {
  const code = `import { connect, publish } from "@ws-rooms/client";
    import { RoomsInMemory } from "@ws-rooms/client/testing";
    const rooms = connect("ws://test", { WebSocket: new RoomsInMemory().WebSocket });
    export const sent = publish(rooms, "post:42", {});`;
  compile("without_dom", [["example.ts", code]], { lib: ["ES2022"], skipLibCheck: false });
});

function compile(name: string, files: (readonly [string, string])[], compilerOptions: object): void {
  const folder = path(`../${name}`);
  mkdirSync(folder, { recursive: true });
  for (const [file, text] of files) writeFileSync(`${folder}/${file}`, text);
  const config = { extends: "../../tsconfig.json", compilerOptions, include: ["."] };
  writeFileSync(`${folder}/tsconfig.json`, JSON.stringify(config));
  const { status, stdout } = spawnSync("npx", ["tsc", "-p", folder], { cwd: path("../.."), encoding: "utf8" });
  if (status !== 0) throw new Error(stdout);
}
