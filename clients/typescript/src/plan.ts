import type { JoinOptions } from "./options.js";
import type { Position } from "./protocol.js";
import type { RoomStates } from "./room_states.js";

/** The `readyState` of an open socket. */
export const OPEN = 1;

/** What a connection needs of a socket; an event stream has as much. */
export interface Socket {
  onopen: (() => void) | null;
  onmessage: ((message: { data: unknown }) => void) | null;
  onclose: ((close: { code: number; reason: string }) => void) | null;
  readonly readyState?: number;
  send?(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number): void;
}

/** What to open. */
export interface Plan {
  open: () => Socket;
  /** The first message, where that has the token. */
  first?: object | null;
  /** An event stream: the rooms that it is to have now, and how long it may be silent. */
  stream?: { rooms: () => string[]; silence: number };
  /** Payloads come in `message`, and are to be heard bare. */
  bare?: boolean;
}

/** What a connection tells, and is told, by the client. */
export interface Page {
  states: RoomStates;
  /** The rooms of the page, whether there is a connection or not. */
  wanted: Map<string, JoinOptions>;
  /** Those to be in now. */
  rooms(): string[];
  /** What a join says besides; that of the endpoint's one room is under null. */
  saying(room: string | null): JoinOptions & { since: Position | undefined; paused: true | undefined };
  /** Keeps the position; whether the event is to be handed on. */
  note(event: ServerSays): boolean;
  heard(event: ServerSays): void;
  /** Hears a `resync` or a `refresh` soon, on this connection or on the next one. */
  soon(event: ServerSays): void;
  heardBytes(frame: Uint8Array<ArrayBuffer>): void;
  began(): void;
  ended(code: number, reason: string): void;
  again(): void;
  /** Runs it later, unless the connection ends before. Returns what stops that. */
  after(run: () => void, ms: number): () => void;
}

/** What came as JSON. On the endpoint of one room it may be anything. */
export type ServerSays = any;
