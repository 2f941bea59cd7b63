/**
 * Readings that the gateway stamped before its clock was set right, put right on their way out.
 *
 * Such a reading is stored *provisional*, with the moment at which it came in on the monotonic clock of its boot.
 * Once the boot's clock is known to be synchronised, its wall time is that moment plus one number, the boot's *offset*, which is written
 * into the file once and never changes. What is read from the file is therefore the same at each try and after each crash. On disk nothing is
 * rewritten: delivery must go on where the disk is full. Pure.
 */
import type { ClockQuality } from "../observation/observation.ts";
import { writeRfc3339 } from "../observation/time.ts";
import type { Block } from "./rows.ts";
import { decodeSegment, segmentOf } from "./segment.ts";

/** What is known of the clock that stamped a block; `provisional`: it holds readings to be restamped once it is known better. */
export type BlockClock = ClockQuality | "provisional";

/** What a provisional reading's `gateway` member says besides: on which boot it came in, and how long after that boot's start. */
export interface ProvisionalStamp {
  readonly boot: string;
  readonly uptime_ms: number;
}

/** Wall time less time since the boot's start, in milliseconds, by boot id; those boots whose clock is known. */
export type BootOffsets = ReadonlyMap<string, number>;

/** The `gateway` member as stored. A provisional one is longer than what takes its place, so that limits hold. */
interface StoredStamp extends Partial<ProvisionalStamp> {
  readonly id: string;
  readonly seq: number;
}

const GATEWAY = ',"gateway":';
const TS_ISO = '","ts_iso":"';
const ISO_LENGTH = "2026-07-01T12:00:00.000Z".length;

/** A reading's text with its time put right, where it is provisional and its boot's offset is known; else as it is. */
export function restampedText(text: string, offsets: BootOffsets): string {
  // Inside a JSON string every quotation mark has a backslash before it, so neither of these can be a device's own text.
  const gatewayAt = text.lastIndexOf(GATEWAY);
  const tsAt = text.indexOf(TS_ISO) + TS_ISO.length;
  const { id, boot, uptime_ms, seq } = JSON.parse(text.slice(gatewayAt + GATEWAY.length, -1)) as StoredStamp;
  const offset = boot === undefined ? undefined : offsets.get(boot);
  if (offset === undefined || uptime_ms === undefined) return text;
  const time = writeRfc3339(Math.round(offset + uptime_ms));
  if (time === undefined) return text;
  const stamp = {
    id,
    received_at: time,
    clock: "synchronised",
    restamped_from: text.slice(tsAt, tsAt + ISO_LENGTH),
    seq,
  };
  return `${text.slice(0, tsAt)}${time}${text.slice(tsAt + ISO_LENGTH, gatewayAt)}${GATEWAY}${JSON.stringify(stamp)}}`;
}

/** A block as it is to be sent: with the times of its provisional readings put right, where its boot's offset is known. */
export function restamped(block: Block, offsets: BootOffsets): Block {
  if (block.clock !== "provisional" || offsets.size === 0) return block;
  const texts = decodeSegment(block.body, block.rawBytes);
  const right = texts.map((text) => restampedText(text, offsets));
  if (right.every((text, index) => text === texts[index])) return block;
  const times = right.map(observedAt);
  const { body, rawBytes, rawCrc } = segmentOf(right);
  const observed = { observedFrom: Math.min(...times), observedTo: Math.max(...times) };
  return { ...block, ...observed, clock: "synchronised", rawBytes, rawCrc, body };
}

function observedAt(text: string): number {
  const at = text.indexOf(TS_ISO) + TS_ISO.length;
  return Date.parse(text.slice(at, at + ISO_LENGTH));
}
