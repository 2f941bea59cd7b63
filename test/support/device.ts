import type { TestContext } from "node:test";
import { connectAsync, type IClientOptions, type MqttClient } from "mqtt";

/** A real MQTT client; it goes when the test ends, and does not come back by itself unless the options say so. */
export async function device(
  t: Pick<TestContext, "after">,
  port: number,
  options: IClientOptions = {},
): Promise<MqttClient> {
  const client = await connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 0, ...options });
  client.on("error", () => {});
  t.after(() => client.end(true));
  return client;
}
