// The parts of the package, with rooms in memory.
import { test } from "node:test";
import {
  connect,
  isMessageOf,
  listen,
  offlineQueue,
  presence,
  publish,
  publishBinary,
  PublishError,
  sendBinary,
} from "@ws-rooms/client";
import { RoomsInMemory } from "@ws-rooms/client/testing";
import { codeOf, same } from "./support/check.js";
import { Heard } from "./support/heard.js";

interface Rooms {
  post: { events: { text: string }; state: { title: string } };
}

function start() {
  const server = new RoomsInMemory<Rooms>();
  const rooms = connect<Rooms>("ws://test/ws", { WebSocket: server.WebSocket });
  const heard = new Heard(rooms);
  const joined = (room: string) => heard.event(event => event.type === "room_joined" && event.room === room);
  return { server, rooms, heard, joined };
}

async function inRoom() {
  const it = start();
  it.rooms.join("post:1");
  await it.joined("post:1");
  return it;
}

/** A socket that says nothing of itself, and keeps what it is sent. */
class Wire {
  static last: Wire;
  binaryType = "blob";
  readyState = 1;
  sent: (string | Uint8Array)[] = [];
  onopen: () => void = () => {};
  onmessage: (message: { data: unknown }) => void = () => {};
  onclose: (close: { code: number; reason: string }) => void = () => {};
  constructor() {
    Wire.last = this;
    queueMicrotask(() => this.onopen());
  }
  send(data: string | Uint8Array): void {
    this.sent.push(data);
  }
  close(): void {
    this.readyState = 3;
  }
  says(event: unknown): void {
    this.onmessage({ data: JSON.stringify(event) });
  }
  get refs(): string[] {
    return this.sent.map(text => JSON.parse(String(text)).ref);
  }
}

async function onWire() {
  const rooms = connect<Rooms>("ws://test/ws", { WebSocket: Wire });
  const heard = new Heard(rooms);
  await heard.next("open");
  return { rooms, heard, wire: Wire.last };
}

test("a publish says where the message stands, or why it is not there", async () => {
  const { server, rooms } = await inRoom();
  same(await publish(rooms, "post:1", { text: "Hi" }), { position: "1.1" });
  same([server.published, await codeOf(publish(rooms, "post:2", { text: "Hi" }))], [[{ room: "post:1", data: { text: "Hi" } }], "not_joined"]);
  rooms.close();
});

test("a page that pauses is counted, is given no messages, and goes on with what it missed", async () => {
  const { server, rooms, heard, joined } = await inRoom();
  rooms.pause(["post:1", "post:2"]);
  const { paused, viewers, recovered } = await joined("post:1");
  same([paused, viewers, recovered, server.paused, server.joined], [true, 1, true, ["post:1"], ["post:1"]]);
  server.broadcast("post:1", { text: "1" });
  server.setState("post:1", { title: "A" });
  server.setMembers("post:1", [{ user: "bob" }]);
  same((await heard.event(event => event.type !== "room_joined")).type, "viewer_joined");
  // A connection that is new is paused, too.
  server.close(1012);
  const anew = await joined("post:1");
  same([anew.paused, anew.recovered, server.paused], [true, true, ["post:1"]]);
  server.broadcast("post:1", { text: "2" });
  rooms.pause([]);
  same([(await joined("post:1")).recovered, server.paused], [true, []]);
  same((await heard.event(event => event.type !== "room_joined")).state, { title: "A" });
  for (const text of ["1", "2"]) same((await heard.event(event => event.type === "message")).data.text, text);
  rooms.close();
});

test("who joins a room goes on there, and what is paused already is not asked for again", async () => {
  const { rooms, wire } = await onWire();
  rooms.join("post:1");
  rooms.pause(["post:1"]);
  rooms.pause(["post:1"]);
  rooms.join("post:1");
  const said = wire.sent.map(text => JSON.parse(String(text)));
  same(said.map(({ type, room, paused }) => [type, room, paused ?? false]), [false, true, false].map(it => ["join", "post:1", it]));
  rooms.close();
});

test("an error of a publish has its code, its room and when to try again", async () => {
  const { rooms, wire } = await onWire();
  const answer = publish(rooms, "post:1", { text: "Hi" }).catch(fault => fault);
  wire.says({ type: "error", code: "rate_limited", message: "too fast", retry_after_ms: 20, ref: wire.refs.at(-1) });
  const fault = await answer;
  same(fault instanceof PublishError, true);
  same([fault.name, fault.code, fault.room, fault.retryAfterMs, fault.message], ["PublishError", "rate_limited", "post:1", 20, "post:1: too fast"]);
  rooms.close();
});

test("a publish without an answer is told from one that was never sent", async () => {
  const { rooms, wire } = await onWire();
  const send = (timeoutMs?: number) => codeOf(publish(rooms, "post:1", { text: "Hi" }, timeoutMs ? { timeoutMs } : {}));
  same(await send(1), "timeout");
  const pending = send();
  wire.onclose({ code: 1006, reason: "" });
  same([await pending, await send()], ["connection_lost", "offline"]);
  rooms.close();
});

test("a queue is bounded in number and in age", async () => {
  const { server, rooms, heard } = await inRoom();
  server.goOffline();
  await heard.next("offline");
  const queue = offlineQueue(rooms, { most: 2, maxAgeMs: 1 });
  const codes = await Promise.all([1, 2, 3].map(n => codeOf(queue.publish("post:1", { text: `${n}` }))));
  same([codes, queue.size], [["expired", "expired", "queue_full"], 0]);
  const stopped = codeOf(queue.publish("post:1", { text: "4" }));
  queue.stop();
  same([await stopped, server.published], ["stopped", []]);
  rooms.close();
});

test("close ends what is under way and what waits, and leaves no timer behind", async () => {
  const { rooms, wire } = await onWire();
  const timers = timersSince();
  const list = presence(rooms, "post:1");
  wire.says({ type: "room_joined", room: "post:1", viewers: 1 });
  const [queue, idle] = [offlineQueue(rooms, { resend: true }), offlineQueue(rooms)];
  const codes = [publish(rooms, "post:1", { text: "1" }), ...["2", "3"].map(text => queue.publish("post:1", { text }))].map(codeOf);
  same(wire.sent.length, 2);
  rooms.close();
  // The second was sent already, and may have been published.
  same(await Promise.all(codes), ["connection_lost", "connection_lost", "stopped"]);
  same([await codeOf(idle.publish("post:1", { text: "4" })), await codeOf(publish(rooms, "post:1", { text: "5" }))], ["stopped", "offline"]);
  same([await codeOf(offlineQueue(rooms).publish("post:1", { text: "6" })), queue.size, list.isLive], ["stopped", 0, false]);
  same(timers(), 0);
});

test("what is under way when a queue is stopped ends with its answer", async () => {
  const { rooms, wire } = await onWire();
  for (const [code, expected] of [["unavailable", "stopped"], ["refused", "refused"], [undefined, "no error"]]) {
    const queue = offlineQueue(rooms);
    const given = codeOf(queue.publish("post:1", { text: "1" }));
    queue.stop();
    const ref = wire.refs.at(-1);
    wire.says(code ? { type: "error", code, message: "", ref } : { type: "published", room: "post:1", ref });
    same([code, await given, queue.size], [code, expected, 0]);
  }
  rooms.close();
});

test("a queue keeps the order within a room, and a room that is not joined holds up no other", async () => {
  const { server, rooms } = await inRoom();
  const queue = offlineQueue(rooms);
  const all = (["post:2", "post:1", "post:2", "post:1"] as const).map((room, n) => queue.publish(room, { text: `${n}` }));
  await all[3];
  rooms.join("post:2");
  await Promise.all(all);
  same(server.published.map(({ data }) => (data as { text: string }).text), ["1", "3", "0", "2"]);
  rooms.close();
});

test("a queue waits as long as the server says", async () => {
  const { rooms, wire } = await onWire();
  const queue = offlineQueue(rooms);
  const sent = queue.publish("post:1", { text: "1" });
  wire.says({ type: "error", code: "rate_limited", message: "", retry_after_ms: 1, ref: wire.refs.at(-1) });
  await until(() => wire.sent.length === 2);
  wire.says({ type: "published", room: "post:1", ref: wire.refs.at(-1) });
  same([await sent, queue.size], [{}, 0]);
  rooms.close();
});

test("what its time is over for while it is under way is given up when it was not published", async () => {
  for (const [code, expected] of [["rate_limited", "expired"], ["refused", "refused"]]) {
    const { rooms, wire } = await onWire();
    const queue = offlineQueue(rooms, { maxAgeMs: 1 });
    const first = codeOf(queue.publish("post:1", { text: "1" }));
    same(await codeOf(queue.publish("post:1", { text: "2" })), "expired");
    same(queue.size, 1);
    wire.says({ type: "error", code, message: "", ref: wire.refs.at(-1) });
    same([code, await first, queue.size, wire.sent.length], [code, expected, 0, 1]);
    rooms.close();
  }
});

test("a queue sends again only what may be published twice", async () => {
  for (const resend of [false, true]) {
    const { rooms, heard, wire } = await onWire();
    const queue = offlineQueue(rooms, { resend });
    const code = codeOf(queue.publish("post:1", { text: "1" }));
    wire.onclose({ code: 1006, reason: "" });
    await heard.next("open");
    if (resend) Wire.last.says({ type: "published", room: "post:1", ref: Wire.last.refs.at(-1) });
    same([resend, await code, Wire.last.sent.length], resend ? [true, "no error", 1] : [false, "connection_lost", 0]);
    rooms.close();
  }
});

test("a list of members is bounded, and is asked for again after a resync", async () => {
  const { rooms, wire } = await onWire();
  let shown: unknown;
  const list = presence(rooms, "post:1", { most: 2, onChange: now => (shown = [[...now.members.keys()], now.users, now.isComplete]) });
  const says = (type: string, more: object) => wire.says({ type, room: "post:1", viewers: 9, ...more });
  rooms.join("post:1");
  says("room_joined", { users: 2, members: [{ user: "a" }, { user: "b" }] });
  same(shown, [["a", "b"], 2, true]);
  says("viewer_joined", { users: [{ user: "b" }, { user: "c" }] });
  same(shown, [["a", "b"], 3, false]);
  says("viewer_left", { users: [{ user: "c" }] });
  same(shown, [["a", "b"], 2, true]);
  wire.says({ type: "viewer_left", room: "post:2", viewers: 1, users: [{ user: "a" }] });
  says("viewer_left", {});
  same([shown, list.viewers], [[["a", "b"], 2, true], 9]);
  // An answer without a list, as one was sent a moment ago.
  says("room_joined", { users: 2 });
  same(shown, [["a", "b"], 2, true]);
  // Who may not see them any more.
  says("room_joined", {});
  same(shown, [[], null, false]);
  says("room_joined", { users: 1, members: [{ user: "a" }] });
  // The client hands a resync on at a random moment.
  const { random } = Math;
  Math.random = () => 0;
  says("resync", { reason: "bus_gap" });
  Math.random = random;
  await until(() => wire.sent.length === 2);
  same(JSON.parse(String(wire.sent[1])).type, "join");
  wire.onclose({ code: 1006, reason: "" });
  same([list.isLive, list.members.size], [false, 1]);
  list.stop();
  rooms.close();
});

test("a list that is asked for again leaves a paused room paused, and a held one left", async () => {
  const { rooms, heard, wire } = await onWire();
  const list = presence(rooms, "post:1");
  const says = (type: string, more: object) => wire.says({ type, room: "post:1", viewers: 1, ...more });
  const sent = () => wire.sent.map(text => JSON.parse(String(text)));
  rooms.join("post:1");
  says("room_joined", { users: 1, members: [{ user: "a" }] });
  for (const giveUp of ["pause", "hold"] as const) {
    const { random } = Math;
    Math.random = () => 0;
    says("resync", { reason: "bus_gap" });
    Math.random = random;
    // It is handed on after this.
    rooms[giveUp](["post:1"]);
    if (giveUp === "pause") says("room_joined", { users: 1, members: [{ user: "a" }], paused: true });
    await heard.event(event => event.type === "resync");
  }
  const paused = { type: "join", paused: true };
  same(sent().map(({ type, paused }) => ({ type, paused })), [{ type: "join" }, paused, paused, { type: "leave" }]);
  list.stop();
  rooms.close();
});

test("a room that is left while it is held stays left, and one that is joined is joined", async () => {
  const { server, rooms, joined } = await inRoom();
  for (const room of ["post:2", "post:3"] as const) {
    rooms.join(room);
    await joined(room);
  }
  rooms.hold(rooms.wanted.keys());
  await until(() => server.joined.length === 0);
  server.broadcast("post:1", { text: "Missed" });
  rooms.leave("post:2");
  rooms.join("post:3");
  await joined("post:3");
  same(server.joined, ["post:3"]);
  rooms.hold([]);
  same((await joined("post:1")).recovered, true);
  same(server.joined.sort(), ["post:1", "post:3"]);
  rooms.close();
});

test("what was missed in memory follows, as with a server", async () => {
  const { server, rooms, heard, joined } = await inRoom();
  server.broadcast("post:1", { text: "1" });
  await heard.event(event => event.data?.text === "1");
  server.goOffline();
  await heard.next("offline");
  server.broadcast("post:1", { text: "2" });
  server.goOnline();
  same([(await joined("post:1")).recovered, (await heard.event(event => event.type === "message")).data.text], [true, "2"]);
  server.kick("post:1", "spam");
  same((await heard.event(event => event.type === "room_left")).message, "spam");
  same([...rooms.wanted.keys()], []);
  server.close(4403, "no");
  same(await heard.next("end"), [4403, "no"]);
});

test("events and frames of a newer server are handed on or passed over", async () => {
  const { rooms, heard, wire } = await onWire();
  rooms.join("post:1");
  let binaries = 0;
  rooms.on("binary", () => (binaries += 1));
  const newer = { type: "of_next_year", room: "post:1", field: 1 };
  wire.says(newer);
  same(await heard.event(event => event.type === "of_next_year"), newer);
  wire.says({ type: "message", room: "post:1", data: { text: "Hi" }, next_year: 1 });
  wire.onmessage({ data: new Uint8Array([9, 1, 2]).buffer });
  wire.onmessage({ data: new Uint8Array([]).buffer });
  same((await heard.event(event => isMessageOf<Rooms, "post">(event, "post"))).data.text, "Hi");
  same([rooms.status, binaries], ["open", 0]);
  rooms.close();
});

test("bytes travel with their room, their position and the ref of the publish", async () => {
  const { rooms, heard, wire } = await onWire();
  rooms.join("post:1");
  const bytes = (text: string) => [...new TextEncoder().encode(text)];
  const frame = (...rest: number[]) => new Uint8Array([1, 6, ...bytes("post:1"), ...rest]);
  publishBinary(rooms, "post:1", new Uint8Array([7, 8]));
  publishBinary(rooms, "post:1", new Uint8Array([7, 8]), 5);
  same(wire.sent.slice(-2), [frame(0, 7, 8), frame(1, ...bytes("5"), 7, 8)]);
  wire.onmessage({ data: frame(4, ...bytes("2a.7"), 9).buffer });
  wire.onmessage({ data: frame(0).buffer });
  same(await heard.next("binary"), [new Uint8Array([9]), { room: "post:1", offset: "2a.7" }]);
  same(await heard.next("binary"), [new Uint8Array([]), { room: "post:1" }]);
  // The position is kept, as that of any message.
  wire.onclose({ code: 1006, reason: "" });
  await heard.next("open");
  same(JSON.parse(String(Wire.last.sent[0])).since, "2a.7");
  const answer = publish(rooms, "post:1", new Uint8Array([1]));
  const sent = Wire.last.sent.at(-1) as Uint8Array;
  const ref = JSON.parse(new TextDecoder().decode(sent.subarray(9, 9 + sent[8]!)));
  Wire.last.says({ type: "published", room: "post:1", ref });
  same(await answer, {});
  rooms.close();
});

test("bytes in the user's own room are told with their room, though no room was joined", async () => {
  const { rooms, heard, wire } = await onWire();
  const own = [..."user:5"].map(letter => letter.charCodeAt(0));
  wire.onmessage({ data: new Uint8Array([1, 6, ...own, 0, 9]).buffer });
  same(await heard.next("binary"), [new Uint8Array([9]), { room: "user:5" }]);
  rooms.close();
});

test("bytes travel in memory, and are kept", async () => {
  const { server, rooms, heard } = await inRoom();
  const [first, second] = [new Uint8Array([0, 255]), new Uint8Array([7])];
  same(await publish(rooms, "post:1", first), { position: "1.1" });
  same(await heard.next("binary"), [first, { room: "post:1", offset: "1.1" }]);
  sendBinary(rooms, "post:1", second);
  server.goOffline();
  server.broadcast("post:1", second);
  server.goOnline();
  same(await heard.next("binary"), [second, { room: "post:1", offset: "1.2" }]);
  same(server.published, [{ room: "post:1", data: first }]);
  same(server.heard, [{ type: "binary", room: "post:1", data: second }]);
  rooms.close();
});

test("a message waits no longer where the refusal and the join come in the same breath", async () => {
  const { rooms, wire } = await onWire();
  const queue = offlineQueue(rooms);
  const sent = queue.publish("post:1", { text: "1" });
  wire.says({ type: "error", code: "not_joined", message: "", room: "post:1", ref: wire.refs.at(-1) });
  wire.says({ type: "room_joined", room: "post:1", viewers: 1 });
  await until(() => wire.sent.length === 2);
  wire.says({ type: "published", room: "post:1", ref: wire.refs.at(-1) });
  same(await sent, {});
  queue.stop();
  rooms.close();
});

test("a listener that is taken away hears nothing, and one that throws stops no other", async () => {
  const { rooms, wire } = await onWire();
  const [reports, report]: [(() => void)[], typeof queueMicrotask] = [[], queueMicrotask];
  globalThis.queueMicrotask = run => void reports.push(run);
  const heard: string[] = [];
  const stop = rooms.on("event", () => heard.push("first"));
  rooms.on("event", () => {
    throw new Error("of the page");
  });
  listen(rooms, "post:1", () => heard.push("post:1"));
  wire.says({ type: "pong" });
  wire.says({ type: "message", room: "post:1", data: {} });
  stop();
  wire.says({ type: "message", room: "post:1", data: {} });
  globalThis.queueMicrotask = report;
  same([heard, reports.length], [["first", "first", "post:1", "post:1"], 3]);
  same(reports.map(thrownBy), ["of the page", "of the page", "of the page"]);
  rooms.close();
});

test("a token function that throws is as one that gives none", async () => {
  let asked = 0;
  const token = () => {
    if ((asked += 1) > 1) throw new Error("of the page");
    return "token";
  };
  const rooms = connect("ws://test/ws", { token, WebSocket: Wire });
  await new Heard(rooms).next("open");
  Wire.last.says({ type: "token_expiring", in_ms: 60_000 });
  await new Promise(resolve => setTimeout(resolve));
  same([asked, rooms.status, Wire.last.sent], [2, "open", []]);
  rooms.close();
});

/** How many timers are more than when it was called. */
function timersSince(): () => number {
  const count = () => process.getActiveResourcesInfo().filter(it => it === "Timeout").length;
  const before = count();
  return () => Math.max(0, count() - before);
}

function thrownBy(run: () => void): string {
  try {
    run();
  } catch (fault) {
    return (fault as Error).message;
  }
  return "nothing";
}

async function until(is: () => boolean): Promise<void> {
  const end = Date.now() + 10_000;
  while (!is()) {
    if (Date.now() > end) throw new Error(`never so: ${is}`);
    await new Promise(resolve => setTimeout(resolve, 1));
  }
}

test("where the server joins the user's own room, the page goes on from where it stood", async () => {
  const { rooms, heard, wire } = await onWire();
  const room = "user:5";
  const message = (n: number) => ({ type: "message", room, offset: `2a.${n}`, data: { text: String(n) } });
  const text = async () => (await heard.event(event => event.type === "message")).data.text;
  const since = () => JSON.parse(String(Wire.last.sent.filter(sent => String(sent).includes(`"join"`)).at(-1))).since;
  rooms.join(room as "post:1");
  wire.says({ type: "room_joined", room, position: "2a.2" });
  wire.says(message(3));
  same(await text(), "3");
  // Told by this connection, and not handed on before it ends.
  wire.says({ type: "resync", room, reason: "bus_gap" });
  wire.onclose({ code: 1006, reason: "" });
  for (const ended of [false, true]) {
    await heard.next("open");
    same(since(), "2a.3");
    Wire.last.says({ type: "room_joined", room, position: "2a.9" });
    Wire.last.says(message(10));
    Wire.last.says({ type: "refresh", room, offset: "2a.11" });
    const frame = [1, 6, ...new TextEncoder().encode(room), 5, ...new TextEncoder().encode("2a.12"), 0];
    Wire.last.onmessage({ data: new Uint8Array(frame).buffer });
    // The connection ends meanwhile, or the join can't be answered just now.
    if (!ended) Wire.last.onclose({ code: 1006, reason: "" });
    else Wire.last.says({ type: "error", code: "unavailable", ref: Wire.last.refs.at(-1), retry_after_ms: 0 });
  }
  // What is in no history does not come again.
  Wire.last.says({ type: "message", room, data: { text: "bare" } });
  same(await text(), "bare");
  rooms.join(room as "post:1");
  same(since(), "2a.3");
  Wire.last.says({ type: "room_joined", room, position: "2a.3", recovered: true, ref: Wire.last.refs.at(-1) });
  same((await heard.event(event => event.type === "room_joined")).recovered, true);
  same((await heard.event(event => event.type === "resync")).room, room);
  for (const n of [4, 5]) {
    Wire.last.says(message(n));
    same(await text(), String(n));
  }
  // How things stand now, without having been asked for.
  Wire.last.says({ type: "room_joined", room, viewers: 7 });
  same((await heard.event(event => event.type === "room_joined")).viewers, 7);
  rooms.close();
});

test("a client that is closed in the midst of what it waits for leaves no timer behind", async () => {
  const timers = timersSince();
  let given = Promise.resolve("a token");
  const rooms = connect<Rooms>("ws://test/ws", { WebSocket: Wire, token: () => given });
  const heard = new Heard(rooms);
  await heard.next("open");
  rooms.join("post:1");
  const wire = Wire.last;
  const joined = (users?: number) => wire.says({ type: "room_joined", room: "post:1", viewers: 1, users, ref: wire.refs.at(-1) });
  joined(1); // without the list of its members
  wire.says({ type: "room_state", room: "post:1", revision: "1.2", since: "1.1", patch: {} });
  wire.says({ type: "resync", room: "post:1", reason: "bus_gap" });
  wire.says({ type: "error", code: "unavailable", message: "not now", ref: "refresh" });
  rooms.join("post:2");
  wire.says({ type: "error", code: "unavailable", message: "not now", room: "post:2", ref: wire.refs.at(-1) });
  given = new Promise(() => {}); // never comes
  wire.says({ type: "token_expiring" });
  const pending = codeOf(publish(rooms, "post:1", { text: "Hi" }));
  same(timers() > 5, true);
  rooms.close();
  same([await pending, timers()], ["connection_lost", 0]);
});
