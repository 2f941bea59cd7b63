/**
 * What is read from a Modbus server: its registers as the configuration or a device profile declares them, and what in that does
 * not fit together.
 */
import {
  type BitField,
  bitFaults,
  type LayoutFault,
  type LayoutField,
  type Meaning,
  namesOf,
  scaleFaults,
} from "./binary-layout.ts";
import { SCALARS } from "./binary-scalars.ts";

export const MODBUS_TYPES = ["bit", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64"] as const;

export type ModbusType = (typeof MODBUS_TYPES)[number];

/** 1: coils, 2: discrete inputs, 3: holding registers, 4: input registers. */
export type ReadFunction = 1 | 2 | 3 | 4;

export interface ModbusRegister extends Meaning {
  readonly function: ReadFunction;
  /** Its address as it is sent, from 0. */
  readonly at: number;
  /** By default `bit` for functions 1 and 2, `u16` for 3 and 4. */
  readonly type?: ModbusType | undefined;
  /** Order of the registers of a longer number, where it is not the server's; `big`: the most significant first. */
  readonly words?: "big" | "little" | undefined;
  /** Byte order within a register, where it is not the server's. */
  readonly endian?: "big" | "little" | undefined;
  readonly bits?: readonly BitField[] | undefined;
}

/** What is read from one server. */
export interface ModbusMap {
  readonly words: "big" | "little";
  readonly endian: "big" | "little";
  /** Most registers between two wanted ones that are read along. */
  readonly gap: number;
  /** Most registers in one answer. */
  readonly maxRegisters: number;
  readonly registers: readonly ModbusRegister[];
}

const ADDRESSES = 65_536;
const BYTES_OF_REGISTER = 2;

/** Whether it is a single bit (a coil or a discrete input) and no register of 16. */
export function isBitFunction({ function: code }: Pick<ModbusRegister, "function">): boolean {
  return code === 1 || code === 2;
}

export function typeOf(register: ModbusRegister): ModbusType {
  return register.type ?? (isBitFunction(register) ? "bit" : "u16");
}

/** How many addresses it takes. */
export function addressesOf(register: ModbusRegister): number {
  const type = typeOf(register);
  return type === "bit" ? 1 : SCALARS[type].bytes / BYTES_OF_REGISTER;
}

/** What the first digit of a manual's number stands for. */
const FUNCTION_OF_DIGIT: Readonly<Record<number, ReadFunction>> = { 1: 2, 3: 4, 4: 3 };

/** What to write instead of a number in the manual's notation; `undefined` where it is none. */
export function manualsAdvice(number: number): string | undefined {
  const meant = inManuals(number);
  return meant && `if it is a manual's number, write \`at: ${meant.at}\` with \`function: ${meant.function}\``;
}

/**
 * What a number of five or six digits means in the notation of many manuals, which count from 1 behind a digit for the kind: 40001
 * is the first holding register, address 0 of function 3. `undefined` where it is no such number.
 */
export function inManuals(number: number): { readonly function: ReadFunction; readonly at: number } | undefined {
  const size = number < 100_000 ? 10_000 : 100_000;
  const code = FUNCTION_OF_DIGIT[Math.floor(number / size)];
  const at = (number % size) - 1;
  return code === undefined || at < 0 || at >= ADDRESSES ? undefined : { function: code, at };
}

/** Everything in a server's registers that a schema cannot say; paths lead from the list of registers. */
export function registerFaults(registers: readonly ModbusRegister[]): LayoutFault[] {
  const names = new Set<string>();
  return registers.flatMap((register, index) => {
    const at = (key: string, message: string): LayoutFault => ({ path: [index, key], message });
    const faults = kindFaults(register, at);
    // Looked at further only where the type fits its function.
    if (faults.length === 0) faults.push(...bitFaults(scalarOf(register), at), ...scaleFaults(register, at));
    if (register.at + addressesOf(register) > ADDRESSES)
      faults.push(at("at", "reaches beyond the last address, 65535"));
    const own = namesOf(register);
    if (own.length === 0) faults.push(at("name", "is missing: a register has a name, or `bits` that have"));
    for (const name of own) {
      if (names.has(name)) faults.push(at("name", `\`${name}\` stands twice among the server's registers`));
      names.add(name);
    }
    return faults;
  });
}

function kindFaults(register: ModbusRegister, at: (key: string, message: string) => LayoutFault): LayoutFault[] {
  const type = typeOf(register);
  const { function: code } = register;
  if (isBitFunction(register) !== (type === "bit")) {
    const advice = type === "bit" ? "a bit of a register is named in `bits`" : "what it reads are bits";
    return [at("type", `must not be ${type} with function ${code}: ${advice}`)];
  }
  const isWideInteger = type !== "bit" && !SCALARS[type].isFloat && SCALARS[type].bytes <= 4;
  const faults: LayoutFault[] = [];
  if (register.bits !== undefined && !isWideInteger)
    faults.push(at("bits", `is of no use with type ${type}: an integer of up to 32 bits has it`));
  for (const key of ["scale", "offset", "none"] as const)
    if (type === "bit" && register[key] !== undefined) faults.push(at(key, "is of no use with a single bit"));
  return faults;
}

/** The register as a field of a frame's layout: a bit is one of a byte's. */
export function scalarOf(register: ModbusRegister): LayoutField {
  const { name, scale, offset, values, none, bits } = register;
  const type = typeOf(register);
  if (type !== "bit") return { type, name, scale, offset, values, none, bits };
  return { type: "u8", bits: name === undefined ? [] : [{ name, at: 0, values }] };
}
