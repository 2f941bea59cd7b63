/** Listens on a serial port until it is known what speaks there, or the time is over. */

import type { HeardPiece } from "../../codec/recognise-guess.ts";
import type { Clock } from "../../kernel/clock.ts";
import type { PortFault } from "../../sources/serial/port.ts";
import type { LineTry, Recognise } from "./line-search.ts";

/** With a wrong setting so long is enough to see that. */
const HEARING_MS = 3000;
/** Where nothing has come for so long with the first setting, others are tried: not every adapter hands rubbish on. */
const SILENT_SHARE = 0.5;
const LEAST_SILENT_MS = 2000;
const LOOK_EVERY_MS = 250;
const MOST_BYTES = 65_536;

export type ListenOn = (
  settings: LineTry,
  signal: AbortSignal,
  take: (bytes: Uint8Array, ms: number) => void,
) => Promise<PortFault | undefined>;

export interface ListenerParts {
  readonly clock: Clock;
  readonly listenOn: ListenOn;
  readonly recognise: Recognise;
  /** All settings together. */
  readonly totalMs: number;
  /** The rate has no effect, and none other will be tried: all the time is for this one. */
  readonly onlyOne: boolean;
  readonly signal: AbortSignal;
}

/** Gives what was heard with a setting; `undefined` once the time is over. Rejects with the fault of a port that cannot be opened. */
export function createListener(parts: ListenerParts): (line: LineTry) => Promise<HeardPiece[] | undefined> {
  const { clock, listenOn, recognise, totalMs, onlyOne, signal } = parts;
  const endsAt = clock.monotonic() + totalMs;
  return async (line) => {
    const left = endsAt - clock.monotonic();
    if (left <= 0 || signal.aborted) return undefined;
    const heard: HeardPiece[] = [];
    const enough = new AbortController();
    const ended = AbortSignal.any([enough.signal, signal]);
    const silentUntil =
      clock.monotonic() + (onlyOne ? left : Math.min(left, Math.max(LEAST_SILENT_MS, left * SILENT_SHARE)));
    const bounds = { silentUntil, endsAt, onlyOne, clock, recognise };
    const watching = watch(heard, ended, () => enough.abort(), bounds);
    let bytes = 0;
    const fault = await listenOn(line, ended, (chunk, ms) => {
      bytes += chunk.length;
      // A Buffer's slice would be the same memory.
      heard.push({ ms, bytes: Uint8Array.from(chunk) });
      if (bytes >= MOST_BYTES) enough.abort();
    });
    enough.abort();
    await watching;
    if (fault !== undefined && heard.length === 0) throw new PortUnavailable(fault.detail);
    return heard;
  };
}

export class PortUnavailable extends Error {}

async function watch(
  heard: readonly HeardPiece[],
  ended: AbortSignal,
  end: () => void,
  bounds: Pick<ListenerParts, "clock" | "recognise" | "onlyOne"> & { silentUntil: number; endsAt: number },
): Promise<void> {
  const { silentUntil, endsAt, onlyOne, clock, recognise } = bounds;
  let [judged, firstAt] = [0, Number.POSITIVE_INFINITY];
  while (!ended.aborted) {
    await clock.sleep(LOOK_EVERY_MS, ended);
    const now = clock.monotonic();
    if (heard.length > 0) firstAt = Math.min(firstAt, now);
    if (heard.length > judged) {
      judged = heard.length;
      if ((await recognise(heard))[0]?.certainty === "sure") return end();
    }
    const isOver = heard.length === 0 ? now >= silentUntil : !onlyOne && now >= firstAt + HEARING_MS;
    if (isOver || now >= endsAt) return end();
  }
}
