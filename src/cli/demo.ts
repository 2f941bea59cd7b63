/** `summit-edge demo`: the whole road on one machine, as a story with an end, or to stay and be played with. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { environment } from "../config/environment.ts";
import { systemClock } from "../kernel/clock.ts";
import { ExitStatus, GatewayError, messageOf } from "../kernel/errors.ts";
import { type Fault, readFault } from "../simulator/fusion-faults.ts";
import { wholeNumber } from "./arguments.ts";
import { type Books, booksJson, booksText, disagreements } from "./demo/books.ts";
import { Interrupted } from "./demo/interrupted.ts";
import { Screen } from "./demo/screen.ts";
import { Undo } from "./demo/undo.ts";
import { json } from "./format.ts";
import { untilStopped } from "./signals.ts";

interface Options {
  readonly pace: number;
  readonly keep?: true;
  readonly json?: true;
  readonly fault?: Fault;
  readonly stay?: true;
  readonly config?: string;
  readonly fusionPort?: number;
}

const LOG_LINES_SHOWN = 12;

/** Adds the command `demo`. */
export function addDemoCommand(program: Command): void {
  program
    .command("demo")
    .description("the whole road on this one machine: simulated devices, the gateway, and the reference fusion service")
    .option("--pace <x>", "how long the story takes, as a share of about a minute", parsePace, 1)
    .option("--keep", "keep the folder with the story's logs and data")
    .option("--json", "print the result as one JSON object; the story goes to standard error")
    .option("--fault <json>", "a fault that fusion shows, as PUT /faults takes it: see the comparison fail", parseFault)
    .addOption(new Option("--stay", "no story: bring the road up, and run until Ctrl-C").conflicts(["keep", "json"]))
    .option("--config <file>", "with --stay: the gateway's configuration (default: config/demo.yaml)")
    .option("--fusion-port <port>", "with --stay: fusion's port (default: uplink.url's)", wholeNumber(0, 65_535))
    .addHelpText("after", "\nExamples:\n  summit-edge demo\n  summit-edge demo --stay --config config/demo.yaml")
    .action(runDemo);
}

async function runDemo(options: Options): Promise<void> {
  const stopping = new AbortController();
  void untilStopped(systemClock).then(() => stopping.abort());
  const out = options.json ? process.stderr : process.stdout;
  const colour = [undefined, ""].includes(environment.NO_COLOR);
  const screen = new Screen({ out, colour, clock: systemClock });
  if (options.stay) {
    const { stay } = await import("./demo/stay.ts");
    return stay({ ...options, env: environment, clock: systemClock, screen, stopping: stopping.signal });
  }
  if (options.config !== undefined || options.fusionPort !== undefined) throw onlyWithStay();
  await tell(options, screen, stopping.signal);
}

async function tell(options: Options, screen: Screen, stopping: AbortSignal): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "summit-edge-demo-"));
  let keep = options.keep === true;
  try {
    const books = await theStory(options, folder, screen, stopping);
    report(books, options, screen);
    keep ||= disagreements(books).length > 0;
  } catch (fault) {
    screen.keep();
    if (fault instanceof Interrupted) {
      screen.say("Stopped before the end; nothing was compared.");
      process.exitCode = ExitStatus.failed;
      return;
    }
    keep = true;
    await showLog(folder, screen);
    throw fault;
  } finally {
    if (keep) process.stderr.write(`kept: ${folder}, with gateway.log and demo.log\n`);
    else await rm(folder, { recursive: true, force: true });
  }
}

async function theStory(options: Options, folder: string, screen: Screen, stopping: AbortSignal): Promise<Books> {
  const { pace, fault } = options;
  const [{ Story, SPEED }, { StoryRoad }] = await Promise.all([
    import("./demo/story.ts"),
    import("./demo/story-road.ts"),
  ]);
  screen.heading(
    "Summit Edge: a reading that was acknowledged is delivered, or accounted for by name",
    "The whole road on this one machine, simulated devices at one end and the reference fusion service at the other, and " +
      "an outage in between. Ctrl-C ends it.",
  );
  const undo = new Undo();
  try {
    const common = { clock: systemClock, stopping };
    const road = await StoryRoad.open(
      { folder, speed: SPEED / pace, env: environment, random: Math.random, ...common },
      undo,
    );
    return await new Story(road, { pace, ...(fault && { fault }), screen, ...common }).tell();
  } finally {
    await undo.all();
  }
}

/** Says whether both sides agree; the last two lines, or the one object, of standard output, and the exit status. */
function report(books: Books, options: Options, screen: Screen): void {
  const failed = disagreements(books);
  const agrees = failed.length === 0;
  if (agrees) screen.good("Both sides agree: nothing pending, nothing lost, and the ledger balances.");
  for (const comparison of failed) screen.bad(comparison);
  if (!agrees) process.exitCode = ExitStatus.failed;
  const result = { ...booksJson(books), agrees, disagreements: failed };
  process.stdout.write(options.json ? json(result) : `\n${booksText(books)}`);
}

/** The last lines of the gateway's log, where it has said anything. */
async function showLog(folder: string, screen: Screen): Promise<void> {
  const log = await readFile(join(folder, "gateway.log"), "utf8").catch(() => "");
  const lines = log.trimEnd().split("\n").slice(-LOG_LINES_SHOWN);
  if (log === "") return;
  screen.heading("The gateway's log ends with");
  for (const line of lines) process.stderr.write(`${line}\n`);
}

function onlyWithStay(): GatewayError {
  return new GatewayError({
    code: "USAGE",
    op: "demo.start",
    message: "--config and --fusion-port go with --stay",
    hint: "The story brings its own configuration and its own ports; leave them out, or add --stay.",
  });
}

function parsePace(text: string): number {
  const pace = Number(text);
  if (pace >= 0.1 && pace <= 10) return pace;
  throw new InvalidArgumentError("Write a number from 0.1 to 10.");
}

function parseFault(text: string): Fault {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new InvalidArgumentError(`It is not JSON: ${messageOf(error)}.`);
  }
  const read = readFault(value);
  if ("fault" in read) return read.fault;
  throw new InvalidArgumentError(`${read.problem}.`);
}
