// The shared text in a room that keeps little: whoever comes has all of it. `npm test` runs it.

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { SharedText } from "./shared_text.js";

const ROOM = "document:minutes";
const KEPT = 600;
const KEPT_BYTES = 2 * 1024 * 1024;
const LONGEST = 256 * 1024;

beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
afterEach(() => mock.timers.reset());

// A server with one room, which carries out what it is told when `run` is called.
class Server {
  log = [];
  published = 0;
  wholes = 0;
  #pages = new Set();
  #todo = [];

  page() {
    const page = new Page(this);
    this.#pages.add(page);
    this.run();
    return page;
  }

  does(run) {
    this.#todo.push(run);
  }

  run() {
    while (this.#todo.length > 0) this.#todo.shift()();
  }

  append(bytes) {
    assert(bytes.length <= LONGEST, `${bytes.length} bytes would end the connection`);
    this.published += 1;
    this.wholes += bytes[0];
    this.log.push(bytes);
    let kept = this.log.reduce((sum, { length }) => sum + length, 0);
    while (this.log.length > KEPT || kept > KEPT_BYTES) kept -= this.log.shift().length;
    for (const page of this.#pages) page.hears(bytes);
  }
}

class Page {
  states = [];
  #server;
  #joined = false;
  #connection = 1;
  #connected = true;

  constructor(server) {
    this.#server = server;
    this.text = new SharedText(this, ROOM, state => this.states.push(state));
  }

  join(_, { newest }) {
    this.#server.does(() => this.#enters({}, newest));
  }

  leave() {
    this.#server.does(() => { this.#joined = false; });
  }

  #enters(event, newest) {
    this.#joined = true;
    this.text.onEvent({ type: "room_joined", room: ROOM, ...event });
    for (const bytes of newest ? this.#server.log.slice(-newest) : []) this.hears(bytes);
  }

  publishBinary(room, bytes, ref) {
    if (!this.#connected) return false;
    const connection = this.#connection;
    this.#server.does(() => {
      if (connection !== this.#connection) return;
      if (!this.#joined) return this.text.onEvent({ type: "error", code: "not_joined", room, ref });
      this.#server.append(bytes);
      this.text.onEvent({ type: "published", room, ref });
    });
    return true;
  }

  hears(bytes) {
    if (this.#joined) this.text.received(bytes);
  }

  goes() {
    this.#connected = this.#joined = false;
    this.#connection += 1;
    this.text.onOffline();
  }

  comes(event) {
    this.#connected = true;
    this.#server.does(() => this.#enters(event, KEPT));
    this.#server.run();
  }

  get content() {
    return this.text.doc.getText("content");
  }

  get said() {
    return this.content.toString();
  }

  writes(text) {
    this.content.insert(this.content.length, text);
  }
}

test("who comes has all of a text of which the room has forgotten most messages", () => {
  const server = new Server();
  const [ann, bob] = [server.page(), server.page()];
  for (let n = 0; n < 5 * KEPT; n += 1) {
    (n % 2 ? ann : bob).writes(`${n} `);
    server.run();
    mock.timers.tick(100);
    server.run();
    if (n % 500 === 499) assert.equal(server.page().said, ann.said);
  }
  assert.equal(bob.said, ann.said);
  assert(server.published > KEPT && server.wholes > 0);
  assert(server.wholes < 40, `${server.wholes} whole texts: one of the pages is enough`);
});

test("who comes has all of a text of which the room has forgotten most bytes", () => {
  const server = new Server();
  const ann = server.page();
  for (let n = 0; n < 60; n += 1) {
    ann.writes("x".repeat(100_000));
    server.run();
    ann.content.delete(1, 100_000);
    server.run();
    mock.timers.tick(2_000);
    server.run();
    assert.equal(server.page().said, ann.said);
  }
  assert(server.log.length < server.published);
});

test("a text that nobody changes is published again before the room forgets it", () => {
  const server = new Server();
  const [ann] = [server.page(), server.page(), server.page()];
  ann.writes("kept");
  server.run();
  for (let hour = 0; hour < 24; hour += 1) {
    mock.timers.tick(3600_000);
    server.run();
  }
  assert(server.wholes >= 2 && server.wholes <= 5, `${server.wholes} whole texts`);
});

test("a page is told that its text is too long, and shares it once it is shorter", () => {
  const server = new Server();
  const [ann, bob] = [server.page(), server.page()];
  ann.writes("x".repeat(2 * LONGEST));
  server.run();
  assert.equal(ann.text.state, "too long");
  ann.content.delete(10, 2 * LONGEST - 10);
  server.run();
  assert.equal(ann.text.state, "shared");
  assert.equal(bob.said, "x".repeat(10));
});

test("what was under way when the connection ended, or while the page joins anew, is not lost", () => {
  const server = new Server();
  const [ann, bob] = [server.page(), server.page()];
  ann.writes("first");
  ann.goes();
  ann.comes({ recovered: true });
  assert.equal(bob.said, "first");
  ann.writes(", second");
  ann.text.onEvent({ type: "resync", room: ROOM, reason: "bus_gap" });
  ann.writes(", third");
  server.run();
  assert.equal(bob.said, "first, second, third");
});

test("what one page alone has of a room that has lost all is published, though another has published the whole", () => {
  const server = new Server();
  const [ann, bob] = [server.page(), server.page()];
  bob.goes();
  ann.writes("of ann");
  server.run();
  ann.goes();
  server.log = [];
  for (const page of [bob, ann]) {
    page.comes({ recovered: false });
    mock.timers.tick(2_000);
    server.run();
  }
  assert.equal(server.wholes, 2);
  assert.equal(server.page().said, "of ann");
});

test("after the room has lost all, one page gives all, and what only another has comes from that", () => {
  const server = new Server();
  const pages = Array.from({ length: 8 }, () => server.page());
  pages[0].writes("before");
  server.run();
  for (const page of pages) page.goes();
  pages[0].writes(", of ann");
  pages[5].writes(", of bob");
  server.log = [];
  for (const page of pages) page.comes({ recovered: false });
  assert.equal(pages[0].text.state, "sharing");
  for (let n = 0; n < 200; n += 1) {
    mock.timers.tick(10);
    server.run();
  }
  assert(pages.every(page => page.text.state === "shared"));
  assert(server.wholes >= 1 && server.wholes < pages.length, `${server.wholes} whole texts`);
  const cy = server.page();
  for (const words of ["before", ", of ann", ", of bob"]) assert(cy.said.includes(words), cy.said);
});
