/** A simulated Modbus RTU server: the registers that a device profile declares, and what a reading puts into them. Pure. */
import { encodeBinary } from "../codec/binary-encode.ts";
import { hasChecksum } from "../codec/checksum.ts";
import { encodeAnswer, MODBUS_CRC, type ReadRequest } from "../codec/modbus.ts";
import {
  addressesOf,
  isBitFunction,
  type ModbusRegister,
  type ReadFunction,
  scalarOf,
} from "../codec/modbus-registers.ts";
import type { DeviceProfile } from "../config/schema-profile.ts";
import type { SimulatedReading } from "./profile-reading.ts";

export type SimulatedServer = NonNullable<DeviceProfile["server"]>;

const REQUEST_BYTES = 8;
const ILLEGAL_FUNCTION = 1;
const ILLEGAL_ADDRESS = 2;

/** The first request to `address` in `heard`, and where it ends. */
export function requestIn(heard: Uint8Array, address: number): { request: ReadRequest; end: number } | undefined {
  for (let at = 0; at + REQUEST_BYTES <= heard.length; at++) {
    const frame = heard.subarray(at, at + REQUEST_BYTES);
    if (frame[0] !== address || !hasChecksum(frame, MODBUS_CRC)) continue;
    const word = (index: number): number => (frame[index] ?? 0) * 256 + (frame[index + 1] ?? 0);
    const request = { address, function: (frame[1] ?? 0) as ReadFunction, at: word(2), count: word(4) };
    return { request, end: at + REQUEST_BYTES };
  }
  return undefined;
}

/** The answer to a request; an exception where it asks for what the server does not have. */
export function answerOf(server: SimulatedServer, request: ReadRequest, reading: SimulatedReading): Uint8Array {
  const registers = server.registers.filter((register) => register.function === request.function);
  if (registers.length === 0) return encodeAnswer(request, { kind: "exception", code: ILLEGAL_FUNCTION });
  const end = Math.max(...registers.map((register) => register.at + addressesOf(register)));
  const first = Math.min(...registers.map(({ at }) => at));
  if (request.at < first || request.at + request.count > end || request.count === 0)
    return encodeAnswer(request, { kind: "exception", code: ILLEGAL_ADDRESS });
  const isBits = isBitFunction(request);
  const data = new Uint8Array(isBits ? Math.ceil(request.count / 8) : 2 * request.count);
  for (const register of registers) {
    const bytes = bytesOf(server, register, reading);
    const from = register.at - request.at;
    for (const [index, byte] of bytes.entries()) {
      const place = isBits ? from >> 3 : 2 * from + index;
      if (place < 0 || place >= data.length) continue;
      data[place] = isBits ? (data[place] ?? 0) | ((byte & 1) << (from & 7)) : byte;
    }
  }
  return encodeAnswer(request, { kind: "data", data });
}

/** As they stand in the server: its own order of words and bytes. */
function bytesOf(server: SimulatedServer, register: ModbusRegister, reading: SimulatedReading): Uint8Array {
  const encoded = encodeBinary({ endian: "big", fields: [scalarOf(register)] }, reading);
  if (!(encoded instanceof Uint8Array)) return new Uint8Array();
  if (isBitFunction(register)) return encoded;
  const words = Array.from({ length: encoded.length / 2 }, (_, index) => [
    ...encoded.subarray(2 * index, 2 * index + 2),
  ]);
  if ((register.words ?? server.words) === "little") words.reverse();
  if ((register.endian ?? server.endian) === "little") for (const word of words) word.reverse();
  return Uint8Array.from(words.flat());
}
