import type { AnyKinds, EventOfKind, KindName } from "./kinds.js";
import type { Client } from "./options.js";

/** Hears the events of one room, with the types of its kind, until the returned function is called. It does not join. */
export function listen<Kinds = AnyKinds, Kind extends KindName<Kinds> = KindName<Kinds>>(
  client: Client<Kinds>,
  room: `${Kind}:${string}`,
  run: (event: EventOfKind<Kinds, Kind>) => void,
): () => void {
  return client.on("event", event => {
    if ((event as { room?: string } | null)?.room === room) run(event as EventOfKind<Kinds, Kind>);
  });
}
