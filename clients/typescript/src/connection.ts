import { NORMAL, NO_ANSWER, NOT_YET } from "./codes.js";
import { joinRate } from "./join_rate.js";
import { OPEN, type Page, type Plan, type ServerSays, type Socket } from "./plan.js";
import { type StateEvent, wholeState } from "./room_states.js";
import { ANSWER_WITHIN, LIST_WINDOW, PING_EVERY, RESYNC_WITHIN } from "./times.js";

/** One connection, from the upgrade to its end, which is told once. */
export class Connection {
  opened = false;
  #plan: Plan;
  #page: Page;
  #socket: Socket;
  #asked = new Map<string, string | null>(); // the rooms that the server was asked for, and the `ref` of the join: null if to ask again
  #lastRef = 0;
  #mayAsk: () => boolean;
  #told = new Set<string>(); // the rooms whose `room_joined` has said what the next `resync` does
  #anew = new Set<string>(); // the rooms whose state is asked for anew, soon
  #lists = new Map<string, (() => void) | 0>(); // the rooms whose members are asked for again: what stops that, or 0 once it was done
  #over = false;
  #stopWaiting: (() => void) | undefined; // for an answer

  constructor(plan: Plan, page: Page) {
    [this.#plan, this.#page] = [plan, page];
    this.#mayAsk = joinRate(page.after, () => this.settle());
    for (const room of plan.stream?.rooms() ?? []) this.#asked.set(room, room);
    const socket = (this.#socket = plan.open());
    socket.onopen = () => this.#begin();
    socket.onmessage = ({ data }) => this.#received(data);
    socket.onclose = ({ code, reason }) => this.#end(code, reason);
    this.#awaitAnswer();
  }

  #begin(): void {
    if (this.#over) return;
    this.opened = true;
    const { first, stream } = this.#plan;
    this.#answered();
    if (!stream) this.#beat();
    if (first) this.send(first);
    this.settle();
    if (!this.#over) this.#page.began();
  }

  #beat(): void {
    this.#page.after(() => {
      this.ping();
      this.#beat();
    }, PING_EVERY);
  }

  /** Asks whether the other end is still there. */
  ping(): void {
    if (this.send({ type: "ping" })) this.#awaitAnswer();
  }

  // A network that is gone sends no close, and the browser would wait for one.
  #awaitAnswer(within = ANSWER_WITHIN): void {
    this.#stopWaiting?.();
    this.#stopWaiting = this.#page.after(() => this.#end(NO_ANSWER, "no answer"), within);
  }

  #answered(): void {
    this.#stopWaiting?.();
    const { stream } = this.#plan;
    if (stream) this.#awaitAnswer(stream.silence);
  }

  #end(code: number, reason: string): void {
    if (this.#over) return;
    this.drop();
    this.#page.ended(code, reason);
  }

  /** Ends it, and tells nobody. */
  drop(): void {
    this.#over = true;
    this.#socket.close(NORMAL);
  }

  /** Sends an object as JSON, or bytes as they are. Returns whether there was a socket to give it to. */
  send(message: object): boolean {
    // An event stream has no `readyState`.
    const open = !this.#over && this.#socket.readyState === OPEN;
    if (open) this.#socket.send?.(message instanceof Uint8Array ? (message as Uint8Array<ArrayBuffer>) : JSON.stringify(message));
    return open;
  }

  #received(data: unknown): void {
    if (this.#over) return;
    this.#answered();
    if (typeof data !== "string") return this.#page.heardBytes(new Uint8Array(data as ArrayBuffer));
    let event: ServerSays = JSON.parse(data);
    if (!this.#page.note(event)) return;
    // At an endpoint of one room a socket has the payload alone.
    if (this.#plan.bare && event?.type === "message") event = event.data;
    const type = event?.type;
    if (type === "resync" || type === "refresh") return this.#fetchSoon(event);
    if (type === "room_state") return this.#state(event);
    if (type === "error") this.#refused(event);
    if (type === "room_joined") this.#joined(event);
    if (type === "room_left" && event.reason) this.#asked.delete(event.room);
    this.#page.heard(event);
  }

  #fetchSoon(event: ServerSays): void {
    const { type, room } = event;
    if (type === "resync" && this.#told.delete(room)) return;
    this.#page.soon(event);
    // What has changed in it may have been left out too.
    if (type === "resync" && this.#page.states.has(room)) this.#stateAnew(room);
  }

  #state(event: StateEvent): void {
    const whole = wholeState(this.#page.states, event);
    if (whole) this.#page.heard(whole);
    else if (whole === undefined) this.#stateAnew(event.room);
  }

  // Whoever joins is sent all of it. A room that was not joined by name is that of the endpoint.
  #stateAnew(room: string): void {
    if (this.#anew.has(room)) return;
    this.#anew.add(room);
    this.#page.after(() => {
      this.#anew.delete(room);
      if (this.#page.wanted.has(room)) this.joinAgain(room);
      else this.#page.again();
    }, Math.random() * RESYNC_WITHIN);
  }

  // A room with members has `users`. Without `members` the server has sent the list a moment ago, and what this join was
  // to find out may be newer than that.
  #joined({ room, users, members, recovered }: ServerSays): void {
    if (recovered === false) this.#told.add(room);
    if (users === undefined || !this.#asked.has(room)) return;
    const before = this.#lists.get(room);
    if (before) before();
    if (members || before === 0) return void this.#lists.delete(room);
    const again = () => {
      this.#lists.set(room, 0);
      this.joinAgain(room);
    };
    this.#lists.set(room, this.#page.after(again, LIST_WINDOW));
  }

  joinAgain(room: string): void {
    if (this.#asked.has(room)) this.#asked.set(room, null);
    this.settle();
  }

  /** Asks the server for what is wanted and was not asked for yet, and the other way round. */
  settle(): void {
    if (!this.opened || this.#over) return;
    if (this.#plan.stream) return this.#settleStream(this.#plan.stream.rooms());
    const rooms = this.#page.rooms();
    for (const room of this.#asked.keys()) {
      if (!rooms.includes(room) && !this.#leave(room)) return;
    }
    for (const room of rooms) {
      if (!this.#asked.get(room) && !this.#join(room)) return;
    }
  }

  // A stream has the rooms that it was opened for.
  #settleStream(rooms: string[]): void {
    if (rooms.length !== this.#asked.size || !rooms.every(room => this.#asked.get(room))) this.#page.again();
  }

  #join(room: string): boolean {
    if (!this.#mayAsk()) return false;
    const ref = `join ${++this.#lastRef}`;
    this.#asked.set(room, ref);
    return this.send({ type: "join", room, ref, ...this.#page.saying(room) });
  }

  #leave(room: string): boolean {
    if (!this.#mayAsk()) return false;
    this.#asked.delete(room);
    return this.send({ type: "leave", room });
  }

  // A room that one may not be in is not wanted any more, or it would be asked for again after each reconnect.
  #refused(event: ServerSays): void {
    for (const [room, asked] of this.#asked) {
      if (asked === null || asked !== (this.#plan.stream ? event.room : event.ref)) continue;
      event.room ??= room; // also where it is no name of a room
      if (!NOT_YET.includes(event.code)) {
        this.#asked.delete(room);
        this.#page.wanted.delete(room);
      } else {
        const later = (ANSWER_WITHIN * (1 + Math.random())) / 2;
        this.#page.after(() => this.joinAgain(room), Math.max(later, event.retry_after_ms ?? 0));
      }
    }
  }
}
