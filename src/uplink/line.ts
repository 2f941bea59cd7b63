/**
 * What is known of the line to fusion, learnt from how deliveries end: whether it may be used now, since when readings
 * are held back, and what the operator is told. It owns the gate, the look for reachability, and the uplink's conditions.
 *
 * Invariants: at most one of the fault conditions is raised at a time, beside `uplink-refuses-everything`; from the first
 * failure until something is accepted, every reading counts as held back.
 */
import type { UplinkConfig } from "../config/schema.ts";
import type { Clock } from "../kernel/clock.ts";
import type { Conditions } from "../kernel/conditions.ts";
import type { Logger } from "../kernel/telemetry.ts";
import type { DeadLetterReason } from "../outbox/batch.ts";
import { Gate, type Permit } from "./gate.ts";
import type { Failure } from "./outcome.ts";
import { BackOff, type BreakerState, RefusalStreak } from "./policies.ts";
import { Reachability } from "./reachability.ts";
import type { Fault } from "./transport.ts";

const COMPONENT = "uplink";
const REFUSES_EVERYTHING = "uplink-refuses-everything";

const CONDITIONS: Record<Fault, { readonly code: string; readonly advice: string }> = {
  unreachable: {
    code: "uplink-unreachable",
    advice: "Readings are kept, and sent when the link is back; if others reach fusion, look at the network here.",
  },
  failing: {
    code: "uplink-failing",
    advice: "Readings are kept and tried again; if it lasts, look at fusion's own log.",
  },
  credentials: {
    code: "credentials",
    advice: "Readings are kept; put a valid token into uplink.tokenFile, which is read again before each try.",
  },
  misconfigured: {
    code: "uplink-misconfigured",
    advice: "Readings are kept; check uplink.url and uplink.tls.",
  },
  unexpected: {
    code: "uplink-unexpected-answer",
    advice: "Readings are kept; check that uplink.url leads to fusion, and not to a proxy or a login page.",
  },
};

/** Fusion, or the way to it, went in the middle of a request; it may be away from then on. */
const CONNECTION_LOST: ReadonlySet<string> = new Set(["ECONNRESET", "EPIPE"]);

export interface LineParts {
  readonly config: Pick<UplinkConfig, "retry" | "breaker" | "reachability" | "timeouts">;
  readonly endpoint: { readonly host: string; readonly port: number };
  readonly clock: Clock;
  readonly random: () => number;
  readonly conditions: Conditions;
  readonly log: Logger;
  /** Sequence number of the newest committed reading. */
  readonly lastSeq: () => number;
  /** Called when the line may be usable earlier than `waitMs` said. */
  readonly onChange: () => void;
}

export interface LastFailure {
  readonly code: string;
  readonly detail: string;
  /** Wall time in milliseconds. */
  readonly at: number;
}

export class Line {
  /** Refusals in a row, across batches. */
  readonly streak = new RefusalStreak();
  readonly #parts: LineParts;
  readonly #gate: Gate;
  readonly #reachability: Reachability;
  readonly #refusalBackOff: BackOff;
  #heldBackThrough: number;
  #linkBackAt: number | undefined;
  #condition: string | undefined;
  #breakerOpen = false;
  /** Tries since everything began to be refused; `undefined` while it is not. */
  #refusedTries: number | undefined;
  #lastSuccessAt: number | null = null;
  #lastFailure: LastFailure | null = null;

  constructor(parts: LineParts) {
    const { config, endpoint, clock, random } = parts;
    this.#parts = parts;
    this.#gate = new Gate(config, random);
    this.#refusalBackOff = new BackOff(config.retry, random);
    this.#heldBackThrough = parts.lastSeq();
    this.#reachability = new Reachability({
      endpoint,
      interval: config.reachability,
      timeout: config.timeouts.connect,
      clock,
      random,
      onReachable: () => this.#reachable(),
    });
  }

  /** Readings up to this sequence number were held back; infinite while the outage lasts. */
  get heldBackThrough(): number {
    return this.#heldBackThrough;
  }

  /** From the first failure until something is accepted. */
  get outage(): boolean {
    return this.#heldBackThrough === Number.POSITIVE_INFINITY;
  }

  /** When fusion could first be reached again after an outage, on the monotonic clock. */
  get linkBackAt(): number | undefined {
    return this.#linkBackAt;
  }

  /** Fusion refuses every reading, so it is not the readings: nothing is dead-lettered. */
  get refusing(): boolean {
    return this.#refusedTries !== undefined;
  }

  get breaker(): BreakerState {
    return this.#gate.breaker(this.#now());
  }

  get lastSuccessAt(): number | null {
    return this.#lastSuccessAt;
  }

  get lastFailure(): LastFailure | null {
    return this.#lastFailure;
  }

  /** Milliseconds until a delivery may start; 0 where one may now, unless a probe is under way. */
  waitMs(): number {
    return this.#gate.waitMs(this.#now());
  }

  /** Milliseconds between looks for a fusion whose return ends `waitMs`; `undefined` where it would not, or is not looked for. */
  get lookInterval(): number | undefined {
    const looked = this.#reachability.looking && this.#gate.waitsForLinkOnly(this.#now());
    return looked ? this.#parts.config.reachability : undefined;
  }

  /** Leave for one delivery; its end is reported by `accepted`, `failed` or `abandoned`. */
  admit(): Permit | undefined {
    return this.#gate.admit(this.#now());
  }

  /** Fusion accepted something: the line is well. */
  accepted(): void {
    this.#gate.succeeded(this.#now());
    this.#lastSuccessAt = this.#parts.clock.now();
    this.streak.accepted();
    this.answered();
    if (this.outage) this.#heldBackThrough = this.#parts.lastSeq();
    if (this.refusing) {
      this.#refusedTries = undefined;
      this.#refusalBackOff.reset();
      this.#parts.conditions.clear(COMPONENT, REFUSES_EVERYTHING);
    }
    this.#noteBreaker();
  }

  /** The batch could not be delivered, whatever is in it. */
  failed(permit: Permit, failure: Failure): void {
    const { fault, code, detail, retryAfterMs } = failure;
    this.#gate.failed(this.#now(), permit, retryAfterMs);
    this.#heldBackThrough = Number.POSITIVE_INFINITY;
    this.#lastFailure = { code, detail, at: this.#parts.clock.now() };
    if (fault === "unreachable") this.#reachability.start(true);
    else if (CONNECTION_LOST.has(code)) this.#reachability.start(false);
    else this.#reachability.stop();
    this.raise(fault, detail);
    this.#noteBreaker();
  }

  /** The delivery has ended in a way that says nothing about the line. */
  abandoned(permit: Permit): void {
    this.#gate.abandoned(permit);
  }

  /** What the gateway shows to fusion is new: what failed until now is worth a try. */
  renewed(): void {
    if (!this.outage) return;
    this.#gate.linkUp(this.#now());
    this.#parts.onChange();
  }

  /** Fusion answered, if only to refuse what was in the batch: no fault of the line is left. */
  answered(): void {
    this.#reachability.stop();
    if (this.#condition !== undefined) this.#parts.conditions.clear(COMPONENT, this.#condition);
    this.#condition = undefined;
  }

  /** Fusion refuses everything, still or from now on: nothing is sent for a while. */
  refusesEverything(reason: DeadLetterReason): void {
    this.#refusedTries = (this.#refusedTries ?? -1) + 1;
    this.#heldBackThrough = Number.POSITIVE_INFINITY;
    this.#lastFailure = { code: reason.code, detail: reason.detail, at: this.#parts.clock.now() };
    this.#gate.pause(this.#now(), this.#refusalBackOff.failed(this.#now()));
    const said = reason.detail === "" ? reason.code : `${reason.code}: ${reason.detail}`;
    this.#parts.conditions.raise(
      COMPONENT,
      REFUSES_EVERYTHING,
      "degraded",
      `Fusion refuses every reading (${said}). All are kept and tried again; look for what changed in fusion.`,
    );
  }

  /**
   * Which of `count` readings to try alone while fusion refuses everything: another one at each try, spread over the whole
   * batch, so that neighbours that are really at fault cannot keep the state.
   */
  pickAlone(count: number): number {
    const golden = 0.618_033_988_749_895;
    return Math.floor((((this.#refusedTries ?? 0) * golden + 0.5) % 1) * count);
  }

  /** Tells the operator of a fault, in the place of another. Not a failure of a delivery. */
  raise(fault: Fault, detail: string): void {
    const { code, advice } = CONDITIONS[fault];
    if (this.#condition !== undefined && this.#condition !== code) {
      this.#parts.conditions.clear(COMPONENT, this.#condition);
    }
    this.#condition = code;
    this.#parts.conditions.raise(COMPONENT, code, "degraded", `Uplink: ${detail}. ${advice}`);
  }

  close(): void {
    this.#reachability.stop();
  }

  #now(): number {
    return this.#parts.clock.monotonic();
  }

  #reachable(): void {
    this.#parts.log.debug({ component: COMPONENT, ...this.#parts.endpoint }, "fusion can be connected to again");
    this.#linkBackAt ??= this.#now();
    this.#gate.linkUp(this.#now());
    this.#parts.onChange();
  }

  #noteBreaker(): void {
    const open = this.breaker !== "closed";
    if (open === this.#breakerOpen) return;
    this.#breakerOpen = open;
    const fields = { component: COMPONENT, breaker: this.breaker };
    if (open) this.#parts.log.warn(fields, "the circuit breaker has opened; readings are kept");
    else this.#parts.log.info(fields, "the circuit breaker has closed");
  }
}
