/** `summit-edge fusion`: the reference fusion service, for development, demos and tests. */
import { type Command, InvalidArgumentError } from "commander";
import { GatewayError } from "../kernel/errors.ts";
import { FAULT_MODES } from "../simulator/fusion-fault-modes.ts";
import { readOptionFile } from "./option-file.ts";
import { untilStopped } from "./signals.ts";

interface Options {
  readonly port: number;
  readonly bind: string;
  readonly db: string;
  readonly tokenFile?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly json?: boolean;
}

/** Adds the command to the program. */
export function addFusionCommand(program: Command): void {
  program
    .command("fusion")
    .description("run the reference fusion service: for development, demos and tests, never in production")
    .option("--port <port>", "TCP port; 0 takes any free one", parsePort, 8490)
    .option("--bind <address>", "address to listen on", "127.0.0.1")
    .option("--db <file>", "SQLite file for what arrives, or :memory:", ":memory:")
    .option("--token-file <file>", "file with the bearer token that a batch has to bring")
    .option("--tls-cert <file>", "PEM file with the certificate; with it the service speaks https")
    .option("--tls-key <file>", "PEM file with its private key")
    .option("--json", "print JSON: the address, and the statistics at the end")
    .addHelpText("after", FAULTS_TEXT)
    .action(runFusion);
}

const FAULTS_TEXT = `
Faults that it shows on request (PUT /faults):
${Object.entries(FAULT_MODES)
  .map(([mode, { means, example }]) => `  ${mode.padEnd(23)}${means}\n${" ".repeat(25)}${example}\n`)
  .join("")}
In every mode: latencyMs waits before the answer, share (0 to 1) is the part of the requests that meet the fault, in mode
reject of the readings, and count is how many requests meet it before all is well again. With a status of 4xx, reject
refuses each batch that holds such a reading; with retriable true, they may be sent again.

Example:
  curl -X PUT http://127.0.0.1:8490/faults -d '${FAULT_MODES.unavailable.example}'`;

async function runFusion(options: Options): Promise<void> {
  if ((options.tlsCert === undefined) !== (options.tlsKey === undefined)) {
    throw new GatewayError({
      code: "USAGE",
      op: "fusion.start",
      message: "--tls-cert and --tls-key go together",
      hint: "Name both for https, or neither for http.",
    });
  }
  const [{ FusionService, BATCH_PATH }, { systemClock }, { createLog }] = await Promise.all([
    import("../simulator/fusion.ts"),
    import("../kernel/clock.ts"),
    import("../kernel/telemetry.ts"),
  ]);
  const [token, cert, key] = await Promise.all([
    readOptionFile("--token-file", options.tokenFile),
    readOptionFile("--tls-cert", options.tlsCert),
    readOptionFile("--tls-key", options.tlsKey),
  ]);
  const service = new FusionService({
    db: options.db,
    ...(token === undefined ? {} : { token: token.trim() }),
    ...(cert === undefined || key === undefined ? {} : { tls: { cert, key } }),
    clock: systemClock,
    log: await createLog({ level: "info", format: "json" }, { part: "fusion" }, process.stderr),
  });
  const stopped = untilStopped(systemClock);
  const { url } = await service.listen(options.port, options.bind);
  const announcement = { url, batches: `${url}${BATCH_PATH}`, db: options.db };
  console.log(
    options.json === true
      ? JSON.stringify(announcement)
      : `reference fusion service (not for production) listens on ${url}\n` +
          `  uplink.url: ${announcement.batches}\n` +
          `  see:        ${url}/stats, ${url}/observations, ${url}/faults\n` +
          "Ctrl-C ends it.",
  );
  await stopped;
  const stats = service.stats();
  await service.dispose();
  console.log(
    options.json === true ? JSON.stringify(stats) : `fusion: unique=${stats.unique} duplicates=${stats.duplicates}`,
  );
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) throw new InvalidArgumentError("A port is a number from 0 to 65535.");
  return port;
}
