/**
 * Timers that end together, so that a process may end where nothing else is left: what runs something later, and returns what stops
 * that; and what stops all.
 */
export function timers(): [after: (run: () => void, ms: number) => () => void, stop: () => void] {
  const all = new Set<() => void>();
  const after = (run: () => void, ms: number) => {
    const stop = () => {
      clearTimeout(timer);
      all.delete(stop);
    };
    const timer = setTimeout(() => {
      stop();
      run();
    }, ms);
    all.add(stop);
    return stop;
  };
  return [after, () => all.forEach(stop => stop())];
}
