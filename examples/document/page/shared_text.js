// A Yjs document that is shared in a room: what is written here is published there, and what others publish is merged here.
//
// Each message of the room is an update of Yjs behind a byte that says whether it has the whole text. Updates may come twice and
// in any order, so all that this has to see to is that none is lost: an update is kept until the server has acknowledged it,
// and is sent again where the connection ended before.
//
// The room keeps its newest messages, for pages that come later. So a page publishes the whole text before the last whole text is too
// far back: whichever page is the first, after a random time, and the others hear it and need not. The room keeps several of these,
// as a page can't have in its whole text what is published at the same moment.

import * as Y from "yjs";

const KEPT = 600;               // messages that the room keeps
const LONGEST = 256 * 1024;     // bytes of a message
const WHOLE_AFTER = 200;        // messages; the room keeps three times as many,
const WHOLE_AFTER_BYTES = 512 * 1024;  // or bytes; the room keeps four times as many,
const WHOLE_AFTER_MS = 12 * 3600_000;  // or at the latest after this time; the room keeps a message for twice as long
const SPREAD_MS = 2_000;        // within which one of the pages is the first

const UPDATE = 0;
const WHOLE = 1;
const FROM_THE_ROOM = Symbol("from the room");

export class SharedText {
  doc = new Y.Doc();
  #rooms;
  #room;
  #onState;
  #unsent = [];
  #sent = null;                 // the message that is under way, until it is acknowledged
  #lastRef = 0;
  #joined = false;
  #tooLong = false;
  #lost = false;                // others may lack something that this page has
  #sinceWhole = { messages: 0, bytes: 0 };
  #wholeDue = false;            // the next message is to be the whole text
  #timer;                       // until it is

  // `onState(state)`: "shared" where all that was written here has reached the room, "sharing", or "too long" where the text does not
  // fit into a message. Then nothing more is shared until it is shorter.
  constructor(rooms, room, onState) {
    this.#rooms = rooms;
    this.#room = room;
    this.#onState = onState;
    this.doc.on("update", (update, origin) => {
      if (origin !== FROM_THE_ROOM) this.#unsent.push(update);
      if (origin !== FROM_THE_ROOM || this.#tooLong) this.#send();
    });
    this.#wholeWithin(WHOLE_AFTER_MS);
    rooms.join(room, { newest: KEPT });
  }

  get state() {
    if (this.#tooLong) return "too long";
    return this.#sent || this.#lost || this.#unsent.length > 0 ? "sharing" : "shared";
  }

  received(bytes) {
    const update = bytes.subarray(1);
    Y.applyUpdate(this.doc, update, FROM_THE_ROOM);
    if (bytes[0] === WHOLE) return this.#heardWhole(update);
    this.#sinceWhole.messages += 1;
    this.#sinceWhole.bytes += bytes.length;
    const { messages, bytes: length } = this.#sinceWhole;
    // Once: a page that writes on does not put it off.
    if (messages === WHOLE_AFTER || (length >= WHOLE_AFTER_BYTES && length - bytes.length < WHOLE_AFTER_BYTES)) this.#wholeWithin(SPREAD_MS);
  }

  onEvent({ type, recovered, ref, code, retry_after_ms = 1000 }) {
    if (type === "room_joined") {
      this.#joined = true;
      // What it missed was not kept, or the room's messages are gone, as after a restart: then others may lack what this page has.
      if (recovered === false) this.#mayBeLost();
      this.#send();
    } else if (type === "resync") {
      // The same, while it was connected: it joins anew, and is given all that is kept.
      this.onOffline();
      this.#rooms.leave(this.#room);
      this.#rooms.join(this.#room, { newest: KEPT });
      this.#mayBeLost();
    } else if (type === "published" && ref === this.#sent?.ref) {
      if (this.#sent.what === WHOLE) this.#lost = false;
      this.#sent = null;
      this.#send();
    } else if (type === "error" && ref !== undefined && ref === this.#sent?.ref) {
      this.#again();
      if (code === "unavailable" || code === "rate_limited") setTimeout(() => this.#send(), retry_after_ms);
    }
  }

  onOffline() {
    this.#joined = false;
    this.#again();
  }

  #again() {
    if (!this.#sent) return;
    this.#unsent.unshift(this.#sent.update);
    this.#wholeDue ||= this.#sent.what === WHOLE;
    this.#sent = null;
  }

  #mayBeLost() {
    this.#lost = true;
    this.#wholeWithin(SPREAD_MS);
  }

  // Publishes the whole text within this time, unless another page does.
  #wholeWithin(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#wholeDue = true;
      this.#wholeWithin(WHOLE_AFTER_MS);
      this.#send();
    }, ms / 2 + (Math.random() * ms) / 2);
  }

  #heardWhole(update) {
    this.#sinceWhole = { messages: 0, bytes: 0 };
    if (this.#lost && !this.#hasAll(update)) return;
    this.#lost = this.#wholeDue = false;
    this.#wholeWithin(WHOLE_AFTER_MS);
    this.#onState(this.state);
  }

  #hasAll(update) {
    const other = new Y.Doc();
    Y.applyUpdate(other, update);
    return Y.equalSnapshots(Y.snapshot(this.doc), Y.snapshot(other));
  }

  // One message at a time: what is written meanwhile is merged into the next.
  #send() {
    if (this.#joined && !this.#sent) {
      const what = this.#wholeDue || this.#tooLong ? WHOLE : UPDATE;
      if (what === WHOLE) this.#unsent = [Y.encodeStateAsUpdate(this.doc)];
      if (this.#unsent.length > 0) this.#publish(what, Y.mergeUpdates(this.#unsent));
    }
    this.#onState(this.state);
  }

  #publish(what, update) {
    this.#tooLong = update.length >= LONGEST;
    const ref = (this.#lastRef += 1);
    if (this.#tooLong || !this.#rooms.publishBinary(this.#room, new Uint8Array([what, ...update]), ref)) return;
    this.#sent = { update, ref, what };
    this.#unsent = [];
    this.#wholeDue = false;
  }
}
