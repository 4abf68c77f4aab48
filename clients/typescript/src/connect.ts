import { keepUp } from "./keep_up.js";
import type { AnyKinds, KindsOf, RoomsEvent } from "./kinds.js";
import type { Client, ConnectOptions, RoomClient } from "./options.js";
import type { Message, RoomState, ServerEvent } from "./protocol.js";

/**
 * Connects to an endpoint for many rooms, and keeps the connection up: it comes back after every end that is not for good,
 * joins the page's rooms again, and resumes each of them where the page stood. Nothing is sent before the caller has what is
 * returned.
 */
export function connect<Kinds extends KindsOf<Kinds> = AnyKinds>(
  path: string | URL,
  options: ConnectOptions<RoomsEvent<Kinds>>,
): Client<Kinds> {
  return keepUp(path, options as ConnectOptions<unknown>, true) as Client<Kinds>;
}

/** What is heard at an endpoint of one room: the events of the server, and what is broadcast. */
export type PayloadEvent<Payload> = ServerEvent | Message<string, Payload> | RoomState | Payload;

/**
 * The same for an endpoint of one room, whose path names it. `onEvent` is told the events of the server, and the payloads as they
 * are broadcast; with `history` payloads come inside `message`.
 */
export function connectRoom<Payload = never>(
  path: string | URL,
  options: ConnectOptions<PayloadEvent<Payload>>,
): RoomClient<PayloadEvent<Payload>> {
  return keepUp(path, options as ConnectOptions<unknown>) as RoomClient<PayloadEvent<Payload>>;
}
