// A connection that keeps itself up, to one room or to many. Copy it, and change what you like. It is made from the TypeScript
// of the package `@ws-rooms/client`, by `npm run build` in `clients/typescript`.
//
//   const rooms = connect("/ws", { token: fetchToken, onEvent: show, onOffline: say, onEnd: sayWhy });
//   rooms.join("post:42");
//
// At the endpoint of one room the room is in the path, and nothing is joined.
//
// A room with a history is resumed: after a reconnect its `room_joined` has `recovered: true`, and what was missed follows; there
// is nothing to fetch then. Where it has `recovered: false`, fetch, as on `resync`, which does not come besides. `join(room,
// { newest: 50 })` asks for the newest messages: for a page that comes for the first time, or can't be given what it missed.
// At the endpoint of one room `history: true`, or `history: { newest: 50 }`, asks for it, and payloads come in `message`.
//
// A room with a state: `room_state` always has all of it, as `state`; what the server sends of it is put together here.
//
// `token(code)` resolves to a token, or to null where there is none, which is the end. It is asked at each connection, and a
// minute before a token ends, whose connection goes on with the new one. Where the last token was refused, `code` is the close
// code that it met: 1008, 4401 and 4410 are about it, 1006 may be. No `token` where a cookie is the credential.
// `tokenIn` says how it travels, as the endpoint takes it: "query" unless set; "protocol", with the application's `protocol`
// beside it, as `{ tokenIn: "protocol", protocol: "app.v1" }`; or "message", which is the first one.
// `events: "/sse"` is the path of an event stream of the same rooms, for networks that let no WebSocket through: it is used where
// two sockets in a row do not open, and left again for the first socket that does. The token then goes in `Authorization`. A
// stream has up to 16 rooms, and what is asked for with a join besides `newest` and `observe` is not asked for there.
// `onTransport(transport)`: from now on it is "events", where `send` and `publish` return false, or "socket" again.
// `onEvent(event)` is given every event of the server, and at the endpoint of one room every payload.
// `onBinary(bytes, { room, offset })` is given every payload of bytes, as a `Uint8Array`; at the endpoint of one room without
// `history` there is no room. At the endpoint of many rooms, `many: true` says so where no room is joined, as for bytes of the
// user's own room alone; a join shows it as well.
// `onOffline({ code, reason, in_ms })`: the connection is gone, and the next try is then.
// `onEnd(code, reason)`: it is gone, and there is no next try; `connect` again if you will.
//
// What is returned:
// `join(room, { newest, with, observe })`: on this connection and on each later one. Also for a room that the page is in: the
// answer has the members as they are now. The server sends them twice in five seconds; where an answer comes without, the room is
// joined once more after that time.
// `rejoin(room)`: for the members as they are now, of a room that is held or paused and stays so.
// `leave(room)`: and forgets where the page stood in it. `hold(rooms)` leaves these without forgetting them: the next call joins
// those that it does not name, each where it was left. `wanted` has the rooms that were joined and not left.
// `pause(rooms)` stays in these without their messages, for a page that nobody looks at: it is counted and hears who comes and
// goes. The next call goes on in those that it does not name, with what was missed or a `resync`. An event stream leaves them.
// `send(message)`: any message, as for the application's `on_message`; among many rooms it names its `room`. Returns whether it was
// sent: what is said while there is no connection is not kept, and on an event stream nothing can be said.
// `publish(room, data, ref)`: the same. An answer repeats the `ref`, if any.
// `publishBinary(room, bytes, ref)`: the same with bytes, an `ArrayBuffer` or a view of one; `sendBinary` with those for the
// application's `on_binary_message`. At the endpoint of one room without `history`, `room` is null.
// `renew()`: comes again with a new token, where the user's rights have changed. `onOffline` is silent.
// `close()`: for good; nothing is heard after it but "closed". `status` is "connecting", "open" or "closed".
// `on(what, run)`: calls `run` for each "event", "binary", "open", "transport", "offline", "end" or "closed", besides the functions above,
// until the function that it returns is called.

import { keepUp } from "./keep_up.js";
import { eventStream } from "./event_stream.js";
import { publishBinary, sendBinary } from "./binary.js";
import type { Client, ConnectOptions } from "./options.js";

type PageOptions = Omit<ConnectOptions<unknown>, "events"> & { events?: string; many?: boolean };

export function connect(path: string, options: PageOptions): object {
  const { events, many, ...others } = options;
  const client = keepUp(path, { ...others, events: events ? eventStream(events) : undefined }, many) as Client;
  return Object.assign(client, {
    publishBinary: publishBinary.bind(null, client),
    sendBinary: sendBinary.bind(null, client),
  });
}
