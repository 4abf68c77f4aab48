import type { ConnectOptions } from "./options.js";
import type { Page, Plan, Socket } from "./plan.js";

/** What a fallback needs of the client. */
export interface Host extends Pick<Page, "rooms" | "saying" | "again"> {
  options: ConnectOptions<unknown>;
  /** Aborted when the client ends. */
  signal: AbortSignal;
  /** Whether there is one room, that of the path. */
  isSingle(): boolean;
  /** Whether a connection is open. */
  isOpen(): boolean;
  /** A token in time, or null; undefined where no token is the credential. */
  token(): Promise<string | null | undefined>;
  /** Opens a socket with a token. */
  socket(token: string | null): Socket;
  /** Tells the page an event. */
  tell(event: unknown): void;
}

/** Another transport beside WebSockets, and the choice between the two. */
export interface Fallback {
  /** Whether the next connection is its own. */
  active: boolean;
  /** Whether it would have no room to be for. */
  isIdle(): boolean;
  plan(token: string | null): Plan;
  /** A connection is open. */
  began(): void;
  /** A connection, or the try of one, has ended. */
  ended(opened: boolean, code: number): void;
  /** What was begun is given up. */
  letGo(): void;
}

/** Made by `eventStream`. */
export type FallbackTo = (host: Host) => Fallback;
