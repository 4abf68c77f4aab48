// A connection that keeps itself up, to one room or to many. Copy it, and change what you like.
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
// Bytes come by `onBinary(bytes, { room, offset })`, a `Uint8Array`, and are published by `publishBinary(room, bytes)`. At the endpoint
// of one room without `history` they are told without a room, and sent without one: `publishBinary(null, bytes)`. At the endpoint
// of many, join a room, also where only the user's own has bytes: that is how it is told from the other.
//
// `token(code)` resolves to a token, or to null where there is none, which is the end. It is asked at each connection, and a
// minute before a token ends, whose connection goes on with the new one. Where the last token was refused, `code` is the close
// code that it met: 1008, 4401 and 4410 are about it, 1006 may be. No `token` where a cookie is the credential.
// `tokenIn` says how it travels, as the endpoint takes it: "query" unless set; "protocol", with the application's `protocol`
// beside it, as `{ tokenIn: "protocol", protocol: "app.v1" }`; or "message", which is the first one.
// `events: "/sse"` is the path of an event stream of the same rooms, for networks that let no WebSocket through: it is used where
// two sockets in a row do not open, and left again for the first socket that does. The token then goes in `Authorization`. A
// stream has up to 16 rooms, and what is asked for with a join besides `newest` is not asked for there.
// `onTransport(transport)`: from now on it is "events", where `send` and `publish` return false, or "socket" again.
// `onEvent(event)` is given every event of the server, and at the endpoint of one room every payload.
// `onOffline({ code, reason, in_ms })`: the connection is gone, and the next try is then.
// `onEnd(code, reason)`: it is gone, and there is no next try; `connect` again if you will.

const PING_EVERY = 20_000;      // the server pings too, but a page is not told of that
const ANSWER_WITHIN = 10_000;   // a token, an upgrade and a pong
const FIRST_DELAY = 500;        // doubled with each failure
const LONGEST_DELAY = 30_000;
const LATER = 4;                // failures that "later" counts for: 4 s to 8 s
const RESYNC_WITHIN = 5_000;    // every page is told at once, and they shall not all ask at once
const LIST_WINDOW = 5_000;      // the server sends a room's members twice in this time to one connection
const JOINS_PER_SECOND = 40;    // the server reads as many a second, and closes with 4429 who sends more for 30 s
const SOCKETS_TRIED = 2;        // in a row before an event stream is: one may fail for any reason
const FIRST_SOCKET = 10_000;    // a socket is tried beside a stream after so long, and then after twice as long each time
const LAST_SOCKET = 600_000;    // but at least so often
const STREAM_ROOMS = 16;        // the server takes no more
const STREAM_SILENCE = 60_000;  // the server sends a comment every 25 s
const REFRESH_AGAIN = 5_000;    // the server takes a token each five seconds; doubled with each try
const LAST_REFRESH = 20_000;    // a try a minute before a token ends, and three more
const TRIES_FOR_A_PLACE = 3;    // 27 s at least; an old connection keeps its place for 20 s at most
const PUBLISHED = 1, FOR_THE_APPLICATION = 2;      // what a binary message is
const HAS_OFFSET = ["message", "binary", "refresh"];
const LONGEST_ROOM = 233, LONGEST_REF = 128;       // in bytes

// Close codes. Whatever is not here is worth another try.
const GOING_AWAY = 1001, ABNORMAL = 1006, BAD_TOKEN = 1008, TRY_LATER = 1013;
const EXPIRED = 4401, NOT_ALLOWED = 4403, NO_ANSWER = 4408, REVOKED = 4410, TOO_MANY = 4430;
const REFRESH = "refresh";      // the `ref` of a new token
const TRY_AGAIN = ["unavailable", "rate_limited"];
const ABOUT_THE_TOKEN = [BAD_TOKEN, EXPIRED, REVOKED];
const FOR_GOOD = [1002, 1003, 1007, 1009, NOT_ALLOWED, TOO_MANY];
const NOT_SO_SOON = [1011, TRY_LATER, REVOKED, 4429];

export function connect(path, options) {
  const { token, tokenIn = "query", protocol, history = false, events } = options;
  const { onBinary = () => {} } = options;
  const { onEvent, onOffline = () => {}, onEnd = () => {}, onTransport = () => {} } = options;
  const wanted = new Map();     // the rooms, whether there is a connection or not, and what their joins say besides
  const places = new Map();     // where this page stands in the history of each room; at the endpoint of one room under null
  const states = new Map();     // the state of each room that has one, and its revision
  const over = new AbortController();
  let connection = null;
  let refusal = {};             // the code and the reason for which the last token was refused
  let failures = 0;             // since a connection last proved good
  let inMs = null;              // when to come back, where the server said it
  let placeTries = 0;           // how often 4430 may mean this page's own old connection, which is still being closed
  let retry = 0;                // the timer of the next try, if there is one
  let mayHurry = true;          // whether that try may come sooner
  let asleep = false;           // whether the page was left and may come back as it is
  let many = false;             // whether rooms are joined here
  let listens = false;          // whether the next connection is an event stream
  let transport = "socket";     // what the page was told
  let unopened = 0;             // sockets in a row that did not open
  let idle = false;             // whether a stream waits for a room to be for
  let trial = null;             // a socket that is tried beside a stream
  let trialTimer = 0;
  let trialIn = FIRST_SOCKET;
  let refreshes = 0;            // how often a new token did not get through since it was asked for
  let turn = 0;                 // what was begun in another turn is not finished

  async function open() {
    letGo();
    const mine = turn;
    let jwt = null;
    try {
      if (token) jwt = await inTime(token(refusal.code));
    } catch (fault) {
      if (mine === turn) ended(ABNORMAL, String(fault));
      return;
    }
    if (mine !== turn) return;
    if (token && !jwt) return noToken();
    idle = listens && many && wanted.size === 0;
    if (idle) return;
    const saying = room => ({ since: places.get(room), ...wanted.get(room) });
    const isFramed = () => many || Boolean(history);
    const page = { wanted, states, saying, note, heard, heardBytes: onBinary, isFramed, began, ended, again: open };
    connection = new Connection(listens ? streamWith(jwt) : socketWith(jwt), page);
  }

  function socketWith(jwt) {
    const url = new URL(path, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const protocols = protocol ? [protocol] : [];
    if (jwt && tokenIn === "query") url.searchParams.set("token", jwt);
    if (jwt && tokenIn === "protocol") protocols.push("bearer", jwt);
    const first = jwt && tokenIn === "message" ? { type: "auth", token: jwt } : null;
    if (history) url.searchParams.set("since", places.get(null) ?? "");
    if (history?.newest) url.searchParams.set("newest", history.newest);
    return { url, protocols, first };
  }

  function streamWith(jwt) {
    const url = new URL(events, location.href), headers = {};
    const rooms = [...wanted.keys()].slice(0, STREAM_ROOMS);
    for (const room of rooms) url.searchParams.append("room", room);
    const newest = many ? Math.max(0, ...rooms.map(room => wanted.get(room).newest ?? 0)) : history?.newest;
    if (newest) url.searchParams.set("newest", newest);
    const standing = rooms.filter(room => places.has(room)).map(room => `${room}=${places.get(room)}`).join();
    const last = many ? standing : places.get(null);
    if (last) headers["last-event-id"] = last;
    if (jwt) headers.authorization = `Bearer ${jwt}`;
    return { url, headers, rooms, bare: !many && !history };
  }

  function began() {
    const now = listens ? "events" : "socket";
    const leftOut = listens ? [...wanted.keys()].slice(STREAM_ROOMS) : [];
    if (listens) tryLater();
    else trialIn = FIRST_SOCKET;
    if (now !== transport) onTransport(transport = now);
    const [type, code, message] = ["error", "too_many_rooms", `an event stream has at most ${STREAM_ROOMS} rooms`];
    for (const room of leftOut) onEvent({ type, code, room, message });
  }

  // Of a socket that does not open a browser tells nothing: it may be blocked on its way or refused, or there is no server. A
  // stream that does not open either shows that it is not about sockets, and one that breaks that the network may be another.
  function chooseTransport({ opened }, code) {
    const isLost = !opened || code === ABNORMAL || code === NO_ANSWER;
    if (listens) unopened = isLost ? SOCKETS_TRIED - 1 : SOCKETS_TRIED;
    else unopened = opened ? 0 : unopened + 1;
    listens = Boolean(events) && unopened >= SOCKETS_TRIED;
  }

  // Also where the stream is opened anew meanwhile.
  function tryLater() {
    if (trialTimer) return;
    trialTimer = setTimeout(trySocket, trialIn / 2 + Math.random() * trialIn / 2);
    trialIn = Math.min(LAST_SOCKET, trialIn * 2);
  }

  // Beside the stream, which goes on where the socket does not open.
  async function trySocket() {
    trialTimer = 0;
    if (!listens || !connection?.opened) return;
    const mine = turn;
    const jwt = token ? await inTime(token()).catch(() => null) : null;
    if (mine !== turn) return;
    if (token && !jwt) return tryLater();
    const { url, protocols } = socketWith(jwt);
    trial = new WebSocket(url, protocols);
    trial.onclose = tryLater;
    trial.onopen = () => {
      [listens, unopened] = [false, SOCKETS_TRIED - 1];
      open();
    };
  }

  function noToken() {
    const { code, reason } = ABOUT_THE_TOKEN.includes(refusal.code) ? refusal : { code: BAD_TOKEN, reason: "no token" };
    stop(code, reason);
  }

  // Ends the connection, or the try, without a word.
  function letGo() {
    turn += 1;
    clearTimeout(retry);
    retry = 0;
    inMs = null;
    if (connection?.opened) placeTries = TRIES_FOR_A_PLACE;
    connection?.drop();
    connection = null;
    if (trial) trial.onclose = trial.onopen = null;
    trial?.close(1000);
    trial = null;
    idle = false;
  }

  // What is said on the endpoint of one room may be any JSON.
  function heard(event) {
    if (event?.type === "reconnect" && event.in_ms >= 0) inMs = event.in_ms;
    // The first pong comes after a while: a connection that is closed before has not proved good.
    if (event?.type === "pong") [failures, placeTries, refusal] = [0, 0, {}];
    if (event?.type === "token_expiring" && token) {
      refreshes = 0;
      refresh();
    }
    const notYet = event?.type === "error" && event.ref === REFRESH && TRY_AGAIN.includes(event.code);
    if (notYet) refreshLater(event.retry_after_ms);
    // Put out, or made to leave: who joins again after the next reconnect is refused, or does what nobody wants.
    if (event?.type === "room_left" && event.reason) {
      wanted.delete(event.room);
      places.delete(event.room);
    }
    onEvent(event);
  }

  // Where there is no new token in time the connection ends with the old one, and the next one asks again.
  async function refresh() {
    const mine = turn;
    try {
      const jwt = await inTime(token());
      if (jwt && mine === turn) send({ type: "refresh", token: jwt, ref: REFRESH });
    } catch {
      // Told by `onOffline`, if it comes to that.
      if (mine === turn) refreshLater();
    }
  }

  // Whoever makes tokens or checks them may be away for a moment. A connection that is gone by then needs no token.
  function refreshLater(least = 0) {
    const mine = connection;
    const delay = Math.min(LAST_REFRESH, REFRESH_AGAIN * 2 ** refreshes++);
    setTimeout(() => mine && mine === connection && refresh(), Math.max(least, delay * (1 + Math.random() / 4)));
  }

  // The position that the page comes back with.
  function note(event) {
    const place = event?.type === "room_joined" ? event.position : HAS_OFFSET.includes(event?.type) && event.offset;
    if (!place) return;
    if (history) places.set(null, place);
    else if (wanted.has(event.room)) places.set(event.room, place);
  }

  function ended(code, reason) {
    // A browser does not say why an upgrade was refused: it may have been the token.
    const refused = connection?.opened === false;
    if (connection) chooseTransport(connection, code);
    connection = null;
    // A stream that was put out of its last room. A socket would go on, for the rooms to come.
    if (listens && many && wanted.size === 0 && code === NOT_ALLOWED) {
      idle = true;
      return;
    }
    // A server that said `reconnect` is going down, however the connection ends: some libraries make 1002 of its 1012.
    const ownPlace = code === TOO_MANY && placeTries > 0;
    // A new token may be of a new sign-in, once.
    const revoked = code === REVOKED && (!token || refusal.code === REVOKED);
    const forGood = (FOR_GOOD.includes(code) && !ownPlace) || (code === BAD_TOKEN && !token) || revoked;
    if (forGood && inMs === null) return stop(code, reason);
    if (ownPlace) placeTries -= 1;
    // A slow connection keeps its place until its close frame is out.
    if (code === TRY_LATER) placeTries = TRIES_FOR_A_PLACE;
    refusal = refused || ABOUT_THE_TOKEN.includes(code) ? { code, reason } : {};
    // Nothing is wrong with a token that has had its time, and nothing to tell.
    if (code === EXPIRED && failures === 0 && inMs === null) {
      failures = 1;
      return open();
    }
    const notSoSoon = ownPlace || NOT_SO_SOON.includes(code);
    if (notSoSoon) failures = Math.max(failures, LATER);
    mayHurry = inMs === null && !notSoSoon;
    const delay = inMs ?? backOff();
    inMs = null;
    retry = setTimeout(open, delay);
    onOffline({ code, reason, in_ms: delay });
  }

  // At a random moment, so that a restart meets no herd.
  function backOff() {
    const longest = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** failures);
    failures += 1;
    return Math.round(longest / 2 + Math.random() * longest / 2);
  }

  function stop(code, reason) {
    over.abort();
    onEnd(code, reason);
  }

  // A page that was left stays in the back/forward cache with its connection, which the browser keeps up for minutes: it would
  // be counted as a viewer. The same with a tab that is frozen.
  function sleep() {
    if (asleep) return;
    asleep = true;
    letGo();
    onOffline({ code: GOING_AWAY, reason: "the page was left", in_ms: 0 });
  }

  // Somebody looks at the page, or the network is back: there is nothing to wait for, unless the server asked for it.
  function wake() {
    if (connection) return connection.ping();
    if (!asleep && !(retry && mayHurry)) return;
    asleep = false;
    failures = 0;
    open();
  }

  const on = (target, event, run) => target.addEventListener(event, run, { signal: over.signal });
  on(window, "pagehide", sleep);
  on(document, "freeze", sleep);
  on(window, "pageshow", wake);
  on(document, "resume", wake);
  on(document, "visibilitychange", () => document.hidden || wake());
  on(window, "online", wake);

  const send = message => connection?.send(message) ?? false;
  const sendBytes = (what, room, bytes, ref) => connection?.sendBytes(what, room, bytes, ref) ?? false;

  retry = setTimeout(open);     // not before the caller has what is returned
  return {
    // Also for a room that the page is in: the answer has the members as they are now. The server sends them twice in five
    // seconds; where an answer comes without, the room is joined once more after that time.
    join(room, { newest, with: words, observe } = {}) {
      many = true;
      wanted.set(room, { newest, with: words, observe });
      connection?.joinAgain(room);
      if (idle) open();
    },
    leave(room) {
      wanted.delete(room);
      places.delete(room);
      states.delete(room);
      connection?.settle();
    },
    // Any message, as for the application's `on_message`; among many rooms it names its `room`. Whether it was sent: what is
    // said while there is no connection is not kept, and on an event stream nothing can be said.
    send,
    // The same. An answer repeats the `ref`, if any.
    publish(room, data, ref) {
      return send({ type: "publish", room, data, ref });
    },
    // Bytes, as an `ArrayBuffer` or a view of one.
    publishBinary(room, bytes, ref) {
      return sendBytes(PUBLISHED, room, bytes, ref);
    },
    // The same for the application's `on_binary_message`.
    sendBinary(room, bytes, ref) {
      return sendBytes(FOR_THE_APPLICATION, room, bytes, ref);
    },
    // Comes again with a new token: where the user's rights have changed. `onOffline` is silent.
    renew() {
      refusal = {};
      if (!over.signal.aborted && !asleep) open();
    },
    // For good; nothing is heard after it.
    close() {
      over.abort();
      letGo();
    },
  };
}

function inTime(promise) {
  const late = new Promise((_, reject) => setTimeout(reject, ANSWER_WITHIN, new Error("no token in time")));
  return Promise.race([promise, late]);
}

// What a JSON merge patch (RFC 7396) makes of a value. `fromEntries`, as a name may be `__proto__`.
function merged(value, patch) {
  const isObject = it => it !== null && typeof it === "object" && !Array.isArray(it);
  if (!isObject(patch)) return patch;
  const members = new Map(isObject(value) ? Object.entries(value) : []);
  for (const [name, change] of Object.entries(patch)) {
    if (change === null) members.delete(name);
    else members.set(name, merged(members.get(name), change));
  }
  return Object.fromEntries(members);
}

// A binary message that names its room: what it is, and the room and then the `ref` or the position behind a byte with their length.
function withHead(what, room, bytes, ref) {
  const [name, about] = [room, ref === undefined ? "" : JSON.stringify(ref)].map(text => new TextEncoder().encode(text));
  if (name.length > LONGEST_ROOM || about.length > LONGEST_REF) throw new RangeError("a room or a `ref` that is too long");
  const head = [what, name.length, ...name, about.length, ...about];
  const message = new Uint8Array(head.length + bytes.length);
  message.set(head);
  message.set(bytes, head.length);
  return message;
}

function withoutHead(message) {
  let at = 1;
  const [room, offset] = [0, 1].map(() => {
    const end = at + 1 + message[at];
    const text = new TextDecoder().decode(message.subarray(at + 1, end));
    at = end;
    return text;
  });
  return { room, offset: offset || undefined, bytes: message.subarray(at) };
}

// One connection, from the upgrade to its end, which is told once.
class Connection {
  opened = false;
  #asked = new Map();           // the rooms that the server was asked for, and the `ref` of the join: null if to ask again
  #lastRef = 0;
  #joinsLeft = JOINS_PER_SECOND;
  #resyncs = new Set();
  #told = new Set();            // the rooms whose `room_joined` has said what the next `resync` does
  #anew = new Set();            // the rooms whose state is asked for anew, soon
  #lists = new Map();           // the rooms whose members are asked for again: the timer, or null once that was done
  #over = false;
  #beat = 0;
  #silence = 0;

  constructor({ url, protocols, first, headers, rooms, bare }, page) {
    this.first = first;
    this.page = page;
    this.listens = Boolean(headers);
    this.bare = bare;
    for (const room of rooms ?? []) this.#asked.set(room, room);
    this.socket = this.listens ? new EventStream(url, headers) : new WebSocket(url, protocols);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.#begin();
    this.socket.onmessage = ({ data }) => this.#received(data);
    this.socket.onclose = ({ code, reason }) => this.#end(code, reason);
    this.#awaitAnswer();
  }

  #begin() {
    if (this.#over) return;
    this.opened = true;
    clearTimeout(this.#silence);
    if (this.listens) this.#awaitAnswer(STREAM_SILENCE);
    else this.#beat = setInterval(() => this.ping(), PING_EVERY);
    if (this.first) this.send(this.first);
    this.settle();
    if (!this.#over) this.page.began();
  }

  // Asks whether the other end is still there.
  ping() {
    if (this.send({ type: "ping" })) this.#awaitAnswer();
  }

  // A network that is gone sends no close, and the browser would wait for one.
  #awaitAnswer(within = ANSWER_WITHIN) {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#end(NO_ANSWER, "no answer"), within);
  }

  #end(code, reason) {
    if (this.#over) return;
    this.drop();
    this.page.ended(code, reason);
  }

  // Ends it, and tells nobody.
  drop() {
    this.#over = true;
    clearInterval(this.#beat);
    clearTimeout(this.#silence);
    for (const timer of this.#lists.values()) clearTimeout(timer);
    this.socket.close(1000);
  }

  send(message) {
    // That of a stream is none.
    const open = !this.#over && this.socket.readyState === WebSocket.OPEN;
    if (open) this.socket.send(JSON.stringify(message));
    return open;
  }

  sendBytes(what, room, bytes, ref) {
    const open = !this.#over && this.socket.readyState === WebSocket.OPEN;
    if (!open) return false;
    const all = ArrayBuffer.isView(bytes) ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) : new Uint8Array(bytes);
    this.socket.send(this.page.isFramed() ? withHead(what, room, all, ref) : all);
    return true;
  }

  #received(data) {
    if (this.#over) return;
    clearTimeout(this.#silence);
    if (this.listens) this.#awaitAnswer(STREAM_SILENCE);
    if (data instanceof ArrayBuffer) return this.#receivedBytes(new Uint8Array(data));
    let event = JSON.parse(data);
    this.page.note(event);
    // On an event stream bytes are text.
    if (this.listens && event?.type === "binary") {
      const { room, offset, base64 } = event;
      return this.page.heardBytes(Uint8Array.from(atob(base64), byte => byte.charCodeAt(0)), { room, offset });
    }
    // At an endpoint of one room a socket has the payload alone.
    if (this.bare && event?.type === "message") event = event.data;
    if (event?.type === "resync" || event?.type === "refresh") return this.#fetchSoon(event);
    if (event?.type === "room_state") return this.#state(event);
    if (event?.type === "error") this.#refused(event);
    if (event?.type === "room_joined") this.#joined(event);
    if (event?.type === "room_left" && event.reason) this.#asked.delete(event.room);
    this.page.heard(event);
  }

  #receivedBytes(message) {
    if (!this.page.isFramed()) return this.page.heardBytes(message, {});
    const { room, offset, bytes } = withoutHead(message);
    this.page.note({ type: "binary", room, offset });
    this.page.heardBytes(bytes, { room, offset });
  }

  // Heard once for each room, and not at all where a new connection has joined it anew by then.
  #fetchSoon(event) {
    const { type, room } = event;
    if (type === "resync" && this.#told.delete(room)) return;
    const what = `${type} ${room}`;
    if (this.#resyncs.has(what)) return;
    this.#resyncs.add(what);
    setTimeout(() => {
      this.#resyncs.delete(what);
      if (!this.#over) this.page.heard(event);
    }, Math.random() * RESYNC_WITHIN);
    // What has changed in it may have been left out too.
    if (type === "resync" && this.page.states.has(room)) this.#stateAnew(room);
  }

  // A change of another state than the page has is of no use.
  #state({ type, room, revision, since, state, patch }) {
    const before = this.page.states.get(room);
    if (patch !== undefined) {
      if (before?.revision === revision) return;
      if (before?.revision !== since) return this.#stateAnew(room);
      state = merged(before.state, patch);
    }
    this.page.states.set(room, { revision, state });
    this.page.heard({ type, room, revision, state });
  }

  // Whoever joins is sent all of it. A room that was not joined by name is that of the endpoint.
  #stateAnew(room) {
    if (this.#anew.has(room)) return;
    this.#anew.add(room);
    setTimeout(() => {
      this.#anew.delete(room);
      if (this.#over) return;
      if (this.page.wanted.has(room)) this.joinAgain(room);
      else this.page.again();
    }, Math.random() * RESYNC_WITHIN);
  }

  // A room with members has `users`. Without `members` the server has sent the list a moment ago, and what this join was
  // to find out may be newer than that.
  #joined({ room, users, members, recovered }) {
    if (recovered === false) this.#told.add(room);
    if (users === undefined || !this.#asked.has(room)) return;
    const before = this.#lists.get(room);
    clearTimeout(before);
    if (members || before === null) return this.#lists.delete(room);
    this.#lists.set(room, setTimeout(() => {
      this.#lists.set(room, null);
      this.joinAgain(room);
    }, LIST_WINDOW));
  }

  joinAgain(room) {
    if (this.#asked.has(room)) this.#asked.set(room, null);
    this.settle();
  }

  // Asks the server for what is wanted and was not asked for yet, and the other way round.
  settle() {
    if (!this.opened || this.#over) return;
    if (this.listens) return this.#settleStream();
    for (const room of this.#asked.keys()) {
      if (!this.page.wanted.has(room) && !this.#leave(room)) return;
    }
    for (const room of this.page.wanted.keys()) {
      if (!this.#asked.get(room) && !this.#join(room)) return;
    }
  }

  // A stream has the rooms that it was opened for.
  #settleStream() {
    const wanted = [...this.page.wanted.keys()].slice(0, STREAM_ROOMS);
    if (wanted.length !== this.#asked.size || !wanted.every(room => this.#asked.get(room))) this.page.again();
  }

  #join(room) {
    if (!this.#mayAsk()) return false;
    const ref = `join ${++this.#lastRef}`;
    this.#asked.set(room, ref);
    return this.send({ type: "join", room, ref, ...this.page.saying(room) });
  }

  #leave(room) {
    if (!this.#mayAsk()) return false;
    this.#asked.delete(room);
    return this.send({ type: "leave", room });
  }

  #mayAsk() {
    if (this.#joinsLeft === JOINS_PER_SECOND) {
      setTimeout(() => {
        this.#joinsLeft = JOINS_PER_SECOND;
        this.settle();
      }, 1_000);
    }
    if (this.#joinsLeft === 0) return false;
    this.#joinsLeft -= 1;
    return true;
  }

  // A room that one may not be in is not wanted any more, or it would be asked for again after each reconnect.
  #refused(event) {
    for (const [room, asked] of this.#asked) {
      if (asked === null || asked !== (this.listens ? event.room : event.ref)) continue;
      event.room ??= room;      // also where it is no name of a room
      if (!TRY_AGAIN.includes(event.code)) {
        this.#asked.delete(room);
        this.page.wanted.delete(room);
      } else {
        const later = ANSWER_WITHIN * (1 + Math.random()) / 2;
        setTimeout(() => this.joinAgain(room), Math.max(later, event.retry_after_ms ?? 0));
      }
    }
  }
}

// An event stream in the place of a socket, which says nothing. By `fetch`, as a page sees more of it than of an `EventSource`: the
// status of a refusal, and the comments, without which a network that is gone is not noticed.
class EventStream {
  #over = new AbortController();

  constructor(url, headers) {
    this.#read(url, headers).catch(fault => this.#end(ABNORMAL, String(fault)));
  }

  async #read(url, headers) {
    const answer = await fetch(url, { headers, cache: "no-store", signal: this.#over.signal });
    if (answer.status === 401) return this.#end(BAD_TOKEN, "Invalid token");
    if (answer.status === 429 || answer.status === 503) return this.#end(TRY_LATER, `status ${answer.status}`);
    // Whatever is between may answer with a page of its own.
    const isStream = answer.headers.get("content-type")?.startsWith("text/event-stream");
    if (!answer.ok || !isStream) return this.#end(ABNORMAL, `status ${answer.status}, and no event stream`);
    this.#say(() => this.onopen());
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return this.#end(ABNORMAL, "");
      const events = (text + value).split("\n\n");
      text = events.pop();
      for (const event of events) this.#event(event.split("\n"));
    }
  }

  #event(lines) {
    const data = lines.filter(line => line.startsWith("data: ")).map(line => line.slice(6)).join("\n");
    if (lines.includes("event: close")) {
      const { code, reason } = JSON.parse(data);
      return this.#end(code, reason);
    }
    // A comment shows as much as a pong.
    this.#say(() => this.onmessage({ data: data || '{"type":"pong"}' }));
  }

  // What a page's function throws does not end the stream, as it does not end a socket.
  #say(tell) {
    try {
      tell();
    } catch (fault) {
      reportError(fault);
    }
  }

  #end(code, reason) {
    if (this.#over.signal.aborted) return;
    this.close();
    this.onclose({ code, reason });
  }

  close() {
    this.#over.abort();
  }
}
