/** The state of each room that has one, put together from what the server sends of it. */
export type RoomStates = Map<string, { revision: string; state: unknown }>;

/** The event with all of the state; null where it says nothing new, and undefined where it does not fit to what is here. */
export function wholeState(states: RoomStates, event: StateEvent): object | null | undefined {
  let { type, room, revision, since, patch, state } = event;
  if (patch !== undefined) {
    const before = states.get(room);
    if (before?.revision === revision) return null;
    if (before?.revision !== since) return undefined;
    state = merged(before?.state, patch);
  }
  states.set(room, { revision, state });
  return { type, room, revision, state };
}

/** A `room_state` as it travels. */
export interface StateEvent {
  type: "room_state";
  room: string;
  revision: string;
  state?: unknown;
  since?: string;
  patch?: unknown;
}

// What a JSON merge patch (RFC 7396) makes of a value. `fromEntries`, as a name may be `__proto__`.
function merged(value: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const members = new Map(isObject(value) ? Object.entries(value) : []);
  for (const [name, change] of Object.entries(patch)) {
    if (change === null) members.delete(name);
    else members.set(name, merged(members.get(name), change));
  }
  return Object.fromEntries(members);
}

function isObject(it: unknown): it is Record<string, unknown> {
  return it !== null && typeof it === "object" && !Array.isArray(it);
}
