/**
 * Says how the outbox does for room: one condition, and with it one line in the log, for each change of state, however many
 * readings are concerned.
 */
import type { Clock } from "../kernel/clock.ts";
import type { Conditions } from "../kernel/conditions.ts";
import type { Books } from "./books.ts";
import type { Ledger } from "./ledger.ts";

/** From this fill on an operator is warned, before anything is lost. */
export const HIGH_WATER = 0.8;
/** Below this one it is well again. */
export const LOW_WATER = 0.6;
/** When nothing has expired for so long, that is over. */
const QUIET_MS = 30_000;

const FILLING = `the outbox is more than ${100 * HIGH_WATER} % full; once it is full, outbox.whenFull decides: see that the uplink works`;
const EVICTING =
  "the oldest readings of the lowest priority are evicted to make room for new ones: see that the uplink works, or";
// True as long as the condition lasts, also while there is room again for some.
const REFUSING = "readings are acknowledged only as others are delivered and make room: see that the uplink works, or";
const EXPIRING = "readings have waited longer than outbox.maxAge and expire: see that the uplink works";
const DISK_FULL =
  "the disk is full: acknowledgements are withheld until there is space; free some on the file system of gateway.dataDir";

/** Why readings are not stored at the moment. */
export type Hold = "outbox-full" | "disk-full";

type Lost = Pick<Ledger, "evicted" | "expired">;

export class RoomWatch {
  readonly #conditions: Conditions;
  readonly #clock: Clock;
  #lost: Lost | undefined;
  /** What had been lost before the present eviction, and the present expiry, began. */
  readonly #lostBefore: Partial<Record<keyof Lost, number>> = {};
  #endsQuiet: () => void = () => {};
  #hold: Hold | undefined;
  #diskFull = false;

  constructor(conditions: Conditions, clock: Clock) {
    this.#conditions = conditions;
    this.#clock = clock;
  }

  /** Looks at the numbers after a change. */
  note({ room, ledgers }: Pick<Books, "room" | "ledgers">): void {
    const total = (fate: "evicted" | "expired"): number => ledgers.reduce((sum, ledger) => sum + ledger[fate], 0);
    const before = this.#lost;
    const lost = { evicted: total("evicted"), expired: total("expired") };
    this.#lost = lost;
    if (before !== undefined && lost.expired > before.expired) {
      this.#lostBefore.expired ??= before.expired;
      this.#expiring();
    }
    if (before !== undefined && lost.evicted > before.evicted) {
      this.#lostBefore.evicted ??= before.evicted;
      this.#raise("evicting", `${fullBy(room)}: ${EVICTING} ${mend(room)}`);
    } else if (room.fill < HIGH_WATER) this.#over("evicting", "evicted");
    if (this.#hold === "outbox-full") this.#raise("full", `${fullBy(room)}: ${REFUSING} ${mend(room)}`);
    else if (room.fill < HIGH_WATER) this.#clear("full");
    if (room.fill >= HIGH_WATER) this.#raise("filling", FILLING);
    else if (room.fill < LOW_WATER) this.#clear("filling");
  }

  /** Readings wait because of this; `undefined`: none do. */
  hold(hold: Hold | undefined): void {
    this.#hold = hold;
    this.#noteDisk();
  }

  /** Whether the reserve is gone for want of space. */
  diskFull(full: boolean): void {
    this.#diskFull = full;
    this.#noteDisk();
  }

  #noteDisk(): void {
    if (this.#diskFull || this.#hold === "disk-full") {
      this.#conditions.raise("outbox", "disk-full", "failing", DISK_FULL);
    } else this.#clear("disk-full");
  }

  stop(): void {
    this.#endsQuiet();
  }

  #expiring(): void {
    this.#raise("expiring", EXPIRING);
    this.#endsQuiet();
    this.#endsQuiet = this.#clock.after(QUIET_MS, () => this.#over("expiring", "expired"));
  }

  /** How many were lost is known when it is over, and said then. */
  #over(code: string, fate: keyof Lost): void {
    const readings = (this.#lost?.[fate] ?? 0) - (this.#lostBefore[fate] ?? 0);
    delete this.#lostBefore[fate];
    this.#conditions.clear("outbox", code, { readings });
  }

  #raise(code: string, detail: string): void {
    this.#conditions.raise("outbox", code, "degraded", detail);
  }

  #clear(code: string): void {
    this.#conditions.clear("outbox", code);
  }
}

const fullBy = ({ limitedBy }: Books["room"]): string =>
  limitedBy === "maxBytes" ? "the outbox is full" : "the disk has less than outbox.reserveFreeDisk left";

const mend = ({ limitedBy }: Books["room"]): string =>
  limitedBy === "maxBytes" ? "raise outbox.maxBytes" : "free space on the file system of gateway.dataDir";
