/**
 * Messages that no route of `mqtt.routes` matches and that no subscriber takes: acknowledged, as MQTT asks, and gone. Most
 * often a sensor's topic is misspelt, so they are counted, and the log names who sent what and which route is near.
 *
 * The log is bounded: an address's topic has a line an hour, all of them together have a few a minute. Not a client's: a program that
 * connects for each message, without an id, is another client each time.
 */
import type { Clock } from "../../kernel/clock.ts";
import { type Logger, RateLimit } from "../../kernel/telemetry.ts";
import { HEAD_BYTES } from "../quarantine.ts";
import { nearestRoute } from "./nearest-route.ts";

const LINES = 10;
const WINDOW_MS = 60_000;
const TOLD_AGAIN_AFTER_MS = 3_600_000;
/** Addresses' topics remembered as told; the one told of longest ago makes room. */
const MAX_TOLD = 256;

export class UnroutedMessages {
  readonly #routes: readonly string[];
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #lines: RateLimit;
  /** When the log last named an address's topic, oldest first. */
  readonly #told = new Map<string, number>();
  #count = 0;
  #countAtLastLine = 0;

  /** `routes`: the topics of `mqtt.routes`. */
  constructor(routes: readonly string[], clock: Clock, log: Logger) {
    this.#routes = routes;
    this.#clock = clock;
    this.#log = log;
    this.#lines = new RateLimit(clock, LINES, WINDOW_MS);
  }

  /** Since the start. */
  get count(): number {
    return this.#count;
  }

  /** Counts one, and names it in the log where that is due. `client`: the id that it gave, if any. */
  add(client: string | undefined, address: string | undefined, topic: string): void {
    this.#count++;
    const key = `${address} ${topic}`;
    const now = this.#clock.monotonic();
    if (now - (this.#told.get(key) ?? Number.NEGATIVE_INFINITY) < TOLD_AGAIN_AFTER_MS) return;
    if (this.#lines.admit() === undefined) return;
    this.#told.delete(key);
    this.#told.set(key, now);
    if (this.#told.size > MAX_TOLD) {
      const [oldest] = this.#told.keys();
      if (oldest !== undefined) this.#told.delete(oldest);
    }
    const heldBack = this.#count - this.#countAtLastLine - 1;
    this.#countAtLastLine = this.#count;
    const near = nearestRoute(topic, this.#routes);
    const cut = topic.slice(0, HEAD_BYTES);
    const reason = `no route in mqtt.routes matches ${cut}${near === undefined ? "" : `; did you mean ${near}?`}`;
    this.#log.warn(
      { ...(client !== undefined && { client }), address, topic: cut, reason, heldBack },
      "message not stored, and nobody has subscribed to it",
    );
  }
}
