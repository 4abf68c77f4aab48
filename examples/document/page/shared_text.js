// A Yjs document that is shared in a room: what is written here is published there, and what others publish is merged here.
//
// Each message of the room is an update of Yjs, and updates may come twice and in any order, so all that this has to see to is that
// none is lost: an update is kept until the server has acknowledged it, and is sent again where the connection ended before. The
// room keeps the newest messages, for pages that were away. Now and then a page publishes the whole document as one update, so
// that what the room keeps is always enough for a page that has nothing.

import * as Y from "yjs";

const KEPT = 1000;              // messages that the room keeps
const WHOLE_EVERY = 200;        // messages, after which the document is published as a whole
const FROM_THE_ROOM = Symbol("from the room");

export class SharedText {
  doc = new Y.Doc();
  #rooms;
  #room;
  #onState;
  #unsent = [];
  #sent = null;                 // the update that is under way, until it is acknowledged
  #joined = false;
  #tooLong = false;
  #sinceWhole = 0;

  // `onState(state)`: "shared" where all that was written here has reached the room, "sharing", or "too long" where the server takes no
  // update of this length.
  constructor(rooms, room, onState) {
    this.#rooms = rooms;
    this.#room = room;
    this.#onState = onState;
    this.doc.on("update", (update, origin) => {
      if (origin === FROM_THE_ROOM) return;
      this.#unsent.push(update);
      this.#send();
    });
    rooms.join(room, { newest: KEPT });
  }

  get state() {
    if (this.#tooLong) return "too long";
    return this.#sent || this.#unsent.length > 0 ? "sharing" : "shared";
  }

  received(bytes) {
    this.#sinceWhole += 1;
    Y.applyUpdate(this.doc, bytes, FROM_THE_ROOM);
  }

  onEvent({ type, recovered, ref, code }) {
    if (type === "room_joined") {
      this.#joined = true;
      // What it missed was not kept, or the room's messages are gone, as after a restart: then others may lack what this page has.
      if (recovered === false) this.#sendWhole();
      this.#send();
    } else if (type === "resync") {
      // The same, while it was connected: it joins anew, and is given all that is kept.
      this.#rooms.leave(this.#room);
      this.#rooms.join(this.#room, { newest: KEPT });
      this.#sendWhole();
    } else if (type === "published" && ref === this.#room) {
      this.#sent = null;
      if (this.#sinceWhole >= WHOLE_EVERY) this.#sendWhole();
      this.#send();
    } else if (type === "error" && ref === this.#room) {
      this.#again();
      this.#tooLong ||= code === "too_big";
      if (code === "unavailable" || code === "rate_limited") setTimeout(() => this.#send(), 1000);
    }
  }

  onOffline() {
    this.#joined = false;
    this.#again();
  }

  #again() {
    if (this.#sent) this.#unsent.unshift(this.#sent);
    this.#sent = null;
  }

  #sendWhole() {
    this.#sinceWhole = 0;
    this.#again();
    this.#unsent = [Y.encodeStateAsUpdate(this.doc)];
    this.#send();
  }

  // One update at a time: what is written meanwhile is merged into the next.
  #send() {
    if (this.#joined && !this.#tooLong && !this.#sent && this.#unsent.length > 0) {
      const update = Y.mergeUpdates(this.#unsent);
      if (this.#rooms.publishBinary(this.#room, update, this.#room)) {
        this.#sent = update;
        this.#unsent = [];
      }
    }
    this.#onState(this.state);
  }
}
