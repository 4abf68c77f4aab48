import type { BinarySource, Buffers } from "./options.js";

/** What a binary message is. */
export const PUBLISHED = 1;
export const FOR_THE_APPLICATION = 2;

const LONGEST_ROOM = 233; // in bytes, as the server has it
const LONGEST_REF = 128;

/** A binary payload and where it is from, or null where the message is of a sort that this client does not know. */
export function unframed(message: Bytes): [bytes: Bytes, from: BinarySource] | null {
  if (message[0] !== PUBLISHED) return null;
  const [room, rest] = named(message.subarray(1));
  const [offset, payload] = named(rest);
  return [payload, { room, ...(offset && { offset }) }];
}

/** A message that names its room: what it is, and the room and then the `ref` or the position behind a byte with their length. */
export function framed(what: number, room: string, about: string, bytes: Bytes): Bytes {
  const text = new TextEncoder();
  const [name, answer] = [text.encode(room), text.encode(about)];
  if (name.length > LONGEST_ROOM || answer.length > LONGEST_REF) throw new RangeError("a room or a `ref` that is too long");
  const head = [what, name.length, ...name, answer.length, ...answer];
  const message = new Uint8Array(head.length + bytes.length);
  message.set(head);
  message.set(bytes, head.length);
  return message;
}

/** The bytes of a buffer, or of a view of one. */
export function bytesOf(source: Buffers): Bytes {
  const { buffer = source as ArrayBuffer, byteOffset, byteLength } = source as ArrayBufferView<ArrayBuffer>;
  return new Uint8Array(buffer, byteOffset, byteLength);
}

// A text behind a byte with its length, and what follows it.
function named(bytes: Bytes): [text: string, rest: Bytes] {
  const end = 1 + (bytes[0] ?? 0);
  return [new TextDecoder().decode(bytes.subarray(1, end)), bytes.subarray(end)];
}

type Bytes = Uint8Array<ArrayBuffer>;
