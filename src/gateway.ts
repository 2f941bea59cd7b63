import type { Config } from "./config/schema.ts";
import type { Clock } from "./kernel/clock.ts";
import { GatewayError } from "./kernel/errors.ts";

/** Builds, starts and stops everything. */
export class Gateway {
  /** @throws GatewayError where a part cannot start; what had started is stopped again */
  static async start(_config: Config, _options: { clock?: Clock; configPath: string }): Promise<Gateway> {
    throw new GatewayError({
      code: "NOT_BUILT",
      op: "gateway.start",
      message: "the gateway is not built yet",
      hint: "Its parts are being built; `summit-edge config` works already.",
    });
  }

  async stop(): Promise<void> {}

  async reload(): Promise<void> {}
}
