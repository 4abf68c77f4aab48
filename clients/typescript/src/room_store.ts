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

const UNUSED_FOR = 60_000; // far longer than from a render to its effects

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

  get isUsed(): boolean {
    return this.#stops.length > 0;
  }

  #begin(): void {
    inUse(this.#client).add(this.#room, this);
    const list = presence(this.#client, this.#room, { onChange: now => this.#show(counted(now)) });
    this.#stops = [() => list.stop(), this.#client.on("event", event => this.#heard(event))];
    this.#client.join(this.#room, this.#join);
  }

  #end(): void {
    if (this.#stops.length === 0) return;
    for (const stop of this.#stops) stop();
    this.#stops = [];
    if (inUse(this.#client).remove(this.#room, this)) this.#client.leave(this.#room);
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

/** The stores of a client, by room. There may be two of one room, where a component that was hidden is shown again. */
class Stores {
  readonly #stores = new Map<string, Set<object>>();

  find(room: string): object | undefined {
    return this.#stores.get(room)?.values().next().value;
  }

  add(room: string, store: object): void {
    this.#stores.set(room, (this.#stores.get(room) ?? new Set()).add(store));
  }

  /** Whether it was the last of its room. */
  remove(room: string, store: object): boolean {
    const stores = this.#stores.get(room);
    stores?.delete(store);
    return !stores?.size && (this.#stores.delete(room), true);
  }
}

const ofClients = new WeakMap<object, Stores>();

function inUse(client: object): Stores {
  const stores = ofClients.get(client) ?? new Stores();
  ofClients.set(client, stores);
  return stores;
}

/** The store of a room: one for all components that show it, and the options of the first. */
export function storeOf<Kinds, Kind extends KindName<Kinds>>(
  client: Client<Kinds>,
  room: `${Kind}:${string}`,
  join?: JoinOptions,
): RoomStore<Kinds, Kind> {
  const stores = inUse(client);
  const known = stores.find(room);
  if (known) return known as RoomStore<Kinds, Kind>;
  const store = new RoomStore<Kinds, Kind>(client, room, join);
  stores.add(room, store);
  // React may give up what it renders before anything subscribes.
  setTimeout(() => store.isUsed || stores.remove(room, store), UNUSED_FOR);
  return store;
}
