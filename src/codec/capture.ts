/**
 * A capture: what came over a serial line, and when, as a file of text that outlives the program. Pure.
 *
 * Lines of JSON. The first one is the header; each further one a piece of the line as it was read, with the milliseconds since
 * the capture began: `{"ms":1041.2,"hex":"2447"}`, or, where bytes could not be kept, how many: `{"ms":1041.2,"dropped":512}`.
 * The file can be cut off behind any line, cat'ed, grepped and made by hand; unknown members are for later versions.
 */

export const CAPTURE_FORMAT = "summit-edge.serial-capture/1";

/** What is known of the line. A capture that was made by hand needs `format` only. */
export interface CaptureHeader {
  readonly format: typeof CAPTURE_FORMAT;
  /** RFC 3339. */
  readonly startedAt?: string;
  /** The port's name in its gateway's configuration. */
  readonly name?: string;
  readonly path?: string;
  /** Bits per second. */
  readonly baudRate?: number;
  readonly dataBits?: number;
  readonly parity?: string;
  readonly stopBits?: number;
}

export interface CapturePiece {
  /** Milliseconds since the capture began. */
  readonly ms: number;
  readonly bytes: Uint8Array;
}

export interface Capture {
  readonly header: CaptureHeader;
  /** In the order in which they came. */
  readonly pieces: readonly CapturePiece[];
  /** Bytes that came and are not in it. */
  readonly dropped: number;
}

export function headerLine(header: Omit<CaptureHeader, "format">): string {
  return `${JSON.stringify({ format: CAPTURE_FORMAT, ...header })}\n`;
}

/** `hex`: the bytes, two hexadecimal digits each. */
export function pieceLine(ms: number, hex: string): string {
  return `${JSON.stringify({ ms, hex })}\n`;
}

export function droppedLine(ms: number, bytes: number): string {
  return `${JSON.stringify({ ms, dropped: bytes })}\n`;
}

/** What is wrong with a file that is to be a capture; `line` counts from 1. */
export interface CaptureFault {
  readonly line: number;
  readonly message: string;
}

/** The capture that `text` is. A last line without its end was cut off, and is left out. */
export function parseCapture(text: string): Capture | CaptureFault {
  const lines = text.split("\n").slice(0, -1);
  const header = parsed(lines[0] ?? "") as CaptureHeader | undefined;
  if (header?.format !== CAPTURE_FORMAT)
    return { line: 1, message: `is no header of a capture: {"format":"${CAPTURE_FORMAT}", …}` };
  const pieces: CapturePiece[] = [];
  let dropped = 0;
  let last = 0;
  for (const [index, line] of lines.entries()) {
    if (index === 0 || line.trim() === "") continue;
    const { ms, hex, dropped: lost } = (parsed(line) ?? {}) as { ms?: unknown; hex?: unknown; dropped?: unknown };
    const isPiece = typeof hex === "string" && /^(?:[0-9A-Fa-f]{2})*$/.test(hex);
    const isGap = Number.isSafeInteger(lost) && Number(lost) >= 0;
    if (typeof ms !== "number" || ms < last || !(isPiece || isGap))
      return {
        line: index + 1,
        message: 'is neither {"ms":…,"hex":"…"} nor {"ms":…,"dropped":…} in the order of time',
      };
    last = ms;
    if (isPiece) pieces.push({ ms, bytes: bytesOfHex(hex) });
    else dropped += Number(lost);
  }
  return { header, pieces, dropped };
}

function parsed(line: string): object | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

function bytesOfHex(hex: string): Uint8Array {
  return Uint8Array.from({ length: hex.length / 2 }, (_, at) => Number.parseInt(hex.slice(2 * at, 2 * at + 2), 16));
}
