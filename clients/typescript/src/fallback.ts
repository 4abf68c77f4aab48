import type { Plan, Socket } from "./connection.js";
import type { JoinOptions } from "./options.js";
import type { Position } from "./protocol.js";

/** What a fallback needs of the client. */
export interface Host {
  /** The URL of a path, and the socket that would be opened with a token. */
  url(path: string | URL): URL;
  socket(token: string | null): Socket;
  /** Whether there is one room, that of the path; and whether payloads are then bare. */
  isSingle(): boolean;
  isBare(): boolean;
  newest(): number | undefined;
  rooms(): string[];
  joinOptions(room: string): JoinOptions | undefined;
  position(room: string | null): Position | undefined;
  /** Whether a connection is open. */
  isOpen(): boolean;
  /** A token in time, or null; undefined where no token is the credential. */
  token(): Promise<string | null | undefined>;
  /** Opens a new connection in place of the one that there is, if any. */
  reopen(): void;
  tooMany(room: string, most: number): void;
}

/** Another transport beside WebSockets, and the choice between the two. */
export interface Fallback {
  /** Whether the next connection is its own. */
  active: boolean;
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
