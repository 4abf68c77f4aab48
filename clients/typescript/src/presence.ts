import type { BaseClient, Client } from "./options.js";
import type { Member, RoomJoined, ServerEvent, ViewersChanged } from "./protocol.js";

const MOST = 1_000; // a longer list is not read by anybody; the server names 100 at a join

/** Who is in a room, as far as the page has been told. */
export interface Presence {
  /** Connections in the room, over all nodes. */
  readonly viewers: number;
  /** Users in the room; undefined in a kind that does not list them, or for whom may not see them. */
  readonly users: number | undefined;
  /** By their ids, in the order in which they were named. */
  readonly members: ReadonlyMap<string, Member>;
  /** Whether these are all. */
  readonly isComplete: boolean;
  /** Whether it is kept up: not while there is no connection. */
  readonly isLive: boolean;
  /** Keeps it up no more. */
  stop(): void;
}

/** How a list of members is kept. */
export interface PresenceOptions {
  /** The most members to keep: 1,000 unless set. */
  most?: number;
  /** Called after each change. */
  onChange?: (presence: Presence) => void;
}

/**
 * Keeps the list of a room's members: begins with that of `room_joined`, applies joins and leaves, and asks for it again after a
 * `resync`. Call it before the room is joined. At an endpoint of one room leave out `room`.
 */
export function presence<Event>(
  client: BaseClient<Event>,
  room?: string,
  { most = MOST, onChange }: PresenceOptions = {},
): Presence {
  const members = new Map<string, Member>();
  let [viewers, isLive] = [0, false];
  let users: number | undefined;

  function joined(event: RoomJoined): void {
    [viewers, users, isLive] = [event.viewers, event.users, true];
    if (event.members || users === undefined) members.clear();
    for (const member of event.members ?? []) add(member);
  }

  function changed({ type, viewers: count, users: named = [] }: ViewersChanged): void {
    viewers = count;
    for (const member of named) {
      const isNew = !members.has(member.user);
      if (type === "viewer_joined") add(member);
      else members.delete(member.user);
      if (users === undefined) continue;
      if (type === "viewer_left") users = Math.max(0, users - 1);
      else if (isNew) users += 1;
    }
  }

  function add(member: Member): void {
    if (members.size < most || members.has(member.user)) members.set(member.user, member);
  }

  function heard(event: ServerEvent): boolean {
    switch (event?.type) {
      case "room_joined":
        joined(event);
        return true;
      case "viewer_joined":
      case "viewer_left":
        changed(event);
        return true;
      case "room_left":
        gone();
        return true;
      case "resync":
        if (users !== undefined && room) askAgain(room);
    }
    return false;
  }

  function askAgain(room: string): void {
    const { join, rejoin, wanted } = client as Partial<Client>;
    const name = room as `${string}:${string}`;
    // With `join` a room that is held or paused would go on, in a tab that is hidden.
    if (wanted?.has(room)) rejoin?.(name);
    else join?.(name);
  }

  function gone(): void {
    members.clear();
    [viewers, users, isLive] = [0, undefined, false];
  }

  function offline(): void {
    isLive = false;
    onChange?.(now);
  }

  const stops = [
    client.on("event", event => {
      const said = event as ServerEvent & { room?: string };
      if ((!room || said?.room === room) && heard(said)) onChange?.(now);
    }),
    client.on("offline", offline),
    client.on("closed", offline),
  ];

  const now: Presence = {
    get viewers() {
      return viewers;
    },
    get users() {
      return users;
    },
    members,
    get isComplete() {
      return users !== undefined && members.size === users;
    },
    get isLive() {
      return isLive;
    },
    stop() {
      for (const stop of stops) stop();
    },
  };
  return now;
}
