import { useCallback, useEffect, useRef, useSyncExternalStore } from "react";
import type { AnyKinds, EventOfKind, KindName, StateOf } from "./kinds.js";
import { listen } from "./listen.js";
import type { BaseClient, Client, JoinOptions, Status } from "./options.js";
import { EMPTY, RoomStore, type RoomView, storeOf } from "./room_store.js";

export type { RoomView } from "./room_store.js";

/** How a component uses a room. */
export interface UseRoomOptions<Event> {
  /** How the room is joined: the options of the first component that shows it. */
  join?: JoinOptions;
  /** Hears the events of the room; the newest function that was given. */
  onEvent?: (event: Event) => void;
}

/**
 * Joins a room while the component is mounted, and renders with each change of it. Several components may use the same room: it is
 * left with the last. Without a room, as while its id is not known, nothing is joined.
 */
export function useRoom<Kinds = AnyKinds, Kind extends KindName<Kinds> = KindName<Kinds>>(
  client: Client<Kinds>,
  room: `${Kind}:${string}` | null,
  { join, onEvent }: UseRoomOptions<EventOfKind<Kinds, Kind>> = {},
): RoomView<StateOf<Kinds, Kind>> {
  const newest = useRef(onEvent);
  const options = useRef(join);
  useEffect(() => {
    [newest.current, options.current] = [onEvent, join];
  });
  useEffect(() => (room ? listen(client, room, event => newest.current?.(event)) : undefined), [client, room]);
  const subscribe = useCallback(
    (run: () => void) => {
      if (!room) return () => {};
      return (storeOf(client, room) ?? new RoomStore(client, room, options.current)).subscribe(run);
    },
    [client, room],
  );
  const view = () => (room && storeOf(client, room)?.view) || EMPTY;
  return useSyncExternalStore(subscribe, view, () => EMPTY);
}

/** Whether there is a connection; renders with each change. */
export function useStatus<Event>(client: BaseClient<Event>): Status {
  const subscribe = useCallback(
    (run: () => void) => {
      const stops = [client.on("open", run), client.on("offline", run), client.on("closed", run)];
      return () => stops.forEach(stop => stop());
    },
    [client],
  );
  return useSyncExternalStore(
    subscribe,
    () => client.status,
    () => "connecting",
  );
}
