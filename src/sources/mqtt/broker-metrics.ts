/** What the broker itself counts. */
import { Counter, Gauge } from "prom-client";
import type { Telemetry } from "../../kernel/telemetry.ts";

/** Registers the broker's metrics; `connections` says how many are open, `unrouted` how many messages nobody took. */
export function countersIn(metrics: Telemetry["metrics"], connections: () => number, unrouted: () => number) {
  new Gauge({
    name: "summit_edge_mqtt_connections",
    help: "MQTT connections open.",
    registers: [metrics],
    collect() {
      this.set(connections());
    },
  });
  new Counter({
    name: "summit_edge_mqtt_unrouted_total",
    help: "MQTT messages that no route of mqtt.routes matched and no subscriber took: not stored.",
    registers: [metrics],
    collect() {
      this.reset();
      this.inc(unrouted());
    },
  });
  return {
    faults: new Counter({
      name: "summit_edge_mqtt_protocol_faults_total",
      help: "MQTT connections ended because their client violated the protocol, by kind of fault.",
      labelNames: ["reason"],
      registers: [metrics],
    }),
    dropped: new Counter({
      name: "summit_edge_mqtt_dropped_total",
      help: "Messages for subscribers, retained messages and sessions dropped at a bound; never readings.",
      labelNames: ["what"],
      registers: [metrics],
    }),
  };
}
