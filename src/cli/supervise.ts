/**
 * The daemon's life as its supervisor sees it: signals in, exit status out. Knows nothing of what runs; what runs is handed
 * in as something that starts, stops and reloads.
 */
import type { EventEmitter } from "node:events";
import type { Clock } from "../kernel/clock.ts";
import { ExitStatus } from "../kernel/errors.ts";
import type { Logger } from "../kernel/telemetry.ts";

export interface Daemon {
  /** Ends cleanly: what was accepted is durable, and every part has let go. */
  stop(): Promise<void>;
  /** Takes over what may change while running. */
  reload(): Promise<void>;
}

export interface Supervision {
  /** Emits signals by their name, and `uncaughtException`: the process. */
  readonly events: Pick<EventEmitter, "on">;
  readonly clock: Pick<Clock, "monotonic">;
  readonly log: Logger;
  /** Ends the process. Waits for what its threads are doing. */
  readonly exit: (status: number) => void;
  /** Ends the process, whatever its threads are doing. */
  readonly kill: () => void;
}

export interface StandIn {
  readonly events: Pick<EventEmitter, "on" | "off" | "emit">;
  readonly exit: Supervision["exit"];
}

/**
 * Sees to signals while the configuration is read and the program loaded, which takes seconds on a small board. Nothing is open
 * by then: SIGTERM and SIGINT end the process at once, with status 0. A SIGHUP is kept for what is returned here: to be called
 * in the same turn as `supervise`, which takes over.
 */
export function standBy({ events, exit }: StandIn): () => void {
  let hangUp = false;
  const letGo = (): void => {
    events.off("SIGTERM", end).off("SIGINT", end).off("SIGHUP", remember);
  };
  const end = (): void => {
    // `exit` waits for a file system that hangs; one more signal does not.
    letGo();
    exit(0);
  };
  const remember = (): void => {
    hangUp = true;
  };
  events.on("SIGTERM", end).on("SIGINT", end).on("SIGHUP", remember);
  return () => {
    letGo();
    if (hangUp) events.emit("SIGHUP");
  };
}

/**
 * A terminal's Ctrl-C reaches a child of npm twice within milliseconds: by itself and passed on. Only a signal this much
 * later than the first one says that somebody has lost patience.
 */
const IMPATIENT_AFTER_MS = 1000;

/**
 * Starts a daemon and sees it to its end. SIGTERM or SIGINT stop it cleanly (status 0; 1 where that fails), one more that
 * comes at least a second later ends it at once, as SIGKILL does; SIGHUP reloads it. A signal that comes while it is still
 * starting waits for that. An error that nobody caught is logged and ends it at once (1). Rejects where the start fails.
 */
export async function supervise(start: () => Promise<Daemon>, supervision: Supervision): Promise<void> {
  const { events, clock, log, exit, kill } = supervision;
  let stopRequestedAt: number | undefined;

  const fatal = (err: unknown, message: string): void => {
    log.fatal({ err }, message);
    exit(ExitStatus.failed);
  };

  // A start that fails is reported where it is awaited, below.
  const started = (): Promise<Daemon | undefined> => starting.catch(() => undefined);

  const stop = async (signal: string): Promise<void> => {
    if (stopRequestedAt !== undefined) {
      if (clock.monotonic() - stopRequestedAt < IMPATIENT_AFTER_MS) return;
      log.warn({ signal }, "ends at once, without waiting for the clean stop");
      // A card that hangs holds a thread, and `exit` with it: that may be why somebody lost patience.
      kill();
      return;
    }
    stopRequestedAt = clock.monotonic();
    log.info({ signal }, "stops");
    const daemon = await started();
    if (daemon === undefined) return;
    try {
      await daemon.stop();
    } catch (err) {
      fatal(err, "could not stop cleanly");
      return;
    }
    exit(0);
  };

  const reload = async (): Promise<void> => {
    const daemon = await started();
    if (daemon === undefined || stopRequestedAt !== undefined) return;
    try {
      await daemon.reload();
    } catch (err) {
      log.error({ err }, "the configuration could not be reloaded; the one before stays in force");
    }
  };

  events.on("uncaughtException", (err) => fatal(err, "ends after an error that nobody caught"));
  events.on("SIGTERM", () => stop("SIGTERM"));
  events.on("SIGINT", () => stop("SIGINT"));
  events.on("SIGHUP", oneAtATime(reload));
  const starting = start();
  await starting;
}

/** Calls that come while one is under way are answered by one more, after it. */
function oneAtATime(action: () => Promise<void>): () => void {
  let running = false;
  let again = false;
  const run = async (): Promise<void> => {
    running = true;
    do {
      again = false;
      await action();
    } while (again);
    running = false;
  };
  return () => {
    if (running) again = true;
    else void run();
  };
}
