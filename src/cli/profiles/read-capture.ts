/** A capture of a serial line from a file. */
import { readFile, stat } from "node:fs/promises";
import { CAPTURE_FORMAT, parseCapture } from "../../codec/capture.ts";
import type { HeardPiece } from "../../codec/profile-scores.ts";
import { GatewayError, messageOf } from "../../kernel/errors.ts";

/** More than a day of a busy line; the whole is held in memory. */
const MOST_BYTES = 128 * 1024 * 1024;
/** How a file begins that knows when each byte came; any other holds the bytes themselves. */
const MARK = Buffer.from(`{"format":"${CAPTURE_FORMAT}"`);

/** The bytes of a capture, and when they came where the file says so. Throws `CAPTURE_FILE`. */
export async function readCapture(file: string): Promise<HeardPiece[]> {
  const bytes = await read(file);
  if (bytes.length === 0) throw captureFault(`${file} is empty`);
  if (!bytes.subarray(0, MARK.length).equals(MARK)) return [{ bytes }];
  const capture = parseCapture(bytes.toString());
  if ("message" in capture) throw captureFault(`${file} is no capture: line ${capture.line} ${capture.message}`);
  return capture.pieces.map(({ bytes: piece, ms }) => ({ bytes: piece, at: ms }));
}

async function read(file: string): Promise<Buffer> {
  try {
    const { size } = await stat(file);
    if (size > MOST_BYTES) throw new Error(`it has more than ${MOST_BYTES} bytes`);
    return await readFile(file);
  } catch (error) {
    throw captureFault(`${file} cannot be read: ${messageOf(error)}`, error);
  }
}

function captureFault(message: string, cause?: unknown): GatewayError {
  return new GatewayError({
    code: "CAPTURE_FILE",
    op: "profiles.readCapture",
    message,
    hint: "Name a file with what a device said, such as one that summit-edge serial capture has made.",
    ...(cause === undefined ? {} : { cause }),
  });
}
