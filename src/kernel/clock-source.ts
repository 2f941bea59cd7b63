/**
 * Who on this machine knows whether its wall clock is synchronised. Node.js has no adjtimex(2), so each source is a program that
 * every distribution's time service brings along, or the file that one leaves. A source that is not here says so by `undefined`.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";

export interface ClockSource {
  /** Its name in status and log. */
  readonly name: string;
  /** Whether the clock is synchronised; `undefined` where this source cannot tell. Never rejects, and ends within 3 s. */
  ask(): Promise<boolean | undefined>;
}

/** A program that takes longer hangs: timedatectl without a bus would wait for 25 s. */
const ANSWER_WITHIN_MS = 3_000;
const MAX_ANSWER_BYTES = 64 * 1024;

/** Set in the kernel's status word while nobody disciplines the clock: STA_UNSYNC of adjtimex(2). */
const STA_UNSYNC = 0x40;

/** sd_booted(3): whether systemd runs this machine. */
const SYSTEMD_RUNS = "/run/systemd/system";
/** Made by systemd-timesyncd at the first synchronisation of each boot. */
const TIMESYNCD_MARK = "/run/systemd/timesync/synchronized";

/** The sources in the order in which they are asked; the first that can tell decides. */
export function clockSources(): readonly ClockSource[] {
  return [
    // What the kernel says, by way of systemd: true of timesyncd, chrony and ntpd alike.
    program("timedatectl", ["show", "--property=NTPSynchronized", "--value"], timedatectlSays),
    program("chronyc", ["-c", "tracking"], chronycSays),
    program("adjtimex", ["--print"], kernelStatusSays),
    program("ntptime", [], kernelStatusSays),
    { name: "systemd", ask: async () => existsSync(TIMESYNCD_MARK) || (existsSync(SYSTEMD_RUNS) ? false : undefined) },
  ];
}

/** The answer to `timedatectl show --property=NTPSynchronized --value`. */
export function timedatectlSays(output: string): boolean | undefined {
  const value = output.trim();
  return value === "yes" ? true : value === "no" ? false : undefined;
}

/** The answer to `chronyc -c tracking`: comma-separated, the leap status last. */
export function chronycSays(output: string): boolean | undefined {
  const leap = output.trim().split(",")[13];
  if (leap === undefined || leap === "") return undefined;
  return leap !== "Not synchronised";
}

/** What adjtimex and ntptime print of the kernel's status word: `status: 64`, `status 0x2001 (PLL,NANO),`. */
export function kernelStatusSays(output: string): boolean | undefined {
  const status = /\bstatus:?\s+(0x[0-9a-f]+|\d+)/i.exec(output)?.[1];
  return status === undefined ? undefined : (Number(status) & STA_UNSYNC) === 0;
}

/** A program whose output says it, whatever its exit status: ntptime fails while the clock is not synchronised. */
function program(name: string, args: readonly string[], says: (output: string) => boolean | undefined): ClockSource {
  const limits = { timeout: ANSWER_WITHIN_MS, killSignal: "SIGKILL", maxBuffer: MAX_ANSWER_BYTES } as const;
  const ask = () =>
    new Promise<boolean | undefined>((resolve) => {
      execFile(name, args, limits, (_error, stdout) => resolve(says(stdout)));
    });
  return { name, ask };
}
