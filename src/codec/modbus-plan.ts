/** Which requests read a Modbus server's registers, and what their answers mean. Pure. */
import { readFields, type Values } from "./binary.ts";
import { type Arrangement, arranged } from "./binary-layout.ts";
import type { ReadRequest } from "./modbus.ts";
import { addressesOf, isBitFunction, type ModbusMap, type ModbusRegister, scalarOf } from "./modbus-registers.ts";

/** Most bits in one answer (MODBUS Application Protocol V1.1b3, 6.1): as many as 125 registers have. */
const BITS_OF_REGISTER = 16;
const BYTES_OF_REGISTER = 2;

/** One request, without the server's address, and what is wanted of its answer. */
export interface Block extends Omit<ReadRequest, "address"> {
  readonly places: readonly Place[];
}

interface Place {
  /** Registers, or bits, before it in the answer. */
  readonly offset: number;
  readonly count: number;
  /** Whether the registers, and the bytes within each, come least significant first. */
  readonly littleWords: boolean;
  readonly littleBytes: boolean;
  /** Of its bytes once the most significant is the first. */
  readonly meaning: Arrangement;
}

/**
 * The fewest requests, by function and address, that read all registers: what lies side by side, or no further apart than `gap`, is
 * read at once, as far as an answer has room.
 */
export function planReads(map: ModbusMap): Block[] {
  const sorted = map.registers.toSorted((a, b) => a.function - b.function || a.at - b.at);
  const groups: ModbusRegister[][] = [];
  let end = 0;
  for (const register of sorted) {
    const group = groups.at(-1);
    const [first] = group ?? [];
    const after = register.at + addressesOf(register);
    const most = map.maxRegisters * (isBitFunction(register) ? BITS_OF_REGISTER : 1);
    const fits =
      first?.function === register.function && register.at <= end + map.gap && Math.max(end, after) - first.at <= most;
    if (fits) group?.push(register);
    else groups.push([register]);
    end = fits ? Math.max(end, after) : after;
  }
  return groups.map((group) => blockOf(group, map));
}

function blockOf(registers: readonly ModbusRegister[], map: ModbusMap): Block {
  const at = Math.min(...registers.map((register) => register.at));
  const end = Math.max(...registers.map((register) => register.at + addressesOf(register)));
  const [first] = registers;
  const places = registers.map((register) => ({
    offset: register.at - at,
    count: addressesOf(register),
    littleWords: (register.words ?? map.words) === "little",
    littleBytes: (register.endian ?? map.endian) === "little",
    meaning: arranged([scalarOf(register)], "big"),
  }));
  return { function: first?.function ?? 3, at, count: end - at, places };
}

/** Reads what an answer to `block` means into `values`; `data` is as long as `block` asks for. */
export function readBlock(block: Block, data: Uint8Array, values: Values): void {
  for (const place of block.places) {
    const bytes = isBitFunction(block) ? bitAt(data, place.offset) : registersAt(data, place);
    readFields(place.meaning, new DataView(bytes.buffer), 0, values);
  }
}

function bitAt(data: Uint8Array, offset: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.of(((data[offset >> 3] ?? 0) >> (offset & 7)) & 1);
}

/** The bytes of a number, the most significant first. */
function registersAt(data: Uint8Array, { offset, count, littleWords, littleBytes }: Place): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(count * BYTES_OF_REGISTER);
  for (let word = 0; word < count; word++) {
    const from = (offset + (littleWords ? count - 1 - word : word)) * BYTES_OF_REGISTER;
    bytes[word * BYTES_OF_REGISTER] = data[from + (littleBytes ? 1 : 0)] ?? 0;
    bytes[word * BYTES_OF_REGISTER + 1] = data[from + (littleBytes ? 0 : 1)] ?? 0;
  }
  return bytes;
}
