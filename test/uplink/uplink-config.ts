import type { UplinkConfig } from "#src/config/schema.js";

/** The configuration's defaults, but without linger, and quick to try again. */
export function uplinkConfig(url: string, changes: Partial<UplinkConfig> = {}): UplinkConfig {
  return {
    type: "https",
    url,
    tls: {},
    batch: { maxReadings: 500, maxBytes: 512 * 1024, linger: 0, compression: "gzip" },
    concurrency: 1,
    backlog: "oldest-first",
    catchUpRate: 0,
    reachability: 1000,
    timeouts: { connect: 5000, read: 30_000, write: 10_000 },
    retry: { initial: 5, max: 20 },
    breaker: { consecutiveFailures: 5, failureRate: 0.5, minimumRequests: 10, window: 60_000, recovery: 20 },
    ...changes,
  };
}
