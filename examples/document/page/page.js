import { EditorState } from "@codemirror/state";
import { EditorView } from "@codemirror/view";
import { basicSetup } from "codemirror";
import { yCollab } from "y-codemirror.next";

import { connect } from "/rooms.js";
import { Cursors } from "./cursors.js";
import { SharedText } from "./shared_text.js";

const COLOURS = ["#2563eb", "#b91c1c", "#15803d", "#7e22ce", "#a16207", "#0e7490"];

const STATES = {
  offline: "Offline: what you write is kept",
  shared: "All changes shared",
  sharing: "Sharing…",
  "too long": "Too long to be shared",
};

const show = (id, text) => { document.getElementById(id).textContent = text; };

document.getElementById("enter").addEventListener("submit", event => {
  event.preventDefault();
  const name = document.getElementById("user").value.trim();
  if (name) open(name, location.hash.slice(1) || "minutes");
});

function open(name, id) {
  document.body.dataset.page = "text";
  show("name", id);
  const [text, cursor] = [`document:${id}`, `cursors:${id}`];
  let offline = true;
  const state = state => show("state", offline ? STATES.offline : STATES[state]);

  const rooms = connect("/ws", {
    token: async () => {
      const answer = await fetch(`/tokens/${encodeURIComponent(name)}`, { method: "POST" });
      return answer.ok ? answer.text() : null;
    },
    onEvent(event) {
      if (event.room === text) {
        offline = event.type === "room_joined" ? false : offline;
        if ("viewers" in event) show("viewers", `${event.viewers} here`);
        shared.onEvent(event);
        state(shared.state);
      }
      if (event.room === cursor) cursors.onEvent(event);
    },
    onBinary: (bytes, { room }) => (room === text ? shared : cursors).received(bytes),
    onOffline() {
      offline = true;
      show("viewers", "");
      shared.onOffline();
      cursors.onOffline();
      state(shared.state);
    },
    onEnd: (code, reason) => show("state", `Disconnected: ${reason || code}`),
  });
  const shared = new SharedText(rooms, text, state);
  const colour = COLOURS[shared.doc.clientID % COLOURS.length];
  const cursors = new Cursors(rooms, cursor, shared.doc, { name, color: colour, colorLight: `${colour}33` });

  const content = shared.doc.getText("content");
  const extensions = [
    basicSetup, EditorView.lineWrapping, yCollab(content, cursors.awareness),
    EditorView.contentAttributes.of({ "aria-label": `The text ${id}` }),
  ];
  const editor = new EditorView({
    state: EditorState.create({ doc: content.toString(), extensions }),
    parent: document.getElementById("editor"),
  });
  editor.focus();
}
