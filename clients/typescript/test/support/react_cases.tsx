// The hooks, in a real browser, with rooms in memory.
import { Activity, StrictMode, act, useState } from "react";
import { createRoot } from "react-dom/client";
import { connect } from "@ws-rooms/client";
import { useRoom, useStatus } from "@ws-rooms/client/react";
import { RoomsInMemory } from "@ws-rooms/client/testing";
import { same } from "./check.js";

interface Rooms {
  post: { events: { text: string }; state: { title: string } };
}

(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;

/** Lets everything that is under way be done. */
const settle = () => act(() => new Promise<void>(resolve => setTimeout(resolve, 20)));

function start() {
  const server = new RoomsInMemory<Rooms>();
  const rooms = connect<Rooms>("ws://test", { WebSocket: server.WebSocket });
  const element = document.createElement("div");
  return { server, rooms, element, root: createRoot(element) };
}

export const cases = {
  async a_room_is_joined_rendered_and_left() {
    const { server, rooms, element, root } = start();
    const texts: string[] = [];
    function Post() {
      const post = useRoom(rooms, "post:42", { onEvent: event => event.type === "message" && texts.push(event.data.text) });
      return `${useStatus(rooms)} ${post.isJoined} ${post.viewers} ${post.members.map(it => it.user)} ${post.state?.title}`;
    }
    server.setMembers("post:42", [{ user: "ann" }]);
    await act(() => root.render(<StrictMode><Post /></StrictMode>));
    await settle();
    same(element.textContent, "open true 1 ann undefined");
    same(server.joined, ["post:42"]);
    server.setMembers("post:42", [{ user: "ann" }, { user: "bob" }]);
    server.setState("post:42", { title: "News" });
    server.broadcast("post:42", { text: "Hi" });
    await settle();
    same([element.textContent, texts], ["open true 2 ann,bob News", ["Hi"]]);
    server.goOffline();
    await settle();
    same(element.textContent, "connecting false 2 ann,bob News");
    await act(() => root.render(null));
    await settle();
    same([...rooms.wanted.keys()], []);
    rooms.close();
  },

  async two_components_share_a_room_and_the_last_leaves() {
    const { server, rooms, element, root } = start();
    let show: (count: number) => void = () => {};
    const Post = ({ id }: { id: number }) => `${useRoom(rooms, `post:${id}`).isJoined} `;
    function Posts() {
      const [count, set] = useState(2);
      show = set;
      return Array.from({ length: count }, (_, n) => <Post key={n} id={7} />);
    }
    await act(() => root.render(<Posts />));
    await settle();
    same([element.textContent, server.joined], ["true true ", ["post:7"]]);
    await act(() => show(1));
    await settle();
    same([element.textContent, server.joined], ["true ", ["post:7"]]);
    await act(() => show(0));
    await settle();
    same([element.textContent, server.joined], ["", []]);
    rooms.close();
  },

  async a_component_that_was_hidden_comes_back_beside_another_of_its_room() {
    const { server, rooms, element, root } = start();
    const Post = () => `${useRoom(rooms, "post:7").viewers} `;
    for (const [mode, isOther, shown, joined] of [
      ["visible", false, "1 ", ["post:7"]],
      ["hidden", false, "1 ", []],
      ["hidden", true, "1 1 ", ["post:7"]],
      ["visible", true, "1 1 ", ["post:7"]],
      ["visible", false, "1 ", ["post:7"]],
      ["hidden", false, "1 ", []],
    ] as const) {
      await act(() => root.render(<><Activity mode={mode}><Post /></Activity>{isOther && <Post />}</>));
      await settle();
      same([mode, isOther, server.joined], [mode, isOther, joined]);
      if (mode === "visible") same(element.textContent, shown);
    }
    rooms.close();
  },

  async another_room_or_none_is_left_for() {
    const { server, rooms, element, root } = start();
    const Post = ({ room }: { room: `post:${number}` | null }) => {
      const { isJoined, refusal } = useRoom(rooms, room);
      return `${isJoined} ${refusal}`;
    };
    server.refuse("post:2");
    for (const [room, shown, joined] of [
      ["post:1", "true undefined", ["post:1"]],
      ["post:2", "false not_allowed", []],
      [null, "false undefined", []],
    ] as const) {
      await act(() => root.render(<Post room={room} />));
      await settle();
      same([element.textContent, server.joined], [shown, joined]);
    }
    rooms.close();
  },
};
