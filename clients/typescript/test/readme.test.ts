// Every example of the README is compiled as its reader would, with the types that are shipped.
import { test } from "node:test";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { same } from "./support/check.js";

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));

test("the examples of the README compile", () => {
  const folder = path("../readme");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const readme = readFileSync(path("../../README.md"), "utf8");
  const examples = [...readme.matchAll(/^```(tsx?)\n(.*?)^```$/gms)];
  same(examples.length, (readme.match(/^```t/gm) ?? []).length);
  same(examples.length > 4, true);
  for (const [n, [, language, code]] of examples.entries()) writeFileSync(`${folder}/example_${n}.${language}`, code!);
  const config = { extends: "../../tsconfig.json", compilerOptions: { noUnusedLocals: false }, include: ["."] };
  writeFileSync(`${folder}/tsconfig.json`, JSON.stringify(config));
  const { status, stdout } = spawnSync("npx", ["tsc", "-p", folder], { cwd: path("../.."), encoding: "utf8" });
  if (status !== 0) throw new Error(stdout);
});
