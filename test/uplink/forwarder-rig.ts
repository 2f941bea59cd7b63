/** A forwarder with everything around it: an outbox in memory, a real transport, a real server. */
import type { TestContext } from "node:test";
import type { UplinkConfig } from "#src/config/schema.js";
import { type Clock, systemClock } from "#src/kernel/clock.js";
import { Conditions } from "#src/kernel/conditions.js";
import { createLog, createMetrics } from "#src/kernel/telemetry.js";
import { Forwarder } from "#src/uplink/forwarder.js";
import { HttpsTransport } from "#src/uplink/https.js";
import { MemoryBatchSource } from "../support/memory-batch-source.ts";
import { silentReloads } from "../support/reloads.ts";
import { StandInFusion } from "./stand-in-fusion.ts";
import { uplinkConfig } from "./uplink-config.ts";

export interface Rig {
  readonly fusion: StandInFusion;
  readonly source: MemoryBatchSource;
  readonly forwarder: Forwarder;
  /** Codes of what is wrong at the moment. */
  readonly wrong: () => string[];
  /** Lines of the log. */
  readonly lines: { readonly level: string; readonly msg: string; readonly [key: string]: unknown }[];
  /** The value of a metric with these labels. */
  readonly metric: (name: string, labels?: Record<string, string>) => Promise<number | undefined>;
}

export interface RigSettings {
  readonly reply?: ConstructorParameters<typeof StandInFusion>[0];
  readonly config?: Partial<UplinkConfig>;
  readonly clock?: Clock;
  readonly random?: () => number;
  /** Default `debug`. */
  readonly logLevel?: "debug" | "info";
  /** Runs before the forwarder starts. */
  readonly prepare?: (source: MemoryBatchSource, fusion: StandInFusion) => void | Promise<void>;
}

/** Builds and starts it; the test's end stops it. */
export async function rig(t: TestContext, settings: RigSettings = {}): Promise<Rig> {
  const {
    reply,
    config: changes = {},
    clock = systemClock,
    random = () => 0.999,
    logLevel = "debug",
    prepare,
  } = settings;
  const fusion = await new StandInFusion(reply).open();
  const source = new MemoryBatchSource(clock);
  const lines: Rig["lines"] = [];
  const log = await createLog(
    { level: logLevel, format: "json" },
    {},
    { write: (line) => lines.push(JSON.parse(line)) },
  );
  const conditions = new Conditions(clock, log);
  const metrics = createMetrics();
  const config = uplinkConfig(fusion.url, changes);
  await prepare?.(source, fusion);
  const transport = new HttpsTransport({ config, clock, version: "0.0.0", reloads: silentReloads() });
  const forwarder = new Forwarder({ source, transport, config, clock, random, conditions, log, metrics });
  forwarder.start();
  t.after(async () => {
    await forwarder.stop(0).finally(() => fusion.close());
  });
  const metric: Rig["metric"] = async (name, labels = {}) => {
    const { values = [] } = (await metrics.getSingleMetric(name)?.get()) ?? {};
    const wanted = Object.entries(labels);
    return values.find((value) => wanted.every(([key, text]) => value.labels[key] === text))?.value;
  };
  const wrong = (): string[] => conditions.list().map(({ code }) => code);
  return { fusion, source, forwarder, wrong, lines, metric };
}
