import type { FallbackTo } from "./fallback.js";
import type { AnyKinds, KindName, PublishOf, RoomName, RoomsEvent } from "./kinds.js";
import type { Position, Ref } from "./protocol.js";

/** What opens a socket: the global `WebSocket`, or the class of a package where there is none, such as `ws` in Node 20. */
export type SocketClass = new (url: URL, protocols: string[]) => AnySocket;

/** As much of a `WebSocket` as is used; that of a package may differ in its types of events. */
export interface AnySocket {
  binaryType: string;
  readonly readyState: number;
  onopen: unknown;
  onmessage: unknown;
  onclose: unknown;
  send(data: never): void;
  close(code?: number): void;
}

/** How a connection ended, and when the next try is. */
export interface Offline {
  /** The close code; 1006 where there was no close frame, 4408 where the other end was silent. */
  code: number;
  reason: string;
  in_ms: number;
}

/** What carries the connection: a WebSocket, or an event stream, on which nothing can be sent. */
export type Transport = "socket" | "events";

/** Bytes to send: a buffer, or a view of one. */
export type Buffers = ArrayBuffer | ArrayBufferView<ArrayBuffer>;

/** Where a binary payload is from. */
export interface BinarySource {
  /** Absent at an endpoint of one room, and where it was sent to this connection alone. */
  room?: string;
  /** Where it stands in the history of the room. */
  offset?: Position;
}

/** How a room is joined. */
export interface JoinOptions {
  /** Asks for so many of the newest messages, for a page that comes for the first time or can't be given what it missed. */
  newest?: number;
  /** Any JSON of at most 4,096 bytes, for the kind's rule and its `on_join`. */
  with?: unknown;
  /** Asks to observe: to be in no number and in no list. */
  observe?: boolean;
}

/** What a client tells. Each but `open` and `closed` is also an option of `connect`, such as `onEvent`. */
export interface Happenings<Event> {
  /** An event of the server; at an endpoint of one room without a history also each payload, as it was broadcast. */
  event: [event: Event];
  /** A binary payload. */
  binary: [bytes: Uint8Array<ArrayBuffer>, from: BinarySource];
  /** A connection is open, and the rooms are asked for. */
  open: [transport: Transport];
  /** From now on it is the other transport. */
  transport: [transport: Transport];
  /** The connection is gone, and will be tried again. */
  offline: [how: Offline];
  /** It is gone for good: `connect` again if you will. */
  end: [code: number, reason: string];
  /** The client is over, by `close` or before `end`: no option of `connect`, but for what waits for an answer. */
  closed: [];
}

/** How to connect. */
export interface ConnectOptions<Event> {
  /**
   * Resolves to a token, or to null where there is none, which is the end. It is asked at each connection, and a minute before
   * a token ends; the connection then goes on with the new one. Where the last token was refused, `code` is the close code
   * that it met. No `token` where a cookie is the credential.
   */
  token?: (code?: number) => Promise<string | null> | string | null;
  /** How the token travels, as the endpoint takes it: "query" unless set. */
  tokenIn?: "query" | "protocol" | "message";
  /** The application's protocol, beside which a token in "protocol" travels. */
  protocol?: string;
  /** At an endpoint of one room: whether to resume by its history, and how many of the newest messages to ask for. */
  history?: boolean | { newest: number };
  /** Where no WebSocket gets through: `eventStream(path)`. */
  events?: FallbackTo | undefined;
  /** In place of the global `WebSocket`. */
  WebSocket?: SocketClass;
  onEvent?: (event: Event) => void;
  onBinary?: (bytes: Uint8Array<ArrayBuffer>, from: BinarySource) => void;
  onTransport?: (transport: Transport) => void;
  onOffline?: (how: Offline) => void;
  onEnd?: (code: number, reason: string) => void;
}

/** Whether a client has a connection: it is being opened or waited for, it is open, or there will be none any more. */
export type Status = "connecting" | "open" | "closed";

/** A connection that keeps itself up, without the commands of rooms. */
export interface BaseClient<Event> {
  readonly status: Status;
  /** Calls `run` whenever it happens, until the returned function is called. */
  on<What extends keyof Happenings<Event>>(what: What, run: (...given: Happenings<Event>[What]) => void): () => void;
  /**
   * Any message, as for the application's `on_message`; among many rooms it names its `room`. A `Uint8Array` is sent as it is.
   * Returns whether it was given to the socket: what is said while there is no connection is not kept, and on an event stream
   * nothing can be said.
   */
  send(message: object): boolean;
  /** Comes again with a new token: where the user's rights have changed. `offline` is not told. */
  renew(): void;
  /**
   * For good; nothing is told after it but `closed`. What was published and is not answered ends with `connection_lost`, and what
   * waits in an offline queue with `stopped`.
   */
  close(): void;
}

/** A connection that keeps itself up, to many rooms. */
export interface Client<Kinds = AnyKinds> extends BaseClient<RoomsEvent<Kinds>> {
  /** The rooms that the page is in, or will be once there is a connection. */
  readonly wanted: ReadonlyMap<string, JoinOptions>;
  /**
   * Joins a room on this connection and on each later one. Also for a room that the page is in: the answer has the members as
   * they are now.
   */
  join(room: RoomName<Kinds>, options?: JoinOptions): void;
  /**
   * Asks for a room again as it is wanted: the answer has the members as they are now. One that is held stays left, and one that
   * is paused stays paused, where `join` would go on in it. Of a room that the page is not in nothing is asked.
   */
  rejoin(room: RoomName<Kinds>): void;
  /** Leaves a room, and forgets the page's position in it. */
  leave(room: RoomName<Kinds>): void;
  /** Leaves these rooms without forgetting them: the next call joins those that it does not name, each where it was left. */
  hold(rooms: Iterable<string>): void;
  /**
   * Stays in these rooms without being given their messages: the page is counted and hears who comes and goes. The next call goes
   * on in those that it does not name: what was missed there follows, or a `resync`. An event stream leaves them.
   */
  pause(rooms: Iterable<string>): void;
  /** Publishes to a room that the page is in; the answer, `published` or `error`, repeats the `ref`. Returns as `send`. */
  publish<Kind extends KindName<Kinds>>(room: `${Kind}:${string}`, data: PublishOf<Kinds, Kind>, ref?: Ref): boolean;
}

/** A connection that keeps itself up, to the room of its path. */
export type RoomClient<Event = unknown> = BaseClient<Event>;
