// Real servers, from Node.
import { after, test } from "node:test";
import { WebSocket } from "ws";
import { offlineQueue } from "@ws-rooms/client";
import { same } from "./support/check.js";
import { Program } from "./support/program.js";
import { chat, chatOf, posts } from "./support/scenarios.js";

const programs = [await Program.start("chat"), await Program.start("live_posts")] as const;
after(() => Promise.all(programs.map(program => program.kill())));

for (const [cases, { url }] of [[chat, programs[0]], [posts, programs[1]]] as const) {
  for (const [name, run] of Object.entries(cases)) test(name, () => run({ url, WebSocket }));
}

test("what is published while the server is gone is sent in order when it is back", async () => {
  let program = await Program.start("chat");
  const { rooms, heard } = chatOf({ url: program.url, WebSocket }, "ann");
  const queue = offlineQueue(rooms);
  rooms.join("channel:queue");
  await heard.event(event => event.type === "room_joined" && event.room === "channel:queue");
  await program.kill();
  same(((await heard.next("offline"))[0] as { code: number }).code, 1006);
  const texts = ["1", "2", "3"];
  const receipts = texts.map(text => queue.publish("channel:queue", { text }));
  same([queue.size, rooms.status], [3, "connecting"]);
  program = await Program.start("chat", program.port);
  for (const text of texts) same((await heard.event(event => event.type === "message")).data.text, text);
  same([(await Promise.all(receipts)).length, queue.size], [3, 0]);
  rooms.close();
  await program.kill();
});
