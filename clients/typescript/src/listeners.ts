import type { Happenings } from "./options.js";

type Listener = (...given: never[]) => void;

/** Whoever is told what happens. */
export class Listeners<Event> {
  #all = new Map<string, Set<Listener>>();

  on = <What extends keyof Happenings<Event>>(
    what: What,
    run: ((...given: Happenings<Event>[What]) => void) | undefined,
  ): (() => void) => {
    // An own function for each call, so that the same one given twice is two listeners.
    const listener = (...given: never[]) => run?.(...(given as unknown as Happenings<Event>[What]));
    const listeners = this.#all.get(what) ?? new Set();
    this.#all.set(what, listeners.add(listener));
    return () => void listeners.delete(listener);
  };

  tell<What extends keyof Happenings<Event>>(what: What, ...given: Happenings<Event>[What]): void {
    // Whoever begins to listen meanwhile is told of what comes next.
    for (const listener of [...(this.#all.get(what) ?? [])]) safely(() => listener(...(given as unknown as never[])));
  }
}

/** What a function of the page throws is reported, and stops nothing. */
export function safely(run: () => void): void {
  try {
    run();
  } catch (fault) {
    queueMicrotask(() => {
      throw fault;
    });
  }
}
