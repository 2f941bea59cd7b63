/** What a frame turns out to be. Expected outcomes all: a decoder never throws, whatever the bytes. */
export type Decoded =
  /**
   * One reading (an object), or several (an array), as `Intake.submit` takes them. `class`: what the codec calls this kind
   * of reading, where that is not its usual one (`defaultClassOf`).
   */
  | { readonly kind: "reading"; readonly payload: object; readonly class?: string }
  /** It could not be read, or says itself that it is not valid; `detail` tells the operator why. */
  | { readonly kind: "refused"; readonly detail: string }
  /** Well formed, and by its kind no reading: neither accepted nor refused. */
  | { readonly kind: "ignored" };

/** Reads the frames of one port, in order. */
export interface Decoder {
  /**
   * `arrivedAt`: when the frame was received, in milliseconds of the monotonic clock. `now`: the same in milliseconds of wall
   * time, for devices that say how long ago they measured.
   */
  decode(frame: Uint8Array, arrivedAt: number, now: number): Decoded;
}

export function refused(detail: string): Decoded {
  return { kind: "refused", detail };
}

export const IGNORED: Decoded = { kind: "ignored" };

/** Why a device that was asked gave no good answer; `bad-answer`: something came, and not what it ought to be. */
export type AnswerFault = "timeout" | "bad-crc" | "bad-answer";
