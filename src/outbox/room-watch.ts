/**
 * Says how the outbox does for room, in one state at a time: well, filling, full, evicting, and well again. Each change of state is
 * one line in the log, however many readings are concerned. What expires, and a full disk, are conditions of their own.
 *
 * It gets worse at once and better only below the water marks, so that an outbox at its limit does not change its state with each commit.
 */
import type { Audit } from "../kernel/audit.ts";
import type { Clock } from "../kernel/clock.ts";
import type { Conditions, Telling } from "../kernel/conditions.ts";
import type { Books } from "./books.ts";
import type { Ledger } from "./ledger.ts";

/** From this fill on an operator is warned, before anything is lost. */
export const HIGH_WATER = 0.8;
/** Below this one it is well again. */
export const LOW_WATER = 0.6;
/** When nothing has expired for so long, that is over. */
const QUIET_MS = 30_000;

/** From bad to worse. Evicting is worse than acknowledging nothing: readings are lost to fusion. */
const STATES = ["well", "filling", "full", "evicting"] as const;
type RoomState = (typeof STATES)[number];

const FILLING = `the outbox is more than ${100 * HIGH_WATER} % full; once it is full, outbox.whenFull decides: see that the uplink works`;
const RELIEVED = `the outbox was more than ${100 * HIGH_WATER} % full, and is well again below ${100 * LOW_WATER} %: see that the uplink works`;
const EVICTING =
  "the oldest readings of the lowest priority are evicted to make room for new ones: see that the uplink works, or";
// True as long as the condition lasts, also while there is room again for some.
const REFUSING = "readings are acknowledged only as others are delivered and make room: see that the uplink works, or";
const EXPIRING = "readings have waited longer than outbox.maxAge and expire: see that the uplink works";
const DISK_FULL =
  "the disk is full: acknowledgements are withheld until there is space; free some on the file system of gateway.dataDir";

/** They are accounted for, and lost to fusion: an operator has to act, although an outage is never a failure of the gateway. */
const LOST: Telling = { level: "error" };

/** Why readings are not stored at the moment. */
export type Hold = "outbox-full" | "disk-full" | "file-gone";

type Lost = Pick<Ledger, "evicted" | "expired">;

export class RoomWatch {
  readonly #conditions: Conditions;
  readonly #clock: Clock;
  readonly #audit: Audit;
  #lost: Lost | undefined;
  /** What had been lost before the present eviction, and the present expiry, began. */
  readonly #lostBefore: Partial<Record<keyof Lost, number>> = {};
  #endsQuiet: () => void = () => {};
  #state: RoomState = "well";
  #hold: Hold | undefined;
  #diskFull = false;

  constructor(conditions: Conditions, clock: Clock, audit: Audit = () => {}) {
    this.#audit = audit;
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
    const evicts = before !== undefined && lost.evicted > before.evicted;
    if (evicts && this.#lostBefore.evicted === undefined) {
      this.#lostBefore.evicted = before.evicted;
      this.#audit({ action: "eviction.began", actor: "gateway", detail: { why: fullBy(room) } });
    }
    this.#become(this.#next(room, evicts), room);
  }

  #next({ fill }: Books["room"], evicts: boolean): RoomState {
    const full = this.#hold === "outbox-full";
    if (evicts) return "evicting";
    if (full || fill >= HIGH_WATER) return worse(this.#state, full ? "full" : "filling");
    return fill >= LOW_WATER && this.#state !== "well" ? "filling" : "well";
  }

  /** Of a state that lasts, the detail follows. */
  #become(next: RoomState, room: Books["room"]): void {
    const last = this.#state;
    this.#state = next;
    if (next === last) {
      if (next !== "well") this.#raise(next, detailOf(next, room));
      return;
    }
    const fields = last === "evicting" ? { readings: this.#counted("evicted") } : {};
    if (next === "well") this.#conditions.clear("outbox", last, fields);
    else this.#raise(next, detailOf(next, room), { ...(next === "evicting" && LOST), insteadOf: last, fields });
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
    this.#raise("expiring", EXPIRING, LOST);
    this.#endsQuiet();
    this.#endsQuiet = this.#clock.after(QUIET_MS, () => {
      this.#conditions.clear("outbox", "expiring", { readings: this.#counted("expired") });
    });
  }

  /** How many were lost is known when it is over, and said then. */
  #counted(fate: keyof Lost): number {
    const readings = (this.#lost?.[fate] ?? 0) - (this.#lostBefore[fate] ?? 0);
    if (fate === "evicted" && this.#lostBefore.evicted !== undefined)
      this.#audit({ action: "eviction.ended", actor: "gateway", detail: { count: readings } });
    delete this.#lostBefore[fate];
    return readings;
  }

  #raise(code: string, detail: string, telling?: Telling): void {
    this.#conditions.raise("outbox", code, "degraded", detail, telling);
  }

  #clear(code: string): void {
    this.#conditions.clear("outbox", code);
  }
}

const worse = (one: RoomState, other: RoomState): RoomState =>
  STATES.indexOf(one) > STATES.indexOf(other) ? one : other;

function detailOf(state: Exclude<RoomState, "well">, room: Books["room"]): string {
  switch (state) {
    case "filling":
      return room.fill >= HIGH_WATER ? FILLING : RELIEVED;
    case "full":
      return `${fullBy(room)}: ${REFUSING} ${mend(room)}`;
    case "evicting":
      return `${fullBy(room)}: ${EVICTING} ${mend(room)}`;
  }
}

const fullBy = ({ limitedBy }: Books["room"]): string =>
  limitedBy === "maxBytes" ? "the outbox is full" : "the disk has less than outbox.reserveFreeDisk left";

const mend = ({ limitedBy }: Books["room"]): string =>
  limitedBy === "maxBytes" ? "raise outbox.maxBytes" : "free space on the file system of gateway.dataDir";
