import { type Command, Option } from "commander";
import { systemClock } from "../kernel/clock.ts";
import { ExitStatus, GatewayError } from "../kernel/errors.ts";
import type { ReplayOut } from "../operations/replay-routes.ts";
import { DEFAULT_REPLAY_RATE, MAX_REPLAY_RATE } from "../operations/schemas.ts";
import { moment, wholeNumber } from "./arguments.ts";
import { Daemon, type DaemonOptions, daemonAddress } from "./daemon.ts";
import { needed } from "./daemon-needed.ts";
import { count, json, printable } from "./format.ts";
import { withDaemonOptions } from "./outbox.ts";
import { untilStopped } from "./signals.ts";
import { processTerminal, type Terminal } from "./terminal.ts";

interface ReplayOptions extends DaemonOptions {
  readonly json?: true;
  readonly from?: string;
  readonly to?: string;
  readonly class?: string;
  readonly source?: string;
  readonly rate: number;
  readonly stop?: true;
}

/** How often the daemon is asked how the replay fares. */
const POLL_MS = 500;

/** Adds `replay` to `summit-edge outbox`. `interrupted` resolves when the operator wants the command to end. */
export function addReplayCommand(
  outbox: Command,
  terminal: Terminal = processTerminal,
  interrupted: () => Promise<void> = () => untilStopped(systemClock),
): void {
  const command = withDaemonOptions(outbox.command("replay"))
    .description(
      "send delivered readings of a past range to fusion again, behind live ones; needs outbox.keepDelivered. Ctrl-C ends it",
    )
    .option("--from <time>", "readings observed from then on, RFC 3339: 2026-07-01T12:00:00Z", moment)
    .option("--to <time>", "and until then, included", moment)
    .option("--class <name>", "only readings of this class")
    .option("--source <name>", "only readings of this source")
    .addOption(
      new Option("--rate <n>", "readings per second, at most")
        .argParser(wholeNumber(1, MAX_REPLAY_RATE))
        .default(DEFAULT_REPLAY_RATE),
    )
    .option("--stop", "end the replay that is under way")
    .action(async (options: ReplayOptions) => {
      const daemon = new Daemon(await daemonAddress(options, terminal));
      if (options.stop) {
        const { state } = await withDaemon(daemon.replay.progress());
        if (!isUnderWay(state)) throw notUnderWay();
        report(await daemon.replay.stop(), options, terminal);
        return;
      }
      const { from, to } = options;
      const wrong = (message: string): never => command.error(`error: ${message}`, { exitCode: ExitStatus.usage });
      if (from === undefined || to === undefined) wrong("say which readings, with --from and --to, or --stop");
      else if (from > to) wrong("--from lies after --to");
      await replay(daemon, options, terminal, interrupted());
    });
}

async function replay(daemon: Daemon, options: ReplayOptions, terminal: Terminal, end: Promise<void>): Promise<void> {
  const { from, to, class: kind, source, rate } = options;
  let ending = false;
  const ended = end.then(() => {
    ending = true;
  });
  const wanted = {
    from,
    to,
    ...(kind !== undefined && { class: kind }),
    ...(source !== undefined && { source }),
    rate,
  };
  let now = await withDaemon(daemon.replay.start(wanted));
  while (isUnderWay(now.state)) {
    if (ending) now = await daemon.replay.stop();
    else {
      if (terminal.interactive && !options.json) terminal.write(`\r${progressLine(now)}\u001b[K`);
      const goOn = await Promise.race([terminal.pause(POLL_MS), ended.then(() => true)]);
      if (!goOn) return;
      if (!ending) now = await daemon.replay.progress();
    }
  }
  if (terminal.interactive && !options.json) terminal.write("\r\u001b[K");
  report(now, options, terminal);
  failUnlessDone(now);
}

/** Nothing but the daemon knows the way to fusion. */
const withDaemon = <T>(answer: Promise<T>): Promise<T> =>
  needed(
    answer,
    "outbox.replay",
    "a replay is the running daemon's work",
    "Start it (systemctl start summit-edge), or say where it listens with --url or --config.",
  );

const isUnderWay = (state: ReplayOut["state"]): boolean => ["counting", "sending", "waiting"].includes(state);

function progressLine({ state, sent, total, rate, lastFailure }: ReplayOut): string {
  if (total === null) return "Counting the readings of that range …";
  const share = total === 0 ? 100 : Math.floor((sent / total) * 100);
  const failed = lastFailure === null ? "" : ` (${printable(lastFailure.code)})`;
  const waits = state === "waiting" ? `; waits for live readings or for fusion${failed}` : "";
  return `${count(sent)} of ${count(total)} readings sent again, ${share} %, at most ${count(rate ?? 0)}/s${waits}`;
}

function report(replay: ReplayOut, options: ReplayOptions, terminal: Terminal): void {
  terminal.write(options.json ? json(replay, 2) : `${summary(replay)}\n`);
}

function summary({ state, sent, total, refused, damaged }: ReplayOut): string {
  if (state === "done" && total === 0) return "No delivered reading of that range is kept: nothing was sent.";
  const of = total === null ? "" : ` of ${count(total)}`;
  const missing = (total ?? 0) - sent - refused - damaged;
  const parts = [
    `${count(sent)}${of} readings sent again.`,
    ...(refused > 0 ? [`Fusion refused ${count(refused)}; the daemon's log says why.`] : []),
    ...(damaged > 0 ? [`${count(damaged)} could not be read back.`] : []),
    ...(state === "done" && missing > 0 ? [`${count(missing)} were kept for long enough meanwhile, and dropped.`] : []),
  ];
  return parts.join(" ");
}

function failUnlessDone({ state, refused, lastFailure }: ReplayOut): void {
  if (state === "done" && refused === 0) return;
  const why = lastFailure === null ? "" : ` (${printable(lastFailure.code)}: ${printable(lastFailure.detail)})`;
  const failure = (code: string, message: string, hint: string): GatewayError =>
    new GatewayError({ code, op: "outbox.replay", message, hint });
  if (state === "done") {
    const hint = "The books are as before: these readings stay delivered. See what fusion has against them.";
    throw failure("REPLAY_REFUSED", `fusion refused some of the readings${why}`, hint);
  }
  const hint =
    "Give the same range again to begin anew: the readings keep their ids, so that fusion can drop what it has.";
  if (state === "failed") throw failure("REPLAY_FAILED", `fusion refuses every reading of the replay${why}`, hint);
  const message =
    state === "none" ? "the daemon was started anew, and the replay has ended with it" : "the replay was stopped";
  throw failure("REPLAY_STOPPED", message, hint);
}

function notUnderWay(): GatewayError {
  return new GatewayError({
    code: "REPLAY_NOT_RUNNING",
    op: "outbox.replay",
    message: "no replay is under way",
    hint: "Begin one with --from and --to.",
  });
}
