/** What a check of `doctor` comes to. Pure. */
export type Level = "ok" | "warn" | "fail";

export interface Finding {
  /** What was looked at: `disk`, `uplink`, … */
  readonly check: string;
  readonly level: Level;
  /** What was found, one sentence. */
  readonly detail: string;
  /** How to mend it; none where there is nothing to mend. */
  readonly hint?: string;
}

export const ok = (check: string, detail: string): Finding => ({ check, level: "ok", detail });
/** It works, or may work, and somebody ought to know. */
export const warn = (check: string, detail: string, hint: string): Finding => ({ check, level: "warn", detail, hint });
/** It cannot work as it is. */
export const fail = (check: string, detail: string, hint: string): Finding => ({ check, level: "fail", detail, hint });

/** Whoever asks is not the daemon's user: what is denied to the one may be allowed to the other. */
export const AS_DAEMON = "Run doctor as the daemon's user, or with sudo, to know.";
