import type { BaseClient, Happenings } from "@ws-rooms/client";

/** What happens is kept, and can be waited for. */
export class Heard<Event> {
  readonly #kept: [what: string, ...given: unknown[]][] = [];
  #look: () => void = () => {};

  constructor(client: BaseClient<Event>) {
    const kinds: (keyof Happenings<Event>)[] = ["event", "binary", "open", "transport", "offline", "end"];
    for (const what of kinds) {
      client.on(what, (...given: unknown[]) => {
        this.#kept.push([what, ...given]);
        this.#look();
      });
    }
  }

  /** The next event that is so; what came before it is forgotten. */
  // The events of a test are looked at field by field.
  async event(is: (event: any) => boolean | undefined): Promise<any> {
    return (await this.#next(([what, event]) => what === "event" && is(event) === true))[1];
  }

  /** The next thing of this sort that happens. */
  async next(what: keyof Happenings<Event>): Promise<unknown[]> {
    return (await this.#next(([it]) => it === what)).slice(1);
  }

  #next(is: (it: [string, ...unknown[]]) => boolean): Promise<[string, ...unknown[]]> {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`never heard: ${is}; but ${JSON.stringify(this.#kept)}`)), 30_000);
      this.#look = () => {
        const at = this.#kept.findIndex(is);
        if (at < 0) return;
        clearTimeout(late);
        this.#look = () => {};
        resolve(this.#kept.splice(0, at + 1).at(-1)!);
      };
      this.#look();
    });
  }
}
