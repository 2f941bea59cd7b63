/**
 * A machine with an outbox on it, as small and as unlucky as a test wants: its disk fills up, its clock is wrong, its daemon dies
 * within a transaction, its power goes. The outbox is the real one, with the worker's order of things.
 */
import { copyFileSync, existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import type { ClockQuality } from "#src/observation/observation.js";
import type { Notice } from "#src/outbox/books.js";
import type { Commit, Committed } from "#src/outbox/commit.js";
import type { Engine } from "#src/outbox/engine.js";
import { emptyLog } from "#src/outbox/file-check.js";
import type { FullDisk } from "#src/outbox/full-disk.js";
import type { CommitOutcome } from "#src/outbox/protocol.js";
import { Reserve } from "#src/outbox/reserve.js";
import { NO_GROWTH, type RetentionSettings } from "#src/outbox/retention.js";
import { PAGE_BYTES } from "#src/outbox/sizes.js";
import type { Store } from "#src/outbox/store.js";
import type { EngineModules } from "./engine-rig.ts";

/** The program under test: its own modules, or a mutant's. */
export interface OutboxModules extends EngineModules {
  readonly FullDisk: typeof FullDisk;
}

/** The daemon died here. */
export class Crash extends Error {
  readonly where: CrashPoint;

  constructor(where: CrashPoint) {
    super(where);
    this.where = where;
  }
}

/** Where in a transaction the daemon dies: with everything written but the COMMIT, or before anybody hears of it. */
export type CrashPoint = "before-commit" | "after-commit";

export interface MachineSettings extends RetentionSettings {
  readonly keepDelivered: number;
  readonly maxDeadLetters: number;
  readonly waitForClock: number;
}

const STARTED = Date.UTC(2026, 6, 1);

/**
 * A disk with room for so many pages of the outbox's file and for its reserve, which is on paper only. What is too much fails
 * with SQLITE_FULL, by `max_page_count`.
 */
class SmallDisk extends Reserve {
  readonly #pages: number;
  #db: Database.Database | undefined;
  #room = Number.POSITIVE_INFINITY;
  #made = true;
  #robbed = false;

  constructor(file: string, reserveBytes: number) {
    super(file, reserveBytes, () => 0);
    this.#pages = Math.ceil(reserveBytes / PAGE_BYTES);
  }

  /** Another start of the daemon. */
  use(db: Database.Database): void {
    this.#db = db;
    this.make();
    this.#limit();
  }

  /** Another program leaves so many pages, the reserve's own apart; infinitely many: the disk is large. */
  leave(pages: number): void {
    this.#robbed = !this.#made && pages !== Number.POSITIVE_INFINITY;
    this.#room = this.#filePages + (this.#made ? this.#pages : 0) + pages;
    this.#limit();
  }

  /** Somebody else has what the reserve gave up. */
  get robbed(): boolean {
    return this.#robbed;
  }

  get isLarge(): boolean {
    return this.#room === Number.POSITIVE_INFINITY;
  }

  get free(): number {
    return (this.#room - this.#filePages - (this.#made ? this.#pages : 0)) * PAGE_BYTES;
  }

  override get held(): boolean {
    return this.#made;
  }

  override make(): boolean {
    if (!this.#made) this.#made = this.free >= 1.25 * this.bytes;
    if (this.#made) this.#robbed = false;
    this.#limit();
    return this.#made;
  }

  override release(): void {
    this.#made = false;
    this.#limit();
  }

  get #filePages(): number {
    return this.#db?.pragma("page_count", { simple: true }) as number;
  }

  #limit(): void {
    const most = Math.min(2 ** 30, this.#room - (this.#made ? this.#pages : 0));
    this.#db?.pragma(`max_page_count = ${Math.max(1, most)}`);
  }
}

export class Machine {
  readonly #folder: string;
  readonly #modules: OutboxModules;
  readonly notices: Notice[] = [];
  settings: MachineSettings;
  #file: string;
  #crashes = 0;
  #db: Database.Database | undefined;
  #crashAt: { readonly point: CrashPoint; transactions: number } | undefined;
  #disk: SmallDisk | undefined;
  /** Transactions that are on the disk, and what the last commit among them came to; whoever asks sets them back. */
  written = 0;
  lastCommit: Committed | undefined;
  store: Store;
  engine: Engine;
  outbox: FullDisk;
  /** Really elapsed since the beginning, ms. */
  elapsed = 0;
  /** What the wall clock shows. */
  wall = STARTED;
  quality: ClockQuality = "synchronised";
  /** Since the machine was switched on, ms. */
  monotonic = 1000;
  boot = 1;

  /** `folder` is empty, and this machine's own. */
  constructor(folder: string, settings: MachineSettings, modules: OutboxModules) {
    this.#folder = folder;
    this.#file = join(folder, "outbox.db");
    this.settings = settings;
    this.#modules = modules;
    [this.store, this.engine, this.outbox] = this.#open();
  }

  get bootId(): string {
    return `boot ${this.boot}`;
  }

  /** The right time. */
  get rightTime(): number {
    return STARTED + this.elapsed;
  }

  get disk(): SmallDisk {
    return this.#disk as SmallDisk;
  }

  /** The daemon dies in one of its next transactions: in the first, the second… */
  crashIn(point: CrashPoint, transactions: number): void {
    this.#crashAt = { point, transactions };
  }

  /** It does not, after all. */
  spare(): void {
    this.#crashAt = undefined;
  }

  pass(ms: number): void {
    this.elapsed += ms;
    this.wall += ms;
    this.monotonic += ms;
  }

  /** Somebody sets the wall clock wrong. */
  step(ms: number): void {
    this.wall += ms;
    this.quality = "stepped";
  }

  /** The time server is in reach. */
  synchronise(): void {
    this.wall = this.rightTime;
    this.quality = "synchronised";
    if (!this.engine.books().clockKnown) this.outbox.run(() => this.engine.fixClock(this.wall - this.monotonic));
  }

  commit(commit: Commit): Omit<CommitOutcome, "seconds"> {
    return this.outbox.commit(commit);
  }

  /** Stops the daemon properly, and starts it again. */
  restart(changes: Partial<MachineSettings> = {}): void {
    this.spare();
    this.outbox.noteTime(this.quality);
    this.engine.end();
    this.store.close();
    this.settings = { ...this.settings, ...changes };
    this.#reopen();
  }

  /** The daemon dies: what is in the file and its log is what there is. */
  crash(): void {
    const left = this.#file;
    this.#file = join(this.#folder, `after-crash-${++this.#crashes}.db`);
    for (const part of ["", "-wal"]) if (existsSync(left + part)) copyFileSync(left + part, this.#file + part);
    this.store.close();
    rmSync(left);
    // As each start after an unclean stop does (opening.ts).
    emptyLog(this.#file);
    this.#reopen();
  }

  /** Off for so long; without a synchronised clock it comes up with the time at which it went down. */
  powerCut(offMs: number, synchronised: boolean): void {
    this.elapsed += offMs;
    this.monotonic = 1000;
    this.boot++;
    this.quality = "unsynchronised";
    this.crash();
    if (synchronised) this.synchronise();
  }

  close(): void {
    this.store.close();
  }

  #reopen(): void {
    this.#crashAt = undefined;
    [this.store, this.engine, this.outbox] = this.#open();
  }

  #open(): [Store, Engine, FullDisk] {
    const machine = this;
    class MortalStore extends this.#modules.Store {
      override transaction<T>(change: () => T, durable?: (result: T) => void): T {
        if (machine.#crashAt !== undefined) machine.#crashAt.transactions--;
        const dying = (): T => {
          const made = change();
          machine.#dieAt("before-commit");
          return made;
        };
        return super.transaction(dying, (result) => {
          machine.written++;
          if (isCommitted(result)) machine.lastCommit = result;
          machine.#dieAt("after-commit");
          durable?.(result);
        });
      }
    }
    const { maxBytes } = this.settings;
    const store = this.#capturing(() => new MortalStore({ file: this.#file, maxBytes, bootId: this.bootId }));
    this.#disk ??= new SmallDisk(this.#file, store.sizes.reserveBytes);
    if (this.#db !== undefined) this.#disk.use(this.#db);
    const disk = this.#disk;
    const engine = new this.#modules.Engine(store, {
      ...this.settings,
      gatewayId: "sierra",
      monotonic: () => this.monotonic,
      now: () => this.wall,
      retention: this.settings,
      freeDisk: () => (disk.held ? disk.free : NO_GROWTH),
      onNotice: (notice) => this.notices.push(notice),
    });
    return [store, engine, new this.#modules.FullDisk(engine, disk, () => store.freeBytes())];
  }

  #dieAt(point: CrashPoint): void {
    if (this.#crashAt?.point !== point || this.#crashAt.transactions > 0) return;
    this.#crashAt = undefined;
    throw new Crash(point);
  }

  /** The store keeps its connection to itself; the limit on its pages is the connection's. */
  #capturing(make: () => Store): Store {
    const { pragma } = Database.prototype;
    Database.prototype.pragma = ((db: (found: Database.Database) => void) =>
      function (this: Database.Database, ...args: Parameters<typeof pragma>) {
        db(this);
        return pragma.apply(this, args);
      })((found) => {
      this.#db = found;
    });
    try {
      return make();
    } finally {
      Database.prototype.pragma = pragma;
    }
  }
}

function isCommitted(result: unknown): result is Committed {
  return typeof result === "object" && result !== null && "stored" in result && typeof result.stored === "number";
}
