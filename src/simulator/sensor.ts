/**
 * One simulated sensor: what it says next, as MQTT messages to the gateway's default topics (contract, section 4).
 * It speaks of every kind in turn, and always with a time of its own, so that a copy can be told from a new reading.
 * Smoke readings and alerts bring an id too; telemetry and heartbeats leave that to the gateway.
 */
import { createHash } from "node:crypto";
import { PHASES, type Phase, positionOf, type Scenario, smokeAt, weatherAt } from "./scenario.ts";

export const SENSOR_KINDS = ["smoke", "temperature"] as const;
export type SensorKind = (typeof SENSOR_KINDS)[number];

export interface Message {
  readonly topic: string;
  readonly kind: "observation" | "telemetry" | "alert" | "heartbeat";
  /** The reading's own id, where it brings one. */
  readonly id?: string;
  readonly payload: string;
}

/** When a sensor speaks. */
export interface Moment {
  /** Wall time, milliseconds since the Unix epoch: what the reading is stamped with. */
  readonly now: number;
  /** Time in the scenario, milliseconds since the Unix epoch: what the values are taken from. */
  readonly scenarioTime: number;
}

/** Every tenth message is a heartbeat. */
const HEARTBEAT_EVERY = 10;
/** Where something burns already, every twentieth message repeats the alert. */
const ALERT_EVERY = 20;

export class Sensor {
  readonly name: string;
  readonly kind: SensorKind;
  readonly #scenario: Scenario;
  readonly #position: { lat: number; lon: number };
  #count = 0;
  #alerted: Phase = "clear";

  constructor(name: string, kind: SensorKind, scenario: Scenario) {
    this.name = name;
    this.kind = kind;
    this.#scenario = scenario;
    this.#position = positionOf(scenario, name);
  }

  /** The next message. An alert is due as soon as the fire has entered a new phase. */
  next(moment: Moment): Message {
    const count = this.#count++;
    const smoke = smokeAt(this.#scenario, this.name, moment.scenarioTime);
    const escalated = PHASES.indexOf(smoke.phase) > PHASES.indexOf(this.#alerted);
    if (escalated || (smoke.phase === "active-fire" && count % ALERT_EVERY === 0)) {
      this.#alerted = smoke.phase;
      return this.#alert(count, moment);
    }
    if (count % HEARTBEAT_EVERY === HEARTBEAT_EVERY - 1) return this.#heartbeat(count, moment);
    return this.kind === "smoke" ? this.#observation(count, moment) : this.#telemetry(count, moment);
  }

  #observation(count: number, moment: Moment): Message {
    const { phase, ...smoke } = smokeAt(this.#scenario, this.name, moment.scenarioTime);
    const burning = phase === "ignition" || phase === "active-fire";
    const id = this.#id(count, moment);
    const { temperature_c } = weatherAt(this.#scenario, this.name, moment.scenarioTime);
    return {
      topic: burning ? "observations/fire" : "observations/smoke",
      kind: "observation",
      id,
      payload: this.#payload(count, moment, {
        id,
        ...this.#position,
        ...(burning ? { priority: "high" } : {}),
        ...smoke,
        temperature_c,
        phase,
      }),
    };
  }

  #telemetry(count: number, moment: Moment): Message {
    const weather = weatherAt(this.#scenario, this.name, moment.scenarioTime);
    return {
      topic: `telemetry/${this.name}`,
      kind: "telemetry",
      payload: this.#payload(count, moment, { ...weather }),
    };
  }

  #alert(count: number, moment: Moment): Message {
    const smoke = smokeAt(this.#scenario, this.name, moment.scenarioTime);
    const id = this.#id(count, moment);
    return {
      topic: `alerts/${this.name}`,
      kind: "alert",
      id,
      payload: this.#payload(count, moment, { id, ...this.#position, priority: "critical", ...smoke }),
    };
  }

  #heartbeat(count: number, moment: Moment): Message {
    return {
      topic: `health/${this.name}/heartbeat`,
      kind: "heartbeat",
      payload: this.#payload(count, moment, { battery_v: Number((12.9 - (count % 500) / 1000).toFixed(3)) }),
    };
  }

  #payload(count: number, moment: Moment, values: Record<string, unknown>): string {
    const ts_iso = new Date(moment.now).toISOString();
    return JSON.stringify({ source: this.name, ts_iso, message: count, ...values });
  }

  /** The same for the same seed, sensor, message and moment: a UUID of version 4 whose random bits can be repeated. */
  #id(count: number, moment: Moment): string {
    const bits = createHash("sha256").update(`${this.#scenario.seed}/${this.name}/${count}/${moment.now}`).digest();
    bits.writeUInt8((bits.readUInt8(6) & 0x0f) | 0x40, 6);
    bits.writeUInt8((bits.readUInt8(8) & 0x3f) | 0x80, 8);
    const hex = bits.toString("hex", 0, 16);
    return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
  }
}
