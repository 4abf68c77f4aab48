import { framed, PUBLISHED } from "./binary.js";
import { ABNORMAL, BAD_TOKEN, NORMAL, NO_ANSWER, TRY_LATER } from "./codes.js";
import type { Fallback, FallbackTo, Host } from "./fallback.js";
import { safely } from "./listeners.js";
import type { Plan, Socket } from "./plan.js";
import { urlOf } from "./socket_plan.js";

const SOCKETS_TRIED = 2; // in a row before an event stream is: one may fail for any reason
const FIRST_SOCKET = 10_000; // a socket is tried beside a stream after so long, and then after twice as long each time
const LAST_SOCKET = 600_000; // but at least so often
const STREAM_ROOMS = 16; // the server takes no more
const STREAM_SILENCE = 60_000; // the server sends a comment every 25 s

/**
 * The event stream of the same rooms at `path`, for networks that let no WebSocket through: `connect(path, { events:
 * eventStream("/sse") })`. It is used where two sockets in a row do not open, and left again for the first socket that does.
 * The token then goes in `Authorization`. A stream has up to 16 rooms, and none that is joined with `with`, which
 * its URL can't say of one room.
 */
export function eventStream(path: string | URL): FallbackTo {
  return host => new StreamFallback(path, host);
}

class StreamFallback implements Fallback {
  active = false;
  #path: string | URL;
  #host: Host;
  #unopened = 0; // sockets in a row that did not open
  #trial: Socket | null = null; // a socket that is tried beside a stream
  #timer: ReturnType<typeof setTimeout> | undefined;
  #trialIn = FIRST_SOCKET;
  #turn = 0;

  constructor(path: string | URL, host: Host) {
    [this.#path, this.#host] = [path, host];
    host.signal.addEventListener("abort", () => clearTimeout(this.#timer));
  }

  isIdle(): boolean {
    return this.active && !this.#host.isSingle() && this.#host.rooms().length === 0;
  }

  plan(jwt: string | null): Plan {
    const { history } = this.#host.options;
    const url = urlOf(this.#path);
    const headers: Record<string, string> = {};
    const isSingle = this.#host.isSingle();
    const said = this.#rooms().map(room => ({ room, ...this.#host.saying(room) }));
    for (const { room, observe } of said) url.searchParams.append(observe ? "observed" : "room", room);
    const newest = isSingle && typeof history === "object" ? history.newest : Math.max(0, ...said.map(it => it.newest ?? 0));
    if (newest) url.searchParams.set("newest", String(newest));
    const standing = said.filter(({ since }) => since).map(({ room, since }) => `${room}=${since}`);
    const last = isSingle ? this.#host.saying(null).since : standing.join();
    if (last) headers["last-event-id"] = last;
    if (jwt) headers.authorization = `Bearer ${jwt}`;
    const stream = { rooms: this.#host.rooms, silence: STREAM_SILENCE };
    const bare = isSingle && !history;
    return { open: () => new EventStream(url, headers, bare), stream, bare };
  }

  began(): void {
    if (!this.active) {
      this.#trialIn = FIRST_SOCKET;
      return;
    }
    this.#tryLater();
    const there = this.#rooms();
    for (const room of this.#host.rooms()) {
      if (there.includes(room)) continue;
      const [code, message] = this.#takes(room)
        ? ["too_many_rooms", `an event stream has at most ${STREAM_ROOMS} rooms`]
        : ["unsupported", "an event stream has no room that is joined with `with`"];
      this.#host.tell({ type: "error", code, room, message });
    }
  }

  #rooms(): string[] {
    return this.#host.rooms().filter(this.#takes, this).slice(0, STREAM_ROOMS);
  }

  // Without its `with` a room may refuse what it allows on a socket, and it would be wanted there no more.
  #takes(room: string): boolean {
    return this.#host.saying(room).with === undefined;
  }

  // Of a socket that does not open a browser tells nothing: it may be blocked on its way or refused, or there is no server. A
  // stream that does not open either shows that it is not about sockets, and one that breaks that the network may be another.
  ended(opened: boolean, code: number): void {
    const isLost = !opened || code === ABNORMAL || code === NO_ANSWER;
    if (this.active) this.#unopened = isLost ? SOCKETS_TRIED - 1 : SOCKETS_TRIED;
    else this.#unopened = opened ? 0 : this.#unopened + 1;
    this.active = this.#unopened >= SOCKETS_TRIED;
  }

  // Also where the stream is opened anew meanwhile.
  #tryLater(): void {
    if (this.#timer) return;
    this.#timer = setTimeout(() => this.#trySocket(), this.#trialIn / 2 + (Math.random() * this.#trialIn) / 2);
    this.#trialIn = Math.min(LAST_SOCKET, this.#trialIn * 2);
  }

  // Beside the stream, which goes on where the socket does not open.
  async #trySocket(): Promise<void> {
    this.#timer = undefined;
    if (!this.active || !this.#host.isOpen()) return;
    const mine = this.#turn;
    const jwt = await this.#host.token();
    if (mine !== this.#turn) return;
    if (jwt !== undefined && !jwt) return this.#tryLater();
    const trial = (this.#trial = this.#host.socket(jwt ?? null));
    trial.onclose = () => this.#tryLater();
    trial.onopen = () => {
      [this.active, this.#unopened] = [false, SOCKETS_TRIED - 1];
      this.#host.again();
    };
  }

  letGo(): void {
    this.#turn += 1;
    if (this.#trial) this.#trial.onclose = this.#trial.onopen = null;
    this.#trial?.close(NORMAL);
    this.#trial = null;
  }
}

// An event stream in the place of a socket, which says nothing. By `fetch`, as a page sees more of it than of an `EventSource`: the
// status of a refusal, and the comments, without which a network that is gone is not noticed.
class EventStream implements Socket {
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;
  #over = new AbortController();
  #isBare: boolean; // whether payloads are, as on the socket in whose place this is

  constructor(url: URL, headers: Record<string, string>, isBare: boolean) {
    this.#isBare = isBare;
    this.#read(url, headers).catch(fault => this.#end(ABNORMAL, String(fault)));
  }

  async #read(url: URL, headers: Record<string, string>): Promise<void> {
    const answer = await fetch(url, { headers, cache: "no-store", signal: this.#over.signal });
    const { status } = answer;
    if (status === 401) return this.#end(BAD_TOKEN, "Invalid token");
    if (status === 429 || status === 503) return this.#end(TRY_LATER, `status ${status}`);
    // Whatever is between may answer with a page of its own.
    const isStream = answer.headers.get("content-type")?.startsWith("text/event-stream");
    if (!answer.ok || !isStream || !answer.body) return this.#end(ABNORMAL, `status ${status}, and no event stream`);
    safely(() => this.onopen?.());
    const reader = answer.body.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return this.#end(ABNORMAL, "");
      const events = (text + value).split("\n\n");
      text = events.pop() ?? "";
      for (const event of events) this.#event(event.split("\n"));
    }
  }

  #event(lines: string[]): void {
    const data = lines
      .filter(line => line.startsWith("data: "))
      .map(line => line.slice(6))
      .join("\n");
    if (lines.includes("event: close")) {
      const { code, reason } = JSON.parse(data);
      return this.#end(code, reason);
    }
    // A comment shows as much as a pong.
    safely(() => this.onmessage?.({ data: this.#bytes(data) ?? (data || '{"type":"pong"}') }));
  }

  // A stream is text: bytes come as base64, and are handed on as by a socket.
  #bytes(data: string): ArrayBuffer | undefined {
    if (!data.includes('"base64"')) return undefined;
    const { type, room, offset = "", base64 } = JSON.parse(data);
    if (type !== "binary") return undefined;
    const bytes = Uint8Array.from(atob(base64), byte => byte.charCodeAt(0));
    return (this.#isBare ? bytes : framed(PUBLISHED, room, offset, bytes)).buffer;
  }

  #end(code: number, reason: string): void {
    if (this.#over.signal.aborted) return;
    this.close();
    this.onclose?.({ code, reason });
  }

  close(): void {
    this.#over.abort();
  }
}
