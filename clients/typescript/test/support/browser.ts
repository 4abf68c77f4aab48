import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { said } from "./program.js";

const INSTALL = "apt-get install chromium chromium-driver";

/** Real headless Chromium, over WebDriver (a W3C standard, and plain HTTP). */
export class Browser {
  #driver: ChildProcess;
  #session: string;
  #profile: string;

  private constructor(driver: ChildProcess, session: string, profile: string) {
    [this.#driver, this.#session, this.#profile] = [driver, session, profile];
  }

  static async start(): Promise<Browser> {
    const [driver, port] = await startDriver();
    const profile = mkdtempSync(join(tmpdir(), "rooms-browser-"));
    const args = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", `--user-data-dir=${profile}`];
    const session = `http://127.0.0.1:${port}/session`;
    const capabilities = { alwaysMatch: { "goog:chromeOptions": { args }, timeouts: { script: 60_000 } } };
    const { sessionId } = await command(session, { capabilities });
    return new Browser(driver, `${session}/${sessionId}`, profile);
  }

  async open(url: string): Promise<void> {
    await command(`${this.#session}/url`, { url });
  }

  /** Runs the body of an async function in the page, and gives what it returns. */
  async run(body: string): Promise<unknown> {
    const script = `const done = arguments[0];
      (async () => { ${body} })().then(value => done({ value }), fault => done({ fault: String(fault?.stack ?? fault) }));`;
    const { value, fault } = await command(`${this.#session}/execute/async`, { script, args: [] });
    if (fault !== undefined) throw new Error(fault);
    return value;
  }

  /** Loads a module, and gives what it exports to the page as `window[name]`. */
  async load(name: string, module: string): Promise<void> {
    await this.run(`const url = URL.createObjectURL(new Blob([${JSON.stringify(module)}], { type: "text/javascript" }));
      window[${JSON.stringify(name)}] = await import(url);`);
  }

  async close(): Promise<void> {
    await fetch(this.#session, { method: "DELETE" }).catch(() => {});
    this.#driver.kill();
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** One module of a file and all that it imports. */
export async function bundled(file: string, minify = false): Promise<string> {
  const define = { "process.env.NODE_ENV": '"development"' };
  const { outputFiles } = await build({ entryPoints: [file], bundle: true, format: "esm", target: "es2022", write: false, minify, define });
  return outputFiles[0]!.text;
}

// It binds two addresses to one port, and ends where another has taken it meanwhile.
async function startDriver(): Promise<[ChildProcess, string]> {
  for (let tries = 0; ; tries++) {
    const driver = spawn("chromedriver", [`--port=${await freePort()}`], { stdio: ["ignore", "pipe", "ignore"] });
    try {
      return [driver, await said(driver, /started successfully on port (\d+)/)];
    } catch (fault) {
      if (tries === 20) throw new Error(`chromedriver does not start; \`${INSTALL}\` installs it: ${fault}`);
    }
  }
}

function freePort(): Promise<number> {
  return new Promise(resolve => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

async function command(url: string, body: object): Promise<any> {
  const answer = await fetch(url, { method: "POST", body: JSON.stringify(body) });
  const { value } = (await answer.json()) as { value: { message?: string } };
  if (!answer.ok) throw new Error(`${value.message}`);
  return value;
}
