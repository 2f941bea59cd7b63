/** What stands in the lines of a serial port's tail: the API writes them, the commands read them. */
import type { PortSettings } from "./view.ts";

/** Of a longer frame its beginning is shown, and no reading. */
export const SHOWN_BYTES = 4096;
/** Without anything to say for so long, a line says that the gateway is still there. */
export const ALIVE_EVERY_MS = 10_000;

/** `frames`: each frame and what became of it; `bytes`: the bytes as they came. */
export type TailWhat = "frames" | "bytes";

/** A line of a tail, but for what every line has: `at` and `ms`. */
export type TailLine =
  | PortLine
  | { readonly kind: "opened"; readonly device: string }
  | { readonly kind: "closed"; readonly detail: string | null }
  | { readonly kind: "bytes"; readonly hex: string }
  | ({ readonly kind: "reading"; readonly class: string | null } & Shown & {
        /** What the codec made of it; `null` where that is too long to be shown. */
        readonly reading: unknown;
        /** Who was asked; absent where the device speaks by itself. Such a reading has no frame of its own. */
        readonly source?: string;
        readonly accepted: number;
        readonly duplicates: number;
        readonly refused: number;
      })
  | ({ readonly kind: "refused"; readonly detail: string } & Shown)
  | ({ readonly kind: "ignored" } & Shown)
  | ({ readonly kind: "discarded"; readonly reason: string } & Shown)
  /** A device was asked in vain. */
  | { readonly kind: "fault"; readonly device: string; readonly detail: string }
  /** So many lines, and of `bytes` so many bytes, were left out before this one. */
  | { readonly kind: "dropped"; readonly lines: number; readonly bytes: number }
  | { readonly kind: "alive" }
  | { readonly kind: "ended" };

/** The first line: how the port is set up, and how it is. */
export interface PortLine extends PortSettings {
  readonly kind: "port";
  readonly name: string;
  readonly state: string;
  readonly path: string;
  readonly device: string | null;
  readonly detail: string | null;
}

/** The bytes of a frame: how many they are, and `SHOWN_BYTES` of them at most. */
export interface Shown {
  readonly length: number;
  readonly hex: string;
}

/** Every line: when, by wall time and in milliseconds since the tail began. */
export type TimedTailLine = TailLine & { readonly at: string; readonly ms: number };
