/** Plays a capture onto a line with the pauses it was captured with. */
import type { CapturePiece } from "../codec/capture.ts";
import type { Clock } from "../kernel/clock.ts";

export interface Replayed {
  readonly bytes: number;
  /** Bytes that the line did not take, because nobody read them. */
  readonly dropped: number;
}

/** `speed`: how many times as fast as it was. Resolves when all has been written, or when `signal` ends it. */
export async function playCapture(
  pieces: readonly CapturePiece[],
  line: { write(bytes: Uint8Array): boolean },
  { clock, speed, signal }: { clock: Clock; speed: number; signal: AbortSignal },
): Promise<Replayed> {
  const startedAt = clock.monotonic();
  const first = pieces[0]?.ms ?? 0;
  let [bytes, dropped] = [0, 0];
  for (const piece of pieces) {
    const wait = startedAt + (piece.ms - first) / speed - clock.monotonic();
    if (wait > 0) await clock.sleep(wait, signal);
    if (signal.aborted) break;
    if (line.write(piece.bytes)) bytes += piece.bytes.length;
    else dropped += piece.bytes.length;
  }
  return { bytes, dropped };
}

const BITS_PER_BYTE = 10;
const WINDOW_MS = 20_000;

/** The bits per second of a line that carries the busiest stretch of this in half its time. */
export function lineSpeedFor(pieces: readonly CapturePiece[], speed: number): number {
  let [most, sum, from] = [0, 0, 0];
  for (const piece of pieces) {
    sum += piece.bytes.length;
    for (
      let oldest = pieces[from];
      oldest !== undefined && piece.ms - oldest.ms > WINDOW_MS * speed;
      oldest = pieces[++from]
    )
      sum -= oldest.bytes.length;
    most = Math.max(most, sum);
  }
  return (2 * most * BITS_PER_BYTE * 1000) / WINDOW_MS;
}
