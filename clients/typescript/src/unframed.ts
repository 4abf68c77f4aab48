import type { BinarySource } from "./options.js";

type Bytes = Uint8Array<ArrayBuffer>;

const PAYLOAD = 1; // the first byte of a payload that was published

/** A binary payload and where it is from, or null where the message is of a sort that this client does not know. */
export function unframed(message: Bytes): [bytes: Bytes, from: BinarySource] | null {
  if (message[0] !== PAYLOAD) return null;
  const [room, rest] = named(message.subarray(1));
  const [offset, payload] = named(rest);
  return [payload, { room, ...(offset && { offset }) }];
}

/** A text behind a byte with its length, and what follows it. */
export function named(bytes: Bytes): [text: string, rest: Bytes] {
  const end = 1 + (bytes[0] ?? 0);
  return [new TextDecoder().decode(bytes.subarray(1, end)), bytes.subarray(end)];
}
