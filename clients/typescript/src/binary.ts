import type { BinarySource } from "./options.js";
import type { Ref } from "./protocol.js";

const OF_A_ROOM = 1; // the first byte of a frame

/** A binary payload and where it is from, or null where the frame is of a sort that this client does not know. */
export function unframed(frame: Uint8Array<ArrayBuffer>): [bytes: Uint8Array<ArrayBuffer>, from: BinarySource] | null {
  if (frame[0] !== OF_A_ROOM) return null;
  const [room, rest] = named(frame.subarray(1));
  const [offset, payload] = named(rest);
  return [payload, { ...(room && { room }), ...(offset && { offset }) }];
}

/** A publish of bytes, as it travels. */
export function framed(room: string, bytes: Uint8Array<ArrayBuffer>, ref?: Ref): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder();
  const [key, answer] = [text.encode(room), text.encode(ref === undefined ? "" : JSON.stringify(ref))];
  const head = [OF_A_ROOM, key.length, ...key, answer.length, ...answer];
  const frame = new Uint8Array(head.length + bytes.length);
  frame.set(head);
  frame.set(bytes, head.length);
  return frame;
}

// A text behind a byte with its length, and what follows it.
function named(bytes: Uint8Array<ArrayBuffer>): [text: string, rest: Uint8Array<ArrayBuffer>] {
  const end = 1 + (bytes[0] ?? 0);
  return [new TextDecoder().decode(bytes.subarray(1, end)), bytes.subarray(end)];
}
