/**
 * Whether the machine's wall clock can be trusted: a board without a battery-backed clock wakes up in the past and is set right
 * by NTP or a GPS receiver, minutes or days later. Asked of systemd, which knows for timesyncd and for chrony alike.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import type { ClockQuality } from "../observation/observation.ts";
import type { Clock } from "./clock.ts";

/** Made by systemd-timesyncd at its first synchronisation. */
const SYNCHRONISED_MARK = "/run/systemd/timesync/synchronized";
const LOOK_EVERY_MS = 60_000;
/** The wall clock drifts against the monotonic one by far less than this between two looks. */
const STEP_MS = 5_000;

export class ClockWatch {
  readonly #clock: Clock;
  #synchronised = false;
  #stepped = false;
  #offset: number;
  #cancel: () => void = () => {};

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#offset = clock.now() - clock.monotonic();
  }

  /** Looks once a minute until `stop`. */
  start(): void {
    this.#look();
  }

  stop(): void {
    this.#cancel();
  }

  /** What is known now. A clock that was stepped stays so called until it is known to be synchronised. */
  quality(): ClockQuality {
    if (this.#synchronised) return "synchronised";
    return this.#stepped ? "stepped" : "unsynchronised";
  }

  #look(): void {
    const offset = this.#clock.now() - this.#clock.monotonic();
    if (Math.abs(offset - this.#offset) > STEP_MS) this.#stepped = true;
    this.#offset = offset;
    this.#cancel = this.#clock.after(LOOK_EVERY_MS, () => this.#look());
    if (existsSync(SYNCHRONISED_MARK)) {
      this.#synchronised = true;
      return;
    }
    execFile("timedatectl", ["show", "--property=NTPSynchronized", "--value"], (error, stdout) => {
      this.#synchronised = error === null && stdout.trim() === "yes";
    });
  }
}
