/**
 * What comes over one serial port: counted always, and shown as it happens to whoever looks on.
 *
 * Nothing is made for nobody: without a watcher a frame costs a few additions. A watcher is called while the port is being read, and
 * so returns at once; what it wants to keep of an event's bytes it copies.
 */
import type { Decoded } from "../../codec/decoder.ts";
import type { DiscardReason, Frame } from "../../codec/framing.ts";
import type { Admission } from "../intake.ts";

/** Since the gateway's start. */
export interface TrafficCounts {
  readonly bytes: number;
  /** Frames that were handed to the codec. */
  readonly frames: number;
  /** Of them, those that the codec could not read. */
  readonly refused: number;
  /** Frames, and stretches of noise, that were given up before the codec. */
  readonly discarded: number;
  readonly discardedBytes: number;
}

export type SerialEvent =
  | { readonly kind: "opened"; readonly device: string }
  /** `detail`: what is wrong; absent where it was meant. */
  | { readonly kind: "closed"; readonly detail?: string }
  /** As they came, before any framing; `bytes` is valid only during the call. */
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  /** `admission`: what the intake made of it. */
  | {
      readonly kind: "reading";
      readonly bytes: Uint8Array;
      readonly class: string | undefined;
      readonly payload: object;
      readonly admission: Admission;
      /** Who was asked, where a port may have several that are; the answers are put together, and `bytes` is empty. */
      readonly source?: string;
    }
  /** A device that was asked, and gave no answer that can be used. */
  | { readonly kind: "fault"; readonly device: string; readonly detail: string }
  | { readonly kind: "refused"; readonly bytes: Uint8Array; readonly detail: string }
  /** By its kind no reading. */
  | { readonly kind: "ignored"; readonly bytes: Uint8Array }
  /** `bytes`: the first of them; `length`: how many they were. */
  | {
      readonly kind: "discarded";
      readonly bytes: Uint8Array;
      readonly reason: DiscardReason;
      readonly length: number;
    }
  /** The gateway stops; nothing comes behind it. */
  | { readonly kind: "ended" };

export type SerialWatcher = (event: SerialEvent) => void;

const NO_FRAME = new Uint8Array();

export class SerialTraffic {
  readonly #counts = { bytes: 0, frames: 0, refused: 0, discarded: 0, discardedBytes: 0 };
  readonly #watchers = new Set<SerialWatcher>();
  #ended = false;

  /** A copy of the counts. */
  counts(): TrafficCounts {
    return { ...this.#counts };
  }

  /** Calls `watcher` for all that comes from now on; the returned function ends that. */
  watch(watcher: SerialWatcher): () => void {
    if (this.#ended) watcher({ kind: "ended" });
    else this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  opened(device: string): void {
    this.#tell({ kind: "opened", device });
  }

  closed(detail?: string): void {
    this.#tell({ kind: "closed", ...(detail === undefined ? {} : { detail }) });
  }

  heard(bytes: Uint8Array): void {
    this.#counts.bytes += bytes.length;
    if (this.#watchers.size > 0) this.#tell({ kind: "bytes", bytes });
  }

  discarded({ reason, bytes, length }: Frame & { readonly kind: "discarded" }): void {
    this.#counts.discarded++;
    this.#counts.discardedBytes += length;
    if (this.#watchers.size > 0) this.#tell({ kind: "discarded", reason, bytes, length });
  }

  /** A frame, and what it turned out to be. */
  decoded(bytes: Uint8Array, decoded: Exclude<Decoded, { readonly kind: "reading" }>): void {
    this.#counts.frames++;
    if (decoded.kind === "refused") this.#counts.refused++;
    if (this.#watchers.size > 0) this.#tell({ ...decoded, bytes });
  }

  /** A frame with a reading, or several. */
  read(bytes: Uint8Array, { payload }: { readonly payload: object }, as: string | undefined, to: Admission): void {
    this.#counts.frames++;
    if (this.#watchers.size > 0) this.#tell({ kind: "reading", bytes, class: as, payload, admission: to });
  }

  /** The reading that the answers of a device make which was asked. */
  answered(source: string, payload: object, as: string | undefined, admission: Admission): void {
    this.#counts.frames++;
    if (this.#watchers.size > 0)
      this.#tell({ kind: "reading", bytes: NO_FRAME, class: as, payload, admission, source });
  }

  /** A device was asked in vain. */
  fault(device: string, detail: string): void {
    if (this.#watchers.size > 0) this.#tell({ kind: "fault", device, detail });
  }

  /** No more will come. */
  end(): void {
    this.#ended = true;
    this.#tell({ kind: "ended" });
    this.#watchers.clear();
  }

  #tell(event: SerialEvent): void {
    for (const watcher of this.#watchers) watcher(event);
  }
}
