/**
 * What is odd about an open port though nothing has failed: silence, babble, rubbish. Each is a condition of the port.
 *
 * - `serial-silent`: no frame for `silentAfter` while the port could be read; cleared by the next frame. Where the port is to be
 *   opened again, that is done once for each silence: a device that is switched off is not to be plucked at for ever.
 * - `serial-babbles`: more than `maxRate`; the port is not read until the rate is kept. Cleared after a quiet minute.
 * - `serial-garbage`: what comes is rubbish, as a wrong baud rate makes it (codec/line-quality.ts); cleared by good frames.
 * - `serial-unreadable`: frames come, and for a minute none could be read: another codec or profile is wanted, or the device says that it
 *   has no value. Cleared by the next good frame.
 *
 * It reads nothing and closes nothing itself: it is told what came, and says what it wants done.
 */
import { LineQuality } from "../../codec/line-quality.ts";
import type { SerialPortConfig } from "../../config/schema.ts";
import { formatDuration, formatSize } from "../../config/units.ts";
import type { Clock } from "../../kernel/clock.ts";
import type { Conditions } from "../../kernel/conditions.ts";
import { FrameAllowance } from "./frame-allowance.ts";
import { placeText } from "./port-place.ts";

/** How long a port has to have kept its rate before it no longer counts as babbling. */
export const BABBLE_FORGIVEN_MS = 60_000;
/** So many good frames in a row end what was rubbish: among noise, one may happen. */
const FRAMES_AFTER_RUBBISH = 3;
/** What a board says when it starts is over by then, and no reading is missed for it. */
export const UNREADABLE_AFTER_MS = 60_000;
/** Fewer frames are an accident, however long it takes them to come. */
const UNREADABLE_FRAMES = 3;
const TEXT_CODECS: ReadonlySet<string> = new Set(["json", "csv", "nmea0183", "fields"]);

/** Whether what comes is text. SenML is where lines are its frames: its other form, CBOR, has any bytes. */
function speaksText({ codec, framing }: SerialPortConfig): boolean {
  return codec === "senml" ? framing === "lines" : codec !== undefined && TEXT_CODECS.has(codec);
}

/** `good`: something could be made of the frame, or it is not meant for us; `refused`: it could not; `discarded`: there was none. */
export type Judgement = "good" | "refused" | "discarded";

export interface WatchParts {
  readonly clock: Clock;
  readonly conditions: Conditions;
  /** Whether the port is not being read for want of room. */
  readonly isHeldBack: () => boolean;
  /** Closes the port, for it to be opened again. */
  readonly reopen: () => void;
  /** Leaves the port unread for so many milliseconds. */
  readonly throttle: (ms: number) => void;
}

type Oddity = "serial-silent" | "serial-babbles" | "serial-garbage" | "serial-unreadable";

export class LineWatch {
  readonly #config: SerialPortConfig;
  readonly #parts: WatchParts;
  readonly #quality: LineQuality;
  readonly #rate: FrameAllowance;
  readonly #isText: boolean;
  #frames = 0;
  #goodInARow = 0;
  #isRubbish = false;
  #unreadInARow = 0;
  /** Since when nothing could be read of what came. */
  #unreadSince = 0;
  #heardAt = 0;
  #bytesSinceFrame = 0;
  /** Whether this silence has led to a reopening. */
  #reopened = false;
  #cancelSilence = (): void => {};
  #cancelForgiving = (): void => {};

  constructor(config: SerialPortConfig, parts: WatchParts) {
    this.#config = config;
    this.#parts = parts;
    this.#isText = speaksText(config);
    this.#quality = new LineQuality(config, this.#isText);
    this.#rate = new FrameAllowance(config.maxRate);
  }

  /** The port has been opened. */
  opened(): void {
    this.#quality.good();
    this.#frames = 0;
    this.#bytesSinceFrame = 0;
    this.#unreadInARow = 0;
    this.#restartSilence();
  }

  /** The port is closed; a silence for which it is opened again goes on. */
  closed(): void {
    this.#cancelSilence();
    this.#cancelForgiving();
    if (!this.#reopened) this.#clear("serial-silent");
    this.#clear("serial-babbles");
    this.#clear("serial-unreadable");
    this.#endRubbish();
  }

  /** The port is read again after it was held back: what was not read was no silence. */
  resumed(): void {
    this.#heardAt = this.#parts.clock.monotonic();
  }

  /** Before the frames of these bytes are judged. */
  heard(chunk: Uint8Array): void {
    this.#bytesSinceFrame += chunk.length;
    this.#quality.heard(chunk);
  }

  /** A frame, or what was given up for one. `fault`: why no reading came of it, where there ought to be one. */
  judged(judgement: Judgement, fault?: string): void {
    this.#frames++;
    if (judgement !== "discarded") this.#endSilence();
    if (judgement === "good") this.#endUnreadable();
    else if (fault !== undefined) this.#couldNotRead(fault);
    // Where frames are binary it is the framing that tells: a checksum that fits is no chance.
    if (judgement !== "good" && (this.#isText || judgement === "discarded")) {
      this.#goodInARow = 0;
      return;
    }
    this.#quality.good();
    this.#goodInARow++;
    if (this.#goodInARow >= FRAMES_AFTER_RUBBISH) this.#endRubbish();
  }

  /** After the frames of `chunk` have been judged. */
  settle(chunk: Uint8Array): void {
    this.#lookForRubbish();
    const wait = this.#rate.spend({ frames: this.#frames, bytes: chunk.length }, this.#parts.clock.monotonic());
    this.#frames = 0;
    if (wait > 0) this.#slowDown(wait);
  }

  /** Looked at until it is found: to guess the speed takes milliseconds, too many for each chunk of a line that is rubbish for days. */
  #lookForRubbish(): void {
    const rubbish = this.#isRubbish ? undefined : this.#quality.rubbish();
    if (rubbish === undefined) return;
    this.#isRubbish = true;
    this.#goodInARow = 0;
    this.#clear("serial-unreadable");
    this.#raise("serial-garbage", `what comes on ${this.#place()} is rubbish: ${rubbish}`);
  }

  #endRubbish(): void {
    this.#isRubbish = false;
    this.#clear("serial-garbage");
  }

  #couldNotRead(fault: string): void {
    const now = this.#parts.clock.monotonic();
    if (this.#unreadInARow++ === 0) this.#unreadSince = now;
    // Of rubbish it is the speed that is to be mended first.
    if (this.#isRubbish || this.#unreadInARow < UNREADABLE_FRAMES) return;
    if (now - this.#unreadSince < UNREADABLE_AFTER_MS) return;
    const advice = `summit-edge serial tail ${this.#config.name} shows what comes; check profile, codec and checksum`;
    this.#raise("serial-unreadable", `frames come on ${this.#place()}, but none can be read: ${fault}; ${advice}`);
  }

  #endUnreadable(): void {
    this.#unreadInARow = 0;
    this.#clear("serial-unreadable");
  }

  #slowDown(wait: number): void {
    const { frames, bytes } = this.#config.maxRate;
    const bounds = [...(frames > 0 ? [`${frames} frames`] : []), ...(bytes > 0 ? [formatSize(bytes)] : [])];
    const detail = `more than ${bounds.join(" or ")} a second come on ${this.#place()}: it is read no faster, and what its line cannot hold is lost; look at the device, or raise maxRate`;
    this.#raise("serial-babbles", detail);
    this.#cancelForgiving();
    this.#cancelForgiving = this.#parts.clock.after(BABBLE_FORGIVEN_MS, () => this.#clear("serial-babbles"));
    this.#parts.throttle(wait);
  }

  #endSilence(): void {
    this.#heardAt = this.#parts.clock.monotonic();
    this.#bytesSinceFrame = 0;
    this.#reopened = false;
    this.#clear("serial-silent");
  }

  #restartSilence(): void {
    this.#heardAt = this.#parts.clock.monotonic();
    this.#cancelSilence();
    if (this.#config.silentAfter > 0) this.#awaitSilence(this.#config.silentAfter);
  }

  /** One timer for each silence that could be, not one for each frame. */
  #awaitSilence(ms: number): void {
    this.#cancelSilence = this.#parts.clock.after(ms, () => {
      const { silentAfter } = this.#config;
      // What we do not read, we cannot call silent.
      if (this.#parts.isHeldBack()) this.#heardAt = this.#parts.clock.monotonic();
      const left = this.#heardAt + silentAfter - this.#parts.clock.monotonic();
      if (left <= 0) this.#fallSilent();
      this.#awaitSilence(left > 0 ? left : silentAfter);
    });
  }

  #fallSilent(): void {
    const advice =
      this.#bytesSinceFrame === 0
        ? "look at the device's power and its cable"
        : `${this.#bytesSinceFrame} bytes came, but no frame: check baudRate and framing`;
    this.#raise(
      "serial-silent",
      `no frame on ${this.#place()} for ${formatDuration(this.#config.silentAfter)} or longer; ${advice}`,
    );
    if (!this.#config.reopenWhenSilent || this.#reopened) return;
    this.#reopened = true;
    this.#parts.reopen();
  }

  #place(): string {
    return placeText(this.#config);
  }

  #raise(code: Oddity, detail: string): void {
    this.#parts.conditions.raise(`serial:${this.#config.name}`, code, "degraded", detail);
  }

  #clear(code: Oddity): void {
    this.#parts.conditions.clear(`serial:${this.#config.name}`, code);
  }
}
