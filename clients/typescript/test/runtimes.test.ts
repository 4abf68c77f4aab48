// Real servers, from what else runs the package: Bun, and threads.
import { after, test } from "node:test";
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Program } from "./support/program.js";
import * as scenarios from "./support/scenarios.js";

const programs = { chat: await Program.start("chat"), posts: await Program.start("live_posts") };
after(() => Promise.all(Object.values(programs).map(program => program.kill())));

const file = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** The executable comes by an optional dependency; the script of the package `bun`, which not all machines run, moves it there. */
function bun(): string {
  const packages = file("../../node_modules/@oven");
  const names = existsSync(packages) ? readdirSync(packages) : [];
  const found = [...names.map(name => `${packages}/${name}/bin/bun`), file("../../node_modules/bun/bin/bun.exe")].find(existsSync);
  if (!found) throw new Error("there is no Bun for this machine: `npm ci` installs it, as an optional dependency");
  return found;
}

/** Ends well where the scenario does. */
function run(program: string, script: string, ...words: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, [file(`support/${script}.js`), ...words], { stdio: ["ignore", "pipe", "pipe"] });
    let text = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", chunk => (text = (text + chunk).slice(-10_000)));
    child.once("error", reject);
    child.once("close", code => (code === 0 ? resolve() : reject(new Error(`ended with ${code}: ${text}`))));
  });
}

for (const kind of ["chat", "posts"] as const) {
  for (const name of Object.keys(scenarios[kind])) {
    test(`${name} under Bun`, () => run(bun(), "one_scenario", kind, name, programs[kind].url));
  }
}

test("a process of Node ends by itself once its clients are closed", () => run(process.execPath, "closes", programs.chat.url));

const one = ["chat", "what_is_published_is_answered_and_heard", programs.chat.url] as const;

test("in a thread of Node it works as outside", () => run(process.execPath, "in_thread", ...one));

test("in a thread of Bun it works as outside", () => run(bun(), "in_thread", ...one));
