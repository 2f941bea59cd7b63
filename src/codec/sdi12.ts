/** SDI-12, version 1.3 and 1.4 (sdi-12.org): commands, answers and their CRC. Pure. */
import type { Meaning } from "./binary-layout.ts";

const ADDITIONAL = ["", "1", "2", "3", "4", "5", "6", "7", "8", "9"] as const;

/** The measurement commands, without address and exclamation mark (sections 4.4.6 to 4.4.9 and 4.4.12). */
export const SDI12_MEASUREMENTS = [
  ...ADDITIONAL.map((digit) => `M${digit}` as const),
  ...ADDITIONAL.map((digit) => `MC${digit}` as const),
  ...ADDITIONAL.map((digit) => `C${digit}` as const),
  ...ADDITIONAL.map((digit) => `CC${digit}` as const),
] as const;

export type Sdi12Measurement = (typeof SDI12_MEASUREMENTS)[number];

/** What one of a sensor's values means; a name alone where it is taken as it is, `null` where it is not wanted. */
export type Sdi12Value = (Omit<Meaning, "values" | "name"> & { readonly name: string }) | string | null;
