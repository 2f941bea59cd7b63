/** Gives up a client from which nothing has come for one and a half times its keep-alive (MQTT-3.1.2-24). */
import type { Clock } from "../../kernel/clock.ts";

const FACTOR_MS = 1500;

export interface KeepAliveOptions {
  readonly clock: Pick<Clock, "monotonic" | "after">;
  /** Whether the client may have said something that is not heard here: while it is not read, its silence does not count. */
  readonly deaf: () => boolean;
  readonly silent: (reason: string) => void;
}

export class KeepAlive {
  readonly #options: KeepAliveOptions;
  /** Seconds; 0: no silence is too long. */
  #keepAlive = 0;
  #heardAt = 0;
  #cancel: (() => void) | undefined;

  constructor(options: KeepAliveOptions) {
    this.#options = options;
  }

  /** From now on the client is to be heard of, `keepAlive` in seconds; 0: never. */
  begin(keepAlive: number): void {
    this.#keepAlive = keepAlive;
    this.heard();
    if (keepAlive > 0) this.#watch();
  }

  /** Something has come from the client, or may from now on. */
  heard(): void {
    this.#heardAt = this.#options.clock.monotonic();
  }

  stop(): void {
    this.#cancel?.();
  }

  #watch(): void {
    const { clock, deaf, silent } = this.#options;
    if (deaf()) this.heard();
    const left = this.#heardAt + this.#keepAlive * FACTOR_MS - clock.monotonic();
    if (left > 0) this.#cancel = clock.after(left, () => this.#watch());
    else silent(`said nothing for 1.5 times its keep-alive of ${this.#keepAlive} s`);
  }
}
