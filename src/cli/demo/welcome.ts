/** What `demo --stay` says when everything runs: where to look, and what to try. */
import { relative } from "node:path";
import type { Config } from "../../config/schema.ts";
import { developmentCa } from "./devices.ts";

/** The lines, for a terminal. `pid` is the gateway's. */
export function welcome(config: Config, gateway: URL, fusion: string, pid: number | undefined): string[] {
  const { listeners } = config.mqtt;
  const plain = listeners.find(({ tls }) => tls === undefined);
  const secure = listeners.find(({ tls }) => tls?.development === true);
  const { dataDir } = config.gateway;
  const ca = here(developmentCa(dataDir));
  const faults = `curl -X PUT ${fusion}/faults -d`;
  return [
    "",
    `status page   ${gateway.href}`,
    `at a glance   ${thisProgram()} status --url ${gateway.origin}`,
    `fusion has    ${fusion}/stats, and the readings themselves: ${fusion}/observations`,
    `data          ${here(dataDir)}`,
    "",
    "Publish a reading of your own:",
    `  mosquitto_pub -p ${plain?.port ?? "…"} -q 1 -t telemetry/my-device -m '{"temperature_c": 21.5}'`,
    ...(secure === undefined ? [] : [`  with TLS: -h localhost -p ${secure.port} --cafile ${ca}`]),
    "Take fusion away, watch the outbox grow, and give it back:",
    `  ${faults} '{"mode":"unavailable"}'`,
    `  ${faults} '{"mode":"none"}'`,
    "Kill the gateway; it comes back with everything that it had acknowledged:",
    `  kill -9 ${pid}`,
    "",
    "Ctrl-C stops it all. What follows is the gateway's log.",
    "",
  ];
}

/** What to type for another command of this program. */
function thisProgram(): string {
  const [, program = ""] = process.argv;
  return program.endsWith(".js") ? `node ${here(program)}` : "summit-edge";
}

/** A path as one would type it here, where that is shorter. */
function here(path: string): string {
  const short = relative(process.cwd(), path);
  return short.length < path.length && !short.startsWith("..") ? short : path;
}
