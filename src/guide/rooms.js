// A connection that keeps itself up, to one room or to many. Copy it, and change what you like. It is made from the TypeScript
// of the package `@ws-rooms/client`, by `npm run build` in `clients/typescript`.
//
//   const rooms = connect("/ws", { token: fetchToken, onEvent: show, onOffline: say, onEnd: sayWhy });
//   rooms.join("post:42");
//
// At the endpoint of one room the room is in the path, and nothing is joined.
//
// A room with a history is resumed: after a reconnect its `room_joined` has `recovered: true`, and what was missed follows; there
// is nothing to fetch then. Where it has `recovered: false`, fetch, as on `resync`, which does not come besides. `join(room,
// { newest: 50 })` asks for the newest messages: for a page that comes for the first time, or can't be given what it missed.
// At the endpoint of one room `history: true`, or `history: { newest: 50 }`, asks for it, and payloads come in `message`.
//
// A room with a state: `room_state` always has all of it, as `state`; what the server sends of it is put together here.
//
// `token(code)` resolves to a token, or to null where there is none, which is the end. It is asked at each connection, and a
// minute before a token ends, whose connection goes on with the new one. Where the last token was refused, `code` is the close
// code that it met: 1008, 4401 and 4410 are about it, 1006 may be. No `token` where a cookie is the credential.
// `tokenIn` says how it travels, as the endpoint takes it: "query" unless set; "protocol", with the application's `protocol`
// beside it, as `{ tokenIn: "protocol", protocol: "app.v1" }`; or "message", which is the first one.
// `events: "/sse"` is the path of an event stream of the same rooms, for networks that let no WebSocket through: it is used where
// two sockets in a row do not open, and left again for the first socket that does. The token then goes in `Authorization`. A
// stream has up to 16 rooms, and what is asked for with a join besides `newest` and `observe` is not asked for there.
// `onTransport(transport)`: from now on it is "events", where `send` and `publish` return false, or "socket" again.
// `onEvent(event)` is given every event of the server, and at the endpoint of one room every payload.
// `onBinary(bytes, { room, offset })` is given every payload of bytes, as a `Uint8Array`; at the endpoint of one room without
// `history` there is no room. At the endpoint of many rooms, `many: true` says so where no room is joined, as for bytes of the
// user's own room alone; a join shows it as well.
// `onOffline({ code, reason, in_ms })`: the connection is gone, and the next try is then.
// `onEnd(code, reason)`: it is gone, and there is no next try; `connect` again if you will.
//
// What is returned:
// `join(room, { newest, with, observe })`: on this connection and on each later one. Also for a room that the page is in: the
// answer has the members as they are now. The server sends them twice in five seconds; where an answer comes without, the room is
// joined once more after that time.
// `rejoin(room)`: for the members as they are now, of a room that is held or paused and stays so.
// `leave(room)`: and forgets where the page stood in it. `hold(rooms)` leaves these without forgetting them: the next call joins
// those that it does not name, each where it was left. `wanted` has the rooms that were joined and not left.
// `pause(rooms)` stays in these without their messages, for a page that nobody looks at: it is counted and hears who comes and
// goes. The next call goes on in those that it does not name, with what was missed or a `resync`. An event stream leaves them.
// `send(message)`: any message, as for the application's `on_message`; among many rooms it names its `room`. Returns whether it was
// sent: what is said while there is no connection is not kept, and on an event stream nothing can be said.
// `publish(room, data, ref)`: the same. An answer repeats the `ref`, if any.
// `publishBinary(room, bytes, ref)`: the same with bytes, an `ArrayBuffer` or a view of one; `sendBinary` with those for the
// application's `on_binary_message`. At the endpoint of one room without `history`, `room` is null.
// `renew()`: comes again with a new token, where the user's rights have changed. `onOffline` is silent.
// `close()`: for good; nothing is heard after it but "closed". `status` is "connecting", "open" or "closed".
// `on(what, run)`: calls `run` for each "event", "binary", "open", "transport", "offline", "end" or "closed", besides the functions above,
// until the function that it returns is called.

export function connect(path, options) {
  const { events, many, ...others } = options;
  const client = keepUp(path, { ...others, events: events ? eventStream(events) : undefined }, many);
  return Object.assign(client, {
    publishBinary: publishBinary.bind(null, client),
    sendBinary: sendBinary.bind(null, client),
  });
}

const REFRESH = "refresh"; // the type of the command with a new token, and its `ref`

/**
 * A client, whose types are those that the caller gives it. `many`: at an endpoint of many rooms; where the caller does not know, the
 * first join shows it.
 */
function keepUp(path, options, many = false) {
  const { token, history } = options;
  const wanted = new Map(); // the rooms, whether there is a connection or not, and what their joins say besides
  const places = new Map(); // where this page stands in the history of each room; at the endpoint of one room under null
  const due = new Map(); // what tells the page to fetch and is not handed on yet, and who was told
  const answered = new Set(); // the rooms of which something was handed on since the connection began
  const states = new Map(); // of the rooms that have one
  const retry = retries();
  const [after, stopTimers] = timers(); // those of a turn
  const over = new AbortController();
  const listeners = listenersOf(options);
  let held = new Set(); // wanted rooms that the page is not in for a while
  let paused = new Set(); // and those in which it is without their messages
  let connection = null;
  let timer; // of the next try, if there is one
  let asleep = false; // whether the page was left and may come back as it is
  let transport = "socket"; // what the page was told
  let idle = false; // whether an event stream waits for a room to be for
  let refreshes = 0; // how often a new token did not get through since it was asked for
  let turn = 0; // of a connection, or the try of one: what was begun in another turn is not finished

  // A stream gives all messages of its rooms.
  const rooms = () => [...wanted.keys()].filter(room => !held.has(room) && !(fallback?.active && paused.has(room)));

  const page = {
    states,
    rooms,
    wanted,
    saying: room => ({ since: places.get(room), paused: paused.has(room) || undefined, ...wanted.get(room) }),
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

  async function begin() {
    letGo();
    const mine = turn;
    let jwt = null;
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
  async function ask(code) {
    const given = token(code);
    const late = new Promise((_, reject) => after(() => reject(new Error("no token in time")), TOKEN_WITHIN));
    return Promise.race([late, given]);
  }

  function socketPlan(jwt) {
    return planOf(path, options, jwt, places.get(null));
  }

  function began() {
    const now = fallback?.active ? "events" : "socket";
    fallback?.began();
    if (now !== transport) listeners.tell("transport", (transport = now));
    listeners.tell("open", now);
  }

  // Ends the connection, or the try, without a word.
  function letGo() {
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

  function endTurn() {
    turn += 1;
    stopTimers();
  }

  function tell(event) {
    listeners.tell("event", event);
  }

  // What is said on the endpoint of one room may be any JSON.
  function heard(event) {
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
  function fetchSoon(event) {
    const what = `${event.type} ${event.room}`;
    if (due.has(what)) return;
    due.set(what, [event, connection]);
    after(() => due.delete(what) && tell(event), Math.random() * RESYNC_WITHIN);
  }

  // What an ended connection was told is behind the position that this one resumes from, so nobody says it again. A page that is
  // not given what it missed fetches anyway.
  function settleDue({ room, recovered }) {
    for (const [what, [event, by]] of due) {
      if (event.room === room && by !== connection && due.delete(what) && recovered) tell(event);
    }
  }

  function heardBytes(frame) {
    // Where positions are told, or there are many rooms, it names its room.
    const payload = many || history ? unframed(frame) : [frame, {}];
    if (!payload) return;
    if (note({ type: "message", ...payload[1] })) listeners.tell("binary", ...payload);
  }

  // Where there is no new token in time the connection ends with the old one, and the next one asks again.
  async function refresh() {
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
  function refreshLater(least = 0) {
    const delay = Math.min(LAST_REFRESH, REFRESH_AGAIN * 2 ** refreshes++);
    after(refresh, Math.max(least, delay * (1 + Math.random() / 4)));
  }

  // Keeps the position that the page comes back with; whether the event is to be handed on. Where the server joins a room by itself,
  // as the user's own, it does not know where the page stands: all that the history has comes again with the answer to its join.
  function note(event) {
    const { type, room, ref, position, offset } = event ?? {};
    const joined = type === "room_joined";
    const place = joined ? position : (type === "message" || type === "refresh") && offset;
    const early = !ref && !answered.has(room) && !fallback?.active;
    if (early && (joined || place) && wanted.has(room) && places.has(room)) return false;
    if (joined || place) answered.add(room);
    if (place && (history || wanted.has(room))) places.set(history ? null : room, place);
    return true;
  }

  function ended(code, reason) {
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

  function close() {
    if (over.signal.aborted) return;
    over.abort();
    letGo();
    listeners.tell("closed");
  }

  function stop(code, reason) {
    close();
    listeners.tell("end", code, reason);
  }

  function sleep() {
    if (asleep) return;
    asleep = true;
    letGo();
    listeners.tell("offline", { code: GOING_AWAY, reason: "the page was left", in_ms: 0 });
  }

  // There is nothing to wait for, unless the server asked for it.
  function wake() {
    if (connection) return connection.ping();
    if (!asleep && !(timer && retry.mayHurry)) return;
    asleep = false;
    retry.hurry();
    void begin();
  }

  followPage(over.signal, sleep, wake);

  const send = message => connection?.send(message) ?? false;

  timer = setTimeout(begin); // not before the caller has what is returned
  return {
    wanted,
    get status() {
      return over.signal.aborted ? "closed" : connection?.opened ? "open" : "connecting";
    },
    on: listeners.on,
    // The server sends the members twice in five seconds; where an answer comes without, the room is joined once more after
    // that time.
    join(room, { newest, with: words, observe } = {}) {
      many = true;
      held.delete(room);
      paused.delete(room);
      wanted.set(room, { newest, with: words, observe });
      connection?.joinAgain(room);
      if (idle) void begin();
    },
    rejoin: room => connection?.joinAgain(room),
    leave(room) {
      wanted.delete(room);
      places.delete(room);
      states.delete(room);
      connection?.settle();
    },
    hold(rooms) {
      held = new Set(rooms);
      connection?.settle();
      if (idle) void begin();
    },
    pause(rooms) {
      const before = paused;
      paused = new Set(rooms);
      for (const room of wanted.keys()) if (before.has(room) !== paused.has(room)) connection?.joinAgain(room);
      if (idle) void begin();
    },
    send,
    publish: (room, data, ref) => send({ type: "publish", room, data, ref }),
    renew() {
      retry.refusal = {};
      if (!over.signal.aborted && !asleep) void begin();
    },
    close,
  };
}

/** One connection, from the upgrade to its end, which is told once. */
class Connection {
  opened = false;
  #plan;
  #page;
  #socket;
  #asked = new Map(); // the rooms that the server was asked for, and the `ref` of the join: null if to ask again
  #lastRef = 0;
  #mayAsk;
  #told = new Set(); // the rooms whose `room_joined` has said what the next `resync` does
  #anew = new Set(); // the rooms whose state is asked for anew, soon
  #lists = new Map(); // the rooms whose members are asked for again: what stops that, or 0 once it was done
  #over = false;
  #stopWaiting; // for an answer

  constructor(plan, page) {
    [this.#plan, this.#page] = [plan, page];
    this.#mayAsk = joinRate(page.after, () => this.settle());
    for (const room of plan.stream?.rooms() ?? []) this.#asked.set(room, room);
    const socket = (this.#socket = plan.open());
    socket.onopen = () => this.#begin();
    socket.onmessage = ({ data }) => this.#received(data);
    socket.onclose = ({ code, reason }) => this.#end(code, reason);
    this.#awaitAnswer();
  }

  #begin() {
    if (this.#over) return;
    this.opened = true;
    const { first, stream } = this.#plan;
    this.#answered();
    if (!stream) this.#beat();
    if (first) this.send(first);
    this.settle();
    if (!this.#over) this.#page.began();
  }

  #beat() {
    this.#page.after(() => {
      this.ping();
      this.#beat();
    }, PING_EVERY);
  }

  /** Asks whether the other end is still there. */
  ping() {
    if (this.send({ type: "ping" })) this.#awaitAnswer();
  }

  // A network that is gone sends no close, and the browser would wait for one.
  #awaitAnswer(within = ANSWER_WITHIN) {
    this.#stopWaiting?.();
    this.#stopWaiting = this.#page.after(() => this.#end(NO_ANSWER, "no answer"), within);
  }

  #answered() {
    this.#stopWaiting?.();
    const { stream } = this.#plan;
    if (stream) this.#awaitAnswer(stream.silence);
  }

  #end(code, reason) {
    if (this.#over) return;
    this.drop();
    this.#page.ended(code, reason);
  }

  /** Ends it, and tells nobody. */
  drop() {
    this.#over = true;
    this.#socket.close(NORMAL);
  }

  /** Sends an object as JSON, or bytes as they are. Returns whether there was a socket to give it to. */
  send(message) {
    // An event stream has no `readyState`.
    const open = !this.#over && this.#socket.readyState === OPEN;
    if (open) this.#socket.send?.(message instanceof Uint8Array ? message : JSON.stringify(message));
    return open;
  }

  #received(data) {
    if (this.#over) return;
    this.#answered();
    if (typeof data !== "string") return this.#page.heardBytes(new Uint8Array(data));
    let event = JSON.parse(data);
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

  #fetchSoon(event) {
    const { type, room } = event;
    if (type === "resync" && this.#told.delete(room)) return;
    this.#page.soon(event);
    // What has changed in it may have been left out too.
    if (type === "resync" && this.#page.states.has(room)) this.#stateAnew(room);
  }

  #state(event) {
    const whole = wholeState(this.#page.states, event);
    if (whole) this.#page.heard(whole);
    else if (whole === undefined) this.#stateAnew(event.room);
  }

  // Whoever joins is sent all of it. A room that was not joined by name is that of the endpoint.
  #stateAnew(room) {
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
  #joined({ room, users, members, recovered }) {
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

  joinAgain(room) {
    if (this.#asked.has(room)) this.#asked.set(room, null);
    this.settle();
  }

  /** Asks the server for what is wanted and was not asked for yet, and the other way round. */
  settle() {
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
  #settleStream(rooms) {
    if (rooms.length !== this.#asked.size || !rooms.every(room => this.#asked.get(room))) this.#page.again();
  }

  #join(room) {
    if (!this.#mayAsk()) return false;
    const ref = `join ${++this.#lastRef}`;
    this.#asked.set(room, ref);
    return this.send({ type: "join", room, ref, ...this.#page.saying(room) });
  }

  #leave(room) {
    if (!this.#mayAsk()) return false;
    this.#asked.delete(room);
    return this.send({ type: "leave", room });
  }

  // A room that one may not be in is not wanted any more, or it would be asked for again after each reconnect.
  #refused(event) {
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

// Close codes. Whatever is not here is worth another try.
const NORMAL = 1000;
const GOING_AWAY = 1001;
const ABNORMAL = 1006;
const BAD_TOKEN = 1008;
const TRY_LATER = 1013;
const EXPIRED = 4401;
const NOT_ALLOWED = 4403;
const NO_ANSWER = 4408;
const REVOKED = 4410;
const TOO_MANY = 4430;
const ABOUT_THE_TOKEN = [BAD_TOKEN, EXPIRED, REVOKED];
const FOR_GOOD = [1002, 1003, 1007, 1009, NOT_ALLOWED, TOO_MANY];
const NOT_SO_SOON = [1011, TRY_LATER, REVOKED, 4429];

// Codes of errors: what they answer may be tried again.
const NOT_YET = ["unavailable", "rate_limited"];

const JOINS_PER_SECOND = 40; // the server reads as many a second, and closes with 4429 who sends more for 30 s

/** How many joins and leaves may be sent now: returns whether one more may be. `resume` is called when more may be sent again. */
function joinRate(after, resume) {
  let left = JOINS_PER_SECOND;
  return () => {
    if (left === JOINS_PER_SECOND) {
      after(() => {
        left = JOINS_PER_SECOND;
        resume();
      }, 1_000);
    }
    const may = left > 0;
    if (may) left -= 1;
    return may;
  };
}

/** The `readyState` of an open socket. */
const OPEN = 1;

/** The event with all of the state; null where it says nothing new, and undefined where it does not fit to what is here. */
function wholeState(states, event) {
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

// What a JSON merge patch (RFC 7396) makes of a value. `fromEntries`, as a name may be `__proto__`.
function merged(value, patch) {
  if (!isObject(patch)) return patch;
  const members = new Map(isObject(value) ? Object.entries(value) : []);
  for (const [name, change] of Object.entries(patch)) {
    if (change === null) members.delete(name);
    else members.set(name, merged(members.get(name), change));
  }
  return Object.fromEntries(members);
}

function isObject(it) {
  return it !== null && typeof it === "object" && !Array.isArray(it);
}

// How long the client waits, in milliseconds, and how often it tries.

const PING_EVERY = 20_000; // the server pings too, but a page is not told of that
const ANSWER_WITHIN = 10_000; // an upgrade and a pong
const RESYNC_WITHIN = 5_000; // every page is told at once, and they shall not all ask at once
const LIST_WINDOW = 5_000; // the server sends a room's members twice in this time to one connection

const TOKEN_WITHIN = 10_000;
const REFRESH_AGAIN = 5_000; // the server takes a token each five seconds; doubled with each try
const LAST_REFRESH = 20_000; // a try a minute before a token ends, and three more

const FIRST_DELAY = 500; // doubled with each failure
const LONGEST_DELAY = 30_000;
const LATER = 4; // failures that "later" counts for: 4 s to 8 s
const TRIES_FOR_A_PLACE = 3; // 27 s at least; an old connection keeps its place for 20 s at most

/** Whether a connection that ended is tried again, and when. */
function retries() {
  let failures = 0; // since a connection last proved good
  let placeTries = 0; // how often 4430 may mean this page's own old connection, which is still being closed

  const retry = {
    /** The code and the reason for which the last token was refused. */
    refusal: {},
    /** When to come back, where the server said it. */
    inMs: null,
    /** Whether the next try may come sooner. */
    mayHurry: true,

    /** The first pong comes after a while: a connection that is closed before has not proved good. */
    provedGood() {
      failures = placeTries = 0;
      retry.refusal = {};
    },

    /** A connection of our own is being closed, and keeps its place among those of its user until it is. */
    keepsPlace() {
      placeTries = TRIES_FOR_A_PLACE;
    },

    hurry() {
      failures = 0;
    },

    /** In how many milliseconds; null for never, and undefined for at once, without a word. */
    after(code, reason, neverOpened, hasToken) {
      const asked = retry.inMs;
      const ownPlace = code === TOO_MANY && placeTries > 0;
      // A new token may be of a new sign-in, once.
      const revoked = code === REVOKED && (!hasToken || retry.refusal.code === REVOKED);
      const forGood = (FOR_GOOD.includes(code) && !ownPlace) || (code === BAD_TOKEN && !hasToken) || revoked;
      // A server that said `reconnect` is going down, however the connection ends: some libraries make 1002 of its 1012.
      if (forGood && asked === null) return null;
      if (ownPlace) placeTries -= 1;
      // A slow connection keeps its place until its close frame is out.
      if (code === TRY_LATER) retry.keepsPlace();
      // A browser does not say why an upgrade was refused: it may have been the token.
      retry.refusal = neverOpened || ABOUT_THE_TOKEN.includes(code) ? { code, reason } : {};
      // Nothing is wrong with a token that has had its time, and nothing to tell.
      if (code === EXPIRED && failures === 0 && asked === null) {
        failures = 1;
        return undefined;
      }
      const notSoSoon = ownPlace || NOT_SO_SOON.includes(code);
      if (notSoSoon) failures = Math.max(failures, LATER);
      retry.mayHurry = asked === null && !notSoSoon;
      retry.inMs = null;
      if (asked !== null) return asked;
      // At a random moment, so that a restart meets no herd.
      const longest = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** failures++);
      return Math.round((longest * (1 + Math.random())) / 2);
    },

    /** What to say where there is no further token: what became of the last one. */
    noToken() {
      const { code = ABNORMAL, reason = "" } = retry.refusal;
      return ABOUT_THE_TOKEN.includes(code) ? [code, reason] : [BAD_TOKEN, "no token"];
    },
  };
  return retry;
}

/**
 * Tells when a page goes to sleep and wakes up, where there is a page. A page that was left stays in the back/forward cache with
 * its connection, which the browser keeps up for minutes: it would be counted as a viewer. The same with a tab that is frozen.
 * And somebody who looks at the page again, or a network that is back, is not kept waiting.
 */
function followPage(signal, sleep, wake) {
  const { document } = globalThis;
  const on = (target, event, run) => target?.addEventListener?.(event, run, { signal });
  on(globalThis, "pagehide", sleep);
  on(document, "freeze", sleep);
  on(globalThis, "pageshow", wake);
  on(document, "resume", wake);
  on(document, "visibilitychange", () => document?.hidden || wake());
  on(globalThis, "online", wake);
}

/** The URL of a path, which in a page may be one of its own server. */
function urlOf(path) {
  return new URL(path, globalThis.location?.href);
}

/** What opens a WebSocket, with the token where the endpoint takes it. */
function planOf(path, options, jwt, since = "") {
  const { tokenIn = "query", protocol, history, WebSocket: Given } = options;
  const url = urlOf(path);
  url.protocol = url.protocol.replace("http", "ws");
  const protocols = protocol ? [protocol] : [];
  if (jwt && tokenIn === "query") url.searchParams.set("token", jwt);
  if (jwt && tokenIn === "protocol") protocols.push("bearer", jwt);
  const first = jwt && tokenIn === "message" ? { type: "auth", token: jwt } : null;
  if (history) url.searchParams.set("since", since);
  if (typeof history === "object") url.searchParams.set("newest", String(history.newest));
  const open = () => {
    const socket = new (Given ?? WebSocket)(url, protocols);
    socket.binaryType = "arraybuffer";
    return socket;
  };
  return { open, first };
}

/** Whoever is told what happens: the functions of the options first. */
function listenersOf(options) {
  // A pair for each call, so that the same function given twice is two listeners.
  const all = new Set([
    ["event", options.onEvent],
    ["binary", options.onBinary],
    ["transport", options.onTransport],
    ["offline", options.onOffline],
    ["end", options.onEnd],
  ]);
  return {
    on(...pair) {
      all.add(pair);
      return () => void all.delete(pair);
    },
    tell(what, ...given) {
      // Whoever begins to listen meanwhile is told of what comes next.
      for (const [of, run] of [...all]) if (of === what) safely(() => run?.(...given));
    },
  };
}

/** What a function of the page throws is reported, and stops nothing. */
function safely(run) {
  try {
    run();
  } catch (fault) {
    queueMicrotask(() => {
      throw fault;
    });
  }
}

/**
 * Timers that end together, so that a process may end where nothing else is left: what runs something later, and returns what stops
 * that; and what stops all.
 */
function timers() {
  const all = new Set();
  const after = (run, ms) => {
    const stop = () => {
      clearTimeout(timer);
      all.delete(stop);
    };
    const timer = setTimeout(() => {
      stop();
      run();
    }, ms);
    all.add(stop);
    return stop;
  };
  return [after, () => all.forEach(stop => stop())];
}

const PAYLOAD = 1; // the first byte of a payload that was published

/** A binary payload and where it is from, or null where the message is of a sort that this client does not know. */
function unframed(message) {
  if (message[0] !== PAYLOAD) return null;
  const [room, rest] = named(message.subarray(1));
  const [offset, payload] = named(rest);
  return [payload, { room, ...(offset && { offset }) }];
}

/** A text behind a byte with its length, and what follows it. */
function named(bytes) {
  const end = 1 + (bytes[0] ?? 0);
  return [new TextDecoder().decode(bytes.subarray(1, end)), bytes.subarray(end)];
}

const SOCKETS_TRIED = 2; // in a row before an event stream is: one may fail for any reason
const FIRST_SOCKET = 10_000; // a socket is tried beside a stream after so long, and then after twice as long each time
const LAST_SOCKET = 600_000; // but at least so often
const STREAM_ROOMS = 16; // the server takes no more
const STREAM_SILENCE = 60_000; // the server sends a comment every 25 s

/**
 * The event stream of the same rooms at `path`, for networks that let no WebSocket through: `connect(path, { events:
 * eventStream("/sse") })`. It is used where two sockets in a row do not open, and left again for the first socket that does.
 * The token then goes in `Authorization`. A stream has up to 16 rooms, and none that is joined with `with`, which
 * its URL can't say of one room.
 */
function eventStream(path) {
  return host => new StreamFallback(path, host);
}

class StreamFallback {
  active = false;
  #path;
  #host;
  #unopened = 0; // sockets in a row that did not open
  #trial = null; // a socket that is tried beside a stream
  #timer;
  #trialIn = FIRST_SOCKET;
  #turn = 0;

  constructor(path, host) {
    [this.#path, this.#host] = [path, host];
    host.signal.addEventListener("abort", () => clearTimeout(this.#timer));
  }

  isIdle() {
    return this.active && !this.#host.isSingle() && this.#host.rooms().length === 0;
  }

  plan(jwt) {
    const { history } = this.#host.options;
    const url = urlOf(this.#path);
    const headers = {};
    const isSingle = this.#host.isSingle();
    const said = this.#rooms().map(room => ({ room, ...this.#host.saying(room) }));
    for (const { room, observe } of said) url.searchParams.append(observe ? "observed" : "room", room);
    const newest = isSingle && typeof history === "object" ? history.newest : Math.max(0, ...said.map(it => it.newest ?? 0));
    if (newest) url.searchParams.set("newest", String(newest));
    const standing = said.filter(({ since }) => since).map(({ room, since }) => `${room}=${since}`);
    const last = isSingle ? this.#host.saying(null).since : standing.join();
    if (last) headers["last-event-id"] = last;
    if (jwt) headers.authorization = `Bearer ${jwt}`;
    const stream = { rooms: this.#host.rooms, silence: STREAM_SILENCE };
    const bare = isSingle && !history;
    return { open: () => new EventStream(url, headers, bare), stream, bare };
  }

  began() {
    if (!this.active) {
      this.#trialIn = FIRST_SOCKET;
      return;
    }
    this.#tryLater();
    const there = this.#rooms();
    for (const room of this.#host.rooms()) {
      if (there.includes(room)) continue;
      const [code, message] = this.#takes(room)
        ? ["too_many_rooms", `an event stream has at most ${STREAM_ROOMS} rooms`]
        : ["unsupported", "an event stream has no room that is joined with `with`"];
      this.#host.tell({ type: "error", code, room, message });
    }
  }

  #rooms() {
    return this.#host.rooms().filter(this.#takes, this).slice(0, STREAM_ROOMS);
  }

  // Without its `with` a room may refuse what it allows on a socket, and it would be wanted there no more.
  #takes(room) {
    return this.#host.saying(room).with === undefined;
  }

  // Of a socket that does not open a browser tells nothing: it may be blocked on its way or refused, or there is no server. A
  // stream that does not open either shows that it is not about sockets, and one that breaks that the network may be another.
  ended(opened, code) {
    const isLost = !opened || code === ABNORMAL || code === NO_ANSWER;
    if (this.active) this.#unopened = isLost ? SOCKETS_TRIED - 1 : SOCKETS_TRIED;
    else this.#unopened = opened ? 0 : this.#unopened + 1;
    this.active = this.#unopened >= SOCKETS_TRIED;
  }

  // Also where the stream is opened anew meanwhile.
  #tryLater() {
    if (this.#timer) return;
    this.#timer = setTimeout(() => this.#trySocket(), this.#trialIn / 2 + (Math.random() * this.#trialIn) / 2);
    this.#trialIn = Math.min(LAST_SOCKET, this.#trialIn * 2);
  }

  // Beside the stream, which goes on where the socket does not open.
  async #trySocket() {
    this.#timer = undefined;
    if (!this.active || !this.#host.isOpen()) return;
    const mine = this.#turn;
    const jwt = await this.#host.token();
    if (mine !== this.#turn) return;
    if (jwt !== undefined && !jwt) return this.#tryLater();
    const trial = (this.#trial = this.#host.socket(jwt ?? null));
    trial.onclose = () => this.#tryLater();
    trial.onopen = () => {
      [this.active, this.#unopened] = [false, SOCKETS_TRIED - 1];
      this.#host.again();
    };
  }

  letGo() {
    this.#turn += 1;
    if (this.#trial) this.#trial.onclose = this.#trial.onopen = null;
    this.#trial?.close(NORMAL);
    this.#trial = null;
  }
}

// An event stream in the place of a socket, which says nothing. By `fetch`, as a page sees more of it than of an `EventSource`: the
// status of a refusal, and the comments, without which a network that is gone is not noticed.
class EventStream {
  onopen = null;
  onmessage = null;
  onclose = null;
  #over = new AbortController();
  #isBare; // whether payloads are, as on the socket in whose place this is

  constructor(url, headers, isBare) {
    this.#isBare = isBare;
    this.#read(url, headers).catch(fault => this.#end(ABNORMAL, String(fault)));
  }

  async #read(url, headers) {
    const answer = await fetch(url, { headers, cache: "no-store", signal: this.#over.signal });
    const { status } = answer;
    if (status === 401) return this.#end(BAD_TOKEN, "Invalid token");
    if (status === 429 || status === 503) return this.#end(TRY_LATER, `status ${status}`);
    // Whatever is between may answer with a page of its own.
    const isStream = answer.headers.get("content-type")?.startsWith("text/event-stream");
    if (!answer.ok || !isStream || !answer.body) return this.#end(ABNORMAL, `status ${status}, and no event stream`);
    safely(() => this.onopen?.());
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return this.#end(ABNORMAL, "");
      const events = (text + value).split("\n\n");
      text = events.pop() ?? "";
      for (const event of events) this.#event(event.split("\n"));
    }
  }

  #event(lines) {
    const data = lines
      .filter(line => line.startsWith("data: "))
      .map(line => line.slice(6))
      .join("\n");
    if (lines.includes("event: close")) {
      const { code, reason } = JSON.parse(data);
      return this.#end(code, reason);
    }
    // A comment shows as much as a pong.
    safely(() => this.onmessage?.({ data: this.#bytes(data) ?? (data || '{"type":"pong"}') }));
  }

  // A stream is text: bytes come as base64, and are handed on as by a socket.
  #bytes(data) {
    if (!data.includes('"base64"')) return undefined;
    const { type, room, offset = "", base64 } = JSON.parse(data);
    if (type !== "binary") return undefined;
    const bytes = Uint8Array.from(atob(base64), byte => byte.charCodeAt(0));
    return (this.#isBare ? bytes : framed(PUBLISHED, room, offset, bytes)).buffer;
  }

  #end(code, reason) {
    if (this.#over.signal.aborted) return;
    this.close();
    this.onclose?.({ code, reason });
  }

  close() {
    this.#over.abort();
  }
}

/** What a binary message is. */
const PUBLISHED = 1;
const FOR_THE_APPLICATION = 2;

const LONGEST_ROOM = 233; // in bytes, as the server has it
const LONGEST_REF = 128;

/**
 * Publishes bytes to a room that the page is in, where its kind lets members publish them; the answer, `published` or `error`,
 * repeats the `ref`. Returns as `send`. At an endpoint of one room without `history`, `room` is null.
 */
function publishBinary(client, room, bytes, ref) {
  return client.send(message(PUBLISHED, room, bytes, ref));
}

/** The same for the application's `on_binary_message`. */
function sendBinary(client, room, bytes, ref) {
  return client.send(message(FOR_THE_APPLICATION, room, bytes, ref));
}

function message(what, room, source, ref) {
  const { buffer = source, byteOffset, byteLength } = source;
  const bytes = new Uint8Array(buffer, byteOffset, byteLength);
  return room === null ? bytes : framed(what, room, JSON.stringify(ref) ?? "", bytes);
}

/** A message that names its room: what it is, and the room and then the `ref` or the position behind a byte with their length. */
function framed(what, room, about, bytes) {
  const text = new TextEncoder();
  const [name, answer] = [text.encode(room), text.encode(about)];
  if (name.length > LONGEST_ROOM || answer.length > LONGEST_REF) {
    throw new RangeError(`a room has at most ${LONGEST_ROOM} bytes, and a \`ref\` ${LONGEST_REF}`);
  }
  const head = [what, name.length, ...name, answer.length, ...answer];
  const message = new Uint8Array(head.length + bytes.length);
  message.set(head);
  message.set(bytes, head.length);
  return message;
}
