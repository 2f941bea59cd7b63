import { type Command, Option } from "commander";
import { ExitStatus, GatewayError } from "../kernel/errors.ts";
import type { DeadLetter, DeadLetterPage, Selection } from "../operations/view.ts";
import { wholeNumber } from "./arguments.ts";
import { type DaemonOptions, withOutbox } from "./daemon.ts";
import { count, json, printable, table } from "./format.ts";
import { withDaemonOptions } from "./outbox.ts";
import { processTerminal, type Terminal } from "./terminal.ts";

interface Options extends DaemonOptions {
  readonly json?: true;
}
interface ListOptions extends Options {
  readonly limit: number;
  readonly after?: string;
}
interface SelectOptions extends Options {
  readonly all?: true;
  readonly yes?: true;
}

/** Adds `summit-edge dead-letters` with `list`, `show`, `requeue` and `drop`. */
export function addDeadLettersCommand(program: Command, terminal: Terminal = processTerminal): void {
  const group = program.command("dead-letters").description("readings that fusion refused for good, with the reason");
  addList(group, terminal);
  addShow(group, terminal);
  const requeue = group
    .command("requeue")
    .description("send them again: each in its old place by the order of acceptance, and with its outbox.maxAge anew");
  addSelecting(requeue, "requeue", terminal);
  const drop = group.command("drop").description("forget them for good; the ledger keeps counting them");
  addSelecting(drop.option("--yes", "with --all: really drop every one"), "drop", terminal);
}

function addList(group: Command, terminal: Terminal): void {
  withDaemonOptions(group.command("list").description("which there are, oldest first"))
    .addOption(new Option("--limit <n>", "at most so many, 1 to 1000").argParser(wholeNumber(1, 1000)).default(20))
    .option("--after <cursor>", "go on where the page before ended")
    .action(async ({ limit, after, ...options }: ListOptions) => {
      const query = { limit, ...(after !== undefined && { after }) };
      const page = await withOutbox(options, terminal, (admin) => admin.deadLetters.list(query));
      if (page === undefined) throw unknownPage(after ?? "");
      terminal.write(options.json ? json({ ...page, next: page.next ?? null }, 2) : pageText(page));
    });
}

function pageText({ deadLetters, next }: DeadLetterPage): string {
  if (deadLetters.length === 0) return "There are no dead letters.\n";
  const rows = deadLetters.map((each) => [
    each.id,
    each.deadLetteredAt,
    each.source,
    each.class,
    each.code,
    each.detail,
  ]);
  const more = next === undefined ? "" : `There are more: --after ${printable(next)}\n`;
  return table(rows, ["id", "since", "source", "class", "code", "detail"]) + more;
}

function addShow(group: Command, terminal: Terminal): void {
  withDaemonOptions(group.command("show <id>").description("one of them: its reason, and the reading itself")).action(
    async (id: string, options: Options) => {
      const found = await withOutbox(options, terminal, (admin) => admin.deadLetters.show(id));
      if (found === undefined) throw unknownIds([id]);
      terminal.write(options.json ? json(found, 2) : letterText(found));
    },
  );
}

function letterText({ reading, problem, ...letter }: DeadLetter): string {
  const rows = [
    ["id", letter.id],
    ["since", letter.deadLetteredAt],
    ["code", letter.code],
    ["detail", letter.detail],
  ];
  const answer = problem === undefined ? "" : `\nWhat fusion answered\n${json(problem, 2)}`;
  return `${table(rows)}${answer}\nThe reading\n${json(reading, 2)}`;
}

function addSelecting(command: Command, action: "requeue" | "drop", terminal: Terminal): void {
  withDaemonOptions(command.argument("[id...]", "readings' ids").option("--all", "every one there is")).action(
    async (ids: string[], options: SelectOptions) => {
      const selection = selectionOf(ids, options, command, action);
      const result = await withOutbox(options, terminal, (admin) => admin.deadLetters[action](selection));
      const done = action === "requeue" ? "requeued" : "dropped";
      const text = `${count(result.count)} ${result.count === 1 ? "reading" : "readings"} ${done}.\n`;
      terminal.write(options.json ? json(result, 2) : text);
      if (result.unknown.length > 0) throw unknownIds(result.unknown);
    },
  );
}

function selectionOf(ids: readonly string[], { all, yes }: SelectOptions, command: Command, action: string): Selection {
  const usage = (message: string): never => command.error(`error: ${message}`, { exitCode: ExitStatus.usage });
  if (ids.length > 0 === (all === true)) usage("give either the readings' ids or --all");
  if (all && action === "drop" && !yes) usage("drop --all forgets every dead letter: say --yes as well");
  return all ? "all" : ids;
}

function unknownPage(after: string): GatewayError {
  return new GatewayError({
    code: "RESOURCE_NOT_FOUND",
    op: "dead-letters.list",
    message: `no page ended with ${printable(after)}`,
    hint: "Begin anew, without --after: a page that is not the last names what goes there.",
  });
}

function unknownIds(ids: readonly string[]): GatewayError {
  return new GatewayError({
    code: "RESOURCE_NOT_FOUND",
    op: "dead-letters.find",
    message: `there is no dead letter ${ids.map(printable).join(", ")}`,
    hint: "See which there are with summit-edge dead-letters list.",
  });
}
