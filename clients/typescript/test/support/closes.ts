// Closes its clients in the midst of what they do. A process that has nothing else to do may then end: this one is not told to.
import { WebSocket } from "ws";
import { connect } from "@ws-rooms/client";
import { same } from "./check.js";
import { chatOf } from "./scenarios.js";

const sockets: WebSocket[] = [];

class Kept extends WebSocket {
  constructor(url: string | URL, protocols?: string | string[]) {
    super(url, protocols);
    sockets.push(this);
  }
}

const url = process.argv[2]!;
const { rooms, heard } = chatOf({ url, WebSocket: Kept }, "ann");
for (const room of ["channel:general", "channel:rust"] as const) {
  rooms.join(room);
  await heard.event(event => event.type === "room_joined" && event.room === room);
}
let isAsked: () => void;
const asked = new Promise<void>(resolve => (isAsked = resolve));
const waiting = connect(`${url}/ws`, { WebSocket: Kept, token: () => (isAsked(), new Promise(() => {})) });
await asked;
const gone = Promise.all(sockets.map(socket => new Promise(resolve => socket.once("close", resolve))));
rooms.close();
waiting.close();
await gone; // the close handshake, which the socket waits for
same([sockets.length, process.getActiveResourcesInfo().filter(what => what === "Timeout")], [1, []]);
