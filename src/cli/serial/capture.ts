/** `summit-edge serial capture`: what comes over a port, with its times, into a file (src/codec/capture.ts). */
import { once } from "node:events";
import { createWriteStream, type WriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { droppedLine, headerLine, pieceLine } from "../../codec/capture.ts";
import { codeOf, GatewayError, messageOf } from "../../kernel/errors.ts";
import type { PortLine, TimedTailLine } from "../../operations/tail-line.ts";

export interface CaptureResult {
  readonly file: string;
  readonly bytes: number;
  readonly pieces: number;
  /** Bytes that came and could not be kept. */
  readonly dropped: number;
  readonly seconds: number;
}

/** A file that a port's lines are written to; its header with the first of them. */
export class CaptureFile {
  readonly #file: string;
  readonly #maxBytes: number;
  readonly #full: () => void;
  readonly #stream: WriteStream;
  #bytes = 0;
  #pieces = 0;
  #dropped = 0;
  #ms = 0;
  #fault: Error | undefined;

  private constructor(file: string, maxBytes: number, full: () => void, stream: WriteStream) {
    this.#file = file;
    this.#maxBytes = maxBytes;
    this.#full = full;
    this.#stream = stream;
    stream.on("error", (error) => {
      this.#fault = error;
      full();
    });
  }

  /**
   * `maxBytes`: of the line's bytes; the file takes about twice as many. `full` is called once so many have come, or where the file
   * cannot be written.
   * @throws GatewayError CAPTURE_FILE
   */
  static async create(
    file: string,
    { overwrite, maxBytes, full }: { overwrite: boolean; maxBytes: number; full: () => void },
  ): Promise<CaptureFile> {
    const stream = createWriteStream(file, { flags: overwrite ? "w" : "wx" });
    try {
      await once(stream, "open");
    } catch (error) {
      throw fileFault(file, error);
    }
    return new CaptureFile(file, maxBytes, full, stream);
  }

  take(line: TimedTailLine): void {
    this.#ms = line.ms;
    if (line.kind === "port") this.#stream.write(headerLine(headerOf(line)));
    else if (line.kind === "bytes") this.#add(line.ms, line.hex);
    else if (line.kind === "dropped") {
      this.#dropped += line.bytes;
      this.#stream.write(droppedLine(line.ms, line.bytes));
    }
  }

  #add(ms: number, hex: string): void {
    const kept = hex.slice(0, 2 * (this.#maxBytes - this.#bytes));
    if (kept === "") return;
    this.#stream.write(pieceLine(ms, kept));
    this.#pieces++;
    this.#bytes += kept.length / 2;
    if (this.#bytes >= this.#maxBytes) this.#full();
  }

  /** Writes what is still to be written. A file that holds nothing goes again. @throws GatewayError CAPTURE_FILE */
  async close(): Promise<CaptureResult> {
    if (this.#fault === undefined) {
      this.#stream.end();
      await once(this.#stream, "close").catch((error: unknown) => {
        throw fileFault(this.#file, error);
      });
    }
    if (this.#fault !== undefined) throw fileFault(this.#file, this.#fault);
    if (this.#bytes === 0) await rm(this.#file, { force: true });
    const [bytes, pieces, dropped] = [this.#bytes, this.#pieces, this.#dropped];
    return { file: this.#file, bytes, pieces, dropped, seconds: this.#ms / 1000 };
  }
}

function headerOf(line: TimedTailLine & PortLine): Parameters<typeof headerLine>[0] {
  const { at, name, path, baudRate, dataBits, parity, stopBits } = line;
  return { startedAt: at, ...(name !== "" && { name }), path, baudRate, dataBits, parity, stopBits };
}

function fileFault(file: string, error: unknown): GatewayError {
  const isThere = codeOf(error) === "EEXIST";
  return new GatewayError({
    code: "CAPTURE_FILE",
    op: "serial.capture",
    message: isThere ? `${file} is there already` : `${file} cannot be written: ${messageOf(error)}`,
    hint: isThere ? "Name another file, or add --overwrite." : "Name a file in a folder that you may write to.",
    cause: error,
  });
}
