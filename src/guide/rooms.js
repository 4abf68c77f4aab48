// Many rooms over one connection that keeps itself up. Copy it, and change what you like.
//
//   const rooms = connect("/ws", { token: fetchToken, hear: event => show(event) });
//   rooms.join("post:42");
//
// `token()` resolves to a new token, or to null where nobody is signed in. `hear` is given every event of the server,
// and two more: `offline`, which says when the next try is, and `closed`, after which there is none.

const PING_EVERY = 20_000;      // the server pings too, but a page is not told of that
const ANSWER_WITHIN = 10_000;   // a token, an upgrade and a pong
const FIRST_DELAY = 500;        // doubled with each failure
const LONGEST_DELAY = 30_000;
const LATER = 4;                // failures that "later" counts for: 4 s to 8 s
const RESYNC_WITHIN = 5_000;    // every page is told at once, and they shall not all ask at once
const JOINS_PER_SECOND = 40;    // the server takes 50 messages a second of a connection, and closes it with 4429 over that

// Close codes. Whatever is not here is worth another try.
const NO_ANSWER = 4408, ABNORMAL = 1006, BAD_TOKEN = 1008;
const FOR_GOOD = [1002, 1003, 1007, 1009, 4403, 4430];
const WITH_A_NEW_TOKEN = [BAD_TOKEN, 4401];
const NOT_SO_SOON = [1011, 1013, 4429];

export function connect(path, { token, hear }) {
  const wanted = new Set();     // the rooms, whether there is a connection or not
  let connection = null;
  let jwt = null;
  let failures = 0;             // since a connection last proved good
  let inMs = null;              // when to come back, where the server said it
  let retry = 0;
  let stopped = false;

  async function open() {
    try {
      jwt ??= await inTime(token());
    } catch (fault) {
      return ended(ABNORMAL, String(fault));
    }
    if (stopped) return;
    if (!jwt) return stop(BAD_TOKEN, "no token");
    const url = new URL(path, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("token", jwt);
    connection = new Connection(url, wanted, heard, ended);
  }

  function heard(event) {
    if (event.type === "reconnect") inMs = event.in_ms;
    // The first pong comes after a while: a connection that is closed before has not proved good.
    if (event.type === "pong") failures = 0;
    hear(event);
  }

  function ended(code, reason) {
    // A browser does not say why an upgrade was refused: it may have been the token.
    const refused = !connection?.opened;
    connection = null;
    if (stopped) return;
    // Whatever the end is once the server has said when to come back: some libraries make 1002 of its 1012.
    if (inMs === null && FOR_GOOD.includes(code)) return stop(code, reason);
    if (refused || WITH_A_NEW_TOKEN.includes(code)) jwt = null;
    if (NOT_SO_SOON.includes(code)) failures = Math.max(failures, LATER);
    const delay = inMs ?? backOff();
    inMs = null;
    retry = setTimeout(open, delay);
    hear({ type: "offline", code, reason, in_ms: delay });
  }

  // At a random moment, so that a restart meets no herd.
  function backOff() {
    const longest = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** failures);
    failures += 1;
    return Math.round(longest / 2 + Math.random() * longest / 2);
  }

  function stop(code, reason) {
    stopped = true;
    hear({ type: "closed", code, reason });
  }

  retry = setTimeout(open);     // not before the caller has what is returned
  return {
    // Also for a room one is in: the answer has the members as they are.
    join(room) {
      wanted.add(room);
      connection?.joinAgain(room);
    },
    leave(room) {
      wanted.delete(room);
      connection?.settle();
    },
    // Whether it was sent: what is said while there is no connection is not kept. An answer repeats the `ref`, if any.
    publish(room, data, ref) {
      return connection?.send({ type: "publish", room, data, ref }) ?? false;
    },
    // For good; nothing is heard after it.
    close() {
      stopped = true;
      clearTimeout(retry);
      connection?.end(1000, "");
    },
  };
}

function inTime(promise) {
  const late = new Promise((_, reject) => setTimeout(reject, ANSWER_WITHIN, new Error("no token in time")));
  return Promise.race([promise, late]);
}

// One connection, from the upgrade to its end, which is told once.
class Connection {
  opened = false;
  #asked = new Map();           // the rooms that the server was asked for, and the `ref` of the join: null if to ask again
  #lastRef = 0;
  #joinsLeft = JOINS_PER_SECOND;
  #resyncs = new Set();
  #over = false;
  #beat = 0;
  #silence = 0;

  constructor(url, wanted, heard, ended) {
    this.wanted = wanted;
    this.heard = heard;
    this.ended = ended;
    this.socket = new WebSocket(url);
    this.socket.onopen = () => this.#begin();
    this.socket.onmessage = ({ data }) => this.#received(data);
    this.socket.onclose = ({ code, reason }) => this.end(code, reason);
    this.#awaitAnswer();
  }

  #begin() {
    if (this.#over) return;
    this.opened = true;
    clearTimeout(this.#silence);
    this.#beat = setInterval(() => this.#ping(), PING_EVERY);
    this.settle();
  }

  #ping() {
    this.send({ type: "ping" });
    this.#awaitAnswer();
  }

  // A network that is gone sends no close, and the browser would wait for one.
  #awaitAnswer() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.end(NO_ANSWER, "no answer"), ANSWER_WITHIN);
  }

  end(code, reason) {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#beat);
    clearTimeout(this.#silence);
    this.socket.close(1000);
    this.ended(code, reason);
  }

  send(message) {
    const open = !this.#over && this.socket.readyState === WebSocket.OPEN;
    if (open) this.socket.send(JSON.stringify(message));
    return open;
  }

  #received(data) {
    if (this.#over) return;
    clearTimeout(this.#silence);
    const event = JSON.parse(data);
    if (event.type === "resync") return this.#resync(event);
    if (event.type === "error") this.#refused(event);
    this.heard(event);
  }

  // Heard once for each room, and not at all where a new connection has joined it anew by then.
  #resync(event) {
    if (this.#resyncs.has(event.room)) return;
    this.#resyncs.add(event.room);
    setTimeout(() => {
      this.#resyncs.delete(event.room);
      if (!this.#over) this.heard(event);
    }, Math.random() * RESYNC_WITHIN);
  }

  joinAgain(room) {
    if (this.#asked.has(room)) this.#asked.set(room, null);
    this.settle();
  }

  // Asks the server for what is wanted and was not asked for yet, and the other way round.
  settle() {
    if (!this.opened || this.#over) return;
    for (const room of this.#asked.keys()) {
      if (!this.wanted.has(room) && !this.#leave(room)) return;
    }
    for (const room of this.wanted) {
      if (!this.#asked.get(room) && !this.#join(room)) return;
    }
  }

  #join(room) {
    if (!this.#mayAsk()) return false;
    const ref = `join ${++this.#lastRef}`;
    this.#asked.set(room, ref);
    return this.send({ type: "join", room, ref });
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
  #refused({ code, ref }) {
    for (const [room, asked] of this.#asked) {
      if (asked === null || asked !== ref) continue;
      if (code !== "unavailable") {
        this.#asked.delete(room);
        this.wanted.delete(room);
      } else {
        setTimeout(() => this.joinAgain(room), ANSWER_WITHIN * (1 + Math.random()) / 2);
      }
    }
  }
}
