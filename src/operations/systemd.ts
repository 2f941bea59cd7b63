/**
 * What the daemon tells systemd: that it is ready, how it is, that it makes progress, that it stops (sd_notify(3)).
 *
 * Node.js has no Unix datagram socket, so `systemd-notify` sends each message; decision 0003 says why and what the unit
 * needs for it. Without NOTIFY_SOCKET all of it does nothing.
 */
import { execFile } from "node:child_process";
import type { Clock } from "../kernel/clock.ts";
import { messageOf } from "../kernel/errors.ts";
import type { Logger } from "../kernel/telemetry.ts";
import { type Progress, stuckSince } from "./progress.ts";

/** `systemd-notify` waits until the manager has taken the message; longer than this it is not waited for. */
const NOTIFY_TIMEOUT_MS = 10_000;

export type Notification = "READY=1" | "WATCHDOG=1" | "STOPPING=1" | "RELOADING=1" | `STATUS=${string}`;

/** Hands messages to the service manager. Resolves to whether they were taken; never rejects. */
export type Notify = (...notifications: Notification[]) => Promise<boolean>;

/** `notify` for this process, by the environment that systemd gave it. A failure is logged as a warning. */
export function systemdNotify(env: NodeJS.ProcessEnv, log: Logger): Notify {
  const { NOTIFY_SOCKET, PATH } = env;
  if (NOTIFY_SOCKET === undefined || NOTIFY_SOCKET === "") return async () => true;
  return (...notifications) =>
    new Promise((resolve) => {
      // A status is one line: another line in it would be another notification.
      const lines = notifications.map((each) => each.replace(/\s+/g, " "));
      const options = { env: { NOTIFY_SOCKET, PATH }, timeout: NOTIFY_TIMEOUT_MS };
      execFile("systemd-notify", lines, options, (error) => {
        if (error !== null) log.warn({ notifications: lines }, `systemd was not told: ${messageOf(error)}`);
        resolve(error === null);
      });
    });
}

/** The unit's WatchdogSec in milliseconds, where systemd watches this very process (sd_watchdog_enabled(3)). */
export function watchdogTimeout(env: NodeJS.ProcessEnv, pid: number): number | undefined {
  const microseconds = Number(env.WATCHDOG_USEC);
  if (!Number.isSafeInteger(microseconds) || microseconds <= 0) return undefined;
  if (env.WATCHDOG_PID !== undefined && Number(env.WATCHDOG_PID) !== pid) return undefined;
  return microseconds / 1000;
}

/** A part that must get on for the daemon to be of use. */
export type Probe =
  | {
      readonly name: string;
      /** A count that grows whenever the part gets on, for example the forwarder's turns; it must turn when idle, too. */
      readonly progress: () => number;
    }
  | {
      readonly name: string;
      /** Asks the part for a sign of life, for example the worker for an empty message. A rejection is no sign. */
      readonly roundTrip: () => Promise<unknown>;
    };

export interface WatchdogParts {
  readonly notify: Notify;
  /** WatchdogSec in milliseconds; `undefined` leaves the watchdog asleep. */
  readonly timeoutMs: number | undefined;
  readonly probes: readonly Probe[];
  /** One line for `systemctl status`, sent along with each pet. */
  readonly statusLine?: () => string;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Pets systemd's watchdog, and only while every part gets on: a timer alone would prove no more than that a timer runs.
 * That this runs at all is the event loop's own proof. It looks four times per timeout, so that a part that was slow once
 * has three quarters of it to get on.
 */
export class Watchdog {
  readonly #parts: WatchdogParts;
  #cancel: (() => void) | undefined;
  #atLastPet: Progress = new Map();
  #roundTrips = new Map<string, number>();
  #underWay = new Set<string>();
  #stuck: readonly string[] = [];

  constructor(parts: WatchdogParts) {
    this.#parts = parts;
  }

  /** Begins to look; does nothing where systemd does not watch. */
  start(): void {
    const { timeoutMs, clock } = this.#parts;
    if (timeoutMs === undefined || this.#cancel !== undefined) return;
    const arm = (): void => {
      this.#cancel = clock.after(timeoutMs / 4, () => {
        arm();
        void this.#look();
      });
    };
    this.#atLastPet = this.#progress();
    this.#sendRoundTrips();
    arm();
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  async #look(): Promise<void> {
    const progress = this.#progress();
    this.#sendRoundTrips();
    const stuck = stuckSince(this.#atLastPet, progress);
    this.#report(stuck);
    if (stuck.length > 0) return;
    const { notify, statusLine } = this.#parts;
    const status: Notification[] = statusLine === undefined ? [] : [`STATUS=${statusLine()}`];
    // What happens while systemd is told counts for the next time; where it was not told, nothing counts as petted.
    if (await notify("WATCHDOG=1", ...status)) this.#atLastPet = progress;
  }

  #progress(): Progress {
    return new Map(
      this.#parts.probes.map((probe) => [
        probe.name,
        "progress" in probe ? probe.progress() : (this.#roundTrips.get(probe.name) ?? 0),
      ]),
    );
  }

  /** One round trip at a time for each part: a stuck one is not asked again and again. */
  #sendRoundTrips(): void {
    for (const probe of this.#parts.probes) {
      if (!("roundTrip" in probe) || this.#underWay.has(probe.name)) continue;
      this.#underWay.add(probe.name);
      probe
        .roundTrip()
        .then(
          () => this.#roundTrips.set(probe.name, (this.#roundTrips.get(probe.name) ?? 0) + 1),
          (error: unknown) => this.#parts.log.warn({ part: probe.name }, `no sign of life: ${messageOf(error)}`),
        )
        .finally(() => this.#underWay.delete(probe.name));
    }
  }

  #report(stuck: readonly string[]): void {
    const { log } = this.#parts;
    const fresh = stuck.filter((name) => !this.#stuck.includes(name));
    if (fresh.length > 0) log.warn({ stuck: fresh }, "no progress: the watchdog is not petted until there is");
    if (stuck.length === 0 && this.#stuck.length > 0) log.info({ stuck: this.#stuck }, "progress again");
    this.#stuck = stuck;
  }
}
