/**
 * The outbox's file. Its SQL stands in store-statements.ts, the kept blocks' in kept-table.ts, how the file is set up in store-setup.ts.
 * Others check, salvage and copy files. Synchronous; lives in the worker thread, or in a command while no daemon runs. One connection writes, with
 * `synchronous=FULL`: what `transaction` has returned from is on the card.
 *
 * It knows blocks, the ledger and dead letters as rows; what they mean is the engine's matter.
 */
import { randomUUID } from "node:crypto";
import { statSync } from "node:fs";
import Database from "better-sqlite3";
import { FileContent, type WalFrames } from "./file-content.ts";
import { KeptTable } from "./kept-table.ts";
import { addLedgers, EMPTY_LEDGER, type Ledger } from "./ledger.ts";
import { diskSpace, quotaNamed } from "./reserve.ts";
import { restamped } from "./restamp.ts";
import { type Block, type BlockHead, type BootTimes, bandEnd, bandStart, type DeadLetter } from "./rows.ts";
import { FRAME_BYTES, PAGE_BYTES, type Sizes, sizesFor } from "./sizes.ts";
import { classify } from "./store-fault.ts";
import { configure, migrate, mustBeCurrent } from "./store-setup.ts";
import { headOf, prepare, rowCrc, type Statements } from "./store-statements.ts";

/** Changes to one lane's row of the ledger. */
export type LedgerDelta = Partial<Record<keyof Ledger, number>>;

const WAL_HEADER_BYTES = 32;
const BUSY_TIMEOUT_MS = 5000;

export interface StoreOptions {
  readonly file: string;
  readonly maxBytes: number;
  /** The kernel's id of this boot; rows keep it beside monotonic times. */
  readonly bootId: string;
  /** Only to look, beside a daemon that may be writing. */
  readonly readOnly?: true;
}

export class Store {
  readonly #db: Database.Database;
  readonly #file: string;
  readonly sizes: Sizes;
  readonly #statements: Statements;
  /** Row number of this boot. */
  readonly boot: number;
  readonly #bootId: string;
  /** Whether the row is yet to be written: it goes into the first transaction that a full disk lets through. */
  #bootOwed = false;
  /** Keeps the log; see `keepLog`. */
  #beside: Database.Database | undefined;
  /** Wall time less monotonic time of the boots whose clock came to be known, ms. */
  readonly #offsets = new Map<string, number>();
  /**
   * The ledger as this connection has left it, which is the only one that writes: reading it back after each commit costs more than
   * changing it. `undefined` where it has to be read.
   */
  #counted: Counted | undefined;
  readonly #readOnly: boolean;
  /** Frames in the log when they were last asked for, and what the log takes; `undefined` where it is to be looked at. */
  #frames = 0;
  /** Rows that this connection had changed at the end of its last transaction. */
  #changes = 0;
  #walBytes: number | undefined;
  /** Random, made with the file: names this outbox for ever, so that a replaced one never repeats an idempotency key. */
  readonly outboxId: string;
  /** Delivered blocks that are kept for replay. */
  readonly kept: KeptTable;
  /** Whether the file is as this process has written it; not of one that is only looked at. */
  readonly content: FileContent | undefined;

  /**
   * Opens or creates the file and brings its schema up to date.
   * @throws GatewayError OUTBOX_NOT_DURABLE, OUTBOX_TOO_NEW, OUTBOX_TOO_OLD; SQLite's own errors pass through.
   */
  constructor(options: StoreOptions) {
    this.#file = options.file;
    const readOnly = options.readOnly === true;
    this.#readOnly = readOnly;
    this.sizes = sizesFor(options.maxBytes, diskSpace(options.file).total);
    this.#bootId = options.bootId;
    this.#db = new Database(options.file, { timeout: BUSY_TIMEOUT_MS, readonly: readOnly, fileMustExist: readOnly });
    try {
      if (readOnly) {
        mustBeCurrent(this.#db);
        this.#statements = prepare(this.#db);
        this.kept = new KeptTable(this.#db);
        this.outboxId = "";
        this.boot = 0;
        this.content = undefined;
        this.#readOffsets();
        return;
      }
      configure(this.#db, this.sizes);
      migrate(this.#db);
      this.#statements = prepare(this.#db);
      this.kept = new KeptTable(this.#db);
      this.outboxId = this.#identify();
      this.boot = this.#numberBoot(options.bootId);
      this.#readOffsets();
      this.content = new FileContent(options.file, () => this.#walFrames());
    } catch (fault) {
      this.#db.close();
      throw fault;
    }
  }

  /** What `look` reads is as of one moment, whatever the daemon writes meanwhile. Short: the log cannot be reused so long. */
  atOneMoment<T>(look: () => T): T {
    return this.#db.transaction(look)();
  }

  /**
   * Copies the whole file as it is, some pages at a time, to a new one at `path`, its log included. What is written meanwhile is in the
   * copy, until this resolves. The copy is yet to be synced.
   */
  async copyTo(path: string): Promise<void> {
    await this.#db.backup(path);
  }

  countBlocks(): number {
    return (this.#statements.countBlocks.get() as { count: number }).count;
  }

  /** Checkpoints and closes; the -wal and -shm files go, but after `keepLog`. */
  close(): void {
    this.#db.close();
    this.#beside?.close();
    this.content?.close();
  }

  /** On a full disk: the log is to stay when this is closed, for the fates of the next run. Somebody else would take its space. */
  keepLog(): void {
    this.#checkpointIfPossible();
    this.#beside = new Database(this.#file, { readonly: true, timeout: BUSY_TIMEOUT_MS });
    // Its first look opens the log. The last connection to be closed would remove it, but one that only reads may not.
    this.#beside.pragma("user_version");
  }

  /**
   * Runs `change` in one transaction. Once `durable` is called, the change is; and at the latest once this has returned. What is left to do
   * between the two is short, and whoever waits for the change need not wait for it.
   */
  transaction<T>(change: () => T, durable?: (result: T) => void): T {
    const result = this.#commit(change);
    try {
      durable?.(result);
      return result;
    } finally {
      this.#noteCommit();
    }
  }

  /** Also where what follows on a commit fails: it would be taken for another program's. */
  #noteCommit(): void {
    const frames = this.#walFrames();
    const changes = this.#statements.changes.get() as number;
    this.content?.noteCommit(frames, changes !== this.#changes);
    this.#changes = changes;
    this.#noteFrames(frames.log);
  }

  #commit<T>(change: () => T): T {
    this.#statements.begin.run();
    try {
      if (this.#bootOwed) this.#statements.addBoot.run(this.boot, this.#bootId);
      const result = change();
      this.#statements.commit.run();
      this.#bootOwed = false;
      return result;
    } catch (fault) {
      this.#counted = undefined;
      if (this.#db.inTransaction) this.#db.exec("ROLLBACK");
      this.#changes = this.#statements.changes.get() as number;
      throw quotaNamed(fault, this.#file);
    }
  }

  /** The last sequence number that was given away; 0 for none. */
  lastSeq(): number {
    return this.#count.lastSeq;
  }

  /** Notes that sequence numbers up to `seq` have been given away to a lane. */
  setLastSeq(lane: number, seq: number): void {
    const { ledgers, lastSeq } = this.#count;
    this.#statements.setLastSeq.run(seq, lane);
    this.#counted = seq < lastSeq ? undefined : { ledgers, lastSeq: seq };
  }

  /** `addToLedger` and `setLastSeq` at once for readings that are accepted and wait. */
  addAccepted(lane: number, count: number, seq: number): void {
    const { ledgers, lastSeq } = this.#count;
    this.#statements.addAccepted.run(count, count, seq, lane);
    const change: Ledger = { ...EMPTY_LEDGER, accepted: count, pending: count };
    this.#counted = seq < lastSeq ? undefined : { ledgers: changed(ledgers, lane, change), lastSeq: seq };
  }

  insertBlock(block: Block): void {
    const head = headOf(block);
    this.#statements.insertBlock.run(...head, rowCrc(head, block.body), block.body);
  }

  deleteBlock(key: number): void {
    this.#statements.deleteBlock.run(key);
  }

  /** The first block at or after `from` and before `end`. */
  firstHead(from: number, end: number): BlockHead | undefined {
    return this.#statements.firstHead.get(from, end) as BlockHead | undefined;
  }

  /** Blocks from the newest down, from below `before`, at least `start`. */
  headBefore(before: number, start: number): BlockHead | undefined {
    return this.#statements.headBefore.get(before, start) as BlockHead | undefined;
  }

  /** Whether this boot's offset between the two clocks is known. */
  get clockKnown(): boolean {
    return this.#offsets.has(this.#bootId);
  }

  /** Notes, once for each boot, that its wall time is its monotonic time plus `offsetMs`; the first one stays. */
  setClockOffset(offsetMs: number): void {
    this.transaction(() => this.#statements.setOffset.run(Math.round(offsetMs), this.boot));
    this.#readOffsets();
  }

  /**
   * A block whole, its provisional readings restamped where their boot's clock is known; `undefined` where it is gone,
   * `"damaged"` where its checksum does not match.
   */
  block(key: number): Block | "damaged" | undefined {
    const row = this.#statements.block.get(key) as (Block & { rowCrc: number }) | undefined;
    if (row === undefined) return undefined;
    const { rowCrc: stored, ...block } = row;
    return stored === rowCrc(headOf(block), block.body) ? restamped(block, this.#offsets) : "damaged";
  }

  /** Takes a block whose checksum does not match out of the queue, and keeps what is left of it for a look. */
  setAside(key: number, foundAt: number, detail: string): void {
    this.#statements.setAside.run(foundAt, detail, key);
    this.deleteBlock(key);
  }

  countIn(band: number): number {
    return (this.#statements.countIn.get(bandStart(band), bandEnd(band)) as { count: number | null }).count ?? 0;
  }

  addToLedger(lane: number, delta: LedgerDelta): void {
    const { ledgers, lastSeq } = this.#count;
    const change: Ledger = { ...EMPTY_LEDGER, ...delta };
    this.#statements.addToLedger.run({ ...change, lane });
    this.#counted = { ledgers: changed(ledgers, lane, change), lastSeq };
  }

  /** The ledger's rows, by lane. */
  ledgers(): readonly Ledger[] {
    return this.#count.ledgers;
  }

  /** Within a transaction as it stands. */
  get #count(): Counted {
    if (this.#counted !== undefined && !this.#readOnly) return this.#counted;
    const ledgers = this.#statements.ledgers.all() as Ledger[];
    const lastSeq = (this.#statements.lastSeq.get() as { seq: number }).seq;
    this.#counted = { ledgers, lastSeq };
    return this.#counted;
  }

  /** The boots of which something was noted, in order. */
  boots(): BootTimes[] {
    const rows = this.#statements.boots.all() as Record<keyof BootTimes, number>[];
    return rows.map((row) => ({
      ...row,
      seenSynchronised: row.seenSynchronised === 1,
      offCounted: row.offCounted === 1,
    }));
  }

  setBoot(times: BootTimes): void {
    const { seenSynchronised, offCounted } = times;
    this.#statements.setBoot.run({
      ...times,
      seenSynchronised: Number(seenSynchronised),
      offCounted: Number(offCounted),
    });
  }

  insertDeadLetter(letter: DeadLetter): void {
    this.#statements.insertLetter.run(letter);
  }

  deleteDeadLetter(seq: number): void {
    this.#statements.deleteLetter.run(seq);
  }

  /** Dead letters in the order of their sequence numbers, after `after`. */
  deadLetters(after: number, limit: number): DeadLetter[] {
    return this.#statements.letters.all(after, limit) as DeadLetter[];
  }

  deadLettersOf(id: string): DeadLetter[] {
    return this.#statements.lettersOf.all(id) as DeadLetter[];
  }

  countDeadLetters(): number {
    return (this.#statements.countLetters.get() as { count: number }).count;
  }

  /** Pages of the file, and how many of them are not free; within a transaction as it stands. */
  pages(): { count: number; used: number } {
    const count = this.#statements.pageCount.get() as number;
    return { count, used: count - (this.#statements.freePages.get() as number) };
  }

  /** Bytes of pages that can be written again without the file growing. */
  freeBytes(): number {
    const { count, used } = this.pages();
    return (count - used) * PAGE_BYTES;
  }

  /** As `fileBytes`, as of the last commit, without a look at the log: see `FilePlace` for what that would cost. */
  knownFileBytes(): { file: number; wal: number } {
    this.#walBytes ??= sizeOf(`${this.#file}-wal`);
    return { file: sizeOf(this.#file), wal: this.#walBytes };
  }

  /** The log only grows, but where it is begun anew: then what is beyond its limit is cut off. */
  #noteFrames(log: number): void {
    if (log < this.#frames) this.#walBytes = undefined;
    else if (this.#walBytes !== undefined)
      this.#walBytes = Math.max(this.#walBytes, WAL_HEADER_BYTES + log * FRAME_BYTES);
    this.#frames = log;
  }

  /** What the files take on the disk: the file itself does not have the pages yet that only the WAL holds. */
  fileBytes(): { file: number; wal: number } {
    return { file: sizeOf(this.#file), wal: sizeOf(`${this.#file}-wal`) };
  }

  /**
   * Brings the WAL's pages into the file where it is time: after so many frames, or when the file is to grow by much, which
   * a full disk would not allow later. SQLite's own way of doing this after a commit hides an error of the disk.
   * A full disk is no error here: the WAL grows instead, until that says so.
   */
  checkpointIfDue(): void {
    // A page that the file does not have yet is in the log: the file is to grow by no more than that has frames.
    if (this.#frames < Math.min(this.sizes.checkpointPages, this.sizes.growthPages)) return;
    const { log, checkpointed } = this.#walFrames();
    if (log === checkpointed) return;
    const growth = this.pages().count - Math.floor(sizeOf(this.#file) / PAGE_BYTES);
    if (log < this.sizes.checkpointPages && growth < this.sizes.growthPages) return;
    this.#checkpointIfPossible();
  }

  #checkpointIfPossible(): void {
    try {
      this.checkpoint();
    } catch (fault) {
      if (classify(fault) !== "disk-full") throw fault;
    }
  }

  /** Brings the WAL's pages into the file, so that the next commit writes over the WAL; not into what another program has put there. */
  checkpoint(): void {
    // What is committed is safe in the log: whoever looks next ends the process.
    if (this.content?.look() === "overwritten") return;
    try {
      this.#statements.checkpoint.get();
    } catch (fault) {
      throw quotaNamed(fault, this.#file);
    } finally {
      this.content?.note();
    }
  }

  /** As `checkpoint`, all of it. @throws Error where somebody else reads the file at the moment; SQLite's own */
  bringLogIn(): void {
    this.checkpoint();
    const { log, checkpointed } = this.#walFrames();
    if (log !== checkpointed) throw new Error("another program reads the file");
  }

  #walFrames(): WalFrames {
    return this.#statements.walFrames.get() as WalFrames;
  }

  /** Gives back the memory of pages that were read and are not needed again. */
  releaseMemory(): void {
    this.#db.pragma("shrink_memory");
  }

  #identify(): string {
    const known = this.#statements.meta.get("outbox_id") as { value: string } | undefined;
    if (known !== undefined) return known.value;
    const id = randomUUID();
    this.transaction(() => this.#statements.setMeta.run("outbox_id", id));
    return id;
  }

  #readOffsets(): void {
    const rows = this.#statements.offsets.all() as { bootId: string; offset: number }[];
    for (const { bootId, offset } of rows) this.#offsets.set(bootId, offset);
  }

  #numberBoot(bootId: string): number {
    const known = this.#statements.boot.get(bootId) as { id: number } | undefined;
    if (known !== undefined) return known.id;
    const id = (this.#statements.lastBoot.get() as number) + 1;
    try {
      this.transaction(() => this.#statements.addBoot.run(id, bootId));
    } catch (fault) {
      // What waits can be read and sent on a full disk all the same.
      if (classify(fault) !== "disk-full") throw fault;
      this.#bootOwed = true;
    }
    return id;
  }
}

/** The ledger's rows, by lane, and the last sequence number that was given away. */
interface Counted {
  readonly ledgers: readonly Ledger[];
  readonly lastSeq: number;
}

function changed(ledgers: readonly Ledger[], lane: number, change: Ledger): Ledger[] {
  return ledgers.map((row, index) => (index === lane ? addLedgers(row, change) : row));
}

const sizeOf = (file: string): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0;
