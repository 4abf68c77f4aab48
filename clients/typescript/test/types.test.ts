// What the compiler says: this file does not compile where an error that is expected is none.
import { test } from "node:test";
import { connect, connectRoom, isMessageOf, listen, publish, type RoomsEvent } from "@ws-rooms/client";
import { RoomsInMemory } from "@ws-rooms/client/testing";
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
