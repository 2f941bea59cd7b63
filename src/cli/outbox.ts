import { type Command, Option } from "commander";
import { PRIORITIES, type Priority } from "../observation/observation.ts";
import type { OutboxStats, StoredReading } from "../operations/view.ts";
import { FATES, imbalance } from "../outbox/ledger.ts";
import { wholeNumber } from "./arguments.ts";
import { configOption } from "./config-file.ts";
import { type DaemonOptions, withKeyOptions, withOutbox } from "./daemon.ts";
import { amount, count, json, size, span, table } from "./format.ts";
import { addOutboxFileCommands } from "./outbox-file.ts";
import { processTerminal, type Terminal } from "./terminal.ts";

interface OutboxOptions extends DaemonOptions {
  readonly json?: true;
}
interface PeekOptions extends OutboxOptions {
  readonly limit: number;
  readonly priority?: Priority;
}

/** Adds `summit-edge outbox` with all its commands; returns it, so that others can add what they know. */
export function addOutboxCommand(program: Command, terminal: Terminal = processTerminal): Command {
  const outbox = program
    .command("outbox")
    .description("what waits in the outbox, its file as a whole, and sending a past range again");
  withDaemonOptions(outbox.command("stats").description("how much waits, for how long, and the ledger")).action(
    async (options: OutboxOptions) => {
      const stats = await withOutbox(options, terminal, (admin) => admin.stats());
      terminal.write(options.json ? json(stats, 2) : statsText(stats));
    },
  );
  withDaemonOptions(outbox.command("peek").description("the readings that would be sent next; nothing is taken"))
    .addOption(new Option("--limit <n>", "at most so many, 1 to 1000").argParser(wholeNumber(1, 1000)).default(20))
    .addOption(new Option("--priority <name>", "only this lane").choices(PRIORITIES))
    .action(async ({ limit, priority, ...options }: PeekOptions) => {
      const query = { limit, ...(priority !== undefined && { priority }) };
      const readings = await withOutbox(options, terminal, (admin) => admin.peek(query));
      terminal.write(options.json ? json(readings, 2) : readingsText(readings));
    });
  addOutboxFileCommands(outbox, terminal);
  return outbox;
}

/** The options that every command on the outbox takes. */
export function withDaemonOptions(command: Command): Command {
  return withKeyOptions(command)
    .addOption(configOption("configuration: where the daemon listens, and where its data is when it does not run"))
    .option("--url <url>", "the daemon's address (default: the configuration's, else http://127.0.0.1:8480)")
    .option("--json", "print the result as JSON");
}

function statsText(stats: OutboxStats): string {
  const rows = [
    ["waiting", count(stats.pending)],
    ...PRIORITIES.map((priority) => [`  ${priority}`, count(stats.pendingByPriority[priority])]),
    ["oldest", stats.pending === 0 ? "-" : span(stats.oldestAgeSeconds)],
    ["in use", `${size(stats.bytes)} of ${size(stats.maxBytes)}`],
    ["dead letters", count(stats.deadLetters)],
    ["kept for replay", amount(stats.kept.readings, stats.kept.bytes)],
    ["accepted", count(stats.ledger.accepted)],
    ...FATES.map((fate) => [`  ${fate}`, count(stats.ledger[fate])]),
    ["books", imbalance(stats.ledger) === 0 ? "balance" : `DO NOT BALANCE, by ${count(imbalance(stats.ledger))}`],
  ];
  return table(rows);
}

function readingsText(readings: readonly StoredReading[]): string {
  if (readings.length === 0) return "Nothing waits.\n";
  const rows = readings.map((reading) => [
    String(reading.gateway.seq),
    reading.priority,
    reading.ts_iso,
    reading.source,
    reading.class,
    reading.id,
  ]);
  return table(rows, ["seq>", "priority", "time", "source", "class", "id"]);
}
