/** The thread of `load-apart.ts`. */
import { parentPort, workerData } from "node:worker_threads";
import { GatewayError } from "../kernel/errors.ts";
import { environment } from "./environment.ts";
import { type LoadOptions, readConfig } from "./load.ts";
import type { ConfigAnswer } from "./load-apart.ts";

const { file, options } = workerData as { file: string; options: LoadOptions };

async function answer(): Promise<ConfigAnswer> {
  try {
    const { originOf: _originOf, ...loaded } = await readConfig(file, environment, options);
    return { loaded };
  } catch (thrown) {
    if (!(thrown instanceof GatewayError)) throw thrown;
    const { code, op, message, hint } = thrown;
    return { fault: { code, op, message, hint } };
  }
}

parentPort?.postMessage(await answer());
