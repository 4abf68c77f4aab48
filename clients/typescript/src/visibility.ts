import type { Client } from "./options.js";

const AFTER = 60_000; // who only looks something up in another tab is back by then

/** What a hidden tab gives up, and when. */
export interface HiddenOptions {
  /** How long a tab is hidden before it leaves: 60,000 ms unless set. */
  afterMs?: number;
  /** The rooms that it stays in all the same, such as one whose messages ring. None unless set. */
  keep?: (room: string) => boolean;
}

/**
 * Leaves the rooms while the tab is hidden, so that nothing is sent to a page that nobody sees, and nobody is counted who does not
 * look. The connection stays, and the user's own room. When the tab is seen again the rooms are joined again: those with a
 * history go on where the page stood. Returns what ends it.
 */
export function leaveWhileHidden<Kinds>(
  client: Client<Kinds>,
  { afterMs = AFTER, keep = () => false }: HiddenOptions = {},
): () => void {
  if (typeof document === "undefined") return () => {};
  let timer: ReturnType<typeof setTimeout> | undefined;
  const leave = () => client.hold([...client.wanted.keys()].filter(room => !keep(room)));
  const changed = () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(leave, afterMs);
    else client.hold([]);
  };
  document.addEventListener("visibilitychange", changed);
  if (document.hidden) changed();
  return () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", changed);
    client.hold([]);
  };
}
