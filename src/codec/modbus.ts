/**
 * Modbus RTU as a client speaks it: requests to read, and the answers to them (MODBUS over Serial Line V1.02, 2.5; MODBUS
 * Application Protocol V1.1b3, 6.1 to 6.4 and 7). Pure.
 */
import { type ChecksumRule, hasChecksum, withChecksum } from "./checksum.ts";
import type { AnswerFault } from "./decoder.ts";
import type { ReadFunction } from "./modbus-registers.ts";

export interface ReadRequest {
  /** 1 to 247. */
  readonly address: number;
  readonly function: ReadFunction;
  /** The first register or bit, from 0. */
  readonly at: number;
  /** 1 to 125 registers, or 1 to 2000 bits. */
  readonly count: number;
}

export type ModbusAnswer =
  /** Registers in order, two bytes each; or bits, the first one the least significant of the first byte. */
  | { readonly kind: "data"; readonly data: Uint8Array }
  /** The server understood, and refuses: see `exceptionName`. */
  | { readonly kind: "exception"; readonly code: number };

/** The CRC that ends every frame, least significant byte first (MODBUS over Serial Line V1.02, 2.5.1.2). */
export const MODBUS_CRC: ChecksumRule = {
  type: "crc-16/modbus",
  from: 0,
  endian: "little",
  complement: "none",
  encoding: "bytes",
};
const EXCEPTION_FLAG = 0x80;
const EXCEPTION_BYTES = 5;
/** Address, function and byte count before the data, the CRC behind it. */
const OVERHEAD_BYTES = 5;
/** As long as a frame may be (MODBUS over Serial Line, 2.5.1); twice that is kept, for what comes before an answer. */
const MOST_FRAME_BYTES = 256;

/** MODBUS Application Protocol V1.1b3, section 7. */
const EXCEPTION_NAMES: Readonly<Record<number, string>> = {
  1: "illegal function",
  2: "illegal data address",
  3: "illegal data value",
  4: "server device failure",
  5: "acknowledge",
  6: "server device busy",
  8: "memory parity error",
  10: "gateway path unavailable",
  11: "gateway target device failed to respond",
};

/** What the specification calls an exception, with its code: `illegal data address (2)`. */
export function exceptionName(code: number): string {
  return `${EXCEPTION_NAMES[code] ?? "unknown exception"} (${code})`;
}

/** A request as it is sent. */
export function encodeRequest({ address, function: code, at, count }: ReadRequest): Uint8Array {
  return withChecksum(Uint8Array.of(address, code, at >> 8, at & 0xff, count >> 8, count & 0xff), MODBUS_CRC);
}

/** How many bytes a good answer to `request` has. */
export function answerLength(request: ReadRequest): number {
  return OVERHEAD_BYTES + dataLength(request);
}

function dataLength({ function: code, count }: ReadRequest): number {
  return code === 1 || code === 2 ? Math.ceil(count / 8) : 2 * count;
}

/** An answer as a server sends it: for simulated servers, and for what `AnswerSearch` is tried with. */
export function encodeAnswer({ address, function: code }: ReadRequest, answer: ModbusAnswer): Uint8Array {
  if (answer.kind === "exception")
    return withChecksum(Uint8Array.of(address, code | EXCEPTION_FLAG, answer.code), MODBUS_CRC);
  return withChecksum(Uint8Array.of(address, code, answer.data.length, ...answer.data), MODBUS_CRC);
}

/**
 * Looks for the answer to one request in what comes after it. Whatever else is there – the request's own echo, noise, a late
 * answer of another server or to another kind of request – is passed over: an answer has the address, the function and the length
 * that were asked for, and a CRC that fits.
 */
export class AnswerSearch {
  readonly #request: ReadRequest;
  #heard: Uint8Array = new Uint8Array();
  #hasBadCrc = false;
  #hasMore = false;

  constructor(request: ReadRequest) {
    this.#request = request;
  }

  push(chunk: Uint8Array): ModbusAnswer | undefined {
    this.#heard = joined(this.#heard, chunk);
    const answer = this.#find();
    this.#heard = this.#heard.slice(-2 * MOST_FRAME_BYTES);
    return answer;
  }

  /** What there was instead, when the time is up. */
  fault(): AnswerFault {
    if (this.#hasBadCrc) return "bad-crc";
    return this.#hasMore ? "bad-answer" : "timeout";
  }

  #find(): ModbusAnswer | undefined {
    const { address, function: code } = this.#request;
    const bytes = this.#heard;
    for (let at = 0; at + EXCEPTION_BYTES <= bytes.length; at++) {
      if (bytes[at] !== address) continue;
      if (bytes[at + 1] === code && bytes[at + 2] === dataLength(this.#request)) {
        const frame = bytes.subarray(at, at + answerLength(this.#request));
        if (frame.length < answerLength(this.#request)) continue;
        if (hasChecksum(frame, MODBUS_CRC)) return { kind: "data", data: frame.slice(3, -2) };
        this.#hasBadCrc = true;
      } else if (bytes[at + 1] === (code | EXCEPTION_FLAG)) {
        const frame = bytes.subarray(at, at + EXCEPTION_BYTES);
        if (hasChecksum(frame, MODBUS_CRC)) return { kind: "exception", code: frame[2] ?? 0 };
        this.#hasBadCrc = true;
      }
    }
    this.#hasMore ||= !isPartOf(bytes, encodeRequest(this.#request));
    return undefined;
  }
}

/** Whether `bytes` are nothing but (the beginning of) the request's echo. */
function isPartOf(bytes: Uint8Array, request: Uint8Array): boolean {
  return bytes.length <= request.length && bytes.every((byte, index) => byte === request[index]);
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}
