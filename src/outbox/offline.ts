/** The outbox opened by a command while no daemon runs, under the dataDir's lock. */
import { statSync } from "node:fs";
import { resolve } from "node:path";
import type { Config } from "../config/schema.ts";
import { bootId } from "../kernel/boot.ts";
import { systemClock } from "../kernel/clock.ts";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";
import type { OfflineOutbox } from "../operations/view.ts";
import { adminOf } from "./admin.ts";
import { DataDirLock } from "./data-dir-lock.ts";
import { Engine } from "./engine.ts";
import { peek } from "./inspection.ts";
import { closeProperly, openUnchecked } from "./opening.ts";
import { diskSpace } from "./reserve.ts";
import type { Store } from "./store.ts";

/**
 * Opens the file that the configuration names. It is never created here.
 * @throws GatewayError OUTBOX_MISSING, OUTBOX_CANNOT_OPEN, DATA_DIR_LOCKED, OUTBOX_TOO_NEW, …
 */
export async function openOffline(config: Pick<Config, "gateway" | "outbox">): Promise<OfflineOutbox> {
  const { dataDir } = config.gateway;
  const file = resolve(dataDir, config.outbox.file);
  mustBeThere(file);
  const lock = DataDirLock.acquire(dataDir);
  let store: Store;
  let wasClean: boolean;
  try {
    ({ store, wasClean } = openUnchecked({ file, maxBytes: config.outbox.maxBytes, bootId: bootId() }));
  } catch (fault) {
    lock.release();
    throw cannotOpen(file, fault);
  }
  const engine = new Engine(store, {
    gatewayId: config.gateway.id,
    monotonic: systemClock.monotonic,
    now: systemClock.now,
    maxDeadLetters: config.outbox.maxDeadLetters,
    retention: config.outbox,
    freeDisk: () => diskSpace(file).free,
    keepDelivered: config.outbox.keepDelivered,
    onNotice: () => {},
  });
  return {
    admin: adminOf(
      {
        books: () => engine.books(),
        monotonic: systemClock.monotonic,
        peek: async (limit, priority) => peek(store, limit, priority),
        deadLetters: async (after, limit) => engine.deadLetters(after, limit),
        deadLettersOf: async (id) => engine.deadLettersOf(id),
        requeue: async (selection) => engine.requeue(selection),
        drop: async (selection) => engine.drop(selection),
      },
      config.outbox.maxBytes,
    ),
    close: async () => {
      if (wasClean) closeProperly(store, file);
      else store.close();
      lock.release();
    },
  };
}

function mustBeThere(file: string): void {
  try {
    statSync(file);
  } catch (fault) {
    if (codeOf(fault) !== "ENOENT") throw cannotOpen(file, fault);
    throw new GatewayError({
      code: "OUTBOX_MISSING",
      op: "outbox.open",
      message: `there is no outbox at ${file}`,
      hint: "check gateway.dataDir and outbox.file in the configuration named with --config",
    });
  }
}

/** Even a look writes: the lock, and the file's write-ahead log. */
function cannotOpen(file: string, fault: unknown): unknown {
  if (fault instanceof GatewayError) return fault;
  return new GatewayError({
    code: "OUTBOX_CANNOT_OPEN",
    op: "outbox.open",
    message: `cannot open the outbox ${file}: ${messageOf(fault)}`,
    hint: "Run the command as the daemon's user (sudo -u summit-edge …), or as root; see also that the disk is not full.",
    cause: fault,
  });
}
