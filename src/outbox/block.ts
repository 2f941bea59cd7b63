/** A block's readings: their texts, their sequence numbers, and some of them as a block of their own. Pure. */

import { type Block, type BlockHead, bandStart, seqOf } from "./rows.ts";
import { decodeSegment, segmentOf } from "./segment.ts";
import { collapse, type Run } from "./sequence.ts";

/** The sequence numbers of a block's readings, in order. */
export function runsOf(head: BlockHead): readonly Run[] {
  return head.sequence === null ? [[seqOf(head.key), head.lastSeq]] : (JSON.parse(head.sequence) as Run[]);
}

/** Where a block with these sequence numbers stands in a band. */
export function placeOf(band: number, runs: readonly Run[]): Pick<BlockHead, "key" | "lastSeq" | "sequence"> {
  const first = runs[0]?.[0] ?? 0;
  return {
    key: bandStart(band) + first,
    lastSeq: runs.at(-1)?.[1] ?? first,
    sequence: runs.length > 1 ? JSON.stringify(runs) : null,
  };
}

/** The readings' JSON, one by one. */
export function textsOf(block: Block): string[] {
  return decodeSegment(block.body, block.rawBytes);
}

/** The id stands first in an observation's JSON: `{"id":"…`. */
export function idOf(text: string): string {
  return text.slice(7, 43);
}

/** Some of a block's readings as a block of their own, in a band. */
export function rebuilt(block: Block, band: number, texts: readonly string[], numbers: readonly number[]): Block {
  const { body, rawBytes, rawCrc } = segmentOf(texts);
  return {
    ...block,
    ...placeOf(band, collapse(numbers)),
    count: texts.length,
    rawBytes,
    rawCrc,
    body,
  };
}
