import type { Page } from "./plan.js";

const JOINS_PER_SECOND = 40; // the server reads as many a second, and closes with 4429 who sends more for 30 s

/** How many joins and leaves may be sent now: returns whether one more may be. `resume` is called when more may be sent again. */
export function joinRate(after: Page["after"], resume: () => void): () => boolean {
  let left = JOINS_PER_SECOND;
  return () => {
    if (left === JOINS_PER_SECOND) {
      after(() => {
        left = JOINS_PER_SECOND;
        resume();
      }, 1_000);
    }
    const may = left > 0;
    if (may) left -= 1;
    return may;
  };
}
