/**
 * How `slip`, `hdlc` and `cobs` make any bytes fit between delimiters: what a payload becomes on the wire, and back. The
 * encoders write a delimiter at both ends, so that noise on an idle line stays a frame of its own; the decoders take what
 * stood between two delimiters.
 */
import type { DiscardReason } from "./framing.ts";

/** A way to write a delimiter, and the escape byte itself, inside a frame: the escape byte, then another one. */
export interface Stuffing {
  readonly delimiter: number;
  readonly escape: number;
  /** What is written behind the escape byte for `byte`; `undefined` where it is written as it is. */
  escaped(byte: number): number | undefined;
  /** The byte that `byte` stands for behind the escape byte; `undefined` where it may not stand there. */
  unescaped(byte: number): number | undefined;
}

const SLIP_END = 0xc0;
const SLIP_ESC = 0xdb;
const SLIP_ESC_END = 0xdc;
const SLIP_ESC_ESC = 0xdd;

/** RFC 1055. */
export const SLIP: Stuffing = {
  delimiter: SLIP_END,
  escape: SLIP_ESC,
  escaped: (byte) => (byte === SLIP_END ? SLIP_ESC_END : byte === SLIP_ESC ? SLIP_ESC_ESC : undefined),
  unescaped: (byte) => (byte === SLIP_ESC_END ? SLIP_END : byte === SLIP_ESC_ESC ? SLIP_ESC : undefined),
};

const HDLC_FLAG = 0x7e;
const HDLC_ESCAPE = 0x7d;
const HDLC_MASK = 0x20;
/** Flow control with XON and XOFF takes these two away. */
const XON = 0x11;
const XOFF = 0x13;

/** The octet stuffing of asynchronous HDLC (RFC 1662, section 4.2), as Sensirion's SHDLC and others have it. */
export const HDLC: Stuffing = {
  delimiter: HDLC_FLAG,
  escape: HDLC_ESCAPE,
  escaped: (byte) =>
    byte === HDLC_FLAG || byte === HDLC_ESCAPE || byte === XON || byte === XOFF ? byte ^ HDLC_MASK : undefined,
  unescaped: (byte) => byte ^ HDLC_MASK,
};

/** `payload` between two delimiters. */
export function stuff(payload: Uint8Array, stuffing: Stuffing): Uint8Array {
  const wire = [stuffing.delimiter];
  for (const byte of payload) {
    const escaped = stuffing.escaped(byte);
    if (escaped === undefined) wire.push(byte);
    else wire.push(stuffing.escape, escaped);
  }
  wire.push(stuffing.delimiter);
  return Uint8Array.from(wire);
}

/** The payload of what stood between two delimiters, or why it is none. */
export function unstuff(bytes: Uint8Array, stuffing: Stuffing): Uint8Array | DiscardReason {
  const payload = new Uint8Array(bytes.length);
  let length = 0;
  for (let at = 0; at < bytes.length; at++) {
    let byte = bytes[at];
    if (byte === stuffing.escape) {
      at++;
      const behind = bytes[at];
      byte = behind === undefined ? undefined : stuffing.unescaped(behind);
    }
    if (byte === undefined) return "bad-encoding";
    payload[length++] = byte;
  }
  return payload.subarray(0, length);
}

export const COBS_DELIMITER = 0x00;
/** A block of 254 bytes without a zero; no zero follows it. */
const COBS_LONGEST = 0xff;

/** Consistent Overhead Byte Stuffing (Cheshire and Baker, 1999): `payload` without any zero, between two zeros. */
export function encodeCobs(payload: Uint8Array): Uint8Array {
  const wire = [COBS_DELIMITER];
  let code = wire.push(1) - 1;
  for (const [at, byte] of payload.entries()) {
    if (byte === 0) {
      code = wire.push(1) - 1;
      continue;
    }
    wire.push(byte);
    const count = (wire[code] ?? 0) + 1;
    wire[code] = count;
    if (count === COBS_LONGEST && at < payload.length - 1) code = wire.push(1) - 1;
  }
  wire.push(COBS_DELIMITER);
  return Uint8Array.from(wire);
}

/** The payload of what stood between two zeros, or why it is none. */
export function decodeCobs(bytes: Uint8Array): Uint8Array | DiscardReason {
  const payload = new Uint8Array(bytes.length);
  let length = 0;
  for (let at = 0; at < bytes.length; ) {
    const code = bytes[at] ?? 0;
    const end = at + code;
    if (code === 0 || end > bytes.length) return "bad-encoding";
    payload.set(bytes.subarray(at + 1, end), length);
    length += code - 1;
    if (code < COBS_LONGEST && end < bytes.length) payload[length++] = 0;
    at = end;
  }
  return payload.subarray(0, length);
}
