// Runs one scenario in whatever runs this file, a process or a thread, which ends with 0 where it passes. It is given the name of
// the scenarios and of the one, and the URL of the server.
import { isMainThread, workerData } from "node:worker_threads";
import * as scenarios from "./scenarios.js";

type Cases = Record<string, (place: scenarios.Place) => Promise<void>>;

const [kind, name, url] = isMainThread ? process.argv.slice(2) : (workerData as string[]);
// Node 20 has none of its own.
const socket = globalThis.WebSocket ? {} : { WebSocket: (await import("ws")).WebSocket };
await (scenarios as unknown as Record<string, Cases>)[kind!]![name!]!({ url: url!, ...socket });
if (isMainThread) process.exit(0);
