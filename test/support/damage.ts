/** An outbox with something of everything in it, and ways to damage its file. */
import { copyFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import Database from "better-sqlite3";
import type { Observation } from "#src/observation/observation.js";
import type { Batch, BatchLimits, Settlement } from "#src/outbox/batch.js";
import type { NewBlock } from "#src/outbox/commit.js";
import { Engine } from "#src/outbox/engine.js";
import { addLedgers, type Ledger } from "#src/outbox/ledger.js";
import { newestIds } from "#src/outbox/newest-ids.js";
import { noteFault, type Opened, openChecked } from "#src/outbox/opening.js";
import type { Store } from "#src/outbox/store.js";
import { observation } from "./observations.ts";

export const LIMITS: BatchLimits = {
  maxReadings: 500,
  maxBytes: 512 * 1024,
  compression: "none",
  heldBackThrough: Number.POSITIVE_INFINITY,
};

export interface OpenedEngine extends Opened<Engine> {
  readonly engine: Engine;
  readonly file: string;
}

/** Opens the outbox in a folder as the worker does. */
export async function openEngine(folder: string): Promise<OpenedEngine> {
  const file = join(folder, "outbox.db");
  const build = (store: Store): Engine => {
    newestIds(store, 1000);
    return new Engine(store, {
      gatewayId: "sierra-014",
      monotonic: () => 0,
      now: () => 1_780_000_000_000,
      maxDeadLetters: 1000,
      retention: { maxBytes: 2 ** 30, maxAge: Number.POSITIVE_INFINITY, whenFull: "refuse", reserveFreeDisk: 0 },
      freeDisk: () => Number.POSITIVE_INFINITY,
      onNotice: () => {},
    });
  };
  const opened = await openChecked({ file, maxBytes: 2 ** 30, bootId: "boot" }, build);
  return { ...opened, engine: opened.built, file };
}

export function closeEngine({ close }: OpenedEngine): void {
  close();
}

/** Stores observations of one lane as one block, with the sequence numbers that follow; returns their ids. */
export function store(engine: Engine, lane: number, observations: readonly Observation[]): string[] {
  const firstSeq = engine.books().lastSeq + 1;
  const gateway = { id: "sierra-014", received_at: "2026-07-01T12:00:00.000Z", clock: "synchronised" };
  const text = observations
    .map((each, n) => JSON.stringify({ ...each, gateway: { ...gateway, seq: firstSeq + n } }))
    .join(",\n");
  const block: NewBlock = {
    lane,
    runs: [[firstSeq, firstSeq + observations.length - 1]],
    count: observations.length,
    text: Buffer.from(text),
    observedFrom: 1,
    observedTo: 2,
    acceptedAt: 3,
    acceptedMonotonic: 4,
    clock: "synchronised",
  };
  engine.commit({ blocks: [block], settlements: [], duplicates: 0 });
  return observations.map(({ id }) => id);
}

export function settle(engine: Engine, batch: Batch, settlement: Settlement): void {
  engine.commit({ blocks: [], settlements: [{ lease: batch.lease, settlement }], duplicates: 0 });
}

export function idsIn(batch: Batch): string[] {
  const text = batch.contentEncoding === "gzip" ? gunzipSync(batch.body) : Buffer.from(batch.body);
  return (JSON.parse(text.toString()) as { observations: Observation[] }).observations.map(({ id }) => id);
}

/** Leases and settles until nothing is left; returns `ids` with those that went out, in order. */
export function drain(engine: Engine, ids: string[] = []): string[] {
  for (let batch = engine.lease(LIMITS); batch !== undefined; batch = engine.lease(LIMITS)) {
    ids.push(...idsIn(batch));
    settle(engine, batch, { delivered: [{ from: 0, to: batch.count }], deadLettered: [] });
  }
  return ids;
}

export const totals = (engine: Engine): Ledger => engine.books().ledgers.reduce(addLedgers);

export interface Filled {
  readonly folder: string;
  /** What waited, in no order. */
  readonly waiting: ReadonlySet<string>;
  readonly deadLetters: ReadonlySet<string>;
  readonly ledger: Ledger;
  readonly lastSeq: number;
  readonly outboxId: string;
}

/**
 * Fills the outbox in a folder: blocks of 1 to 400 readings in every lane, some delivered, some put off, some refused, so that there are free
 * pages, gaps, and pages of every kind.
 */
export async function fill(folder: string, blocks: number): Promise<Filled> {
  const opened = await openEngine(folder);
  const { engine } = opened;
  const waiting = new Set<string>();
  const deadLetters = new Set<string>();
  for (let n = 0; n < blocks; n++) {
    const size = n % 10 === 0 ? 400 : 1 + ((n * 7) % 40);
    const ids = store(
      engine,
      n % 4,
      Array.from({ length: size }, () => observation()),
    );
    for (const id of ids) waiting.add(id);
    if (n % 3 === 2) settleSome(engine, waiting, deadLetters);
  }
  const filled = { folder, waiting, deadLetters, ledger: totals(engine), lastSeq: engine.books().lastSeq };
  const { outboxId } = opened.store;
  closeEngine(opened);
  return { ...filled, outboxId };
}

function settleSome(engine: Engine, waiting: Set<string>, deadLetters: Set<string>): void {
  const batch = engine.lease({ ...LIMITS, maxReadings: 60 });
  if (batch === undefined) return;
  const ids = idsIn(batch);
  const later = ids.length > 8 ? [1, 5] : [];
  const dead = ids.length > 8 ? [3] : [];
  const kept = new Set([...later, ...dead]);
  for (const [index, id] of ids.entries()) {
    if (dead.includes(index)) deadLetters.add(id);
    if (!later.includes(index)) waiting.delete(id);
  }
  settle(engine, batch, {
    delivered: ids.flatMap((_id, index) => (kept.has(index) ? [] : [{ from: index, to: index + 1 }])),
    deadLettered: dead.map((index) => ({ index, code: "bad-units", detail: "no such unit" })),
    retryLater: { indexes: later, delayMs: 1e9 },
  });
}

/** Copies an outbox's files, as they are, into another folder. */
export function copyOutbox(from: string, to: string): void {
  for (const name of ["outbox.db", "outbox.db-wal", "outbox.db-shm", "outbox.db.state"])
    if (existsSync(join(from, name))) copyFileSync(join(from, name), join(to, name));
}

/** Flips one bit of a file. */
export function flip(path: string, bit: number): void {
  const bytes = readFileSync(path);
  const at = Math.floor(bit / 8);
  bytes[at] = (bytes[at] ?? 0) ^ (1 << (bit % 8));
  writeFileSync(path, bytes);
}

/** Damages the page with the block at or after `key`, so that SQLite cannot go on there; the file still opens. */
export function breakLeaf(file: string, key: number): void {
  const db = new Database(file);
  let number = db.prepare("SELECT rootpage FROM sqlite_schema WHERE name = 'block'").pluck().get() as number;
  db.close();
  const bytes = readFileSync(file);
  for (;;) {
    const page = bytes.subarray((number - 1) * 4096, number * 4096);
    if (page[0] !== 5) break;
    const cells = Array.from({ length: page.readUInt16BE(3) }, (_, n) => page.readUInt16BE(12 + n * 2));
    number = page.readUInt32BE(cells.find((at) => rowidAt(page, at + 4) >= key) ?? 8);
  }
  flip(file, (number - 1) * 4096 * 8 + 1);
}

/** The key in the middle of a lane's waiting blocks, which no start looks at where there are enough of them. */
export function middleKey(file: string, lane: number): number {
  const db = new Database(file);
  const keys = db.prepare("SELECT key FROM block WHERE key / 281474976710656 = ? ORDER BY key").pluck().all(lane);
  db.close();
  return keys[Math.floor(keys.length / 2)] as number;
}

/** A variable-length integer of SQLite's; keys of blocks are shorter than nine bytes. */
function rowidAt(page: Buffer, at: number): number {
  let value = 0;
  for (let next = at; ; next++) {
    const byte = page[next] ?? 0;
    value = value * 128 + (byte & 0x7f);
    if (byte < 0x80) return value;
  }
}

/** Lets an engine meet a fault as the daemon does: it ends, and is started again, twice at most. */
export async function drainRestarting(
  folder: string,
): Promise<{ ids: string[]; opened: OpenedEngine; starts: number }> {
  const ids: string[] = [];
  for (let starts = 1; ; starts++) {
    const opened = await openEngine(folder);
    try {
      const fault = (await opened.checked)?.fault;
      if (fault !== undefined) throw Object.assign(new Error(fault), { code: "SQLITE_CORRUPT" });
      drain(opened.engine, ids);
      return { ids, opened, starts };
    } catch (fault) {
      noteFault(opened.file, fault);
      opened.store.close();
      if (starts === 3) throw fault;
    }
  }
}
