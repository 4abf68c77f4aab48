// @ts-check
// The types are made of the server's enums; `tsc --project examples/typed` compares this page with them.
import { connect } from "/rooms.js";

/** @typedef {import("./rooms-types").Rooms} Rooms */
/** @typedef {import("./rooms-types").RoomsServerEvent} RoomsServerEvent */

const ROOM = "board:1";
const [title, state, form, text, cards] = ["title", "state", "new", "text", "cards"].map(find);
const rooms = connect("/live", { onEvent: heard, onOffline: () => { state.textContent = "Offline"; } });
rooms.join(ROOM);

/** @param {string} id */
function find(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no ${id}`);
  return element;
}

/** @param {RoomsServerEvent} event */
function heard(event) {
  switch (event.type) {
    case "room_joined":
    case "viewer_joined":
    case "viewer_left":
      if (event.room === ROOM) state.textContent = `${event.viewers} here`;
      break;
    case "message":
      // The kind of the room says what its data is.
      if (event.room === ROOM) show(/** @type {Rooms["board"]["events"]} */ (event.data));
      break;
    case "room_state":
      if (event.room === ROOM) name(/** @type {Rooms["board"]["state"]} */ (event.state));
      break;
    case "error":
      state.textContent = event.message;
      break;
  }
}

/** @param {Rooms["board"]["events"]} event */
function show(event) {
  switch (event.type) {
    case "card_changed": {
      const { id, text, state } = event.card;
      const item = document.getElementById(`card-${id}`) ?? cards.appendChild(document.createElement("li"));
      item.id = `card-${id}`;
      item.className = state;
      item.textContent = `${text} (${event.by})`;
      item.onclick = () => publish({ type: "put", card: { id, text, state: state === "done" ? "todo" : "done" } });
      break;
    }
    case "card_removed":
      document.getElementById(`card-${event.id}`)?.remove();
      break;
    default:
      // An event that the server has and this page does not know is an error of the compiler here.
      ignore(event);
  }
}

/** @param {Rooms["board"]["state"]} topic */
function name(topic) {
  title.textContent = topic.title;
}

/** @param {never} event */
function ignore(event) {
  console.warn("unknown event", event);
}

/** @param {Rooms["board"]["publish"]} command */
function publish(command) {
  rooms.publish(ROOM, command);
}

form.addEventListener("submit", event => {
  event.preventDefault();
  const input = /** @type {HTMLInputElement} */ (text);
  publish({ type: "put", card: { id: Date.now(), text: input.value } });
  input.value = "";
});
