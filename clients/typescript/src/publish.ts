import { publishBinary } from "./binary.js";
import type { AnyKinds, KindName, PublishOf } from "./kinds.js";
import type { Client } from "./options.js";
import type { ErrorCode, ErrorEvent, Position, Published } from "./protocol.js";

const ANSWER_WITHIN = 10_000; // far beyond a round trip; the server answers each publish

/** What became of a message that was published. */
export interface Receipt {
  /** Where it stands in the history of the room, if it has one. */
  position?: Position;
  /** The bus is down, and only the members of one node were told. */
  reach?: "local_only";
}

/**
 * Why a publish failed, besides the server's own codes: `offline`, there was no socket to send it on; `connection_lost` and
 * `timeout`, it was sent and there was no answer, so it may have been published; and of an offline queue `expired`,
 * `queue_full` and `stopped`, it was not published.
 */
export type PublishErrorCode =
  | ErrorCode
  | "offline"
  | "connection_lost"
  | "timeout"
  | "expired"
  | "queue_full"
  | "stopped"
  | (string & {});

/** A publish that failed, or of which it is not known. */
export class PublishError extends Error {
  override readonly name = "PublishError";
  readonly code: PublishErrorCode;
  readonly room: string;
  /** How long to wait before it is tried again, where the server said it. */
  readonly retryAfterMs: number | undefined;

  constructor(code: PublishErrorCode, room: string, message: string, retryAfterMs?: number) {
    super(`${room}: ${message}`);
    [this.code, this.room, this.retryAfterMs] = [code, room, retryAfterMs];
  }
}

let lastRef = 0;

/**
 * Publishes to a room that the page is in, and resolves when the server has done so. `data` is sent as JSON, and a `Uint8Array` as
 * it is. Rejects with a `PublishError`.
 */
export function publish<Kinds = AnyKinds, Kind extends KindName<Kinds> = KindName<Kinds>>(
  client: Client<Kinds>,
  room: `${Kind}:${string}`,
  data: PublishOf<Kinds, Kind> | Uint8Array<ArrayBuffer>,
  { timeoutMs = ANSWER_WITHIN }: { timeoutMs?: number } = {},
): Promise<Receipt> {
  return new Promise((resolve, reject) => {
    const ref = `publish ${++lastRef}`;
    const done = (settle: () => void) => {
      clearTimeout(timer);
      for (const stop of stops) stop();
      settle();
    };
    const fail = (code: PublishErrorCode, message: string, retryAfterMs?: number) =>
      done(() => reject(new PublishError(code, room, message, retryAfterMs)));
    const lost = () => fail("connection_lost", "the connection ended before the answer");
    const answered = (event: Published | ErrorEvent) => {
      if (event?.ref !== ref) return;
      if (event.type === "error") return fail(event.code, event.message, event.retry_after_ms);
      const { position, reach } = event;
      done(() => resolve({ ...(position && { position }), ...(reach && { reach }) }));
    };
    const stops = [
      client.on("event", event => answered(event as Published | ErrorEvent)),
      client.on("offline", lost),
      client.on("closed", lost),
      client.on("open", lost), // by a `renew`
    ];
    const timer = setTimeout(() => fail("timeout", `no answer in ${timeoutMs} ms`), timeoutMs);
    const isSent =
      data instanceof Uint8Array ? publishBinary(client, room, data, ref) : client.publish<Kind>(room, data, ref);
    if (!isSent) fail("offline", "there is no socket to send it on");
  });
}
