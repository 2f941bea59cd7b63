import { type Command, Option } from "commander";
import type { QuarantineOut, RefusalOut } from "../operations/quarantine-route.ts";
import { MAX_QUARANTINE } from "../operations/schemas.ts";
import { wholeNumber } from "./arguments.ts";
import { configOption } from "./config-file.ts";
import { Daemon, type DaemonOptions, daemonAddress, withKeyOptions } from "./daemon.ts";
import { needed } from "./daemon-needed.ts";
import { count, json, printable, table } from "./format.ts";
import { hexText } from "./serial/tail-text.ts";
import { processTerminal, type Terminal } from "./terminal.ts";

interface Options extends DaemonOptions {
  readonly json?: true;
  readonly limit: number;
}

/** Of what is no text; the rest is in the answer as JSON. */
const HEX_BYTES = 48;

/** Adds `summit-edge quarantine`. */
export function addQuarantineCommand(program: Command, terminal: Terminal = processTerminal): void {
  withKeyOptions(program.command("quarantine"))
    .description("what the gateway refused last, why, and how it began: from the running daemon, newest first")
    .addOption(configOption("configuration that says where the daemon listens"))
    .option("--url <url>", "the daemon's address (default: the configuration's, else http://127.0.0.1:8480)")
    .addOption(
      new Option("--limit <n>", `at most so many, 1 to ${MAX_QUARANTINE}`)
        .argParser(wholeNumber(1, MAX_QUARANTINE))
        .default(20),
    )
    .option("--json", "print the answer as JSON")
    .addHelpText("after", `\n${WHAT_IS_KEPT}`)
    .action(async ({ limit, ...options }: Options) => {
      const daemon = new Daemon(await daemonAddress(options, terminal));
      const answer = await needed(daemon.quarantine(limit), "quarantine.list", WHY_NEEDED, HINT);
      terminal.write(options.json ? json(answer, 2) : quarantineText(answer));
    });
}

const WHAT_IS_KEPT = `Kept in memory only, since the daemon's start: the first 256 bytes of ${MAX_QUARANTINE} refusals, of one payload's readings the first 10.
The oldest goes first, but while a device has more than a tenth of what is kept, or shown, that device's oldest does. What a full outbox refused is
counted, and not kept.`;
const WHY_NEEDED = "what was refused is kept in the running daemon's memory only";
const HINT =
  "Start it (systemctl start summit-edge), or say where it listens with --url or --config. Its log has refusals of before, ten a minute at most: journalctl -u summit-edge -g 'reading refused'.";

function quarantineText({ kept, quarantine }: QuarantineOut): string {
  if (quarantine.length === 0) return "Nothing that was refused is kept.\n";
  const rows = quarantine.map(({ at, reason, source, device, via }) => [at, reason, source, device, via]);
  const [headings, ...lines] = table(rows, ["at", "reason", "source", "device", "via"]).trimEnd().split("\n");
  const blocks = quarantine.map(
    (refusal, index) => `${lines[index]}\n${indented(refusal.detail)}${beginning(refusal)}`,
  );
  const more = kept > quarantine.length ? `There are more: --limit ${Math.min(kept, MAX_QUARANTINE)}\n` : "";
  return `${headings}\n${blocks.join("")}${more}`;
}

const indented = (text: string): string => (text === "" ? "" : `    ${printable(text)}\n`);

/** How what was refused began. What is no text is shown as a dump: the bytes, and the letters among them. */
function beginning({ head, hex }: RefusalOut): string {
  if (hex === null) return indented(head);
  const shown = hex.slice(0, 2 * HEX_BYTES);
  const letters = Buffer.from(shown, "hex")
    .toString("latin1")
    .replace(/[^ -~]/g, ".");
  const rest = shown.length < hex.length ? ` … (${count(hex.length / 2)} bytes with --json)` : "";
  return indented(`${hexText(shown)}  |${letters}|${rest}`);
}
