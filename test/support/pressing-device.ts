/** A device that goes on publishing what it has until it is acknowledged, and remembers what was. */
import { randomBytes } from "node:crypto";
import type { TestContext } from "node:test";
import type { MqttClient } from "mqtt";
import { device } from "./device.ts";

export interface PressingOptions {
  readonly name?: string;
  /** QoS 1 publishes that may wait for their acknowledgement. */
  readonly window?: number;
  /** Bytes of noise in each reading. */
  readonly noise?: number;
  readonly priority?: "critical" | "high" | "normal" | "low";
  /** Milliseconds between two publishes of one slot of the window. */
  readonly pauseMs?: number;
}

export class PressingDevice {
  readonly acknowledged = new Set<number>();
  readonly #client: MqttClient;
  readonly #options: Required<PressingOptions>;
  #published = 0;
  #stopped = false;

  private constructor(client: MqttClient, options: Required<PressingOptions>) {
    this.#client = client;
    this.#options = options;
    for (let slot = 0; slot < options.window; slot++) void this.#publishOn();
  }

  /** Publishes from now on. It reconnects by itself, and sends again what was not acknowledged. */
  static async start(
    t: Pick<TestContext, "after">,
    port: number,
    options: PressingOptions = {},
  ): Promise<PressingDevice> {
    const all = { name: "presser", window: 10, noise: 4000, priority: "normal" as const, pauseMs: 0, ...options };
    const client = await device(t, port, { clientId: all.name, clean: false, reconnectPeriod: 100 });
    const pressing = new PressingDevice(client, all);
    t.after(() => pressing.stop());
    return pressing;
  }

  /** What it has sent so far, acknowledged or not. */
  get published(): number {
    return this.#published;
  }

  /** Publishes nothing new any more; what is under way stays so. */
  stop(): void {
    this.#stopped = true;
  }

  async #publishOn(): Promise<void> {
    const { name, noise, priority, pauseMs } = this.#options;
    while (!this.#stopped) {
      const n = this.#published++;
      const reading = {
        ts: 1_780_000_000_000 + n,
        source: name,
        priority,
        n,
        noise: randomBytes(noise).toString("base64"),
      };
      const payload = JSON.stringify(reading);
      // The client gives up what it had not handed to a connection when that went.
      while (
        !(await this.#client.publishAsync("observations/smoke", payload, { qos: 1 }).then(
          () => true,
          () => false,
        ))
      ) {
        if (this.#stopped) return;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      this.acknowledged.add(n);
      if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }
}
