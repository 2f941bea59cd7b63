/**
 * Makes an outbox out of what was salvaged: only blocks whose checksum matches stay, no reading twice, and the books say what
 * became of the rest.
 *
 * Numbers of a ledger never fall, but for `pending`: readings that the ledger knew as waiting and that were not found are `damaged`.
 * Dead letters that the ledger does not know of are counted as such: putting them back must not bring it below zero.
 * Sequence numbers go on well above all that may have been given away.
 */
import { runsOf } from "./block.ts";
import { isWhole } from "./dead-letters.ts";
import type { KnownBooks } from "./file-state.ts";
import { EMPTY_LEDGER, imbalance, type Ledger } from "./ledger.ts";
import { Band, type BlockHead, bandEnd, bandStart, type DeadLetter, LANES, seqOf } from "./rows.ts";
import type { Salvage } from "./salvage.ts";
import type { Run } from "./sequence.ts";
import type { Store } from "./store.ts";

/** More than a gateway accepts in months: numbers given away by commits that were lost are never given again. */
const SEQUENCE_MARGIN = 1_000_000_000;
const BLOCKS_PER_TRANSACTION = 1000;
const LETTERS_PER_READ = 500;
/** The key space has room for numbers below 2^48; one above this is not to be believed. */
const HIGHEST_BELIEVED_SEQ = 2 ** 47;

/** From where the books go on: read, or as the last opening or closing noted them, or from what was salvaged. */
export type LedgerSource = "read" | "remembered" | "lost";

export interface Audit {
  /** Readings that wait again. */
  readonly salvaged: number;
  readonly damaged: number;
  readonly deadLetters: number;
  readonly ledger: LedgerSource;
}

export function audit(store: Store, { lanes, doubtful }: Salvage, known: KnownBooks | undefined): Audit {
  const read = lanes.size === LANES;
  const remembered = known !== undefined && known.ledgers.length === LANES;
  removeWhere(store, blocksOf(store), ({ key }) => store.block(key) === "damaged");
  for (let lane = 0; lane < LANES; lane++) removeWhere(store, doubles(store, lane, doubtful), () => true);
  const letters = soundLetters(store);
  const before = store.ledgers();
  let [salvaged, damaged] = [0, 0];
  for (let lane = 0; lane < LANES; lane++) {
    const books = lanes.has(lane) ? before[lane] : known?.ledgers[lane];
    if (books !== undefined) removeStale(store, lane, books.pending, doubtful);
    const found = pendingIn(store, lane);
    const settled = settle(books, found, letters[lane] ?? 0);
    store.transaction(() => store.addToLedger(lane, difference(settled, before[lane] ?? settled)));
    salvaged += found;
    damaged += settled.damaged - (books?.damaged ?? 0);
  }
  raiseSequence(store, known?.lastSeq ?? 0);
  const ledger = read ? "read" : remembered ? "remembered" : "lost";
  return { salvaged, damaged, deadLetters: store.countDeadLetters(), ledger };
}

/** The highest sequence number that a store's rows speak of. */
export function highestSeq(store: Store): number {
  let highest = store.lastSeq() < HIGHEST_BELIEVED_SEQ ? store.lastSeq() : 0;
  for (const head of blocksOf(store)) highest = Math.max(highest, head.lastSeq);
  return highest;
}

/** Whether a store's small numbers contradict each other or its blocks: a flipped bit that no page's structure shows. */
export function contradiction(store: Store): string | undefined {
  const ledgers = store.ledgers();
  if (ledgers.length !== LANES) return "the ledger has lost a lane";
  if (ledgers.some((ledger) => imbalance(ledger) !== 0)) return "the books do not balance";
  if (ledgers.some((ledger) => Object.values(ledger).some((value) => value < 0))) return "the ledger counts below zero";
  const lastSeq = store.lastSeq();
  const accepted = ledgers.reduce((sum, ledger) => sum + ledger.accepted, 0);
  if (lastSeq < accepted || lastSeq >= HIGHEST_BELIEVED_SEQ) return "the last sequence number cannot be right";
  for (let lane = 0; lane < LANES; lane++) {
    const band = Band.waiting(lane);
    const newest = store.headBefore(bandEnd(band), bandStart(band));
    if (newest !== undefined && seqOf(newest.key) > lastSeq) return "a block lies behind the last sequence number";
  }
  return undefined;
}

function* blocksOf(store: Store, from = 0, end = Number.MAX_SAFE_INTEGER): Generator<BlockHead> {
  for (let head = store.firstHead(from, end); head !== undefined; head = store.firstHead(head.key + 1, end)) yield head;
}

function removeWhere(store: Store, blocks: Iterable<BlockHead>, unwanted: (head: BlockHead) => boolean): void {
  let keys: number[] = [];
  const remove = (): void => {
    store.transaction(() => {
      for (const key of keys) store.deleteBlock(key);
    });
    keys = [];
  };
  for (const head of blocks) {
    if (unwanted(head)) keys.push(head.key);
    if (keys.length === BLOCKS_PER_TRANSACTION) remove();
  }
  remove();
}

/**
 * Blocks of a lane that hold readings which others hold as well: the doubtful one of two, else the larger. A block only ever gives
 * way to smaller ones: what has been cut out of a stale one was settled, and the smaller ones are what was left of it.
 */
function* doubles(store: Store, lane: number, doubtful: ReadonlySet<number>): Generator<BlockHead> {
  const staleOf = (a: BlockHead, b: BlockHead): BlockHead => {
    if (doubtful.has(a.key) !== doubtful.has(b.key)) return doubtful.has(a.key) ? a : b;
    return a.count > b.count ? a : b;
  };
  let open: BlockHead[] = [];
  for (const head of bySequence(store, lane)) {
    open = open.filter((other) => other.lastSeq >= seqOf(head.key));
    for (const other of open) {
      if (!overlap(head, other)) continue;
      const stale = staleOf(other, head);
      yield stale;
      open = open.filter((each) => each !== stale);
      if (stale === head) break;
    }
    open.push(head);
  }
}

/** A lane's blocks, waiting and deferred, in the order of their first sequence numbers. */
function* bySequence(store: Store, lane: number): Generator<BlockHead> {
  const [waiting, deferred] = [Band.waiting(lane), Band.deferred(lane)].map((band) =>
    blocksOf(store, bandStart(band), bandEnd(band)),
  ) as [Generator<BlockHead, void>, Generator<BlockHead, void>];
  let [a, b] = [waiting.next().value, deferred.next().value];
  while (a !== undefined || b !== undefined) {
    if (b === undefined || (a !== undefined && seqOf(a.key) <= seqOf(b.key))) {
      if (a !== undefined) yield a;
      a = waiting.next().value;
    } else {
      yield b;
      b = deferred.next().value;
    }
  }
}

function overlap(a: BlockHead, b: BlockHead): boolean {
  return runsOf(a).some(([first, last]) => runsOf(b).some(([from, to]) => from <= last && to >= first));
}

/** Found more than waited: doubtful blocks were delivered long ago, the oldest first. */
function removeStale(store: Store, lane: number, pending: number, doubtful: ReadonlySet<number>): void {
  let excess = pendingIn(store, lane) - pending;
  removeWhere(store, bySequence(store, lane), ({ key, count }) => {
    if (!doubtful.has(key) || count > excess) return false;
    excess -= count;
    return true;
  });
}

const pendingIn = (store: Store, lane: number): number =>
  store.countIn(Band.waiting(lane)) + store.countIn(Band.deferred(lane));

/** A lane's books with `found` readings waiting and, at least, `letters` dead letters. */
function settle(books: Ledger | undefined, found: number, letters: number): Ledger {
  if (books === undefined) return { ...EMPTY_LEDGER, accepted: found + letters, pending: found, deadLettered: letters };
  const refused = Math.max(0, letters - books.deadLettered);
  const missing = books.pending - found - refused;
  return {
    ...books,
    pending: found,
    deadLettered: books.deadLettered + refused,
    accepted: books.accepted + Math.max(0, -missing),
    damaged: books.damaged + Math.max(0, missing),
  };
}

/** Removes dead letters that are nonsense, or of readings that wait (they were put back once); returns how many are left, by lane. */
function soundLetters(store: Store): number[] {
  const sound = Array.from({ length: LANES }, () => 0);
  if (store.countDeadLetters() === 0) return sound;
  store.transaction(() => {
    for (const head of blocksOf(store)) for (const run of runsOf(head)) removeLetters(store, run);
    for (const letter of lettersOf(store)) {
      if (isWhole(letter)) sound[letter.lane] = (sound[letter.lane] ?? 0) + 1;
      else store.deleteDeadLetter(letter.seq);
    }
  });
  return sound;
}

function removeLetters(store: Store, [first, last]: Run): void {
  const next = (): DeadLetter | undefined => store.deadLetters(first - 1, 1)[0];
  for (let letter = next(); letter !== undefined && letter.seq <= last; letter = next())
    store.deleteDeadLetter(letter.seq);
}

function* lettersOf(store: Store): Generator<DeadLetter> {
  for (let after = 0; ; ) {
    const letters = store.deadLetters(after, LETTERS_PER_READ);
    yield* letters;
    const last = letters.at(-1);
    if (last === undefined) return;
    after = last.seq;
  }
}

function difference(wanted: Ledger, present: Ledger): Ledger {
  const names = Object.keys(EMPTY_LEDGER) as (keyof Ledger)[];
  return Object.fromEntries(names.map((name) => [name, wanted[name] - present[name]])) as unknown as Ledger;
}

function raiseSequence(store: Store, known: number): void {
  const highest = Math.max(highestSeq(store), known);
  store.transaction(() => store.setLastSeq(0, highest + SEQUENCE_MARGIN));
}
