/**
 * Simulated sensors as MQTT clients, one connection each, QoS 1.
 *
 * - Every message is either acknowledged, still waiting for its acknowledgement, or was never published; the counts
 *   say which, so that both ends of the road can be compared.
 * - A client reconnects by itself, about once a second, and then sends again what was not acknowledged, as it was.
 * - No more than `maxUnacknowledged` messages wait per sensor; beyond it a sensor says nothing, and that is counted.
 */
import mqtt from "mqtt";
import type { Clock } from "../kernel/clock.ts";
import { messageOf } from "../kernel/errors.ts";
import { type Logger, RateLimit } from "../kernel/telemetry.ts";
import { scenarioTimes } from "./pace.ts";
import type { Scenario } from "./scenario.ts";
import { type Message, type Moment, SENSOR_KINDS, Sensor } from "./sensor.ts";

export interface BrokerAddress {
  /** `mqtt://host:port` or `mqtts://host:port`. */
  readonly url: string;
  /** PEM: the authorities to trust, and the devices' own certificate. */
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly username?: string;
  readonly password?: string;
}

export interface FleetOptions {
  readonly broker: BrokerAddress;
  readonly devices: number;
  /** Messages per second, all sensors together. */
  readonly rate: number;
  readonly scenario: Scenario;
  /** How fast the scenario runs; readings are stamped with the real time all the same. Default 1. */
  readonly speed?: number;
  /** Messages per sensor that may wait for their acknowledgement. Default 100. */
  readonly maxUnacknowledged?: number;
  readonly clock: Clock;
  readonly log: Pick<Logger, "info" | "warn">;
}

export interface FleetCounts {
  /** Messages handed to MQTT: `acknowledged` and those that still wait. */
  readonly published: number;
  /** Messages whose PUBACK came. */
  readonly acknowledged: number;
  /** Messages that were due and not published, because too many waited already. */
  readonly skipped: number;
  readonly connected: number;
  readonly acknowledgedByKind: Readonly<Record<Message["kind"], number>>;
}

const TICK_MS = 20;
const RECONNECT_MS = 1000;
const CONNECT_TIMEOUT_MS = 10_000;
/** Ids of acknowledged readings that are remembered; the oldest go first. */
const MAX_REMEMBERED_IDS = 100_000;
/** After a pause (a suspended machine, a debugger) at most so many seconds are made up for. */
const MAX_CATCH_UP_S = 1;

export class SensorFleet {
  readonly #options: FleetOptions;
  readonly #publishers: Publisher[] = [];
  readonly #acknowledgedIds = new Set<string>();
  readonly #acknowledgedByKind = { observation: 0, telemetry: 0, alert: 0, heartbeat: 0 };
  readonly #faultLog: RateLimit;
  readonly #onIdle = new Set<() => void>();
  #stopTicking: (() => void) | undefined;
  #next = 0;
  #lastFault: unknown;

  constructor(options: FleetOptions) {
    this.#options = options;
    this.#faultLog = new RateLimit(options.clock, 3, 30_000);
  }

  /** Connects every sensor and begins to publish; a broker that is away is waited for. */
  start(): void {
    if (this.#publishers.length > 0) throw new Error("the fleet has been started already");
    const { devices, scenario, broker } = this.#options;
    for (let index = 0; index < devices; index++) {
      const kind = SENSOR_KINDS[index % SENSOR_KINDS.length] ?? "smoke";
      const name = `${kind}-${String(index + 1).padStart(2, "0")}`;
      this.#publishers.push(
        new Publisher(new Sensor(name, kind, scenario), broker, this.#options.maxUnacknowledged ?? 100, {
          acknowledged: (message) => this.#acknowledged(message),
          settled: () => this.#settled(),
          failed: (error) => this.#failed(name, error),
        }),
      );
    }
    this.#publishAtRate();
  }

  /**
   * Publishes nothing more, waits up to `drainMs` for what was published to be acknowledged, and disconnects.
   * Returns the final counts, taken before the connections went.
   */
  async stop(drainMs: number): Promise<FleetCounts> {
    this.#stopTicking?.();
    this.#stopTicking = undefined;
    await this.#idle(drainMs);
    const counts = this.counts();
    await Promise.all(this.#publishers.map((publisher) => publisher.end()));
    return counts;
  }

  counts(): FleetCounts {
    const sum = (pick: (publisher: Publisher) => number): number =>
      this.#publishers.reduce((total, publisher) => total + pick(publisher), 0);
    return {
      published: sum((publisher) => publisher.published),
      acknowledged: sum((publisher) => publisher.acknowledged),
      skipped: sum((publisher) => publisher.skipped),
      connected: sum((publisher) => (publisher.connected ? 1 : 0)),
      acknowledgedByKind: { ...this.#acknowledgedByKind },
    };
  }

  /** Why a sensor was last not connected; `undefined` where that was never so. */
  get lastFault(): unknown {
    return this.#lastFault;
  }

  /** Ids of acknowledged readings that brought one, the newest 100,000: each of them has to arrive at fusion. */
  acknowledgedIds(): ReadonlySet<string> {
    return this.#acknowledgedIds;
  }

  #publishAtRate(): void {
    const { clock, rate, scenario, speed = 1 } = this.#options;
    const nextTime = scenarioTimes(scenario, 1000 / rate, speed);
    let due = 0;
    let last = clock.monotonic();
    const tick = (): void => {
      const elapsed = clock.monotonic() - last;
      last += elapsed;
      due = Math.min(due + (elapsed / 1000) * rate, Math.max(1, rate * MAX_CATCH_UP_S));
      const now = clock.now();
      for (; due >= 1; due--) this.#publisherInTurn()?.publish({ now, scenarioTime: nextTime() });
      this.#stopTicking = clock.after(TICK_MS, tick);
    };
    this.#stopTicking = clock.after(TICK_MS, tick);
  }

  #publisherInTurn(): Publisher | undefined {
    const publisher = this.#publishers[this.#next];
    this.#next = (this.#next + 1) % Math.max(1, this.#publishers.length);
    return publisher;
  }

  #acknowledged(message: Message): void {
    this.#acknowledgedByKind[message.kind]++;
    if (message.id === undefined) return;
    this.#acknowledgedIds.add(message.id);
    if (this.#acknowledgedIds.size <= MAX_REMEMBERED_IDS) return;
    const [oldest] = this.#acknowledgedIds;
    if (oldest !== undefined) this.#acknowledgedIds.delete(oldest);
  }

  #settled(): void {
    if (this.#onIdle.size === 0 || this.#waiting() > 0) return;
    for (const wake of this.#onIdle) wake();
  }

  #waiting(): number {
    return this.#publishers.reduce((total, publisher) => total + publisher.unacknowledged, 0);
  }

  async #idle(deadlineMs: number): Promise<void> {
    if (this.#waiting() === 0) return;
    const idle = new AbortController();
    const wake = (): void => idle.abort();
    this.#onIdle.add(wake);
    await this.#options.clock.sleep(deadlineMs, idle.signal);
    this.#onIdle.delete(wake);
  }

  #failed(name: string, error: unknown): void {
    this.#lastFault = error;
    const heldBack = this.#faultLog.admit();
    if (heldBack === undefined) return;
    const { url } = this.#options.broker;
    this.#options.log.warn(
      { device: name, heldBack },
      `no connection to ${new URL(url).host}: ${messageOf(error)}; trying again every second`,
    );
  }
}

interface PublisherEvents {
  acknowledged(message: Message): void;
  /** One message less waits, for whatever reason. */
  settled(): void;
  failed(error: unknown): void;
}

/** One sensor and its MQTT connection. */
class Publisher {
  readonly #sensor: Sensor;
  readonly #client: mqtt.MqttClient;
  readonly #maxUnacknowledged: number;
  readonly #events: PublisherEvents;
  published = 0;
  acknowledged = 0;
  skipped = 0;
  unacknowledged = 0;

  constructor(sensor: Sensor, broker: BrokerAddress, maxUnacknowledged: number, events: PublisherEvents) {
    this.#sensor = sensor;
    this.#maxUnacknowledged = maxUnacknowledged;
    this.#events = events;
    const { url, ...credentials } = broker;
    this.#client = mqtt.connect(url, {
      ...credentials,
      clientId: sensor.name,
      clean: true,
      reconnectPeriod: RECONNECT_MS,
      connectTimeout: CONNECT_TIMEOUT_MS,
    });
    this.#client.on("error", (error) => events.failed(error));
  }

  get connected(): boolean {
    return this.#client.connected;
  }

  publish(moment: Moment): void {
    if (this.unacknowledged >= this.#maxUnacknowledged) {
      this.skipped++;
      return;
    }
    const message = this.#sensor.next(moment);
    this.published++;
    this.unacknowledged++;
    this.#client.publish(message.topic, message.payload, { qos: 1 }, (error) => {
      this.unacknowledged--;
      if (!error) {
        this.acknowledged++;
        this.#events.acknowledged(message);
      }
      this.#events.settled();
    });
  }

  /** Says goodbye to the broker; with messages still waiting there is nothing to wait for. */
  async end(): Promise<void> {
    await this.#client.endAsync(this.unacknowledged > 0);
  }
}
