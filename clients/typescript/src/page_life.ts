/**
 * Tells when a page goes to sleep and wakes up, where there is a page. A page that was left stays in the back/forward cache with
 * its connection, which the browser keeps up for minutes: it would be counted as a viewer. The same with a tab that is frozen.
 * And somebody who looks at the page again, or a network that is back, is not kept waiting.
 */
export function followPage(signal: AbortSignal, sleep: () => void, wake: () => void): void {
  const { document } = globalThis as { document?: Document };
  const on = (target: EventTarget | undefined, event: string, run: () => void) =>
    target?.addEventListener?.(event, run, { signal });
  on(globalThis, "pagehide", sleep);
  on(document, "freeze", sleep);
  on(globalThis, "pageshow", wake);
  on(document, "resume", wake);
  on(document, "visibilitychange", () => document?.hidden || wake());
  on(globalThis, "online", wake);
}
