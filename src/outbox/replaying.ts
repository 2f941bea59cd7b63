/**
 * Finds kept readings again, a step at a time: how many a selection has, and the next batch of them. A step reads a bounded
 * number of blocks, so that no commit waits for more than that; blocks that are dropped between two steps are left out.
 *
 * It changes nothing, and holds one batch, the last one, so that parts of it can be asked for.
 */
import { crc32 } from "node:zlib";
import type { Batch, BatchLimits, IndexRange } from "./batch.ts";
import { idOf } from "./block.ts";
import type { KeptBlock, KeptHead, KeptTable } from "./kept-table.ts";
import { roomFor } from "./queue.ts";
import { requestOf, type Sender } from "./request.ts";
import { decodeSegment, SEPARATOR, segmentOf } from "./segment.ts";
import { collapse, expand, type Run, slice } from "./sequence.ts";

/** Which delivered readings to send again. */
export interface ReplaySelection {
  /** Observed from then to then, both included; wall time, ms. */
  readonly from: number;
  readonly to: number;
  readonly class?: string;
  readonly source?: string;
  /** The last block that was kept when the replay began: what is delivered later is not part of it. */
  readonly through: number;
}

/** How far a replay has come: the block to look at next, and how many of its selected readings have been taken. */
export interface ReplayCursor {
  readonly block: number;
  readonly taken: number;
}

/** What one step came to. */
export interface ReplayStep {
  readonly next: ReplayCursor;
  /** Nothing is left beyond `next`. */
  readonly done: boolean;
}

export type ReplayCount = ReplayStep & { readonly readings: number };

/** `damaged`: readings of blocks that could not be read back. */
export type ReplayTake = ReplayStep & { readonly batch: Batch | undefined; readonly damaged: number };

export type ReplayBatchLimits = Pick<BatchLimits, "maxReadings" | "maxBytes" | "compression">;

/** A batch's `lease` where its readings are on none, because they have their fate. */
export const NO_LEASE = 0;

const HEADS_PER_STEP = 500;
const BODIES_PER_STEP = 16;

interface Reading {
  readonly seq: number;
  readonly text: string;
}

/** What to do after a block: go on, stop behind it, or stop with so many of its selected readings taken. */
type Visited = "go-on" | "stop" | { readonly taken: number };

export class Replaying {
  readonly #table: KeptTable;
  readonly #sender: Sender;
  readonly #now: () => number;
  #last: { readonly draft: Draft; readonly sentAt: string } | undefined;

  constructor(table: KeptTable, sender: Sender, now: () => number) {
    this.#table = table;
    this.#sender = sender;
    this.#now = now;
  }

  /** How many readings the next few blocks have of a selection. */
  count(selection: ReplaySelection, from: ReplayCursor): ReplayCount {
    let readings = 0;
    let bodies = 0;
    const step = this.#walk(selection, from, (head) => {
      if (isWhole(selection, head)) {
        readings += head.count;
        return "go-on";
      }
      readings += this.#selected(selection, head)?.readings.length ?? 0;
      return ++bodies < BODIES_PER_STEP ? "go-on" : "stop";
    });
    return { ...step, readings };
  }

  /** The next readings of a selection as one request, where the next few blocks have any. */
  take(selection: ReplaySelection, from: ReplayCursor, limits: ReplayBatchLimits): ReplayTake {
    const draft = new Draft(limits);
    let damaged = 0;
    let bodies = 0;
    const step = this.#walk(selection, from, (head) => {
      if (draft.full) return { taken: 0 };
      const already = head.id === from.block ? from.taken : 0;
      const selected = this.#selected(selection, head);
      if (selected === undefined) damaged += head.count;
      else {
        const rest = selected.readings.slice(already);
        const added = draft.add(rest, selected.lane);
        if (added < rest.length) return { taken: already + added };
      }
      return ++bodies < BODIES_PER_STEP ? "go-on" : "stop";
    });
    if (draft.texts.length === 0) return { ...step, damaged, batch: undefined };
    this.#last = { draft, sentAt: new Date(this.#now()).toISOString() };
    return { ...step, damaged, batch: this.part({ from: 0, to: draft.texts.length }) };
  }

  /** A part of the last batch as a request of its own. */
  part(range: IndexRange): Batch {
    const { draft, sentAt } = this.#held();
    const texts = draft.texts.slice(range.from, range.to);
    const content = {
      lease: NO_LEASE,
      range,
      runs: slice(draft.runs, range.from, range.to),
      segments: [segmentOf(texts)],
      lane: draft.lane,
      replayed: true,
      sentAt,
    };
    return requestOf(this.#sender, content, draft.limits.compression);
  }

  /** The ids of the last batch's readings, in order. */
  ids(): string[] {
    return this.#held().draft.texts.map(idOf);
  }

  #held(): { readonly draft: Draft; readonly sentAt: string } {
    if (this.#last === undefined) throw new Error("no batch has been taken");
    return this.#last;
  }

  /** Visits blocks that may have readings of the selection, in the order of delivery. */
  #walk(selection: ReplaySelection, from: ReplayCursor, visit: (head: KeptHead) => Visited): ReplayStep {
    const heads = this.#table.heads(from.block, selection.through, HEADS_PER_STEP);
    for (const head of heads) {
      if (head.observedFrom > selection.to || head.observedTo < selection.from) continue;
      const visited = visit(head);
      if (visited === "stop") return { next: { block: head.id + 1, taken: 0 }, done: head.id >= selection.through };
      if (visited !== "go-on") return { next: { block: head.id, taken: visited.taken }, done: false };
    }
    const last = heads.at(-1)?.id ?? selection.through;
    return { next: { block: last + 1, taken: 0 }, done: heads.length < HEADS_PER_STEP };
  }

  /** A block's selected readings, in order; `undefined` where it cannot be read back. */
  #selected(selection: ReplaySelection, head: KeptHead): { readings: Reading[]; lane: number } | undefined {
    const block = this.#table.block(head.id);
    const readings = block && readingsOf(block);
    if (block === undefined || readings === undefined) return undefined;
    const own = isWhole(selection, head) ? readings : readings.filter(({ text }) => isSelected(selection, text));
    return { readings: own, lane: block.lane };
  }
}

/** A batch as it fills up. */
class Draft {
  readonly limits: ReplayBatchLimits;
  readonly texts: string[] = [];
  readonly runs: Run[] = [];
  lane = Number.POSITIVE_INFINITY;
  #bytes = 0;

  constructor(limits: ReplayBatchLimits) {
    this.limits = limits;
  }

  get full(): boolean {
    return this.texts.length >= this.limits.maxReadings || this.#bytes >= roomFor(this.limits);
  }

  /** Adds readings of one block while there is room, but the first one in any case; returns how many. */
  add(readings: readonly Reading[], lane: number): number {
    const numbers: number[] = [];
    for (const { seq, text } of readings) {
      const bytes = Buffer.byteLength(text) + SEPARATOR.length;
      if (this.full || (this.texts.length > 0 && this.#bytes + bytes > roomFor(this.limits))) break;
      this.texts.push(text);
      numbers.push(seq);
      this.#bytes += bytes;
    }
    if (numbers.length > 0) this.lane = Math.min(this.lane, lane);
    this.runs.push(...collapse(numbers));
    return numbers.length;
  }
}

/** Whether all of a block's readings are selected, as far as its head tells. */
function isWhole(selection: ReplaySelection, head: KeptHead): boolean {
  const all = selection.class === undefined && selection.source === undefined;
  return all && head.observedFrom >= selection.from && head.observedTo <= selection.to;
}

function isSelected(selection: ReplaySelection, text: string): boolean {
  const reading = JSON.parse(text) as { class: string; source: string; ts_iso: string };
  const observedAt = Date.parse(reading.ts_iso);
  return (
    observedAt >= selection.from &&
    observedAt <= selection.to &&
    (selection.class === undefined || reading.class === selection.class) &&
    (selection.source === undefined || reading.source === selection.source)
  );
}

/** A kept block's readings; `undefined` where its text is not what was stored. */
function readingsOf(block: KeptBlock): Reading[] | undefined {
  const { firstSeq, lastSeq, sequence, body, rawBytes, rawCrc } = block;
  try {
    const texts = decodeSegment(body, rawBytes);
    if (crc32(texts.join(SEPARATOR)) !== rawCrc) return undefined;
    const numbers = expand(sequence === null ? [[firstSeq, lastSeq]] : (JSON.parse(sequence) as Run[]));
    return texts.map((text, index) => ({ seq: numbers[index] ?? 0, text }));
  } catch {
    return undefined;
  }
}
