import { Connection } from "./connection.js";
import { retries } from "./retry.js";
import { followPage } from "./page_life.js";
import { planOf } from "./socket_plan.js";
import { listenersOf } from "./listeners.js";
import { timers } from "./timers.js";
import { unframed } from "./unframed.js";
import { ABNORMAL, GOING_AWAY, NOT_ALLOWED, NOT_YET } from "./codes.js";
import { LAST_REFRESH, REFRESH_AGAIN, RESYNC_WITHIN, TOKEN_WITHIN } from "./times.js";
import type { ConnectOptions, JoinOptions, Transport } from "./options.js";
import type { Page, Plan, ServerSays } from "./plan.js";
import type { Position } from "./protocol.js";
import type { RoomStates } from "./room_states.js";

const REFRESH = "refresh"; // the type of the command with a new token, and its `ref`

/**
 * A client, whose types are those that the caller gives it. `many`: at an endpoint of many rooms; where the caller does not know, the
 * first join shows it.
 */
export function keepUp(path: string | URL, options: ConnectOptions<unknown>, many = false): object {
  const { token, history } = options;
  const wanted = new Map<string, JoinOptions>(); // the rooms, whether there is a connection or not, and what their joins say besides
  const places = new Map<string | null, Position>(); // where this page stands in the history of each room; at the endpoint of one room under null
  const due = new Map<string, [ServerSays, Connection | null]>(); // what tells the page to fetch and is not handed on yet, and who was told
  const answered = new Set<string>(); // the rooms of which something was handed on since the connection began
  const states: RoomStates = new Map(); // of the rooms that have one
  const retry = retries();
  const [after, stopTimers] = timers(); // those of a turn
  const over = new AbortController();
  const listeners = listenersOf(options);
  let held = new Set<string>(); // wanted rooms that the page is not in for a while
  let paused = new Set<string>(); // and those in which it is without their messages
  let connection: Connection | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined; // of the next try, if there is one
  let asleep = false; // whether the page was left and may come back as it is
  let transport: Transport = "socket"; // what the page was told
  let idle = false; // whether an event stream waits for a room to be for
  let refreshes = 0; // how often a new token did not get through since it was asked for
  let turn = 0; // of a connection, or the try of one: what was begun in another turn is not finished

  // A stream gives all messages of its rooms.
  const rooms = () => [...wanted.keys()].filter(room => !held.has(room) && !(fallback?.active && paused.has(room)));

  const page: Page = {
    states,
    rooms,
    wanted,
    saying: room => ({ since: places.get(room), paused: paused.has(room!) || undefined, ...wanted.get(room!) }),
    note,
    heard,
    soon: fetchSoon,
    heardBytes,
    began,
    ended,
    again: begin,
    after,
  };

  const fallback = options.events?.({
    ...page,
    options,
    signal: over.signal,
    isSingle: () => !many,
    isOpen: () => !!connection?.opened,
    token: async () => (token ? ask().catch(() => null) : undefined),
    socket: jwt => socketPlan(jwt).open(),
    tell,
  });

  async function begin(): Promise<void> {
    letGo();
    const mine = turn;
    let jwt: string | null = null;
    try {
      if (token) jwt = await ask(retry.refusal.code);
    } catch (fault) {
      if (mine === turn) ended(ABNORMAL, String(fault));
      return;
    }
    if (mine !== turn) return;
    if (token && !jwt) return stop(...retry.noToken());
    idle = !!fallback?.isIdle();
    if (!idle) connection = new Connection(fallback?.active ? fallback.plan(jwt) : socketPlan(jwt), page);
  }

  // A token in time.
  async function ask(code?: number): Promise<string | null> {
    const given = token!(code);
    const late = new Promise<never>((_, reject) => after(() => reject(new Error("no token in time")), TOKEN_WITHIN));
    return Promise.race([late, given]);
  }

  function socketPlan(jwt: string | null): Plan {
    return planOf(path, options, jwt, places.get(null));
  }

  function began(): void {
    const now = fallback?.active ? "events" : "socket";
    fallback?.began();
    if (now !== transport) listeners.tell("transport", (transport = now));
    listeners.tell("open", now);
  }

  // Ends the connection, or the try, without a word.
  function letGo(): void {
    endTurn();
    clearTimeout(timer);
    timer = undefined;
    retry.inMs = null;
    if (connection?.opened) retry.keepsPlace();
    connection?.drop();
    connection = null;
    answered.clear();
    fallback?.letGo();
    idle = false;
  }

  function endTurn(): void {
    turn += 1;
    stopTimers();
  }

  function tell(event: unknown): void {
    listeners.tell("event", event);
  }

  // What is said on the endpoint of one room may be any JSON.
  function heard(event: ServerSays): void {
    const type = event?.type;
    if (type === "reconnect" && event.in_ms >= 0) retry.inMs = event.in_ms;
    if (type === "pong") retry.provedGood();
    if (type === "token_expiring" && token) {
      refreshes = 0;
      void refresh();
    }
    if (type === "error" && event.ref === REFRESH && NOT_YET.includes(event.code)) refreshLater(event.retry_after_ms);
    // Put out, or made to leave: who joins again after the next reconnect is refused, or does what nobody wants.
    if (type === "room_left" && event.reason) {
      wanted.delete(event.room);
      places.delete(event.room);
    }
    tell(event);
    if (type === "room_joined") settleDue(event);
  }

  // Heard once for each room, at a random moment.
  function fetchSoon(event: ServerSays): void {
    const what = `${event.type} ${event.room}`;
    if (due.has(what)) return;
    due.set(what, [event, connection]);
    after(() => due.delete(what) && tell(event), Math.random() * RESYNC_WITHIN);
  }

  // What an ended connection was told is behind the position that this one resumes from, so nobody says it again. A page that is
  // not given what it missed fetches anyway.
  function settleDue({ room, recovered }: ServerSays): void {
    for (const [what, [event, by]] of due) {
      if (event.room === room && by !== connection && due.delete(what) && recovered) tell(event);
    }
  }

  function heardBytes(frame: Uint8Array<ArrayBuffer>): void {
    // Where positions are told, or there are many rooms, it names its room.
    const payload: ReturnType<typeof unframed> = many || history ? unframed(frame) : [frame, {}];
    if (!payload) return;
    if (note({ type: "message", ...payload[1] })) listeners.tell("binary", ...payload);
  }

  // Where there is no new token in time the connection ends with the old one, and the next one asks again.
  async function refresh(): Promise<void> {
    const mine = turn;
    try {
      const jwt = await ask();
      if (jwt && mine === turn) send({ type: REFRESH, token: jwt, ref: REFRESH });
    } catch {
      // Told by `offline`, if it comes to that.
      if (mine === turn) refreshLater();
    }
  }

  // Whoever makes tokens or checks them may be away for a moment. A connection that is gone by then needs no token.
  function refreshLater(least = 0): void {
    const delay = Math.min(LAST_REFRESH, REFRESH_AGAIN * 2 ** refreshes++);
    after(refresh, Math.max(least, delay * (1 + Math.random() / 4)));
  }

  // Keeps the position that the page comes back with; whether the event is to be handed on. Where the server joins a room by itself,
  // as the user's own, it does not know where the page stands: all that the history has comes again with the answer to its join.
  function note(event: ServerSays): boolean {
    const { type, room, ref, position, offset } = event ?? {};
    const joined = type === "room_joined";
    const place = joined ? position : (type === "message" || type === "refresh") && offset;
    const early = !ref && !answered.has(room) && !fallback?.active;
    if (early && (joined || place) && wanted.has(room) && places.has(room)) return false;
    if (joined || place) answered.add(room);
    if (place && (history || wanted.has(room))) places.set(history ? null : room, place);
    return true;
  }

  function ended(code: number, reason: string): void {
    const neverOpened = connection?.opened === false;
    if (connection) fallback?.ended(connection.opened, code);
    connection = null;
    endTurn();
    // A stream that was put out of its last room. A socket would go on, for the rooms to come.
    idle = code === NOT_ALLOWED && !!fallback?.isIdle();
    if (idle) return;
    const delay = retry.after(code, reason, neverOpened, !!token);
    if (delay === null) return stop(code, reason);
    if (delay === undefined) return void begin();
    timer = setTimeout(begin, delay);
    listeners.tell("offline", { code, reason, in_ms: delay });
  }

  function close(): void {
    if (over.signal.aborted) return;
    over.abort();
    letGo();
    listeners.tell("closed");
  }

  function stop(code: number, reason: string): void {
    close();
    listeners.tell("end", code, reason);
  }

  function sleep(): void {
    if (asleep) return;
    asleep = true;
    letGo();
    listeners.tell("offline", { code: GOING_AWAY, reason: "the page was left", in_ms: 0 });
  }

  // There is nothing to wait for, unless the server asked for it.
  function wake(): void {
    if (connection) return connection.ping();
    if (!asleep && !(timer && retry.mayHurry)) return;
    asleep = false;
    retry.hurry();
    void begin();
  }

  followPage(over.signal, sleep, wake);

  const send = (message: object) => connection?.send(message) ?? false;

  timer = setTimeout(begin); // not before the caller has what is returned
  return {
    wanted,
    get status() {
      return over.signal.aborted ? "closed" : connection?.opened ? "open" : "connecting";
    },
    on: listeners.on,
    // The server sends the members twice in five seconds; where an answer comes without, the room is joined once more after
    // that time.
    join(room: string, { newest, with: words, observe }: JoinOptions = {}) {
      many = true;
      held.delete(room);
      paused.delete(room);
      wanted.set(room, { newest, with: words, observe } as JoinOptions);
      connection?.joinAgain(room);
      if (idle) void begin();
    },
    rejoin: (room: string) => connection?.joinAgain(room),
    leave(room: string) {
      wanted.delete(room);
      places.delete(room);
      states.delete(room);
      connection?.settle();
    },
    hold(rooms: Iterable<string>) {
      held = new Set(rooms);
      connection?.settle();
      if (idle) void begin();
    },
    pause(rooms: Iterable<string>) {
      const before = paused;
      paused = new Set(rooms);
      for (const room of wanted.keys()) if (before.has(room) !== paused.has(room)) connection?.joinAgain(room);
      if (idle) void begin();
    },
    send,
    publish: (room: string, data: unknown, ref?: unknown) => send({ type: "publish", room, data, ref }),
    renew() {
      retry.refusal = {};
      if (!over.signal.aborted && !asleep) void begin();
    },
    close,
  };
}
