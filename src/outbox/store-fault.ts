/** What SQLite's faults mean. Pure. */
import { codeOf } from "../kernel/errors.ts";

/** What a fault of SQLite means for the daemon. */
export type StoreFault = "disk-full" | "io-error" | "other";

/**
 * `disk-full` can be waited out; after `io-error` the connection's state is unknown and the process must end. The -shm file
 * holds nothing that lasts: where it cannot grow (SQLITE_IOERR_SHMSIZE), the transaction was not made, and that is all. A quota that is
 * used up comes as SQLITE_IOERR_WRITE: the store tells it apart, and names it SQLITE_FULL.
 */
export function classify(thrown: unknown): StoreFault {
  const code = codeOf(thrown) ?? "";
  if (code === "SQLITE_FULL" || code === "SQLITE_IOERR_SHMSIZE") return "disk-full";
  // EIO: met in the files beside the database, by our own hand.
  if (code === "EIO" || /^SQLITE_(IOERR|CORRUPT|NOTADB|CANTOPEN|READONLY)/.test(code)) return "io-error";
  return "other";
}
