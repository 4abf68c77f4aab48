import { spawn, type ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** Built by `cargo build --all-features --examples`. */
const EXAMPLES = process.env.ROOMS_EXAMPLES ?? fileURLToPath(new URL("../../../../../target/debug/examples", import.meta.url));

/** An example of the library as a process of its own. */
export class Program {
  readonly port: number;
  #process: ChildProcess;

  private constructor(child: ChildProcess, port: number) {
    [this.#process, this.port] = [child, port];
  }

  static async start(example: "chat" | "live_posts", port = 0): Promise<Program> {
    const path = `${EXAMPLES}/${example}`;
    if (!existsSync(path)) throw new Error(`${path}: \`cargo build --all-features --examples\` makes it`);
    const env = { ...process.env, PORT: String(port), JWT_SECRET: "a secret for tests of at least 32 bytes", NO_COLOR: "1" };
    const child = spawn(path, { env, stdio: ["ignore", "pipe", "inherit"] });
    return new Program(child, Number(await said(child, /listening on http:\/\/localhost:(\d+)/)));
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** As a crash would. */
  async kill(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const gone = new Promise(resolve => this.#process.once("exit", resolve));
    this.#process.kill("SIGKILL");
    await gone;
  }
}

/** What a process says on a line of its own, and that it is read on: a full pipe would stop it. */
export function said(child: ChildProcess, what: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    child.stdout!.on("data", chunk => {
      const found = what.exec((text = (text + chunk).slice(-10_000)));
      if (found) resolve(found[1]!);
    });
    child.once("error", reject);
    child.once("exit", code => reject(new Error(`ended with ${code} before it said ${what}`)));
  });
}
