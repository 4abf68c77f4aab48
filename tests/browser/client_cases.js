// Cases of the guide's client against a server and a clock that do what the case says. The client is at `client`.
"use strict";

const soon = window.setTimeout.bind(window);
let now, timers, lastTimer, sockets;

class FakeSocket {
  static OPEN = 1;
  readyState = 0;
  sent = [];
  constructor(url) {
    this.url = url;
    sockets.push(this);
  }
  send(text) {
    if (this.readyState === 0) throw new Error("a browser throws here");
    if (this.readyState === 1) this.sent.push(JSON.parse(text));
  }
  close() { this.readyState = 3; }
  opens() { this.readyState = 1; this.onopen(); }
  says(event) { this.onmessage({ data: JSON.stringify(event) }); }
  dies(code, reason = "") { this.readyState = 3; this.onclose({ code, reason }); }
  get token() { return this.url.searchParams.get("token"); }
  get rooms() { return this.sent.filter(message => message.room).map(({ type, room }) => `${type} ${room}`); }
}

function fakes() {
  [now, timers, lastTimer, sockets] = [0, new Map(), 0, []];
  window.WebSocket = FakeSocket;
  window.setTimeout = (run, after = 0, ...given) => (timers.set(++lastTimer, { at: now + after, run, given }), lastTimer);
  window.setInterval = (run, every) => (timers.set(++lastTimer, { at: now + every, run, given: [], every }), lastTimer);
  window.clearTimeout = window.clearInterval = id => timers.delete(id);
}

// Lets the time go by, and what was promised be done.
async function pass(time) {
  const until = now + time;
  for (;;) {
    await new Promise(done => soon(done));
    const due = [...timers].filter(([, timer]) => timer.at <= until).sort(([, a], [, b]) => a.at - b.at)[0];
    if (!due) break;
    const [id, timer] = due;
    now = timer.at;
    if (timer.every) timer.at += timer.every; else timers.delete(id);
    timer.run(...timer.given);
  }
  now = until;
}

// A client whose tokens are counted.
function start(token) {
  fakes();
  const it = { tokens: 0, events: [] };
  token ??= async () => `token-${++it.tokens}`;
  it.rooms = client("/ws", { token, hear: event => it.events.push(event) });
  it.types = () => it.events.splice(0).map(event => event.type);
  return it;
}

async function opened() {
  await pass(0);
  sockets.at(-1).opens();
  return sockets.at(-1);
}

function same(got, expected) {
  const [a, b] = [JSON.stringify(got), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${a} is not ${b}`);
}

window.cases = {
  async each_close_code_is_answered_as_the_table_says() {
    const outcome = async code => {
      const it = start();
      (await opened()).dies(code);
      const { type, in_ms } = it.events[0];
      await pass(60_000);
      if (type === "closed") return sockets.length === 1 ? "for good" : "comes back nevertheless";
      const when = in_ms < 250 ? "at once" : in_ms <= 500 ? "soon" : in_ms >= 4_000 && in_ms <= 8_000 ? "later" : "at some time";
      return `${when}, ${sockets[1].token}`;
    };
    for (const code of [1000, 1001, 1005, 1006, 1012, 4000, 4408]) same([code, await outcome(code)], [code, "soon, token-1"]);
    for (const code of [1008, 4401]) same([code, await outcome(code)], [code, "soon, token-2"]);
    for (const code of [1011, 1013, 4429]) same([code, await outcome(code)], [code, "later, token-1"]);
    for (const code of [1002, 1003, 1007, 1009, 4403, 4430]) same([code, await outcome(code)], [code, "for good"]);
  },

  async a_refused_upgrade_may_be_the_token() {
    const it = start();
    await pass(0);
    sockets[0].dies(1006);
    await pass(500);
    same([it.tokens, sockets[1].token], [2, "token-2"]);
  },

  async each_failure_in_a_row_doubles_the_time() {
    const it = start();
    for (let longest = 500; longest < 500_000; longest *= 2) {
      (await opened()).dies(1008);
      const { in_ms } = it.events.pop(), most = Math.min(longest, 30_000);
      same([in_ms >= most / 2, in_ms <= most], [true, true]);
      await pass(in_ms);
    }
    // A pong proves a connection good; a room that is joined does not.
    for (const [event, soon] of [["room_joined", false], ["pong", true]]) {
      const socket = await opened();
      socket.says({ type: event, room: "user:ann" });
      socket.dies(1006);
      const { in_ms } = it.events.pop();
      same([event, in_ms <= 500], [event, soon]);
      await pass(in_ms);
    }
  },

  async the_server_says_when_to_come_back_once() {
    const it = start(), socket = await opened();
    socket.says({ type: "reconnect", in_ms: 90_000 });
    socket.dies(1012);
    same(it.events.pop().in_ms, 90_000);
    await pass(89_999);
    same(sockets.length, 1);
    await pass(1);
    sockets[1].dies(1006);
    same(it.events.pop().in_ms <= 500, true);
  },

  async silence_is_noticed() {
    const it = start();
    await pass(9_999);
    same(it.types(), []);
    await pass(1);
    same([it.events[0].code, it.types()], [4408, ["offline"]]);
    await pass(500);
    const socket = await opened();
    // Longer than any timer, with an answer to each ping.
    for (let i = 0; i < 60; i++) {
      await pass(10_000);
      if (socket.sent.pop()?.type === "ping") socket.says({ type: "pong" });
    }
    same(it.types().filter(type => type !== "pong"), []);
    await pass(30_000);
    same([it.events[0].code, it.types(), socket.readyState], [4408, ["offline"], 3]);
    // What comes too late is of a connection that is over.
    socket.says({ type: "pong" });
    socket.dies(1000);
    same(it.types(), []);
  },

  async only_wanted_rooms_are_joined_again() {
    const it = start();
    for (const room of ["a:1", "a:2", "a:3"]) it.rooms.join(room);
    it.rooms.leave("a:3");
    same(it.rooms.publish("a:1", {}), false);
    await pass(0);
    same(it.rooms.publish("a:1", {}), false);
    let socket = await opened();
    same(socket.rooms, ["join a:1", "join a:2"]);
    it.rooms.leave("a:1");
    it.rooms.join("a:2");
    same(it.rooms.publish("a:2", {}, 7), true);
    same(socket.rooms.slice(2), ["leave a:1", "join a:2", "publish a:2"]);
    socket.dies(1006);
    it.rooms.join("a:4");
    it.rooms.leave("a:2");
    await pass(500);
    same((await opened()).rooms, ["join a:4"]);
  },

  async a_refused_room_is_not_wanted_and_an_unavailable_one_is_asked_for_later() {
    const it = start();
    for (const room of ["a:1", "a:2", "a:3"]) it.rooms.join(room);
    const socket = await opened();
    const [one, two] = socket.sent;
    socket.says({ type: "error", code: "not_allowed", ref: one.ref });
    socket.says({ type: "error", code: "unavailable", ref: two.ref });
    socket.says({ type: "error", code: "refused", room: "a:3", ref: 1 });
    await pass(4_000);
    same(socket.rooms.length, 3);
    await pass(6_000);
    same(socket.rooms.slice(3), ["join a:2"]);
    socket.dies(1006);
    await pass(500);
    same((await opened()).rooms, ["join a:2", "join a:3"]);
  },

  async joins_keep_below_the_rate() {
    const it = start(), socket = await opened();
    for (let i = 0; i < 128; i++) it.rooms.join(`a:${i}`);
    const counts = [socket.rooms.length];
    it.rooms.leave("a:127");
    for (let second = 0; second < 4; second++) { await pass(1_000); counts.push(socket.rooms.length); }
    same(counts, [40, 80, 120, 127, 127]);
    same(new Set(socket.rooms).size, 127);
  },

  async a_resync_is_heard_once_in_five_seconds() {
    const it = start(), socket = await opened();
    const resync = { type: "resync", room: "a:1", reason: "bus_gap" };
    socket.says(resync);
    socket.says(resync);
    socket.says({ ...resync, room: "a:2" });
    same(it.types(), []);
    await pass(5_000);
    same(it.types(), ["resync", "resync"]);
    // A new connection's joins say more.
    socket.says(resync);
    socket.dies(1006);
    await pass(5_000);
    same(it.types(), ["offline"]);
  },

  async a_token_that_does_not_come_is_waited_for_and_none_is_the_end() {
    let it = start(() => new Promise(() => {}));
    await pass(10_000);
    same(it.events.map(({ type, reason }) => [type, reason]), [["offline", "Error: no token in time"]]);
    for (const bad of [() => Promise.reject(new Error("no")), () => { throw new Error("no"); }]) {
      it = start(bad);
      await pass(60_000);
      same([it.events[0].reason, it.events.length > 5, it.events.length < 10], ["Error: no", true, true]);
    }
    it = start(() => null);
    await pass(60_000);
    same([it.types(), sockets.length], [["closed"], 0]);
  },

  async after_close_there_is_nothing() {
    const moments = {
      before: async () => {},
      token: async () => { await pass(0); },
      opening: async () => { await pass(0); },
      open: async () => { await opened(); },
      waiting: async () => { (await opened()).dies(1008); },
    };
    for (const [moment, come] of Object.entries(moments)) {
      let give;
      const it = start(moment === "token" ? () => new Promise(resolve => { give = resolve; }) : undefined);
      await come();
      it.types();
      it.rooms.close();
      give?.("token");
      const [count, tokens] = [sockets.length, it.tokens];
      sockets.at(-1)?.onclose?.({ code: 1000, reason: "" });
      await pass(120_000);
      same([moment, it.types(), sockets.length, it.tokens, timers.size], [moment, [], count, tokens, 0]);
      same(sockets.every(socket => socket.readyState === 3), true);
    }
  },
};
