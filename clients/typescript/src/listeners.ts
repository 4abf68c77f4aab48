import type { ConnectOptions, Happenings } from "./options.js";

type Pair = [what: string, run: ((...given: any) => void) | undefined];

/** Whoever is told what happens: the functions of the options first. */
export function listenersOf<Event>(options: ConnectOptions<Event>): Listeners<Event> {
  // A pair for each call, so that the same function given twice is two listeners.
  const all = new Set<Pair>([
    ["event", options.onEvent],
    ["binary", options.onBinary],
    ["transport", options.onTransport],
    ["offline", options.onOffline],
    ["end", options.onEnd],
  ]);
  return {
    on(...pair) {
      all.add(pair);
      return () => void all.delete(pair);
    },
    tell(what, ...given) {
      // Whoever begins to listen meanwhile is told of what comes next.
      for (const [of, run] of [...all]) if (of === what) safely(() => run?.(...given));
    },
  };
}

interface Listeners<Event> {
  on<What extends keyof Happenings<Event>>(what: What, run: (...given: Happenings<Event>[What]) => void): () => void;
  tell<What extends keyof Happenings<Event>>(what: What, ...given: Happenings<Event>[What]): void;
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
