import { ABNORMAL, ABOUT_THE_TOKEN, BAD_TOKEN, EXPIRED, FOR_GOOD, NOT_SO_SOON, REVOKED, TOO_MANY, TRY_LATER } from "./codes.js";

const FIRST_DELAY = 500; // doubled with each failure
const LONGEST_DELAY = 30_000;
const LATER = 4; // failures that "later" counts for: 4 s to 8 s
const TRIES_FOR_A_PLACE = 3; // 27 s at least; an old connection keeps its place for 20 s at most

/** Whether a connection that ended is tried again, and when. */
export class Retry {
  /** The code and the reason for which the last token was refused. */
  refusal: { code?: number; reason?: string } = {};
  /** When to come back, where the server said it. */
  inMs: number | null = null;
  /** Whether the next try may come sooner. */
  mayHurry = true;
  #failures = 0; // since a connection last proved good
  #placeTries = 0; // how often 4430 may mean this page's own old connection, which is still being closed

  /** The first pong comes after a while: a connection that is closed before has not proved good. */
  provedGood(): void {
    [this.#failures, this.#placeTries, this.refusal] = [0, 0, {}];
  }

  /** A connection of our own is being closed, and keeps its place among those of its user until it is. */
  keepsPlace(): void {
    this.#placeTries = TRIES_FOR_A_PLACE;
  }

  hurry(): void {
    this.#failures = 0;
  }

  /** In how many milliseconds; null for never, and undefined for at once, without a word. */
  after(code: number, reason: string, neverOpened: boolean, hasToken: boolean): number | null | undefined {
    const asked = this.inMs;
    const ownPlace = code === TOO_MANY && this.#placeTries > 0;
    // A new token may be of a new sign-in, once.
    const revoked = code === REVOKED && (!hasToken || this.refusal.code === REVOKED);
    const forGood = (FOR_GOOD.includes(code) && !ownPlace) || (code === BAD_TOKEN && !hasToken) || revoked;
    // A server that said `reconnect` is going down, however the connection ends: some libraries make 1002 of its 1012.
    if (forGood && asked === null) return null;
    if (ownPlace) this.#placeTries -= 1;
    // A slow connection keeps its place until its close frame is out.
    if (code === TRY_LATER) this.keepsPlace();
    // A browser does not say why an upgrade was refused: it may have been the token.
    this.refusal = neverOpened || ABOUT_THE_TOKEN.includes(code) ? { code, reason } : {};
    // Nothing is wrong with a token that has had its time, and nothing to tell.
    if (code === EXPIRED && this.#failures === 0 && asked === null) {
      this.#failures = 1;
      return undefined;
    }
    const notSoSoon = ownPlace || NOT_SO_SOON.includes(code);
    if (notSoSoon) this.#failures = Math.max(this.#failures, LATER);
    this.mayHurry = asked === null && !notSoSoon;
    this.inMs = null;
    if (asked !== null) return asked;
    // At a random moment, so that a restart meets no herd.
    const longest = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.#failures++);
    return Math.round((longest * (1 + Math.random())) / 2);
  }

  /** What to say where there is no further token: what became of the last one. */
  get noToken(): [code: number, reason: string] {
    const { code = ABNORMAL, reason = "" } = this.refusal;
    return ABOUT_THE_TOKEN.includes(code) ? [code, reason] : [BAD_TOKEN, "no token"];
  }
}
