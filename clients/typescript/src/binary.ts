import type { BaseClient, Buffers } from "./options.js";
import type { Ref } from "./protocol.js";

/** What a binary message is. */
export const PUBLISHED = 1;
const FOR_THE_APPLICATION = 2;

const LONGEST_ROOM = 233; // in bytes, as the server has it
const LONGEST_REF = 128;

/**
 * Publishes bytes to a room that the page is in, where its kind lets members publish them; the answer, `published` or `error`,
 * repeats the `ref`. Returns as `send`. At an endpoint of one room without `history`, `room` is null.
 */
export function publishBinary(client: Sender, room: string | null, bytes: Buffers, ref?: Ref): boolean {
  return client.send(message(PUBLISHED, room, bytes, ref));
}

/** The same for the application's `on_binary_message`. */
export function sendBinary(client: Sender, room: string | null, bytes: Buffers, ref?: Ref): boolean {
  return client.send(message(FOR_THE_APPLICATION, room, bytes, ref));
}

type Sender = Pick<BaseClient<never>, "send">;

function message(what: number, room: string | null, source: Buffers, ref?: Ref): Bytes {
  const { buffer = source as ArrayBuffer, byteOffset, byteLength } = source as ArrayBufferView<ArrayBuffer>;
  const bytes = new Uint8Array(buffer, byteOffset, byteLength);
  return room === null ? bytes : framed(what, room, JSON.stringify(ref) ?? "", bytes);
}

/** A message that names its room: what it is, and the room and then the `ref` or the position behind a byte with their length. */
export function framed(what: number, room: string, about: string, bytes: Bytes): Bytes {
  const text = new TextEncoder();
  const [name, answer] = [text.encode(room), text.encode(about)];
  if (name.length > LONGEST_ROOM || answer.length > LONGEST_REF) {
    throw new RangeError(`a room has at most ${LONGEST_ROOM} bytes, and a \`ref\` ${LONGEST_REF}`);
  }
  const head = [what, name.length, ...name, answer.length, ...answer];
  const message = new Uint8Array(head.length + bytes.length);
  message.set(head);
  message.set(bytes, head.length);
  return message;
}

type Bytes = Uint8Array<ArrayBuffer>;
