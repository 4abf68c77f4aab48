// Who writes the document, and where: the awareness of Yjs, in a room that keeps nothing. What is lost comes again by itself, as each
// page repeats its own every fifteen seconds, and forgets who was silent for thirty.

import { Awareness, applyAwarenessUpdate, encodeAwarenessUpdate, removeAwarenessStates } from "y-protocols/awareness";

const FROM_THE_ROOM = Symbol("from the room");

export class Cursors {
  #rooms;
  #room;

  constructor(rooms, room, doc, user) {
    this.#rooms = rooms;
    this.#room = room;
    this.awareness = new Awareness(doc);
    this.awareness.setLocalStateField("user", user);
    this.awareness.on("update", ({ added, updated, removed }, origin) => {
      if (origin !== FROM_THE_ROOM) this.#tell([...added, ...updated, ...removed]);
    });
    rooms.join(room);
  }

  received(bytes) {
    applyAwarenessUpdate(this.awareness, bytes, FROM_THE_ROOM);
  }

  onEvent({ type }) {
    // Those who come are told at once who is here already.
    if (type === "room_joined" || type === "viewer_joined") this.#tell([this.awareness.clientID]);
  }

  onOffline() {
    const others = [...this.awareness.getStates().keys()].filter(id => id !== this.awareness.clientID);
    removeAwarenessStates(this.awareness, others, FROM_THE_ROOM);
  }

  #tell(clients) {
    this.#rooms.publishBinary(this.#room, encodeAwarenessUpdate(this.awareness, clients));
  }
}
