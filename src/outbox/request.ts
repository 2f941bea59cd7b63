/** Readings as one request to fusion, with the key that names their set (contract, section 5). */
import { createHash } from "node:crypto";
import { PRIORITIES } from "../observation/observation.ts";
import type { Batch, BatchLimits, IndexRange } from "./batch.ts";
import { gzipOf, plainOf, type Segment } from "./segment.ts";
import { merge, type Run } from "./sequence.ts";

/** Whose readings they are. */
export interface Sender {
  readonly gatewayId: string;
  /** Names this outbox for ever. */
  readonly outboxId: string;
}

export interface RequestContent {
  readonly lease: number;
  /** Which readings of the lease these are. */
  readonly range: IndexRange;
  /** Their sequence numbers, in the order in which they lie in `segments`. */
  readonly runs: readonly Run[];
  readonly segments: readonly Segment[];
  /** The highest of them. */
  readonly lane: number;
  readonly replayed: boolean;
  /** RFC 3339. */
  readonly sentAt: string;
}

export function requestOf(sender: Sender, content: RequestContent, compression: BatchLimits["compression"]): Batch {
  const { lease, range, segments, lane, replayed, sentAt } = content;
  const head = `{"schema":"summit.observations/1","gateway_id":${JSON.stringify(sender.gatewayId)},"sent_at":"${sentAt}","replayed":${replayed},"observations":[\n`;
  const encode = compression === "gzip" ? gzipOf : plainOf;
  const ordered = merge(content.runs);
  return {
    lease,
    range,
    count: range.to - range.from,
    firstSeq: ordered[0]?.[0] ?? 0,
    lastSeq: ordered.at(-1)?.[1] ?? 0,
    priority: PRIORITIES[lane] ?? "critical",
    replayed,
    idempotencyKey: keyOf(sender, ordered),
    body: encode(head, segments, "]}"),
    contentEncoding: compression === "gzip" ? "gzip" : undefined,
  };
}

/** From what the readings are, not from how they lie in blocks: the same set has the same key however it was cut. */
function keyOf({ outboxId, gatewayId }: Sender, runs: readonly Run[]): string {
  const named = runs.map(([first, last]) => `${first}-${last}`).join(",");
  return createHash("sha256").update(`${outboxId} ${gatewayId} ${named}`).digest("hex").slice(0, 32);
}
