import type { HttpConfig } from "#src/config/schema.js";

/** The `http` section as it is by default, at any free port, with some keys changed. */
export function httpConfig(changes: Partial<HttpConfig> = {}): HttpConfig {
  const limits = { maxConnections: 64, maxBodyBytes: 64 * 1024, requestRate: 100 };
  return { bind: "127.0.0.1", port: 0, auth: "remote", hosts: [], cors: [], limits, ...changes };
}
