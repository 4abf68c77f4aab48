const JOINS_PER_SECOND = 40; // the server reads as many a second, and closes with 4429 who sends more for 30 s

/** How many joins and leaves may be sent now. */
export class JoinRate {
  #left = JOINS_PER_SECOND;
  #resume: () => void;

  /** `resume` is called when more may be sent again. */
  constructor(resume: () => void) {
    this.#resume = resume;
  }

  /** Whether one more may be sent. */
  take(): boolean {
    if (this.#left === JOINS_PER_SECOND) {
      setTimeout(() => {
        this.#left = JOINS_PER_SECOND;
        this.#resume();
      }, 1_000);
    }
    return this.#left-- > 0;
  }
}
