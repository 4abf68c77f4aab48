// What is done with a real server, in Node and in a browser. Each is given the server's URL and what opens a socket.
import {
  connect,
  connectRoom,
  eventStream,
  leaveWhileHidden,
  listen,
  pauseWhileHidden,
  presence,
  publish,
  type SocketClass,
} from "@ws-rooms/client";
import { codeOf, same } from "./check.js";
import { Heard } from "./heard.js";

export interface Place {
  url: string;
  WebSocket?: SocketClass;
}

interface Said {
  type: "said";
  id: string;
  from: string;
  text: string;
}

/** The rooms of the chat. */
export interface ChatRooms {
  channel: { events: Said; publish: { text: string } };
  typing: { events: { type: "typing"; from: string }; publish: object };
  user: { events: unknown };
}

type Post = { type: "new_comment"; comment: { text: string } } | { type: "post_liked"; likes: number };

export async function login(url: string, user: string): Promise<string> {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${url}/login`, { method: "POST", headers, body: JSON.stringify({ user }) });
  return ((await answer.json()) as { token: string }).token;
}

export function chatOf({ url, WebSocket }: Place, user: string, more: { events?: ReturnType<typeof eventStream> } = {}) {
  const rooms = connect<ChatRooms>(`${url}/ws`, { token: () => login(url, user), ...(WebSocket && { WebSocket }), ...more });
  return { rooms, heard: new Heard(rooms) };
}

/** With the chat. */
export const chat = {
  async what_is_published_is_answered_and_heard(place: Place) {
    const [ann, bob] = [chatOf(place, "ann"), chatOf(place, "bob")];
    const texts: string[] = [];
    listen(bob.rooms, "channel:general", event => event.type === "message" && texts.push(event.data.text));
    for (const { rooms, heard } of [ann, bob]) {
      rooms.join("channel:general");
      await heard.event(event => event.type === "room_joined" && event.room === "channel:general");
    }
    const { position } = await publish(ann.rooms, "channel:general", { text: "Hello" });
    same(typeof position, "string");
    const { data, offset } = await bob.heard.event(event => event.type === "message");
    same([data.from, data.text, offset, texts], ["ann", "Hello", position, ["Hello"]]);
    same(await codeOf(publish(ann.rooms, "channel:general", { text: "" })), "refused");
    same(await codeOf(publish(ann.rooms, "channel:rust", { text: "Hello" })), "not_joined");
    ann.rooms.close();
    same(await codeOf(publish(ann.rooms, "channel:general", { text: "Late" })), "offline");
    bob.rooms.close();
  },

  async members_are_listed_as_they_come(place: Place) {
    const ann = chatOf(place, "ann");
    let changes = 0;
    const list = presence(ann.rooms, "channel:members", { onChange: () => (changes += 1) });
    ann.rooms.join("channel:members");
    await ann.heard.event(event => event.type === "room_joined" && event.room === "channel:members");
    same([[...list.members.keys()], list.users, list.isComplete, list.isLive], [["ann"], 1, true, true]);
    const bob = chatOf(place, "bob");
    bob.rooms.join("channel:members");
    await ann.heard.event(event => event.type === "viewer_joined" && event.users?.[0]?.user === "bob");
    same([[...list.members.keys()], list.users, list.viewers, list.isComplete, changes > 1], [["ann", "bob"], 2, 2, true, true]);
    ann.rooms.close();
    bob.rooms.close();
  },

  async a_room_that_was_held_goes_on_where_it_was_left(place: Place) {
    const [ann, bob] = [chatOf(place, "ann"), chatOf(place, "bob")];
    for (const { rooms, heard } of [ann, bob]) {
      rooms.join("channel:held");
      await heard.event(event => event.type === "room_joined" && event.room === "channel:held");
    }
    await publish(bob.rooms, "channel:held", { text: "1" });
    await ann.heard.event(event => event.type === "message");
    ann.rooms.hold(ann.rooms.wanted.keys());
    await ann.heard.event(event => event.type === "room_left");
    for (const text of ["2", "3"]) await publish(bob.rooms, "channel:held", { text });
    ann.rooms.hold([]);
    const { recovered } = await ann.heard.event(event => event.type === "room_joined");
    same(recovered, true);
    for (const text of ["2", "3"]) same((await ann.heard.event(event => event.type === "message")).data.text, text);
    ann.rooms.close();
    bob.rooms.close();
  },

  async a_room_that_was_paused_goes_on_where_it_was_paused(place: Place) {
    const [ann, bob] = [chatOf(place, "ann"), chatOf(place, "bob")];
    for (const { rooms, heard } of [ann, bob]) {
      rooms.join("channel:paused");
      await heard.event(event => event.type === "room_joined" && event.room === "channel:paused");
    }
    ann.rooms.pause(ann.rooms.wanted.keys());
    same((await ann.heard.event(event => event.type === "room_joined")).paused, true);
    for (const text of ["1", "2"]) await publish(bob.rooms, "channel:paused", { text });
    const cid = chatOf(place, "cid");
    cid.rooms.join("channel:paused");
    const { viewers } = await cid.heard.event(event => event.type === "room_joined" && event.room === "channel:paused");
    same(viewers, 3);
    same((await ann.heard.event(event => event.type !== "room_joined" && event.room === "channel:paused")).type, "viewer_joined");
    ann.rooms.pause([]);
    const { recovered } = await ann.heard.event(event => event.type === "room_joined");
    same(recovered, true);
    for (const text of ["1", "2"]) same((await ann.heard.event(event => event.type === "message")).data.text, text);
    for (const { rooms } of [ann, bob, cid]) rooms.close();
  },

  async where_no_socket_opens_it_is_an_event_stream(place: Place) {
    const bob = chatOf(place, "bob");
    bob.rooms.join("channel:stream");
    await bob.heard.event(event => event.type === "room_joined" && event.room === "channel:stream");
    const ann = chatOf({ ...place, WebSocket: NoSocket }, "ann", { events: eventStream(`${place.url}/sse`) });
    ann.rooms.join("channel:stream");
    same(await ann.heard.next("transport"), ["events"]);
    await ann.heard.event(event => event.type === "room_joined" && event.room === "channel:stream");
    await publish(bob.rooms, "channel:stream", { text: "By stream" });
    same((await ann.heard.event(event => event.type === "message")).data.text, "By stream");
    same(await codeOf(publish(ann.rooms, "channel:stream", { text: "No" })), "offline");
    ann.rooms.close();
    bob.rooms.close();
  },
};

/** With the posts, whose endpoint is for one room. */
export const posts = {
  async a_payload_is_heard_and_what_was_missed_follows({ url, WebSocket }: Place) {
    const token = await login(url, "5");
    const post = connectRoom<Post>(`${url}/ws/posts/1/live`, { token: () => token, history: true, ...(WebSocket && { WebSocket }) });
    const heard = new Heard(post);
    const watching = presence(post);
    same((await heard.event(event => event.type === "room_joined")).post_id, 1);
    same([watching.viewers, watching.users], [1, undefined]);
    await comment(url, token, "First");
    same((await heard.event(event => event.type === "message")).data.comment.text, "First");
    post.renew();
    same((await heard.event(event => event.type === "room_joined")).recovered, true);
    post.close();
    same(post.status, "closed");
  },
};

/** Only in a browser. */
export const page = {
  async a_hidden_tab_is_in_no_room(place: Place) {
    const ann = chatOf(place, "ann");
    const stop = leaveWhileHidden(ann.rooms, { afterMs: 0, keep: room => room === "channel:kept" });
    for (const room of ["channel:kept", "channel:hidden"] as const) {
      ann.rooms.join(room);
      await ann.heard.event(event => event.type === "room_joined" && event.room === room);
    }
    show(false);
    same((await ann.heard.event(event => event.type === "room_left")).room, "channel:hidden");
    show(true);
    same((await ann.heard.event(event => event.type === "room_joined")).room, "channel:hidden");
    stop();
    ann.rooms.close();
  },

  async a_hidden_tab_asks_for_counts_only(place: Place) {
    const ann = chatOf(place, "ann");
    const stop = pauseWhileHidden(ann.rooms, { afterMs: 0, keep: room => room === "channel:rings" });
    for (const room of ["channel:rings", "channel:hidden"] as const) {
      ann.rooms.join(room);
      await ann.heard.event(event => event.type === "room_joined" && event.room === room);
    }
    show(false);
    const { room, paused, viewers } = await ann.heard.event(event => event.type === "room_joined");
    same([room, paused, viewers], ["channel:hidden", true, 1]);
    show(true);
    const again = await ann.heard.event(event => event.type === "room_joined");
    same([again.room, again.paused, again.recovered], ["channel:hidden", undefined, true]);
    stop();
    ann.rooms.close();
  },
};

function show(isVisible: boolean): void {
  Object.defineProperty(document, "hidden", { configurable: true, value: !isVisible });
  document.dispatchEvent(new Event("visibilitychange"));
}

export async function comment(url: string, token: string, text: string): Promise<void> {
  const headers = { "content-type": "application/json", authorization: `Bearer ${token}` };
  const answer = await fetch(`${url}/posts/1/comments`, { method: "POST", headers, body: JSON.stringify({ text }) });
  same(answer.status, 201);
}

// A network that drops WebSockets.
class NoSocket {
  binaryType = "blob";
  readonly readyState = 0;
  onopen = null;
  onmessage = null;
  onclose: ((close: object) => void) | null = null;
  constructor() {
    setTimeout(() => this.onclose?.({ code: 1006, reason: "" }));
  }
  send(): void {}
  close(): void {}
}
