/**
 * Looks through an outbox's file without changing it, while the daemon uses it or not: SQLite's own check of the structure, then each
 * block, waiting or kept, by its checksum and each reading by its JSON, then the books against the blocks.
 *
 * But for SQLite's check, which is one read of the file's length, every block is a read of its own: the daemon's
 * checkpoints go on meanwhile.
 */
import { existsSync } from "node:fs";
import { crc32 } from "node:zlib";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";
import { contradiction } from "./audit.ts";
import { idOf, runsOf } from "./block.ts";
import { isWhole } from "./dead-letters.ts";
import { faultInBytes, isDamageAtOpen, quickCheck } from "./file-check.ts";
import type { KeptBlock } from "./kept-table.ts";
import { Band, type Block, type BlockHead, LANES, seqOf } from "./rows.ts";
import { decodeSegment, SEPARATOR } from "./segment.ts";
import { expand, type Run } from "./sequence.ts";
import { Store } from "./store.ts";

/** As many findings are kept; the rest are counted. */
const MAX_PROBLEMS = 100;
const LETTERS_PER_READ = 500;
const KEPT_PER_READ = 500;

export interface VerifyOptions {
  /** Whether a daemon writes to the file: then its log is in motion, and only SQLite's own reading of it counts. */
  readonly inUse: boolean;
  /** Called now and then: blocks looked at, of how many. */
  readonly onProgress?: (done: number, total: number) => void;
}

export interface VerifyReport {
  readonly file: string;
  readonly ok: boolean;
  readonly blocks: number;
  /** Readings that wait in blocks that are whole. */
  readonly readings: number;
  /** Readings that have been delivered and are kept in blocks that are whole. */
  readonly kept: number;
  readonly deadLetters: number;
  readonly problemCount: number;
  /** The first of them, in words. */
  readonly problems: readonly string[];
}

/** @throws GatewayError OUTBOX_MISSING, OUTBOX_UNREADABLE, OUTBOX_TOO_NEW, OUTBOX_TOO_OLD */
export function verify(file: string, options: VerifyOptions): VerifyReport {
  if (!existsSync(file)) {
    const hint = "Check gateway.dataDir and outbox.file in the configuration, or the name that was given.";
    throw new GatewayError({ code: "OUTBOX_MISSING", op: "outbox.verify", message: `there is no file ${file}`, hint });
  }
  const findings = new Findings(file);
  const structure = (options.inUse ? undefined : faultSeenIn(file)) ?? quickCheck(file);
  if (structure !== undefined) findings.add(structure);
  try {
    const store = new Store({ file, readOnly: true, maxBytes: 0, bootId: "" });
    try {
      lookThrough(store, findings, options);
    } finally {
      store.close();
    }
  } catch (thrown) {
    if (structure === undefined && !isDamageAtOpen(thrown)) throw unreadable(file, thrown);
    findings.add(`reading ends here: ${messageOf(thrown)}`);
  }
  return findings.report();
}

class Findings {
  readonly #file: string;
  readonly #problems: string[] = [];
  #problemCount = 0;
  blocks = 0;
  readings = 0;
  kept = 0;
  deadLetters = 0;

  constructor(file: string) {
    this.#file = file;
  }

  add(problem: string): void {
    this.#problemCount++;
    if (this.#problems.length < MAX_PROBLEMS) this.#problems.push(problem);
  }

  report(): VerifyReport {
    const { blocks, readings, kept, deadLetters } = this;
    const found = { problemCount: this.#problemCount, problems: this.#problems };
    return { file: this.#file, ok: this.#problemCount === 0, blocks, readings, kept, deadLetters, ...found };
  }
}

function lookThrough(store: Store, findings: Findings, { onProgress }: VerifyOptions): void {
  // At one moment, whatever the daemon does meanwhile.
  const { total, wrong } = store.atOneMoment(() => ({ total: store.countBlocks(), wrong: booksAgainstBlocks(store) }));
  for (const problem of wrong) findings.add(problem);
  const end = Number.MAX_SAFE_INTEGER;
  for (let head = store.firstHead(0, end); head !== undefined; head = store.firstHead(head.key + 1, end)) {
    findings.blocks++;
    const problem = faultOf(store, head);
    if (problem === undefined) findings.readings += head.count;
    else findings.add(`the block at sequence number ${seqOf(head.key)}, of ${head.count} readings: ${problem}`);
    onProgress?.(findings.blocks, total);
  }
  checkKept(store, findings);
  checkDeadLetters(store, findings);
}

function booksAgainstBlocks(store: Store): string[] {
  const problems: string[] = [];
  const wrong = contradiction(store);
  if (wrong !== undefined) problems.push(wrong);
  const ledgers = store.ledgers();
  for (let lane = 0; lane < LANES; lane++) {
    const counted = store.countIn(Band.waiting(lane)) + store.countIn(Band.deferred(lane));
    const pending = ledgers[lane]?.pending;
    if (pending !== counted)
      problems.push(`lane ${lane}: the ledger says that ${pending} readings wait, its blocks hold ${counted}`);
  }
  return problems;
}

function faultOf(store: Store, head: BlockHead): string | undefined {
  const block = store.block(head.key);
  // Delivered meanwhile.
  if (block === undefined) return undefined;
  return block === "damaged" ? "its checksum does not match" : faultIn(block, () => runsOf(block));
}

/** What of a block its readings' text shows. */
function faultIn(block: Pick<Block, "body" | "rawBytes" | "rawCrc" | "count">, runs: () => readonly Run[]) {
  try {
    const texts = decodeSegment(block.body, block.rawBytes);
    if (texts.length !== block.count) return `it holds ${texts.length}`;
    if (crc32(texts.join(SEPARATOR)) !== block.rawCrc) return "its readings' checksum does not match";
    const numbers = expand(runs());
    if (numbers.length !== block.count) return `it names ${numbers.length} sequence numbers`;
    for (const text of texts)
      if ((JSON.parse(text) as { id?: unknown }).id !== idOf(text)) return "a reading has no id";
    return undefined;
  } catch (thrown) {
    return messageOf(thrown);
  }
}

function checkKept(store: Store, findings: Findings): void {
  for (let from = 0; ; ) {
    const heads = store.kept.heads(from, Number.MAX_SAFE_INTEGER, KEPT_PER_READ);
    for (const { id, count } of heads) {
      const block = store.kept.block(id);
      // Removed meanwhile.
      if (block === undefined) continue;
      const problem = faultIn(block, () => keptRuns(block));
      if (problem === undefined) findings.kept += count;
      else
        findings.add(`the kept block at sequence number ${block.firstSeq}, of ${count} delivered readings: ${problem}`);
    }
    const last = heads.at(-1);
    if (last === undefined) return;
    from = last.id + 1;
  }
}

function keptRuns({ sequence, firstSeq, lastSeq }: KeptBlock): readonly Run[] {
  return sequence === null ? [[firstSeq, lastSeq]] : (JSON.parse(sequence) as Run[]);
}

function checkDeadLetters(store: Store, findings: Findings): void {
  for (let after = 0; ; ) {
    const letters = store.deadLetters(after, LETTERS_PER_READ);
    for (const letter of letters) {
      findings.deadLetters++;
      if (!isWhole(letter)) findings.add(`the dead letter ${letter.id} cannot be read`);
    }
    const last = letters.at(-1);
    if (last === undefined) return;
    after = last.seq;
  }
}

/** `faultInBytes` of a file that somebody has named. @throws GatewayError OUTBOX_UNREADABLE */
export function faultSeenIn(file: string): string | undefined {
  try {
    return faultInBytes(file);
  } catch (thrown) {
    throw unreadable(file, thrown);
  }
}

function unreadable(file: string, cause: unknown): unknown {
  if (cause instanceof GatewayError) return cause;
  const isFolder = codeOf(cause) === "EISDIR";
  return new GatewayError({
    code: "OUTBOX_UNREADABLE",
    op: "outbox.verify",
    message: `cannot read ${file}: ${isFolder ? "it is a folder" : messageOf(cause)}`,
    hint: isFolder
      ? "Name the file itself."
      : "Run the command as the daemon's user (sudo -u summit-edge …), or as root.",
    cause,
  });
}
