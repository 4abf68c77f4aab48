import type { AnyKinds, KindName, RoomsEvent, StateOf } from "./kinds.js";
import type { Client, JoinOptions } from "./options.js";
import { type Presence, presence } from "./presence.js";
import type { Member } from "./protocol.js";

/** A room as a component shows it. A new object with each change. */
export interface RoomView<State = unknown> {
  /** Whether the page is in the room now. */
  readonly isJoined: boolean;
  /** Connections in the room, over all nodes. */
  readonly viewers: number;
  /** Users in the room, in a kind that lists them. */
  readonly users: number | undefined;
  readonly members: readonly Member[];
  /** In a kind that keeps a state. */
  readonly state: State | undefined;
  /** Why the page is not in the room: the code of an `error`, or the reason of a `room_left`. */
  readonly refusal: string | undefined;
}

export const EMPTY: RoomView<never> = {
  isJoined: false,
  viewers: 0,
  users: undefined,
  members: [],
  state: undefined,
  refusal: undefined,
};

/** One room of one client: joined while somebody subscribes. */
export class RoomStore<Kinds = AnyKinds, Kind extends KindName<Kinds> = KindName<Kinds>> {
  view: RoomView<StateOf<Kinds, Kind>> = EMPTY;
  readonly #client: Client<Kinds>;
  readonly #room: `${Kind}:${string}`;
  readonly #join: JoinOptions | undefined;
  readonly #subscribers = new Set<() => void>();
  #stops: (() => void)[] = [];

  constructor(client: Client<Kinds>, room: `${Kind}:${string}`, join?: JoinOptions) {
    [this.#client, this.#room, this.#join] = [client, room, join];
  }

  subscribe = (run: () => void): (() => void) => {
    const subscriber = () => run();
    this.#subscribers.add(subscriber);
    if (this.#stops.length === 0) this.#begin();
    return () => {
      this.#subscribers.delete(subscriber);
      // React subscribes anew at once in strict mode, and wherever a component is replaced by another for the same room.
      queueMicrotask(() => this.#subscribers.size === 0 && this.#end());
    };
  };

  #begin(): void {
    inUse(this.#client).set(this.#room, this);
    const list = presence(this.#client, this.#room, { onChange: now => this.#show(counted(now)) });
    this.#stops = [() => list.stop(), this.#client.on("event", event => this.#heard(event))];
    this.#client.join(this.#room, this.#join);
  }

  #end(): void {
    if (this.#stops.length === 0) return;
    for (const stop of this.#stops) stop();
    this.#stops = [];
    inUse(this.#client).delete(this.#room);
    this.#client.leave(this.#room);
    this.view = EMPTY;
  }

  #heard(event: RoomsEvent<Kinds>): void {
    if (!event || !("room" in event) || event.room !== this.#room) return;
    if (event.type === "room_state") this.#show({ state: event.state as StateOf<Kinds, Kind> });
    if (event.type === "room_joined") this.#show({ refusal: undefined });
    if (event.type === "room_left" && event.reason) this.#show({ ...EMPTY, refusal: event.reason });
    if (event.type === "error" && !this.#client.wanted.has(this.#room)) this.#show({ refusal: event.code });
  }

  #show(change: Partial<RoomView<StateOf<Kinds, Kind>>>): void {
    this.view = { ...this.view, ...change };
    for (const subscriber of this.#subscribers) subscriber();
  }
}

function counted({ isLive, viewers, users, members }: Presence): Partial<RoomView<never>> {
  return { isJoined: isLive, viewers, users, members: [...members.values()] };
}

const ofClients = new WeakMap<object, Map<string, object>>();

/** The stores of a client that are in use, by room. */
function inUse(client: object): Map<string, object> {
  const stores = ofClients.get(client) ?? new Map<string, object>();
  ofClients.set(client, stores);
  return stores;
}

/** The store of a room, if a component shows it: one for all of them. */
export function storeOf<Kinds, Kind extends KindName<Kinds>>(
  client: Client<Kinds>,
  room: `${Kind}:${string}`,
): RoomStore<Kinds, Kind> | undefined {
  return inUse(client).get(room) as RoomStore<Kinds, Kind> | undefined;
}
