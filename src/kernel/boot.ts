import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";

/** What names this boot of the machine, so that monotonic times can be compared between processes; random where it has none. */
export function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return randomUUID();
  }
}
