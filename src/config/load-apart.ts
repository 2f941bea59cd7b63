/**
 * `readConfig` in a thread of its own that ends with it: the YAML parser, the schema and its validator weigh some ten
 * megabytes, which a daemon on a small board would otherwise carry for as long as it runs (decision 0004).
 */
import { Worker } from "node:worker_threads";
import { GatewayError } from "../kernel/errors.ts";
import type { LoadedConfig, LoadOptions } from "./load.ts";

export type ConfigApart = Omit<LoadedConfig, "originOf">;

/** What the thread says, once. */
export type ConfigAnswer =
  | { readonly loaded: ConfigApart }
  | { readonly fault: { readonly code: string; readonly op: string; readonly message: string; readonly hint: string } };

/** The effective configuration. @throws GatewayError CONFIG_INVALID with every problem in its message */
export async function readConfigApart(file: string, options: LoadOptions): Promise<ConfigApart> {
  const worker = new Worker(new URL("./load-worker.js", import.meta.url), { workerData: { file, options } });
  const answer = await new Promise<ConfigAnswer>((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  await worker.terminate();
  if ("fault" in answer) throw new GatewayError(answer.fault);
  return answer.loaded;
}
