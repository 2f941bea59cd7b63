/**
 * Whether what comes on a serial line is rubbish, as a wrong baud rate makes it. Pure.
 *
 * Between two frames of which something can be made there is rarely much else, whatever the noise. So all that counts is
 * what has come since the last good frame: so many bytes without any, and of a kind that a device does not send. Text that is
 * merely refused (no fix yet, another sentence) is still text, and is not taken for rubbish.
 */
import { likelyBaudRates } from "./baud-guess.ts";

/** Rubbish is not spoken of before so many bytes have come since the last good frame. */
export const LEAST_RUBBISH_BYTES = 128;
/** Of a binary protocol any byte may come, so that only much without a frame tells. */
export const LEAST_BINARY_RUBBISH_BYTES = 512;
/** A text line with so large a share of other bytes was not read at its speed. */
const RUBBISH_SHARE = 0.15;
const SUGGESTED_RATES = 3;

export interface LineSpeed {
  /** Bits per second. */
  readonly baudRate: number;
  readonly dataBits: number;
  readonly parity: "none" | "even" | "odd";
}

/** The last bytes since the last good frame, and the judgement on them. */
export class LineQuality {
  readonly #line: LineSpeed;
  readonly #text: boolean;
  readonly #bytes: Uint8Array;
  /** Since the last good frame; those beyond the room have been overwritten. */
  #count = 0;

  /** `text`: whether frames are text. */
  constructor(line: LineSpeed, text: boolean) {
    this.#line = line;
    this.#text = text;
    this.#bytes = new Uint8Array(text ? 2 * LEAST_RUBBISH_BYTES : LEAST_BINARY_RUBBISH_BYTES);
  }

  heard(chunk: Uint8Array): void {
    for (const byte of chunk.subarray(-this.#bytes.length)) {
      this.#bytes[this.#count % this.#bytes.length] = byte;
      this.#count++;
    }
  }

  /** Something could be made of a frame. */
  good(): void {
    this.#count = 0;
  }

  /** For the operator: what is odd, and what the line may be set to; `undefined` where nothing is. */
  rubbish(): string | undefined {
    const heard = this.#bytes.subarray(0, Math.min(this.#count, this.#bytes.length));
    if (heard.length < (this.#text ? LEAST_RUBBISH_BYTES : LEAST_BINARY_RUBBISH_BYTES)) return undefined;
    const { baudRate, dataBits, parity } = this.#line;
    const line = `at ${baudRate} bit/s ${dataBits}${parity.charAt(0).toUpperCase()}`;
    if (!this.#text)
      return `no frame among the last ${heard.length} bytes ${line}: check framing and ${this.#advice(heard)}`;
    const odd = shareOf(heard, (byte) => !isText(byte));
    if (odd < RUBBISH_SHARE) return undefined;
    const share = `${Math.round(odd * 100)}% of the last ${heard.length} bytes ${line} are no text`;
    return `${share}: ${parityAdvice(heard, this.#line) ?? `check ${this.#advice(heard)}`}`;
  }

  #advice(heard: Uint8Array): string {
    const rates = likelyBaudRates(heard, this.#line.baudRate, this.#text).slice(0, SUGGESTED_RATES);
    return `baudRate (most likely ${rates.slice(0, -1).join(", ")} or ${rates.at(-1)})`;
  }
}

function parityAdvice(heard: Uint8Array, { dataBits, parity }: LineSpeed): string | undefined {
  const found = dataBits === 8 && parity === "none" ? hiddenParity(heard) : undefined;
  return found && `without their highest bit they are; set dataBits: 7 and parity: ${found}`;
}

/** The parity of seven-bit text that was read as eight bits without: text but for the highest bit, which is the parity bit. */
export function hiddenParity(heard: Uint8Array): "even" | "odd" | undefined {
  const isPlain = heard.every((byte) => byte < 0x80);
  if (heard.length === 0 || isPlain || shareOf(heard, (byte) => isText(byte & 0x7f)) < 0.98) return undefined;
  const even = shareOf(heard, (byte) => onesOf(byte) % 2 === 0);
  if (even < 0.95 && even > 0.05) return undefined;
  return even > 0.5 ? "even" : "odd";
}

function shareOf(bytes: Uint8Array, holds: (byte: number) => boolean): number {
  return bytes.filter(holds).length / bytes.length;
}

function onesOf(byte: number): number {
  let ones = 0;
  for (let rest = byte; rest > 0; rest >>= 1) ones += rest & 1;
  return ones;
}

/** Printable ASCII, tab, line feed, carriage return. */
function isText(byte: number): boolean {
  return (byte >= 0x20 && byte < 0x7f) || byte === 0x09 || byte === 0x0a || byte === 0x0d;
}
