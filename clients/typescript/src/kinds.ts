import type { Message, RoomState, ServerEvent } from "./protocol.js";

/**
 * An application's kinds of rooms, and what travels in them:
 *
 *     interface Rooms {
 *       post: { events: PostEvent };
 *       channel: { events: Said; publish: { text: string }; state: Topic };
 *     }
 */
export type KindsOf<Kinds> = { [Kind in keyof Kinds]: { events: unknown; publish?: unknown; state?: unknown } };

/** Where the kinds are not declared: any kind, and anything in it. */
export type AnyKinds = Record<string, { events: unknown; publish: unknown; state: unknown }>;

/** A name of a kind. */
export type KindName<Kinds> = keyof Kinds & string;

/** The name of a room, `kind:id`. */
export type RoomName<Kinds, Kind extends KindName<Kinds> = KindName<Kinds>> = `${Kind}:${string}`;

/** What is broadcast in rooms of a kind. */
export type EventsOf<Kinds, Kind extends KindName<Kinds>> = Kinds[Kind] extends { events: infer Events } ? Events : unknown;

/** What a page publishes in rooms of a kind: `publish`, or what is broadcast where that is not declared. */
export type PublishOf<Kinds, Kind extends KindName<Kinds>> = Kinds[Kind] extends { publish: infer Data }
  ? Data
  : EventsOf<Kinds, Kind>;

/** The state of rooms of a kind. */
export type StateOf<Kinds, Kind extends KindName<Kinds>> = Kinds[Kind] extends { state: infer State } ? State : unknown;

/** An event that a page hears of rooms of one kind. */
export type EventOfKind<Kinds, Kind extends KindName<Kinds>> =
  | ServerEvent
  | Message<`${Kind}:${string}`, EventsOf<Kinds, Kind>>
  | RoomState<`${Kind}:${string}`, StateOf<Kinds, Kind>>;

/** Any event that a page hears. */
export type RoomsEvent<Kinds> = { [Kind in KindName<Kinds>]: EventOfKind<Kinds, Kind> }[KindName<Kinds>];

/** Whether an event is a message of a room of this kind; its `data` is then known. */
export function isMessageOf<Kinds, Kind extends KindName<Kinds>>(
  event: RoomsEvent<Kinds>,
  kind: Kind,
): event is Message<`${Kind}:${string}`, EventsOf<Kinds, Kind>> & RoomsEvent<Kinds> {
  return event.type === "message" && (event.room?.startsWith(`${kind}:`) ?? false);
}
