import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { Settlement } from "../outbox/batch.ts";

/** The `uplink` label of the only uplink so far. */
const UPLINK = "https";
/** Distinct values of the `code` label; fusion invents the codes, so further ones are counted as `other`. */
export const MAX_CODES = 64;

/** What the uplink counts (contract, section 6). One per registry. */
export class UplinkMetrics {
  readonly #requests: Counter<"uplink" | "outcome">;
  readonly #seconds: Histogram<"uplink">;
  readonly #delivered: Counter<"uplink">;
  readonly #deadLettered: Counter<"code">;
  readonly #codes = new Set<string>();
  #totals = { requests: 0, readingsDelivered: 0, readingsDeadLettered: 0 };

  /** `breakerOpen` is asked at each scrape. */
  constructor(registry: Registry, breakerOpen: () => boolean) {
    const registers = [registry];
    this.#requests = new Counter({
      name: "summit_edge_uplink_requests_total",
      help: "Requests to fusion, by what became of them.",
      labelNames: ["uplink", "outcome"],
      registers,
    });
    this.#seconds = new Histogram({
      name: "summit_edge_uplink_request_seconds",
      help: "Time from the start of a request to the end of its answer, or to giving up.",
      labelNames: ["uplink"],
      buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      registers,
    });
    this.#delivered = new Counter({
      name: "summit_edge_readings_delivered_total",
      help: "Readings that fusion accepted, settled in the outbox.",
      labelNames: ["uplink"],
      registers,
    });
    this.#deadLettered = new Counter({
      name: "summit_edge_readings_dead_lettered_total",
      help: "Readings that fusion refused for good, by its reason.",
      labelNames: ["code"],
      registers,
    });
    new Gauge({
      name: "summit_edge_uplink_breaker_open",
      help: "1 while the circuit breaker is not closed.",
      labelNames: ["uplink"],
      registers,
      collect() {
        this.set({ uplink: UPLINK }, breakerOpen() ? 1 : 0);
      },
    });
    this.#delivered.inc({ uplink: UPLINK }, 0);
  }

  /** Since the start of the daemon. */
  get totals(): {
    readonly requests: number;
    readonly readingsDelivered: number;
    readonly readingsDeadLettered: number;
  } {
    return this.#totals;
  }

  request(outcome: string, ms: number): void {
    this.#totals.requests++;
    this.#requests.inc({ uplink: UPLINK, outcome });
    this.#seconds.observe({ uplink: UPLINK }, ms / 1000);
  }

  /** Fates that the outbox has committed. */
  settled({ delivered, deadLettered }: Settlement): void {
    const readings = delivered.reduce((sum, { from, to }) => sum + to - from, 0);
    this.#totals.readingsDelivered += readings;
    this.#delivered.inc({ uplink: UPLINK }, readings);
    this.#totals.readingsDeadLettered += deadLettered.length;
    for (const { code } of deadLettered) this.#deadLettered.inc({ code: this.#label(code) });
  }

  #label(code: string): string {
    if (!this.#codes.has(code) && this.#codes.size >= MAX_CODES) return "other";
    this.#codes.add(code);
    return code;
  }
}
