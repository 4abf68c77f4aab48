import type { Client } from "./options.js";

const AFTER = 60_000; // who only looks something up in another tab is back by then

/** What a hidden tab gives up, and when. */
export interface HiddenOptions {
  /** How long a tab is hidden before it gives something up: 60,000 ms unless set. */
  afterMs?: number;
  /** The rooms in which nothing changes all the same, such as one whose messages ring. None unless set. */
  keep?: (room: string) => boolean;
}

/**
 * Leaves the rooms while the tab is hidden, so that nothing is sent to a page that nobody sees, and nobody is counted who does not
 * look. The connection stays, and the user's own room. When the tab is seen again the rooms are joined again: those with a
 * history go on where the page stood. Returns what ends it.
 */
export function leaveWhileHidden<Kinds>(client: Client<Kinds>, options: HiddenOptions = {}): () => void {
  return whileHidden(client, options, rooms => client.hold(rooms));
}

/**
 * Stays in the rooms while the tab is hidden, and asks for counts only: the page is still a viewer and hears of the others, and is
 * given no messages. When the tab is seen again what was missed follows, or a `resync`. Returns what ends it.
 */
export function pauseWhileHidden<Kinds>(client: Client<Kinds>, options: HiddenOptions = {}): () => void {
  return whileHidden(client, options, rooms => client.pause(rooms));
}

function whileHidden<Kinds>(
  { wanted }: Client<Kinds>,
  { afterMs = AFTER, keep = () => false }: HiddenOptions,
  giveUp: (rooms: string[]) => void,
): () => void {
  if (typeof document === "undefined") return () => {};
  let timer: ReturnType<typeof setTimeout> | undefined;
  const hide = () => giveUp([...wanted.keys()].filter(room => !keep(room)));
  const changed = () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(hide, afterMs);
    else giveUp([]);
  };
  document.addEventListener("visibilitychange", changed);
  if (document.hidden) changed();
  return () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", changed);
    giveUp([]);
  };
}
