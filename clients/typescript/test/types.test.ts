// What the compiler says: this file does not compile where an error that is expected is none.
import { test } from "node:test";
import { readFileSync } from "node:fs";
import { connect, connectRoom, isMessageOf, listen, publish, type RoomsEvent, type ServerEvent } from "@ws-rooms/client";
import { RoomsInMemory } from "@ws-rooms/client/testing";
import type { Rooms as Generated, RoomsServerEvent } from "../../../examples/typed/rooms-types.js";
import { same } from "./support/check.js";

type PostEvent = { type: "new_comment"; text: string } | { type: "post_liked"; likes: number };

interface Rooms {
  post: { events: PostEvent; state: { title: string } };
  channel: { events: { from: string; text: string }; publish: { text: string } };
}

test("rooms are typed by their kinds", () => {
  const { WebSocket } = new RoomsInMemory<Rooms>();
  const rooms = connect<Rooms>("ws://test", { WebSocket, onEvent });
  rooms.join("post:1", { newest: 5 });
  // @ts-expect-error: there is no such kind.
  rooms.join("pots:1");
  rooms.publish("channel:1", { text: "Hi" });
  // @ts-expect-error: that is what is broadcast, and not what is published.
  rooms.publish("channel:1", { from: "ann" });
  // @ts-expect-error: a message of another kind.
  void publish(rooms, "post:1", { text: "Hi" }).catch(() => {});
  listen(rooms, "post:1", event => {
    if (event.type === "message" && event.data.type === "new_comment") same(typeof event.data.text, "string");
    if (event.type === "room_state") same(typeof event.state.title, "string");
    // @ts-expect-error: a field of no event.
    if (event.type === "message") same(event.data.nothing, undefined);
  });
  rooms.close();
});

test("rooms are typed by what is generated from a server's enums", () => {
  const { WebSocket } = new RoomsInMemory<Generated>();
  const rooms = connect<Generated>("ws://test", {
    WebSocket,
    onEvent: event => isMessageOf<Generated, "user">(event, "user") && same(typeof event.data.type, "string"),
  });
  rooms.publish("board:1", { type: "remove", id: 1 });
  // @ts-expect-error: that is what is broadcast, and not what is published.
  rooms.publish("board:1", { type: "card_removed", id: 1 });
  // @ts-expect-error: members publish nothing there.
  rooms.publish("user:5", { type: "remove", id: 1 });
  // @ts-expect-error: nor so.
  void publish(rooms, "user:5", { type: "remove", id: 1 }).catch(() => {});
  listen(rooms, "board:1", event => {
    if (event.type === "message" && event.data.type === "card_removed") same(typeof event.data.id, "number");
    // @ts-expect-error: no such event is broadcast.
    if (event.type === "message") same(event.data.type === "card_eaten", false);
    // @ts-expect-error: the state has no such field.
    if (event.type === "room_state") same(event.state.nothing, undefined);
  });
  rooms.close();
});

test("the events and the error codes of the protocol are those of the server's schema", () => {
  // What a page is given of these two is typed by its kinds.
  type Own = Exclude<RoomsServerEvent["type"], "message" | "room_state">;
  const own: Record<Own, ServerEvent["type"]> & Record<ServerEvent["type"], Own> = {
    room_joined: "room_joined",
    room_left: "room_left",
    viewer_joined: "viewer_joined",
    viewer_left: "viewer_left",
    resync: "resync",
    refresh: "refresh",
    published: "published",
    error: "error",
    pong: "pong",
    token_expiring: "token_expiring",
    refreshed: "refreshed",
    reconnect: "reconnect",
  };
  const text = (path: string) => readFileSync(new URL(`../../../../${path}`, import.meta.url), "utf8");
  const { server } = JSON.parse(text("rooms-core/src/schema/protocol.json")) as Schema;
  same(server.map(({ title }) => title).filter(title => !(title in own)).sort(), ["message", "room_state"]);
  const [, codes = ""] = /export type ErrorCode =([^;]*);/.exec(text("clients/typescript/src/protocol.ts")) ?? [];
  const [known] = server.find(({ title }) => title === "error")!.properties.code!.anyOf;
  same([...codes.matchAll(/"(\w+)"/g)].map(([, code]) => code), known!.enum);
});

interface Schema {
  server: { title: string; properties: { code?: { anyOf: { enum?: string[] }[] } } }[];
}

function onEvent(event: RoomsEvent<Rooms>): void {
  if (isMessageOf<Rooms, "channel">(event, "channel")) same(typeof event.data.from, "string");
  if (event.type === "room_joined") same([typeof event.viewers, typeof event.post_id], ["number", "number"]);
  // @ts-expect-error: it may be of any kind.
  if (event.type === "message") same(event.data.from, "");
}

test("at an endpoint of one room a payload is what is broadcast", () => {
  const { WebSocket } = new RoomsInMemory();
  const post = connectRoom<PostEvent>("ws://test", {
    WebSocket,
    onEvent(event) {
      if (event.type === "new_comment") same(typeof event.text, "string");
      if (event.type === "viewer_joined") same(typeof event.viewers, "number");
    },
  });
  // @ts-expect-error: the room is in the path.
  same(typeof post.join, "function");
  post.close();
});

test("without a declaration any room is joined, and its data are unknown", () => {
  const { WebSocket } = new RoomsInMemory();
  const rooms = connect("ws://test", { WebSocket });
  rooms.join("any:1");
  rooms.publish("any:1", { anything: true });
  // @ts-expect-error: a room has a kind.
  rooms.join("any");
  // @ts-expect-error: not checked yet.
  listen(rooms, "any:1", event => event.type === "message" && event.data.text);
  rooms.close();
});
