import type { AnyKinds, KindName, PublishOf } from "./kinds.js";
import type { Client } from "./options.js";
import { PublishError, type PublishErrorCode, type Receipt, publish } from "./publish.js";

const MOST = 100;
const MAX_AGE = 60_000;
const STOPPED = "the queue was stopped";
const TRY_AGAIN = 1_000; // where the server does not say when
const NOT_YET: PublishErrorCode[] = ["offline", "not_joined", "rate_limited", "unavailable"]; // it was not published
const UNKNOWN: PublishErrorCode[] = ["connection_lost", "timeout"]; // it may have been

/** How much an offline queue keeps. */
export interface QueueOptions {
  /** The most messages: 100 unless set. One more is refused with `queue_full`. */
  most?: number;
  /** How long one is kept before it is given up with `expired`: 60,000 ms unless set. */
  maxAgeMs?: number;
  /**
   * Whether a message is sent again where its answer did not come. It may then be published twice, so it has to carry an id by which
   * its receivers know it. Unless set, such a message is given up with `connection_lost` or `timeout`.
   */
  resend?: boolean;
}

/** Messages that wait until they can be sent. */
export interface OfflineQueue<Kinds = AnyKinds> {
  /** How many wait. */
  readonly size: number;
  /** Publishes when there is a connection, behind what waits already. Rejects with a `PublishError`. */
  publish<Kind extends KindName<Kinds>>(
    room: `${Kind}:${string}`,
    data: PublishOf<Kinds, Kind> | Uint8Array<ArrayBuffer>,
  ): Promise<Receipt>;
  /** Gives up what waits, with `stopped`, as when the client is closed. What is under way ends with its answer. */
  stop(): void;
}

interface Waiting {
  room: string;
  data: unknown;
  resolve: (receipt: Receipt) => void;
  reject: (error: PublishError) => void;
  expiry: ReturnType<typeof setTimeout>;
  /** Why it is given up, where it turns out that it was not published. */
  end?: [code: PublishErrorCode, message: string];
}

/**
 * Keeps what is published while there is no connection, within bounds, and sends it in order: the next message of all is sent
 * when the last one is answered. One whose room is not joined waits for the join, and lets those of other rooms go first.
 */
export function offlineQueue<Kinds = AnyKinds>(
  client: Client<Kinds>,
  { most = MOST, maxAgeMs = MAX_AGE, resend = false }: QueueOptions = {},
): OfflineQueue<Kinds> {
  const waiting: Waiting[] = [];
  const notJoined = new Set<string>();
  const joined = new Set<string>(); // since the last message was sent
  let sent: Waiting | null = null;
  let pause: ReturnType<typeof setTimeout> | undefined;
  let isOver = client.status === "closed";

  function take(item: Waiting): boolean {
    const at = waiting.indexOf(item);
    if (at < 0) return false;
    clearTimeout(item.expiry);
    waiting.splice(at, 1);
    if (!waiting.some(({ room }) => room === item.room)) notJoined.delete(item.room);
    return true;
  }

  // One that is under way is given up when it turns out that it was not published.
  function giveUp(item: Waiting, ...end: [code: PublishErrorCode, message: string]): void {
    item.end ??= end;
    clearTimeout(item.expiry);
    const [code, message] = item.end;
    if (item !== sent && take(item)) item.reject(new PublishError(code, item.room, message));
  }

  function next(): void {
    if (sent || pause || client.status !== "open") return;
    sent = waiting.find(({ room }) => !notJoined.has(room)) ?? null;
    if (!sent) return;
    const item = sent;
    joined.clear();
    publish<Kinds>(client, item.room as never, item.data as never).then(
      receipt => {
        sent = null;
        if (take(item)) item.resolve(receipt);
        next();
      },
      (error: PublishError) => {
        sent = null;
        failed(item, error);
      },
    );
  }

  function failed(item: Waiting, error: PublishError): void {
    const { code, room, retryAfterMs } = error;
    if (item.end && NOT_YET.includes(code)) giveUp(item, ...item.end);
    else if (code === "offline") return;
    // The join may have come in the same breath as the refusal before it.
    else if (code === "not_joined") joined.has(room) || notJoined.add(room);
    else if (NOT_YET.includes(code)) wait(retryAfterMs ?? TRY_AGAIN);
    else if (!(resend && !item.end && UNKNOWN.includes(code)) && take(item)) item.reject(error);
    next();
  }

  function wait(ms: number): void {
    pause = setTimeout(() => {
      pause = undefined;
      next();
    }, ms);
  }

  function stop(): void {
    isOver = true;
    clearTimeout(pause);
    for (const end of stops) end();
    for (const item of [...waiting]) giveUp(item, "stopped", STOPPED);
  }

  const stops = [
    client.on("open", next),
    client.on("closed", stop),
    client.on("event", event => {
      if (event?.type !== "room_joined") return;
      if (sent) joined.add(event.room);
      if (notJoined.delete(event.room)) next();
    }),
  ];

  return {
    get size() {
      return waiting.length;
    },
    publish: (room, data) =>
      new Promise((resolve, reject) => {
        if (waiting.length >= most) {
          return reject(new PublishError("queue_full", room, `${most} messages wait already`));
        }
        if (isOver) return reject(new PublishError("stopped", room, STOPPED));
        const expiry = setTimeout(() => giveUp(item, "expired", `not sent in ${maxAgeMs} ms`), maxAgeMs);
        const item: Waiting = { room, data, resolve, reject, expiry };
        waiting.push(item);
        next();
      }),
    stop,
  };
}
