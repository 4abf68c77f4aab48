import { framed, PUBLISHED } from "./binary.js";
import type { AnyKinds, EventsOf, KindName, RoomName, StateOf } from "./kinds.js";
import type { SocketClass } from "./options.js";
import type { ErrorCode, Member } from "./protocol.js";
import { named } from "./unframed.js";

const KEPT = 1_000; // messages of a room's history

/** What a page has published. */
export interface PublishedByPage {
  room: string;
  /** A `Uint8Array` where it is bytes. */
  data: unknown;
}

interface Room {
  log: { offset: string; data: unknown }[];
  count: number;
  members: Member[] | null;
  state?: unknown;
  revision: number;
}

/**
 * Rooms in memory, for the tests of a page. The page's own client connects to them: give it their `WebSocket`, as in
 * `connect("ws://test", { WebSocket: server.WebSocket })`. Every room may be joined and published to, and has a history, until
 * the test says otherwise. Answers come in a microtask, as if the network were quick.
 */
export class RoomsInMemory<Kinds = AnyKinds> {
  /** For the option of the same name of `connect`. */
  readonly WebSocket: SocketClass;
  /** What the page has published, oldest first. */
  readonly published: PublishedByPage[] = [];
  /**
   * Every message of the page that is no command of rooms, as for the application's `on_message`; of one that is for its
   * `on_binary_message` the `data` are a `Uint8Array`, and the `type` is "binary".
   */
  readonly heard: unknown[] = [];
  readonly #rooms = new Map<string, Room>();
  readonly #sockets = new Set<SocketInMemory>();
  readonly #refused = new Map<string, ErrorCode>();
  #isUp = true;

  constructor() {
    const server: Server = {
      opened: socket => this.#isUp && this.#sockets.add(socket) !== undefined,
      said: (socket, message) => this.#said(socket, message),
      gone: socket => this.#sockets.delete(socket),
    };
    this.WebSocket = class extends SocketInMemory {
      constructor() {
        super(server);
      }
    };
  }

  /** The rooms that some page is in. */
  get joined(): string[] {
    return [...new Set([...this.#sockets].flatMap(socket => [...socket.rooms]))];
  }

  /** The rooms in which some page is paused, as a hidden one may be. */
  get paused(): string[] {
    return [...new Set([...this.#sockets].flatMap(socket => [...socket.paused.keys()]))];
  }

  /** Broadcasts to the members of a room, and keeps it in its history; a `Uint8Array` as a binary payload. */
  broadcast<Kind extends KindName<Kinds>>(
    room: `${Kind}:${string}`,
    data: EventsOf<Kinds, Kind> | Uint8Array<ArrayBuffer>,
  ): void {
    this.#broadcast(room, data);
  }

  /** Sets the state of a room, which its members and whoever joins it are sent. */
  setState<Kind extends KindName<Kinds>>(room: `${Kind}:${string}`, state: StateOf<Kinds, Kind>): void {
    const its = this.#room(room);
    [its.state, its.revision] = [state, its.revision + 1];
    this.#give(room, stateEvent(room, its));
  }

  /** Lists these as the members of a room, and tells who came and who left. */
  setMembers(room: RoomName<Kinds>, members: Member[]): void {
    const its = this.#room(room);
    const before = its.members ?? [];
    const others = (some: Member[], than: Member[]) => some.filter(({ user }) => !than.some(it => it.user === user));
    const [came, left] = [others(members, before), others(before, members)];
    its.members = members;
    const viewers = members.length;
    if (came.length > 0) this.#tellMembers(room, { type: "viewer_joined", room, viewers, users: came });
    if (left.length > 0) this.#tellMembers(room, { type: "viewer_left", room, viewers, users: left });
  }

  /** Answers every join of a room, and every publish to it, with an error. */
  refuse(room: RoomName<Kinds>, code: ErrorCode = "not_allowed"): void {
    this.#refused.set(room, code);
  }

  /** Puts the members out of a room, as the application's `kick` does. */
  kick(room: RoomName<Kinds>, message = ""): void {
    this.#tellMembers(room, { type: "room_left", room, reason: "kicked", message });
    for (const socket of this.#sockets) socket.leaves(room);
  }

  /** Tells every page an event, such as a `resync`. */
  tell(event: object): void {
    for (const socket of this.#sockets) socket.hears(event);
  }

  /** Closes every connection. The client comes back, or not, as the code says. */
  close(code: number, reason = ""): void {
    for (const socket of [...this.#sockets]) socket.ends(code, reason);
  }

  /** The network is gone: connections end, and none can be opened until `goOnline`. */
  goOffline(): void {
    this.#isUp = false;
    this.close(1006);
  }

  /** The network is back. */
  goOnline(): void {
    this.#isUp = true;
  }

  #room(name: string): Room {
    const room = this.#rooms.get(name) ?? { log: [], count: 0, members: null, revision: 0 };
    this.#rooms.set(name, room);
    return room;
  }

  #broadcast(room: string, data: unknown): string {
    const its = this.#room(room);
    const offset = `1.${(its.count += 1)}`;
    its.log.push({ offset, data });
    if (its.log.length > KEPT) its.log.shift();
    this.#give(room, messageOf(room, offset, data));
    return offset;
  }

  // To the members that are not paused.
  #give(room: string, event: object): void {
    this.#tellMembers(room, event, socket => !socket.paused.has(room));
  }

  #tellMembers(room: string, event: object, is: (socket: SocketInMemory) => boolean = () => true): void {
    for (const socket of this.#sockets) {
      if (socket.rooms.has(room) && is(socket)) socket.hears(event);
    }
  }

  #said(socket: SocketInMemory, message: Command): void {
    const { type, room = "", ref } = message;
    const refusal = type === "join" || type === "publish" ? this.#refused.get(room) : undefined;
    if (refusal) return socket.hears({ type: "error", code: refusal, message: "refused by the test", room, ref });
    switch (type) {
      case "ping":
        return socket.hears({ type: "pong", ref });
      case "join":
        return this.#join(socket, room, message);
      case "leave":
        socket.leaves(room);
        return socket.hears({ type: "room_left", room, ref });
      case "publish": {
        if (!socket.rooms.has(room)) {
          return socket.hears({ type: "error", code: "not_joined", message: "not in that room", room, ref });
        }
        this.published.push({ room, data: message.data });
        const position = this.#broadcast(room, message.data);
        if (ref !== undefined) socket.hears({ type: "published", room, position, ref });
        return;
      }
      case "refresh":
        return socket.hears({ type: "refreshed", ref });
      default:
        this.heard.push(message);
    }
  }

  #join(socket: SocketInMemory, room: string, { since: said, newest = 0, paused, ref }: Command): void {
    const its = this.#room(room);
    const isIn = socket.rooms.has(room);
    const pausedAt = socket.paused.get(room);
    socket.rooms.add(room);
    const viewers = its.members?.length ?? [...this.#sockets].filter(other => other.rooms.has(room)).length;
    const list = its.members && { users: its.members.length, members: its.members };
    if (paused) {
      const position = pausedAt ?? (isIn ? undefined : said) ?? `1.${its.count}`;
      socket.paused.set(room, position);
      const recovered = (isIn || said !== undefined) && { recovered: true };
      return socket.hears({ type: "room_joined", room, viewers, paused, ...list, position, ...recovered, ref });
    }
    socket.paused.delete(room);
    const isNew = !isIn || pausedAt !== undefined;
    const since = pausedAt ?? said;
    const missed = since === undefined ? null : its.log.filter(({ offset }) => count(offset) > count(since));
    const recovered = missed && missed.length === its.count - count(since!);
    const place = isNew && { position: recovered ? since : `1.${its.count}`, ...(missed && { recovered }) };
    socket.hears({ type: "room_joined", room, viewers, ...list, ...place, ref });
    if (its.revision > 0) socket.hears(stateEvent(room, its));
    const told = recovered ? missed : newest > 0 ? its.log.slice(-newest) : [];
    if (isNew) for (const { offset, data } of told) socket.hears(messageOf(room, offset, data));
  }
}

const messageOf = (room: string, offset: string, data: unknown) =>
  data instanceof Uint8Array ? framed(PUBLISHED, room, offset, new Uint8Array(data)) : { type: "message", room, offset, data };

// What a page says in a binary message.
function commandOf(message: Uint8Array<ArrayBuffer>): Command {
  const [room, rest] = named(message.subarray(1));
  const [text, payload] = named(rest);
  const ref = text && { ref: JSON.parse(text) };
  return { type: message[0] === PUBLISHED ? "publish" : "binary", room, data: payload.slice(), ...ref };
}

const count = (position: string) => Number(position.slice(2));

const stateEvent = (room: string, { state, revision }: Room) => ({ type: "room_state", room, revision: `1.${revision}`, state });

interface Command {
  type: string;
  room?: string;
  data?: unknown;
  since?: string;
  newest?: number;
  paused?: boolean;
  ref?: unknown;
}

interface Server {
  /** Whether it opens. */
  opened(socket: SocketInMemory): boolean;
  said(socket: SocketInMemory, message: Command): void;
  gone(socket: SocketInMemory): void;
}

/** As much of a `WebSocket` as the client uses. */
class SocketInMemory {
  readyState: number = 0;
  binaryType = "blob";
  onopen: (() => void) | null = null;
  onmessage: ((message: { data: unknown }) => void) | null = null;
  onclose: ((close: { code: number; reason: string }) => void) | null = null;
  readonly rooms = new Set<string>();
  /** Those that it is given no messages of, each with the position at which it stood. */
  readonly paused = new Map<string, string>();
  readonly #server: Server;

  constructor(server: Server) {
    this.#server = server;
    queueMicrotask(() => {
      if (this.readyState !== 0) return;
      if (!server.opened(this)) return this.ends(1006, "");
      this.readyState = 1;
      this.onopen?.();
    });
  }

  send(message: string | Uint8Array<ArrayBuffer>): void {
    const said = typeof message === "string" ? JSON.parse(message) : commandOf(message);
    queueMicrotask(() => this.readyState === 1 && this.#server.said(this, said));
  }

  leaves(room: string): void {
    this.rooms.delete(room);
    this.paused.delete(room);
  }

  close(): void {
    this.readyState = 3;
    this.#server.gone(this);
  }

  hears(event: object): void {
    const data = event instanceof Uint8Array ? event.buffer : JSON.stringify(event);
    queueMicrotask(() => this.readyState === 1 && this.onmessage?.({ data }));
  }

  ends(code: number, reason: string): void {
    queueMicrotask(() => {
      if (this.readyState === 3) return;
      this.close();
      this.onclose?.({ code, reason });
    });
  }
}
