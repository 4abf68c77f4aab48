// Runs one scenario in a thread: its arguments are those of `one_scenario`.
import { Worker } from "node:worker_threads";

const thread = new Worker(new URL("./one_scenario.js", import.meta.url), { workerData: process.argv.slice(2) });
thread.once("error", fault => {
  console.error(fault);
  process.exit(1);
});
thread.once("exit", code => process.exit(code));
