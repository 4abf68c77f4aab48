// Real servers, from a real browser; and the module for pages without a bundler.
import { after, test } from "node:test";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Browser, bundled } from "./support/browser.js";
import { same } from "./support/check.js";
import { Program } from "./support/program.js";
import * as scenarios from "./support/scenarios.js";

const repository = (path: string) => new URL(`../../../../${path}`, import.meta.url);
const file = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const older = readFileSync(repository("clients/typescript/test/fixtures/older_rooms.js"), "utf8");

const programs = { chat: await Program.start("chat"), posts: await Program.start("live_posts") };
const browser = await Browser.start();
after(async () => {
  await browser.close();
  await Promise.all(Object.values(programs).map(program => program.kill()));
});

for (const [kind, program] of [["chat", "chat"], ["posts", "posts"], ["page", "chat"]] as const) {
  for (const name of Object.keys(scenarios[kind])) {
    test(`${name} in a browser`, async () => {
      await browser.open(`${programs[program].url}/healthz`);
      await browser.load("scenarios", await bundled(file("support/scenarios.js")));
      await browser.run(`await scenarios.${kind}.${name}({ url: location.origin })`);
    });
  }
}

test("in a worker it works as in a page", async () => {
  await browser.open(`${programs.chat.url}/healthz`);
  const run = `chat.what_is_published_is_answered_and_heard({ url: ${JSON.stringify(programs.chat.url)} })
    .then(() => postMessage("ok"), fault => postMessage(String(fault)));`;
  const module = JSON.stringify((await bundled(file("support/scenarios.js"))) + run);
  const said = await browser.run(`const url = URL.createObjectURL(new Blob([${module}], { type: "text/javascript" }));
    return await new Promise(done => { new Worker(url, { type: "module" }).onmessage = ({ data }) => done(data); });`);
  same(said, "ok");
});

test("a component joins, renders and leaves", async () => {
  await browser.open(`${programs.chat.url}/healthz`);
  await browser.load("react", await bundled(file("support/react_cases.js")));
  const names = (await browser.run("return Object.keys(react.cases)")) as string[];
  same(names.length > 0, true);
  for (const name of names) await browser.run(`await react.cases.${name}()`);
});

test("the module of an older version works with this server", async () => {
  await browser.open(`${programs.chat.url}/healthz`);
  await browser.load("older", older);
  const heard = await browser.run(`
    const headers = { "content-type": "application/json" }, body = JSON.stringify({ user: "ann" });
    const token = async () => (await (await fetch("/login", { method: "POST", headers, body })).json()).token;
    const heard = [];
    await new Promise(resolve => {
      const rooms = older.connect("/ws", { token, onEvent(event) {
        heard.push(event.room ? event.type + " " + event.room : event.type);
        if (event.room === "channel:old" && event.type === "room_joined") rooms.publish(event.room, { text: "Hello" }, 1);
        if (event.type === "message") heard.push(event.data.text);
        if (event.type === "published") rooms.leave(event.room);
        if (event.type === "room_left") resolve(rooms.close());
      } });
      rooms.join("channel:old");
    });
    return heard.sort();`);
  const expected = ["Hello", "message channel:old", "published channel:old", "room_joined channel:old", "room_joined user:ann"];
  same(heard, [...expected, "room_left channel:old"]);
});

test("the module for pages passes the cases of the library", async () => {
  const cases = readFileSync(repository("tests/browser/client_cases.js"), "utf8");
  const module = readFileSync(repository("src/guide/rooms.js"), "utf8");
  await browser.open(`${programs.chat.url}/healthz`);
  await browser.load("module", module);
  await browser.run(`window.client = module.connect; (0, eval)(${JSON.stringify(cases)})`);
  for (const name of (await browser.run("return Object.keys(cases)")) as string[]) {
    await browser.run(`await cases.${name}()`).catch(fault => {
      throw new Error(`${name}: ${fault}`);
    });
  }
});
