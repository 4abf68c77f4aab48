import { ABNORMAL, ABOUT_THE_TOKEN, BAD_TOKEN, EXPIRED, FOR_GOOD, NOT_SO_SOON, REVOKED, TOO_MANY, TRY_LATER } from "./codes.js";
import { FIRST_DELAY, LATER, LONGEST_DELAY, TRIES_FOR_A_PLACE } from "./times.js";


/** Whether a connection that ended is tried again, and when. */
export function retries() {
  let failures = 0; // since a connection last proved good
  let placeTries = 0; // how often 4430 may mean this page's own old connection, which is still being closed

  const retry = {
    /** The code and the reason for which the last token was refused. */
    refusal: {} as { code?: number; reason?: string },
    /** When to come back, where the server said it. */
    inMs: null as number | null,
    /** Whether the next try may come sooner. */
    mayHurry: true,

    /** The first pong comes after a while: a connection that is closed before has not proved good. */
    provedGood() {
      failures = placeTries = 0;
      retry.refusal = {};
    },

    /** A connection of our own is being closed, and keeps its place among those of its user until it is. */
    keepsPlace() {
      placeTries = TRIES_FOR_A_PLACE;
    },

    hurry() {
      failures = 0;
    },

    /** In how many milliseconds; null for never, and undefined for at once, without a word. */
    after(code: number, reason: string, neverOpened: boolean, hasToken: boolean): number | null | undefined {
      const asked = retry.inMs;
      const ownPlace = code === TOO_MANY && placeTries > 0;
      // A new token may be of a new sign-in, once.
      const revoked = code === REVOKED && (!hasToken || retry.refusal.code === REVOKED);
      const forGood = (FOR_GOOD.includes(code) && !ownPlace) || (code === BAD_TOKEN && !hasToken) || revoked;
      // A server that said `reconnect` is going down, however the connection ends: some libraries make 1002 of its 1012.
      if (forGood && asked === null) return null;
      if (ownPlace) placeTries -= 1;
      // A slow connection keeps its place until its close frame is out.
      if (code === TRY_LATER) retry.keepsPlace();
      // A browser does not say why an upgrade was refused: it may have been the token.
      retry.refusal = neverOpened || ABOUT_THE_TOKEN.includes(code) ? { code, reason } : {};
      // Nothing is wrong with a token that has had its time, and nothing to tell.
      if (code === EXPIRED && failures === 0 && asked === null) {
        failures = 1;
        return undefined;
      }
      const notSoSoon = ownPlace || NOT_SO_SOON.includes(code);
      if (notSoSoon) failures = Math.max(failures, LATER);
      retry.mayHurry = asked === null && !notSoSoon;
      retry.inMs = null;
      if (asked !== null) return asked;
      // At a random moment, so that a restart meets no herd.
      const longest = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** failures++);
      return Math.round((longest * (1 + Math.random())) / 2);
    },

    /** What to say where there is no further token: what became of the last one. */
    noToken(): [code: number, reason: string] {
      const { code = ABNORMAL, reason = "" } = retry.refusal;
      return ABOUT_THE_TOKEN.includes(code) ? [code, reason] : [BAD_TOKEN, "no token"];
    },
  };
  return retry;
}
