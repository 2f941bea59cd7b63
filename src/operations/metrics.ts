/**
 * Metrics that are read from the gateway at each scrape, rather than counted beside it: so they cannot disagree with the
 * ledger. What only the doer knows (requests, commits, refusals) is registered by the doer.
 */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { Clock } from "../kernel/clock.ts";
import { PRIORITIES } from "../observation/observation.ts";
import { FATE_LABELS, FATE_NAMES } from "./health.ts";
import type { GatewayView } from "./view.ts";
import type { WearView } from "./wear.ts";

const LAG_EVERY_MS = 250;
const LAG_BUCKETS = [0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/**
 * Registers them in `view.metrics` and begins to measure the event loop; the returned function ends the measuring. Once
 * per registry.
 */
export function registerMetrics(view: GatewayView, clock: Clock): () => void {
  registerLedger(view);
  registerOutbox(view);
  registerWear(view);
  registerClock(view);
  registerProcess(view, clock);
  return measureEventLoop(view.metrics, clock);
}

/** A counter whose total somebody else keeps. */
function total(registry: Registry, name: string, help: string, read: () => number): void {
  new Counter({
    name: `summit_edge_${name}_total`,
    help,
    registers: [registry],
    collect() {
      this.reset();
      this.inc(read());
    },
  });
}

function gauge(registry: Registry, name: string, help: string, read: () => number): void {
  new Gauge({
    name: `summit_edge_${name}`,
    help,
    registers: [registry],
    collect() {
      this.set(read());
    },
  });
}

function registerLedger(view: GatewayView): void {
  const { metrics } = view;
  const ledger = (member: "expired" | "thinned" | "damaged" | "duplicates") => () => view.ledger()[member];
  total(metrics, "readings_expired", "Readings that waited longer than outbox.maxAge.", ledger("expired"));
  total(metrics, "readings_thinned", "Readings that were thinned out of the backlog.", ledger("thinned"));
  total(metrics, "readings_damaged", "Readings that the outbox could not read back.", ledger("damaged"));
  total(metrics, "readings_duplicates", "Copies that were recognised and acknowledged.", ledger("duplicates"));
  new Counter({
    name: "summit_edge_readings_evicted_total",
    help: "Readings that made room for others in a full outbox.",
    labelNames: ["priority"],
    registers: [metrics],
    collect() {
      this.reset();
      const { evictedByPriority } = view.outbox();
      for (const priority of PRIORITIES) this.inc({ priority }, evictedByPriority[priority]);
    },
  });
  new Gauge({
    name: "summit_edge_ledger_readings",
    help: "The books: accepted readings, and each fate; accepted is the sum of the others.",
    labelNames: ["fate"],
    registers: [metrics],
    collect() {
      const now = view.ledger();
      this.set({ fate: "accepted" }, now.accepted);
      for (const fate of FATE_NAMES) this.set({ fate: FATE_LABELS[fate] }, now[fate]);
    },
  });
}

function registerOutbox(view: GatewayView): void {
  const { metrics } = view;
  new Gauge({
    name: "summit_edge_outbox_pending_readings",
    help: "Readings that wait.",
    labelNames: ["priority"],
    registers: [metrics],
    collect() {
      const { pendingByPriority } = view.outbox();
      for (const priority of PRIORITIES) this.set({ priority }, pendingByPriority[priority]);
    },
  });
  gauge(metrics, "outbox_bytes", "Bytes in use: used pages and WAL.", () => view.outbox().bytes);
  gauge(metrics, "outbox_max_bytes", "outbox.maxBytes.", () => view.outbox().maxBytes);
  const fill =
    "How full the outbox is, by outbox.maxBytes or, where that is less, by outbox.reserveFreeDisk; 1 is full.";
  gauge(metrics, "outbox_fill_ratio", fill, () => view.outbox().room.fill);
  const high = "From this outbox_fill_ratio on the outbox is degraded, before anything is lost.";
  gauge(metrics, "outbox_high_water_ratio", high, () => view.outbox().room.highWater);
  const low = "Below this outbox_fill_ratio it is well again.";
  gauge(metrics, "outbox_low_water_ratio", low, () => view.outbox().room.lowWater);
  gauge(metrics, "outbox_wal_bytes", "Size of the write-ahead log.", () => view.outbox().walBytes ?? 0);
  gauge(
    metrics,
    "outbox_dead_letters",
    "Dead letters that can be looked at and requeued.",
    () => view.outbox().deadLetters,
  );
  const kept = "Delivered readings that are kept for replay (outbox.keepDelivered).";
  gauge(metrics, "outbox_kept_readings", kept, () => view.outbox().kept.readings);
  const keptBytes = "What is stored of them, compressed; part of outbox_bytes.";
  gauge(metrics, "outbox_kept_bytes", keptBytes, () => view.outbox().kept.bytes);
  const oldest = "Age of the oldest reading that waits; 0 where none waits.";
  gauge(metrics, "outbox_oldest_age_seconds", oldest, () => view.outbox().oldestAgeSeconds);
}

/** Commits per second are the rate of `summit_edge_outbox_commit_seconds_count`. */
function registerWear(view: GatewayView): void {
  const { metrics } = view;
  if (view.wear() === undefined) return;
  const wear = (read: (now: WearView) => number | undefined) => () => {
    const now = view.wear();
    return (now === undefined ? undefined : read(now)) ?? Number.NaN;
  };
  const written = "Bytes that the process has sent to storage, as the kernel counts them: nearly all are the outbox's.";
  total(metrics, "outbox_written_bytes", written, () => view.wear()?.writtenBytes ?? 0);
  const perReading = "The same for each reading accepted, over the last 24 hours at the most; NaN where none was.";
  gauge(
    metrics,
    "outbox_written_bytes_per_reading",
    perReading,
    wear((now) => now.bytesPerReading),
  );
  const perYear = "What a year at that rate would write, before the card's own amplification; NaN in the first minute.";
  gauge(
    metrics,
    "outbox_wear_bytes_per_year",
    perYear,
    wear((now) => now.bytesPerYear),
  );
  gauge(
    metrics,
    "outbox_card_endurance_bytes",
    "outbox.cardEndurance.",
    wear((now) => now.enduranceBytes),
  );
}

function registerClock(view: GatewayView): void {
  const synchronised = "Whether the wall clock is known to be synchronised.";
  gauge(view.metrics, "clock_synchronised", synchronised, () => Number(view.clock().quality === "synchronised"));
  const steps = "How often the wall clock has jumped against the monotonic one since the start.";
  total(view.metrics, "clock_steps", steps, () => view.clock().steps);
}

function registerProcess(view: GatewayView, clock: Clock): void {
  const { metrics } = view;
  const uptime = () => (clock.monotonic() - view.startedAt) / 1000;
  gauge(metrics, "uptime_seconds", "Since the daemon started, by the monotonic clock.", uptime);
  gauge(metrics, "process_resident_memory_bytes", "Resident memory.", () => process.memoryUsage.rss());
  total(metrics, "process_cpu_seconds", "User and system CPU time.", () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });
  new Gauge({
    name: "summit_edge_build_info",
    help: "Always 1; says what runs.",
    labelNames: ["gateway", "version", "node"],
    registers: [metrics],
  }).set({ gateway: view.id, version: view.version, node: process.version }, 1);
}

/** How much later than asked a timer fires: what everything else on the main thread waits as well. */
function measureEventLoop(registry: Registry, clock: Clock): () => void {
  const lag = new Histogram({
    name: "summit_edge_event_loop_lag_seconds",
    help: `How late a timer fires, measured every ${LAG_EVERY_MS} ms.`,
    buckets: LAG_BUCKETS,
    registers: [registry],
  });
  let cancel = (): void => {};
  const arm = (): void => {
    const due = clock.monotonic() + LAG_EVERY_MS;
    cancel = clock.after(LAG_EVERY_MS, () => {
      lag.observe(Math.max(0, clock.monotonic() - due) / 1000);
      arm();
    });
  };
  arm();
  return () => cancel();
}
