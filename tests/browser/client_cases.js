// Cases of the guide's client against a server and a clock that do what the case says. The client is at `client`.
"use strict";

const soon = window.setTimeout.bind(window);
let now, timers, lastTimer, sockets, streams, before;

class FakeSocket {
  static OPEN = 1;
  readyState = 0;
  sent = [];
  constructor(url, protocols = []) {
    this.url = url;
    this.protocols = protocols;
    sockets.push(this);
  }
  send(text) {
    if (this.readyState === 0) throw new Error("a browser throws here");
    if (this.readyState === 1) this.sent.push(typeof text === "string" ? JSON.parse(text) : [...text]);
  }
  close() { this.readyState = 3; }
  opens() { this.readyState = 1; this.onopen(); }
  says(event) { this.onmessage({ data: JSON.stringify(event) }); }
  saysBytes(head, ...bytes) {
    if (this.binaryType !== "arraybuffer") throw new Error("a browser gives a `Blob`");
    const text = head.map(part => typeof part === "number" ? [part] : [part.length, ...new TextEncoder().encode(part)]);
    this.onmessage({ data: Uint8Array.from([...text.flat(), ...bytes]).buffer });
  }
  dies(code, reason = "") { this.readyState = 3; this.onclose({ code, reason }); }
  get token() { return this.url.searchParams.get("token"); }
  get rooms() { return this.sent.filter(message => message.room).map(({ type, room }) => `${type} ${room}`); }
}

// What a `fetch` of an event stream is answered with.
class FakeStream {
  constructor(url, { headers, signal }) {
    Object.assign(this, { url: new URL(url), headers, over: false });
    this.answer = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
    signal.addEventListener("abort", () => {
      this.over = true;
      this.reject(signal.reason);
      this.body?.error(signal.reason);
    });
    streams.push(this);
  }
  answers(status, headers = { "content-type": "text/event-stream" }) {
    const body = new ReadableStream({ start: body => { this.body = body; } });
    this.resolve(new Response(body, { status, headers }));
    return pass(0);
  }
  says(text) {
    this.body.enqueue(new TextEncoder().encode(text));
    return pass(0);
  }
  hears(event, id) { return this.says(`${id ? `id: ${id}\n` : ""}data: ${JSON.stringify(event)}\n\n`); }
  closes(code, reason = "") { return this.says(`event: close\ndata: ${JSON.stringify({ code, reason })}\n\n`); }
  get rooms() { return this.url.searchParams.getAll("room"); }
}

function fakes() {
  [now, timers, lastTimer, sockets, streams] = [0, new Map(), 0, [], []];
  window.fetch = (url, how) => new FakeStream(url, how).answer;
  window.WebSocket = FakeSocket;
  window.setTimeout = (run, after = 0, ...given) => (timers.set(++lastTimer, { at: now + after, run, given }), lastTimer);
  window.setInterval = (run, every) => (timers.set(++lastTimer, { at: now + every, run, given: [], every }), lastTimer);
  window.clearTimeout = window.clearInterval = id => timers.delete(id);
}

// Lets the time go by, and what was promised be done.
async function pass(time) {
  const until = now + time;
  for (;;) {
    // Bytes of a stream take several turns until they are text.
    for (let turn = 0; turn < (streams.length ? 5 : 1); turn++) await new Promise(done => soon(done));
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
function start(token, options) {
  before?.rooms.close();
  fakes();
  const it = before = { tokens: 0, events: [] };
  token ??= async () => `token-${++it.tokens}`;
  if (token === "cookie") token = undefined;
  it.rooms = client("/ws", {
    ...options,
    token,
    onEvent: event => it.events.push(event),
    onBinary: (bytes, { room, offset }) => it.events.push({ type: "bytes", bytes: [...bytes], room, offset }),
    onOffline: how => it.events.push({ type: "offline", ...how }),
    onTransport: transport => it.events.push({ type: transport }),
    onEnd: (code, reason) => it.events.push({ type: "end", code, reason }),
  });
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

// Two sockets that do not open, and the stream that does.
async function fallenBack(options, rooms = []) {
  const it = start(undefined, { events: "/sse", ...options });
  for (const room of rooms) it.rooms.join(room);
  await pass(0);
  sockets[0].dies(1006);
  await pass(500);
  sockets[1].dies(1006);
  await pass(1_000);
  await streams[0].answers(200);
  return it;
}

window.cases = {
  async two_sockets_in_a_row_that_do_not_open_make_it_an_event_stream() {
    const it = await fallenBack({ history: { newest: 9 } });
    same(it.types(), ["offline", "offline", "events"]);
    const { url, headers } = streams[0];
    same([url.pathname + url.search, headers], ["/sse?newest=9", { authorization: "Bearer token-3" }]);
    same([it.rooms.send({ type: "x" }), it.rooms.publish("a:1", {})], [false, false]);
    // An event that comes in pieces, two at once, and lines that are one payload.
    await streams[0].says('data: {"type":"room_joined","ro');
    await streams[0].says('om":"a:1","position":"2a.7"}\n\ndata: {"type":"message",\ndata: "offset":"2a.8","data":1}\n\n:\n\n');
    const message = { type: "message", offset: "2a.8", data: 1 };
    same(it.events.splice(0), [{ type: "room_joined", room: "a:1", position: "2a.7" }, message, { type: "pong" }]);
    // The server closes it as it closes sockets, and where it stood is said.
    await streams[0].hears({ type: "reconnect", in_ms: 7_000 });
    await streams[0].closes(1012, "restart");
    same(it.events.at(-1), { type: "offline", code: 1012, reason: "restart", in_ms: 7_000 });
    await pass(7_000);
    same([streams.length, streams[1].headers["last-event-id"], sockets.length], [2, "2a.8", 2]);
    await streams[1].answers(200);
    await streams[1].closes(4403, "no");
    same(it.events.at(-1), { type: "end", code: 4403, reason: "no" });
    await pass(3_600_000);
    same([streams.length, sockets.length, timers.size], [2, 2, 0]);
  },

  async a_socket_that_opened_or_no_path_means_no_event_stream() {
    for (const events of ["/sse", undefined]) {
      const it = start(undefined, { events });
      for (let n = 0; n < 6; n++) {
        await pass(it.events.at(-1)?.in_ms ?? 0);
        same([events, sockets.length, streams.length], [events, n + 1, 0]);
        // One that opened, and was refused by a code, between each two that did not.
        if (events && n % 2) sockets[n].opens();
        sockets[n].dies(1008);
      }
    }
  },

  async a_stream_that_does_not_open_either_is_not_preferred() {
    for (const [answer, code] of [
      [stream => stream.answers(401), 1008],
      [stream => stream.answers(503), 1013],
      [stream => stream.answers(404), 1006],
      [stream => stream.answers(200, { "content-type": "text/html" }), 1006],
      [stream => { stream.reject(new TypeError("no network")); return pass(0); }, 1006],
      [() => pass(10_000), 4408],
    ]) {
      const codes = [], it = start(async code => (codes.push(code), "token"), { events: "/sse" });
      await pass(0);
      sockets[0].dies(1006);
      await pass(500);
      sockets[1].dies(1006);
      await pass(1_000);
      same([streams.length, sockets.length], [1, 2]);
      await answer(streams[0]);
      const { in_ms } = it.events.at(-1);
      same(it.events.map(({ type, code }) => [type, code]), [["offline", 1006], ["offline", 1006], ["offline", code]]);
      await pass(in_ms);
      same([streams.length, sockets.length, codes.at(-1)], [1, 3, code]);
      sockets[2].dies(1006);
      await pass(it.events.at(-1).in_ms);
      same([streams.length, sockets.length], [2, 3]);
    }
  },

  async it_comes_back_to_the_first_socket_that_opens() {
    const it = await fallenBack({ history: true });
    await streams[0].hears({ type: "room_joined", position: "2a.7" });
    it.types();
    const tryIn = async most => {
      const count = sockets.length;
      await pass(most / 2 - 1);
      same([most, sockets.length], [most, count]);
      await pass(most / 2 + 1);
      same([most, sockets.length, streams.length, streams[0].over], [most, count + 1, 1, false]);
    };
    await tryIn(10_000);
    sockets.at(-1).dies(1006);
    await tryIn(20_000);
    sockets.at(-1).dies(1006);
    same(it.types(), []);
    await streams[0].says(":\n\n");
    it.types();
    await tryIn(40_000);
    const trial = sockets.at(-1);
    same([streams[0].over, trial.readyState], [false, 0]);
    trial.opens();
    same(streams[0].over, true);
    await pass(0);
    same([trial.readyState, sockets.at(-1).url.searchParams.get("since"), it.types()], [3, "2a.7", []]);
    await opened();
    same([it.types(), it.rooms.send({})], [["socket"], true]);
    await pass(9_000);
    same([sockets.length, streams.length], [6, 1]);
  },

  async a_stream_that_goes_silent_or_breaks_is_followed_by_a_socket() {
    const silence = async () => {
      for (let comments = 0; comments < 8; comments++) {
        await streams[0].says(":\n\n");
        await pass(25_000);
      }
      same(streams[0].over, false);
      await pass(35_000);
    };
    for (const end of [() => pass(60_000), silence, async () => { streams[0].body.close(); await pass(0); }]) {
      const it = await fallenBack();
      await end();
      same([it.events.at(-1).type, [1006, 4408].includes(it.events.at(-1).code)], ["offline", true]);
      const count = sockets.length;
      await pass(4_000);
      same([sockets.length, streams.length], [count + 1, 1]);
    }
  },

  async among_many_rooms_joins_and_leaves_open_the_stream_anew() {
    const it = await fallenBack({}, ["a:1", "a:2"]);
    same(streams[0].rooms, ["a:1", "a:2"]);
    await streams[0].hears({ type: "room_joined", room: "a:1", position: "2a.7" });
    await streams[0].hears({ type: "error", code: "not_allowed", room: "a:2" });
    await streams[0].hears({ type: "message", room: "a:1", offset: "2a.9", data: {} });
    same(streams.length, 1);
    it.rooms.join("a:3", { newest: 5 });
    it.rooms.join("a:4");
    await pass(0);
    same([streams[0].over, streams.length, streams[1].rooms], [true, 2, ["a:1", "a:3", "a:4"]]);
    same([streams[1].url.searchParams.get("newest"), streams[1].headers["last-event-id"]], ["5", "a:1=2a.9"]);
    await streams[1].answers(200);
    it.rooms.leave("a:1");
    await pass(0);
    same(streams[2].rooms, ["a:3", "a:4"]);
    await streams[2].answers(200);
    await streams[2].hears({ type: "error", code: "unavailable", room: "a:4" });
    await pass(10_000);
    same([streams[2].over, streams[3].rooms], [true, ["a:3", "a:4"]]);
    await streams[3].answers(200);
    // Without a room there is nothing to listen to, until there is one.
    it.rooms.leave("a:3");
    it.rooms.leave("a:4");
    await pass(1_000);
    same([streams[3].over, streams.length], [true, 4]);
    it.rooms.join("a:5");
    await pass(0);
    same(streams[4].rooms, ["a:5"]);
    await streams[4].answers(200);
    it.types();
    for (let n = 6; n <= 22; n++) it.rooms.join(`a:${n}`);
    await pass(0);
    await streams[5].answers(200);
    same([streams[5].rooms.length, it.events.map(({ code, room }) => [code, room])],
      [16, [["too_many_rooms", "a:21"], ["too_many_rooms", "a:22"]]]);
    same(streams.length, 6);
  },

  async one_room_among_many_is_resumed_by_its_name_and_refused_alone() {
    const it = await fallenBack({}, ["a:1"]);
    await streams[0].hears({ type: "room_joined", room: "a:1", position: "2a.7" });
    await streams[0].closes(1012, "restart");
    await pass(10_000);
    same([streams[1].rooms, streams[1].headers["last-event-id"]], [["a:1"], "a:1=2a.7"]);
    await streams[1].answers(200);
    it.types();
    await streams[1].hears({ type: "error", code: "not_allowed", room: "a:1" });
    same([it.types(), it.rooms.wanted.size, it.rooms.status], [["error"], 0, "open"]);
    it.rooms.join("a:2");
    await pass(0);
    same([streams.length, streams[2].rooms], [3, ["a:2"]]);
  },

  async who_observes_does_so_on_a_stream_too() {
    const it = await fallenBack({}, ["a:1"]);
    it.rooms.join("a:2", { observe: true });
    await pass(0);
    const { searchParams } = streams[1].url;
    same([searchParams.getAll("room"), searchParams.getAll("observed")], [["a:1"], ["a:2"]]);
  },

  async a_room_that_is_joined_with_more_than_a_stream_can_say_is_joined_when_a_socket_is_back() {
    const it = await fallenBack({}, ["a:1"]);
    it.types();
    it.rooms.join("a:2", { with: { key: 1 } });
    await pass(0);
    await streams[1].answers(200);
    same([streams.length, streams[1].rooms, streams[1].over], [2, ["a:1"], false]);
    same(it.events.map(({ type, code, room }) => [type, code, room]), [["error", "unsupported", "a:2"]]);
    await pass(10_000);
    const socket = await opened();
    await pass(0);
    const back = await opened();
    same([socket === back, back.sent.map(({ room, with: words }) => [room, words])],
      [false, [["a:1", undefined], ["a:2", { key: 1 }]]]);
    // Where there is no other room, sockets go on being tried.
    const other = start(undefined, { events: "/sse" });
    other.rooms.join("a:2", { with: { key: 1 } });
    for (let n = 0; n < 600; n++) {
      await pass(1_000);
      for (const socket of sockets) if (socket.readyState === 0) socket.dies(1006);
      for (const stream of streams) if (!stream.over) await stream.answers(400);
    }
    same([sockets.length > 9, other.rooms.wanted.size, other.types().includes("end")], [true, 1, false]);
  },

  async a_stream_that_is_put_out_of_its_last_room_waits_for_another() {
    const it = await fallenBack({}, ["a:1"]);
    it.types();
    await streams[0].hears({ type: "room_left", room: "a:1", reason: "kicked", message: "spam" });
    await streams[0].closes(4403, "spam");
    same([it.types(), streams[0].over], [["room_left"], true]);
    await pass(3_600_000);
    same([streams.length, sockets.length, it.types()], [1, 2, []]);
    it.rooms.join("a:2");
    await pass(0);
    same([streams.length, streams[1].rooms], [2, ["a:2"]]);
    // One that is for a single room has nothing else to wait for.
    const single = await fallenBack();
    await streams[0].closes(4403, "spam");
    same(single.events.at(-1), { type: "end", code: 4403, reason: "spam" });
  },

  async at_the_endpoint_of_one_room_a_payload_is_heard_as_by_a_socket() {
    const it = await fallenBack();
    it.types();
    await streams[0].hears({ type: "message", room: "a:1", data: { type: "new_comment" } });
    await streams[0].hears({ type: "message", room: "a:1", data: null });
    same(it.events, [{ type: "new_comment" }, null]);
  },

  async among_many_rooms_bytes_are_told_and_sent_with_their_room() {
    const it = start();
    same(it.rooms.publishBinary("a:1", new Uint8Array(1)), false);
    it.rooms.join("a:1");
    const socket = await opened();
    socket.sent.splice(0);
    socket.saysBytes([1, "a:1", "2a.7"], 0, 255);
    socket.saysBytes([1, "a:1", ""]);
    same(it.events.splice(0), [
      { type: "bytes", bytes: [0, 255], room: "a:1", offset: "2a.7" },
      { type: "bytes", bytes: [], room: "a:1" },
    ]);
    const buffer = Uint8Array.of(9, 1, 2, 9).buffer;
    same(it.rooms.publishBinary("a:1", new Uint8Array(buffer, 1, 2), 7), true);
    same(it.rooms.publishBinary("a:1", new Uint16Array(buffer, 2, 1)), true);
    same(it.rooms.sendBinary("a:1", buffer), true);
    const name = [97, 58, 49];
    same(socket.sent, [[1, 3, ...name, 1, 55, 1, 2], [1, 3, ...name, 0, 2, 9], [2, 3, ...name, 0, 9, 1, 2, 9]]);
    for (const [room, ref] of [[`a:${"1".repeat(232)}`], ["a:1", "x".repeat(127)]]) {
      let thrown = null;
      try { it.rooms.publishBinary(room, buffer, ref); } catch (fault) { thrown = fault; }
      same([thrown instanceof RangeError, socket.sent.length], [true, 3]);
    }
    socket.dies(1006);
    await pass(500);
    same((await opened()).sent[0].since, "2a.7");
  },

  async bytes_name_their_room_where_the_page_says_that_there_are_many() {
    const it = start(undefined, { many: true }), socket = await opened();
    socket.says({ type: "room_joined", room: "user:5", viewers: 1 });
    socket.saysBytes([1, "user:5", ""], 7);
    same(it.events.at(-1), { type: "bytes", bytes: [7], room: "user:5" });
  },

  async a_page_that_pauses_says_so_on_each_connection_until_it_goes_on() {
    const it = start();
    it.rooms.join("a:1");
    it.rooms.join("a:2");
    it.rooms.pause(["a:1"]);
    const says = socket => socket.sent.splice(0).map(({ type, room, paused = false }) => [type, room, paused]);
    const first = await opened();
    same(says(first), [["join", "a:1", true], ["join", "a:2", false]]);
    it.rooms.pause(["a:1", "a:2"]);
    same(says(first), [["join", "a:2", true]]);
    first.says({ type: "room_joined", room: "a:2", viewers: 1, paused: true, recovered: true });
    it.rooms.pause(["a:2"]);
    same(says(first), [["join", "a:1", false]]);
    first.dies(1006);
    await pass(500);
    same(says(await opened()), [["join", "a:1", false], ["join", "a:2", true]]);
  },

  async an_event_stream_leaves_the_rooms_in_which_the_page_pauses() {
    const it = await fallenBack({}, ["a:1", "a:2"]);
    same(streams.at(-1).rooms, ["a:1", "a:2"]);
    it.rooms.pause(["a:1"]);
    await pass(0);
    same(streams.at(-1).rooms, ["a:2"]);
    await streams.at(-1).answers(200);
    it.rooms.pause([]);
    await pass(0);
    same(streams.at(-1).rooms, ["a:1", "a:2"]);
  },

  async at_the_endpoint_of_one_room_bytes_are_as_they_are_unless_positions_are_told() {
    const it = start(), socket = await opened();
    socket.saysBytes([], 1, 2);
    same([it.events.splice(0), it.rooms.publishBinary(null, Uint8Array.of(3))], [[{ type: "bytes", bytes: [1, 2] }], true]);
    same(socket.sent, [[3]]);
    const resumed = start(undefined, { history: true }), first = await opened();
    first.saysBytes([1, "a:1", "2a.8"], 4);
    same(resumed.events.splice(0), [{ type: "bytes", bytes: [4], room: "a:1", offset: "2a.8" }]);
    first.dies(1006);
    await pass(500);
    same(sockets.at(-1).url.searchParams.get("since"), "2a.8");
  },

  async at_the_endpoint_of_one_room_bytes_of_a_stream_are_told_as_by_a_socket() {
    for (const [options, place] of [[{}, {}], [{ history: true }, { room: "a:1", offset: "2a.9" }]]) {
      const it = await fallenBack(options);
      it.types();
      await streams[0].hears({ type: "binary", room: "a:1", offset: "2a.9", base64: "AP8=" }, "2a.9");
      same(it.events.splice(0), [{ type: "bytes", bytes: [0, 255], ...place }]);
    }
  },

  async on_an_event_stream_bytes_are_base64_and_keep_their_place() {
    const it = await fallenBack({}, ["a:1"]);
    it.types();
    await streams[0].hears({ type: "binary", room: "a:1", offset: "2a.9", base64: "AP8=" }, "a:1=2a.9");
    same(it.events.splice(0), [{ type: "bytes", bytes: [0, 255], room: "a:1", offset: "2a.9" }]);
    same(it.rooms.publishBinary("a:1", new Uint8Array(1)), false);
    it.rooms.join("a:2");
    await pass(0);
    same(streams[1].headers["last-event-id"], "a:1=2a.9");
  },

  async what_is_closed_or_left_has_no_stream() {
    const it = await fallenBack();
    window.dispatchEvent(new Event("pagehide"));
    same(streams[0].over, true);
    window.dispatchEvent(new Event("pageshow"));
    await pass(0);
    same([streams.length, sockets.length], [2, 2]);
    await streams[1].answers(200);
    it.rooms.close();
    it.types();
    await pass(3_600_000);
    same([streams[1].over, streams.length, sockets.length, it.types(), timers.size], [true, 2, 2, [], 0]);
  },

  async each_close_code_is_answered_as_the_table_says() {
    const outcome = async code => {
      const it = start();
      (await opened()).dies(code);
      const { type, in_ms } = it.events[0] ?? { type: "quiet", in_ms: 0 };
      await pass(60_000);
      if (type === "quiet") return `quiet, ${sockets[1].token}`;
      if (type === "end") return sockets.length === 1 ? "for good" : "comes back nevertheless";
      const when = in_ms < 250 ? "at once" : in_ms <= 500 ? "soon" : in_ms >= 4_000 && in_ms <= 8_000 ? "later" : "at some time";
      return `${when}, ${sockets[1].token}`;
    };
    for (const code of [1000, 1001, 1005, 1006, 1012, 4000, 4408]) same([code, await outcome(code)], [code, "soon, token-2"]);
    same(await outcome(1008), "soon, token-2");
    same(await outcome(4401), "quiet, token-2");
    for (const code of [1011, 1013, 4410, 4429]) same([code, await outcome(code)], [code, "later, token-2"]);
    for (const code of [1002, 1003, 1007, 1009, 4403, 4430]) same([code, await outcome(code)], [code, "for good"]);
  },

  async a_token_that_ends_is_refreshed_and_the_connection_goes_on() {
    const codes = [], it = start(async code => (codes.push(code ?? null), `token-${codes.length}`)), socket = await opened();
    socket.says({ type: "token_expiring", in_ms: 60_000 });
    await pass(0);
    same(socket.sent.at(-1), { type: "refresh", token: "token-2", ref: "refresh" });
    socket.says({ type: "refreshed", in_ms: 900_000, ref: "refresh" });
    same([it.types(), sockets.length, codes], [["token_expiring", "refreshed"], 1, [null, null]]);
  },

  async a_new_token_that_can_not_be_checked_or_made_now_is_tried_again_before_the_end_of_the_old_one() {
    // With pongs, without which it is given up.
    const live = async (socket, time) => {
      for (let left = time; left > 0; left -= 5_000) {
        socket.says({ type: "pong" });
        await pass(Math.min(5_000, left));
      }
    };
    const refreshes = socket => socket.sent.filter(({ type }) => type === "refresh").map(({ token }) => token);
    const it = start(), socket = await opened();
    socket.says({ type: "token_expiring", in_ms: 60_000 });
    await pass(0);
    let tokens = ["token-2"];
    for (const [code, least, most] of [["unavailable", 5_000, 6_250], ["rate_limited", 10_000, 12_500], ["unavailable", 20_000, 25_000]]) {
      socket.says({ type: "error", code, message: "later", ref: "refresh" });
      await live(socket, least - 1);
      same([code, refreshes(socket)], [code, tokens]);
      await live(socket, most - least + 1);
      tokens = [...tokens, `token-${tokens.length + 2}`];
      same([code, refreshes(socket)], [code, tokens]);
    }
    socket.says({ type: "refreshed", in_ms: 900_000, ref: "refresh" });
    await live(socket, 30_000);
    // An error about something else, and a token that is bad, are no reason to try again.
    for (const error of [{ code: "unavailable", ref: "other" }, { code: "unavailable" }, { code: "bad_token", ref: "refresh" }]) {
      socket.says({ type: "error", ...error });
    }
    await live(socket, 30_000);
    same([refreshes(socket), it.types().includes("offline")], [tokens, false]);
    // What the server asks for, if that is longer; and from the start with the next token.
    socket.says({ type: "token_expiring", in_ms: 60_000 });
    await pass(0);
    socket.says({ type: "error", code: "rate_limited", ref: "refresh", retry_after_ms: 8_000 });
    await live(socket, 7_999);
    same(refreshes(socket).length, tokens.length + 1);
    await live(socket, 1);
    same(refreshes(socket).length, tokens.length + 2);
    // Not for a connection that is gone by then.
    socket.says({ type: "error", code: "unavailable", ref: "refresh" });
    socket.dies(1006);
    await pass(500);
    const next = await opened();
    await pass(15_000);
    same(refreshes(next), []);
    // The same where the page can't get one.
    let asked = 0;
    start(async () => { if (++asked === 2) throw new Error("no network"); return `token-${asked}`; });
    const other = await opened();
    other.says({ type: "token_expiring", in_ms: 60_000 });
    await pass(4_999);
    same(refreshes(other), []);
    await pass(1_251);
    same(refreshes(other), ["token-3"]);
  },

  async where_there_is_no_new_token_the_connection_ends_with_the_old_one() {
    for (const none of [async () => null, async () => { throw new Error("no"); }, () => new Promise(() => {})]) {
      let asked = 0;
      const it = start(code => ++asked === 1 ? Promise.resolve("first") : none(code)), socket = await opened();
      const before = socket.sent.length;
      socket.says({ type: "token_expiring", in_ms: 60_000 });
      await pass(15_000);
      socket.says({ type: "pong" });
      same([socket.sent.slice(before).filter(({ type }) => type === "refresh"), it.types().includes("end")], [[], false]);
    }
    // One whose credential is a cookie has nothing to send.
    start("cookie");
    const socket = await opened();
    socket.says({ type: "token_expiring", in_ms: 60_000 });
    await pass(0);
    same(socket.sent, []);
    // A token that comes when another connection is there is not sent on it.
    let give;
    const it = start(() => new Promise(done => { give = done; }));
    await pass(0);
    give("first");
    const old = await opened();
    old.says({ type: "token_expiring", in_ms: 60_000 });
    await pass(0);
    const late = give;
    it.rooms.renew();
    await pass(0);
    give("third");
    const current = await opened();
    late("second");
    await pass(0);
    same([old.sent, current.sent], [[], []]);
  },

  async what_is_revoked_comes_once_with_a_new_token_and_then_not() {
    const codes = [], it = start(async code => (codes.push(code ?? null), `token-${codes.length}`));
    (await opened()).dies(4410, "revoked");
    const { type, in_ms } = it.events.pop();
    same([type, in_ms >= 4_000], ["offline", true]);
    await pass(in_ms);
    (await opened()).dies(4410, "revoked");
    same([it.events.pop(), codes], [{ type: "end", code: 4410, reason: "revoked" }, [null, 4410]]);
    // A connection that was good in between is another story.
    const other = start();
    (await opened()).dies(4410);
    await pass(other.events.pop().in_ms);
    (await opened()).says({ type: "pong" });
    sockets.at(-1).dies(4410);
    same(other.events.pop().type, "offline");
    // A cookie is no newer for being sent again.
    const cookie = start("cookie");
    (await opened()).dies(4410);
    same(cookie.events.pop().type, "end");
  },

  async a_room_that_it_was_put_out_of_is_not_joined_again() {
    const it = start();
    it.rooms.join("post:1");
    it.rooms.join("post:2");
    const socket = await opened();
    socket.says({ type: "room_left", room: "post:1", reason: "kicked", message: "spam" });
    it.rooms.join("post:3");
    same(socket.rooms, ["join post:1", "join post:2", "join post:3"]);
    socket.dies(1006);
    await pass(500);
    same((await opened()).rooms, ["join post:2", "join post:3"]);
    // Who asks for it, asks.
    it.rooms.join("post:1");
    same(sockets.at(-1).rooms.at(-1), "join post:1");
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

  async what_a_server_said_when_it_went_down_is_not_kept_for_the_next_one() {
    const back = {
      renew: it => it.rooms.renew(),
      left: () => { window.dispatchEvent(new Event("pagehide")); window.dispatchEvent(new Event("pageshow")); },
    };
    for (const [how, come] of Object.entries(back)) {
      const it = start();
      (await opened()).says({ type: "reconnect", in_ms: 90_000 });
      come(it);
      const socket = await opened();
      socket.dies(1006);
      same([how, it.events.at(-1).in_ms <= 500], [how, true]);
      await pass(500);
      (await opened()).dies(4403);
      same([how, it.events.at(-1).type], [how, "end"]);
    }
    // It is meant for a token whose time is over at the same moment, too.
    const it = start(), socket = await opened();
    socket.says({ type: "reconnect", in_ms: 1_000 });
    socket.dies(4401);
    same([it.events.at(-1).in_ms, sockets.length], [1_000, 1]);
  },

  async a_page_waits_for_the_place_of_its_own_old_connection() {
    const gone = {
      slow: async (it, socket) => { socket.dies(1013); await pass(it.events.at(-1).in_ms); },
      renew: it => it.rooms.renew(),
      left: () => { window.dispatchEvent(new Event("pagehide")); window.dispatchEvent(new Event("pageshow")); },
    };
    for (const [how, go] of Object.entries(gone)) {
      const it = start();
      await go(it, await opened());
      const since = now;
      for (let tries = 0; tries < 3; tries++) {
        (await opened()).dies(4430);
        const { type, in_ms } = it.events.at(-1);
        same([how, tries, type, in_ms >= 4_000], [how, tries, "offline", true]);
        window.dispatchEvent(new Event("online"));
        await pass(in_ms);
      }
      same([how, now - since >= 20_000], [how, true]);
      // Past that it is other tabs.
      (await opened()).dies(4430, "too many connections");
      same([how, it.events.at(-1)], [how, { type: "end", code: 4430, reason: "too many connections" }]);
    }
    // A connection that has proved good has had a place of its own.
    const it = start();
    (await opened()).dies(1013);
    await pass(it.events.at(-1).in_ms);
    (await opened()).says({ type: "pong" });
    sockets.at(-1).dies(1006);
    await pass(it.events.at(-1).in_ms);
    (await opened()).dies(4430);
    same(it.events.at(-1).type, "end");
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

  async a_list_of_members_that_an_answer_has_not_is_asked_for_once_more() {
    const it = start();
    it.rooms.join("a:1");
    const socket = await opened();
    const answer = members => socket.says({ type: "room_joined", room: "a:1", viewers: 1, users: 1, ...members });
    const list = { members: [{ user: "5" }] };
    answer(list);
    await pass(9_000);
    same(socket.rooms, ["join a:1"]);
    // Joins for several resyncs: the last answer has no list.
    it.rooms.join("a:1");
    answer(list);
    await pass(1_000);
    it.rooms.join("a:1");
    answer();
    await pass(4_999);
    same(socket.rooms.length, 3);
    await pass(1);
    same(socket.rooms.length, 4);
    answer();
    socket.says({ type: "pong" });
    await pass(9_000);
    same([socket.rooms.length, it.types().includes("offline")], [4, false]);
    // A list that comes meanwhile is enough.
    it.rooms.join("a:1");
    answer();
    await pass(2_000);
    it.rooms.join("a:1");
    answer(list);
    await pass(6_000);
    same(socket.rooms.length, 6);
    // A room without members has no list, and one that was left needs none.
    socket.says({ type: "room_joined", room: "a:1", viewers: 1 });
    await pass(6_000);
    answer();
    it.rooms.leave("a:1");
    socket.says({ type: "pong" });
    await pass(6_000);
    same(socket.rooms.slice(6), ["leave a:1"]);
    it.rooms.close();
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
  },

  async a_resync_or_refresh_that_was_not_handed_on_yet_is_so_once_another_connection_has_resumed_the_room() {
    const it = start();
    let socket = await opened();
    it.rooms.join("a:1");
    const joined = more => ({ type: "room_joined", room: "a:1", position: "2a.50", ref: socket.sent[0].ref, ...more });
    const reconnect = async () => {
      socket.dies(1006);
      await pass(6_000);
      socket = sockets.at(-1);
      socket.opens();
      it.events.splice(0);
    };
    socket.says(joined());
    const told = () => {
      socket.says({ type: "message", room: "a:1", offset: "2a.2", data: 2 });
      socket.says({ type: "resync", room: "a:1", reason: "slow_consumer" });
      socket.says({ type: "refresh", room: "a:1", offset: "2a.49" });
      socket.says({ type: "message", room: "a:1", offset: "2a.50", data: 50 });
    };
    told();
    await reconnect();
    same(socket.sent[0].since, "2a.50");
    // Not by the join of another room.
    socket.says({ ...joined({ recovered: true }), room: "a:2" });
    await pass(5_000);
    same(it.types(), ["room_joined"]);
    // Whatever was tried in between.
    await reconnect();
    socket.says(joined({ recovered: true }));
    same(it.types(), ["room_joined", "resync", "refresh"]);
    await pass(5_000);
    same(it.types(), []);
    // Where the room is not resumed, the page fetches anyway.
    for (const more of [{ recovered: false }, {}]) {
      told();
      await reconnect();
      socket.says(joined(more));
      if (more.recovered === false) socket.says({ type: "resync", room: "a:1", reason: "history_gap" });
      await pass(5_000);
      same(it.types(), ["room_joined"]);
    }
  },

  async where_the_server_joins_a_room_by_itself_the_page_keeps_the_place_that_it_resumes_from() {
    const it = start();
    let socket = await opened();
    it.rooms.join("user:5");
    // With the `ref` of the page's own join, or with none.
    const joined = (offset, more) => socket.says({ type: "room_joined", room: "user:5", position: `2a.${offset}`, ...more });
    const answered = (offset, more) => joined(offset, { ref: socket.sent[0].ref, ...more });
    joined(3);
    const reconnect = async () => {
      socket.dies(1006);
      await pass(6_000);
      socket = sockets.at(-1);
      socket.opens();
      return socket.sent[0].since;
    };
    same(await reconnect(), "2a.3");
    // Before its own join is answered, the connection ends.
    joined(9);
    same(await reconnect(), "2a.3");
    joined(9);
    socket.says({ type: "message", room: "user:5", offset: "2a.10", data: 10 });
    answered(3, { recovered: true });
    socket.says({ type: "message", room: "user:5", offset: "2a.4", data: 4 });
    same(await reconnect(), "2a.4");
    answered(20, { recovered: false });
    same(await reconnect(), "2a.20");
  },

  async a_refresh_is_heard_once_in_five_seconds_and_its_place_is_kept_at_once() {
    const it = start();
    const socket = await opened();
    it.rooms.join("a:1");
    const refresh = { type: "refresh", room: "a:1", offset: "2a.7" };
    socket.says(refresh);
    socket.says({ type: "message", room: "a:1", offset: "2a.8", data: 1 });
    socket.says({ ...refresh, offset: "2a.9" });
    same(it.types(), ["message"]);
    socket.says({ type: "message", room: "a:1", offset: "2a.10", data: 1 });
    await pass(5_000);
    same(it.types(), ["message", "refresh"]);
    socket.dies(1006);
    await pass(500);
    sockets[1].opens();
    same(sockets[1].sent[0].since, "2a.10");
  },

  async a_state_is_handed_on_whole_and_asked_for_anew_where_a_change_does_not_fit() {
    const it = start();
    it.rooms.join("a:1");
    const socket = await opened();
    const says = more => socket.says({ type: "room_state", room: "a:1", ...more });
    const heard = () => it.events.splice(0).map(({ type, revision, state, patch }) => ({ type, revision, state, patch }));
    const state = { a: { b: 1, c: [1] }, d: 1 };
    says({ revision: "2a.1", state });
    says({ revision: "2a.2", since: "2a.1", patch: { a: { b: null, e: { f: 2 } }, d: { g: 1 } } });
    const second = { a: { c: [1], e: { f: 2 } }, d: { g: 1 } };
    same(heard(), [
      { type: "room_state", revision: "2a.1", state },
      { type: "room_state", revision: "2a.2", state: second },
    ]);
    same(state, { a: { b: 1, c: [1] }, d: 1 });
    says({ revision: "2a.2", since: "2a.1", patch: { d: 7 } });
    same([heard(), socket.rooms], [[], ["join a:1"]]);

    says({ revision: "2a.4", since: "2a.3", patch: { d: 4 } });
    says({ revision: "2a.5", since: "2a.4", patch: { d: 5 } });
    await pass(5_000);
    same([heard(), socket.rooms], [[], ["join a:1", "join a:1"]]);
    says({ revision: "2a.5", state: { d: 5 } });
    says({ revision: "2a.6", since: "2a.5", patch: JSON.parse('{"__proto__":{"evil":1},"d":null}') });
    const last = it.events.splice(0).at(-1).state;
    same([JSON.stringify(last), {}.evil, last.evil], ['{"__proto__":{"evil":1}}', undefined, undefined]);

    socket.says({ type: "resync", room: "a:1", reason: "slow_consumer" });
    await pass(5_000);
    same([it.types(), socket.rooms.length], [["resync"], 3]);

    // After a reconnect it comes whole; what a page has left is forgotten.
    socket.dies(1006);
    await pass(500);
    sockets[1].opens();
    sockets[1].says({ type: "room_state", room: "a:1", revision: "2a.9", state: { d: 9 } });
    same(heard().at(-1), { type: "room_state", revision: "2a.9", state: { d: 9 } });
    it.rooms.leave("a:1");
    sockets[1].says({ type: "room_state", room: "a:1", revision: "2a.10", since: "2a.9", patch: { d: 10 } });
    same(heard(), []);
  },

  async at_the_endpoint_of_one_room_a_state_that_does_not_fit_is_a_new_connection() {
    const it = start();
    const socket = await opened();
    socket.says({ type: "room_state", room: "post:42", revision: "2a.1", state: [1] });
    socket.says({ type: "room_state", room: "post:42", revision: "2a.3", since: "2a.2", patch: {} });
    await pass(5_000);
    sockets[1].opens();
    sockets[1].says({ type: "room_state", room: "post:42", revision: "2a.3", state: { b: 1 } });
    same([sockets.length, it.tokens, it.events.map(event => event.state)], [2, 2, [[1], { b: 1 }]]);
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
    same([it.types(), sockets.length], [["end"], 0]);
  },

  async an_end_says_the_code_and_the_reason() {
    let it = start();
    (await opened()).dies(1009, "message too big");
    same(it.events, [{ type: "end", code: 1009, reason: "message too big" }]);
    await pass(60_000);
    same([it.rooms.send({ type: "ping" }), sockets.length, timers.size], [false, 1, 0]);
    // Where there is no further token, the end is what became of the last one.
    it = start(code => code === undefined || code === 1006 ? "token" : null);
    await pass(0);
    sockets[0].dies(1006);
    await pass(500);
    sockets[1].dies(4401, "token expired");
    await pass(1_000);
    same(it.events.slice(-1), [{ type: "end", code: 4401, reason: "token expired" }]);
    // Whoever goes down and says so does not mean it for good.
    it = start();
    const socket = await opened();
    socket.says({ type: "reconnect", in_ms: 1_000 });
    socket.dies(1002);
    same(it.types(), ["reconnect", "offline"]);
  },

  async a_token_that_has_had_its_time_is_renewed_without_a_word() {
    const it = start();
    for (let i = 2; i < 5; i++) {
      const socket = await opened();
      socket.says({ type: "pong" });
      socket.dies(4401);
      await pass(0);
      same([it.types(), sockets.at(-1).token], [["pong"], `token-${i}`]);
    }
    // A new one that has had its time at once is another matter.
    (await opened()).dies(4401);
    await pass(0);
    (await opened()).dies(4401);
    same(it.types(), ["offline"]);
  },

  async a_page_renews_its_token_when_it_likes() {
    const it = start();
    it.rooms.join("a:1");
    const old = await opened();
    it.rooms.renew();
    await pass(0);
    const socket = await opened();
    same([it.types(), old.readyState, socket.token, socket.rooms], [[], 3, "token-2", ["join a:1"]]);
    old.says({ type: "message" });
    old.dies(1000);
    same([it.types(), sockets.length], [[], 2]);
    // While the next try is waited for, there is no waiting.
    socket.dies(1013);
    it.rooms.renew();
    await pass(0);
    same([it.types(), sockets.length, sockets[2].token], [["offline"], 3, "token-3"]);
  },

  async the_token_travels_as_the_page_chooses() {
    const ways = {
      query: { token: "token-1", protocols: [], sent: [] },
      protocol: { token: null, protocols: ["app.v1", "bearer", "token-1"], sent: [] },
      message: { token: null, protocols: [], sent: [{ type: "auth", token: "token-1" }] },
    };
    for (const [tokenIn, { token, protocols, sent }] of Object.entries(ways)) {
      const it = start(undefined, { tokenIn, protocol: tokenIn === "protocol" ? "app.v1" : undefined });
      it.rooms.join("post:42", { observe: true });
      const socket = await opened();
      const join = { type: "join", room: "post:42", ref: "join 1", observe: true };
      same([tokenIn, socket.token, socket.protocols, socket.sent], [tokenIn, token, protocols, [...sent, join]]);
      // Each connection says it anew, and a token that was given up is not said again.
      socket.dies(1008);
      await pass(1_000);
      const next = await opened();
      const said = JSON.stringify([next.url, next.protocols, next.sent]);
      same([tokenIn, said.includes("token-1"), said.includes("token-2")], [tokenIn, false, true]);
    }
  },

  async a_cookie_needs_no_token() {
    const it = start("cookie");
    const socket = await opened();
    same([socket.url.search, socket.url.protocol], ["", "ws:"]);
    socket.dies(1006);
    await pass(500);
    (await opened()).dies(4401);
    await pass(1_000);
    same([it.types(), sockets.length], [["offline", "offline"], 3]);
    sockets[2].dies(1008, "Invalid token");
    same(it.events, [{ type: "end", code: 1008, reason: "Invalid token" }]);
  },

  async anything_is_sent_while_there_is_a_connection() {
    const it = start(), say = { type: "say", room: "a:1", text: "hi" };
    same(it.rooms.send(say), false);
    const socket = await opened();
    same([it.rooms.send(say), socket.sent], [true, [say]]);
    socket.dies(1006);
    same(it.rooms.send(say), false);
  },

  async any_json_may_be_said_on_the_endpoint_of_one_room() {
    const it = start(), socket = await opened();
    for (const payload of [null, 5, "text", [], {}, { type: "closed" }, { type: "reconnect" }]) socket.says(payload);
    same(it.events, [null, 5, "text", [], {}, { type: "closed" }, { type: "reconnect" }]);
    same([sockets.length, socket.sent], [1, []]);
  },

  async a_page_that_is_left_has_no_connection_until_it_is_back() {
    for (const [leave, back] of [["pagehide", "pageshow"], ["freeze", "resume"]]) {
      const target = leave === "freeze" ? document : window;
      const it = start();
      it.rooms.join("a:1");
      const socket = await opened();
      target.dispatchEvent(new Event(leave));
      same(it.events.splice(0), [{ type: "offline", code: 1001, reason: "the page was left", in_ms: 0 }]);
      same(socket.readyState, 3);
      it.rooms.renew();
      it.rooms.join("a:2");
      await pass(60_000);
      same([it.types(), sockets.length], [[], 1]);
      target.dispatchEvent(new Event(back));
      same((await opened()).rooms, ["join a:1", "join a:2"]);
      // In whatever it was busy with.
      sockets[1].dies(1006);
      target.dispatchEvent(new Event(leave));
      await pass(60_000);
      target.dispatchEvent(new Event(back));
      await pass(0);
      target.dispatchEvent(new Event(leave));
      same([sockets.length, sockets[2].readyState], [3, 3]);
      it.rooms.close();
      target.dispatchEvent(new Event(back));
      await pass(60_000);
      same(sockets.length, 3);
    }
  },

  async a_token_that_comes_after_the_page_was_left_opens_nothing() {
    const given = [];
    const it = start(() => new Promise(resolve => given.push(resolve)));
    await pass(0);
    window.dispatchEvent(new Event("pagehide"));
    given[0]("old");
    await pass(0);
    same(sockets.length, 0);
    window.dispatchEvent(new Event("pageshow"));
    await pass(0);
    given[1]("new");
    await pass(0);
    same(sockets.map(socket => socket.token), ["new"]);
    it.rooms.close();
  },

  async a_network_that_is_back_or_somebody_who_looks_is_not_kept_waiting() {
    for (const [target, event] of [[window, "online"], [document, "visibilitychange"]]) {
      const it = start();
      for (let failures = 0; failures < 6; failures++) {
        await pass(it.events.at(-1)?.in_ms ?? 0);
        sockets.at(-1).dies(1006);
      }
      target.dispatchEvent(new Event(event));
      await pass(0);
      same([event, sockets.length, it.events.at(-1).in_ms > 7_000], [event, 7, true]);
      sockets[6].dies(1006);
      same(it.events.at(-1).in_ms <= 500, true);
      await pass(500);
      // What was asked for is kept.
      for (const say of [socket => socket.dies(1013), socket => { socket.says({ type: "reconnect", in_ms: 5_000 }); socket.dies(1012); }]) {
        say(await opened());
        const count = sockets.length;
        target.dispatchEvent(new Event(event));
        await pass(3_999);
        same([event, sockets.length], [event, count]);
        await pass(it.events.at(-1).in_ms - 3_999);
      }
      // A connection that is there is asked whether it is still good.
      const socket = await opened();
      target.dispatchEvent(new Event(event));
      same(socket.sent, [{ type: "ping" }]);
      await pass(10_000);
      same(it.events.at(-1).code, 4408);
      it.rooms.close();
    }
  },

  async at_the_end_a_socket_that_is_tried_beside_a_stream_is_given_up() {
    const it = await fallenBack();
    await pass(10_000);
    const trial = sockets.at(-1);
    same([sockets.length, trial.readyState], [3, 0]);
    await streams[0].closes(4403, "no");
    same([it.events.at(-1).type, trial.readyState, trial.onopen, timers.size], ["end", 3, null, 0]);
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
