/** One program at a time per dataDir. */
import { existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { giveToFolderOwner } from "../kernel/durable-file.ts";
import { GatewayError, messageOf } from "../kernel/errors.ts";
import { FileLock } from "../kernel/file-lock.ts";

export class DataDirLock {
  readonly #lock: FileLock;

  private constructor(lock: FileLock) {
    this.#lock = lock;
  }

  /**
   * Takes the lock, making the folder where it is missing.
   * @throws GatewayError DATA_DIR_LOCKED where another program holds it, DATA_DIR_UNUSABLE where it cannot be written.
   */
  static acquire(dataDir: string): DataDirLock {
    let lock: FileLock | undefined;
    try {
      makeFolder(dataDir);
      const file = join(dataDir, "lock");
      lock = FileLock.tryAcquire(file);
      if (lock !== undefined) giveToFolderOwner(file);
    } catch (fault) {
      throw unusable(dataDir, fault);
    }
    if (lock === undefined) throw locked(dataDir);
    return new DataDirLock(lock);
  }

  release(): void {
    this.#lock.release();
  }
}

/**
 * Readings and secrets are nobody else's, whatever umask the program was started with: others may not even look into the folder.
 *
 * Level by level: where a file system refuses new folders (as /proc does), `mkdir` with `recursive` never returns.
 */
function makeFolder(path: string, mode = 0o750): void {
  if (existsSync(path)) return;
  makeFolder(dirname(path), 0o755);
  mkdirSync(path, mode);
}

function locked(dataDir: string): GatewayError {
  return new GatewayError({
    code: "DATA_DIR_LOCKED",
    op: "outbox.lock",
    message: `another Summit Edge is using ${dataDir}`,
    hint: "stop that one first (systemctl stop summit-edge), or give this one a gateway.dataDir of its own",
  });
}

function unusable(dataDir: string, fault: unknown): GatewayError {
  return new GatewayError({
    code: "DATA_DIR_UNUSABLE",
    op: "outbox.lock",
    message: `cannot use ${dataDir}: ${messageOf(fault)}`,
    hint: "check that gateway.dataDir can be made and written by the daemon's user, that it is this user who asks (or root), that lock, outbox.db and what else the outbox has there are this user's too (chown), and that the disk is not full",
    cause: fault,
  });
}
