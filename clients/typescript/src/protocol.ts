/** A position in the history of a room: opaque, and good as `since` of a later join. */
export type Position = string;

/** Any JSON value that an answer of the server repeats; at most 128 bytes of text. */
export type Ref = string | number | boolean | object;

/** The `code` of an `error`. A newer server may have others. */
export type ErrorCode =
  | "bad_message"
  | "unknown_type"
  | "unsupported"
  | "bad_room"
  | "not_allowed"
  | "not_joined"
  | "too_many_rooms"
  | "too_big"
  | "refused"
  | "bad_token"
  | "unavailable"
  | "rate_limited";

/** A user of a room, in a kind that lists its members. */
export interface Member {
  user: string;
  /** What the kind's `member_info` says of the user. */
  info?: unknown;
}

/** The connection is in the room, and this is how things stand. Fields of the kind's `on_join` are beside these. */
export interface RoomJoined {
  type: "room_joined";
  room: string;
  /** Connections in the room, over all nodes. */
  viewers: number;
  /** Users in the room, in a kind that lists them. */
  users?: number;
  /** At most 100 of them. Absent where the list was sent a moment ago. */
  members?: Member[];
  /** In a room with a history: every message after it follows. */
  position?: Position;
  /** After a join with a position, and after a pause: whether what was missed follows. Where it does not, fetch what you show. */
  recovered?: boolean;
  /** The connection observes: it is in no number and in no list. */
  observer?: true;
  /** No messages of the room are given until it is joined again. What is missed is said then, if `recovered` is true here. */
  paused?: true;
  ref?: Ref;
  [field: string]: unknown;
}

/** The connection is in the room no more. With a `reason` it did not ask for that, and the client does not join again. */
export interface RoomLeft {
  type: "room_left";
  room: string;
  reason?: "kicked" | "not_allowed" | "left";
  /** The application's words for a kick. */
  message?: string;
  ref?: Ref;
}

/** The number of viewers has changed; `users` are those who came or went, in a kind that lists them. */
export interface ViewersChanged {
  type: "viewer_joined" | "viewer_left";
  /** At an endpoint of one room without a history it is not named. */
  room?: string;
  viewers: number;
  users?: Member[];
}

/** What was published to a room, or sent to this connection alone; then it has no `room`. */
export interface Message<Room extends string = string, Data = unknown> {
  type: "message";
  room: Room;
  data: Data;
  /** Where it stands in the history of the room. */
  offset?: Position;
}

/** All of a room's state. Patches are applied before. */
export interface RoomState<Room extends string = string, State = unknown> {
  type: "room_state";
  room: Room;
  revision: string;
  state: State;
}

/** Messages may have been lost (`resync`), or one was too long to be sent (`refresh`): fetch what you show again. */
export interface FetchAgain {
  type: "resync" | "refresh";
  room: string;
  reason?: "bus_gap" | "slow_consumer" | "history_gap" | "epoch";
  /** Of a `resync` in a room with a history: everything that comes after it follows. */
  position?: Position;
  /** Of a `refresh` in a room with a history. */
  offset?: Position;
}

/** A `publish` with a `ref` was carried out. */
export interface Published {
  type: "published";
  room: string;
  position?: Position;
  /** The bus is down, and only the members of this node were told. */
  reach?: "local_only";
  ref?: Ref;
}

/** A command was not carried out. The connection goes on. */
export interface ErrorEvent {
  type: "error";
  code: ErrorCode | (string & {});
  message: string;
  room?: string;
  retry_after_ms?: number;
  ref?: Ref;
}

/** What is about the connection itself. The client acts on it by itself. */
export type ConnectionEvent =
  | { type: "pong"; ref?: Ref }
  | { type: "token_expiring"; in_ms: number }
  | { type: "refreshed"; in_ms?: number; ref?: Ref }
  | { type: "reconnect"; in_ms: number };

/** Every event of the server but those that carry data of the application. A newer server may have others. */
export type ServerEvent = RoomJoined | RoomLeft | ViewersChanged | FetchAgain | Published | ErrorEvent | ConnectionEvent;
