/**
 * Serial ports: each is kept open, whatever happens to its device; its bytes become frames, its frames readings.
 *
 * A port that is missing, denied, unplugged or failing is a condition of `serial:NAME` and is tried again for ever; it
 * never disturbs another port and never ends the gateway. A serial line has no acknowledgements: while too much waits for
 * its commit the port is not read, and the little that the operating system can hold is all that is held.
 */
import { Counter, type CounterConfiguration } from "prom-client";
import type { Decoder } from "../codec/decoder.ts";
import type { Frame } from "../codec/framing.ts";
import { defaultClassOf, type PipelineConfig } from "../codec/pipeline-config.ts";
import type { SerialPortConfig } from "../config/schema.ts";
import type { Clock } from "../kernel/clock.ts";
import type { Conditions } from "../kernel/conditions.ts";
import type { Logger, Telemetry } from "../kernel/telemetry.ts";
import type { DeviceRoots } from "../kernel/usb-serial.ts";
import { openDevicePort } from "./device-port.ts";
import type { Intake, Origin } from "./intake.ts";
import { LineWatch, throttleCounter } from "./line-watch.ts";
import { openNetworkPort } from "./network-port.ts";
import type { OpenOutcome, Port, PortFault, PortSurroundings } from "./port.ts";
import { placeOf, placeText } from "./port-place.ts";
import { checkedPipeline, discardDetail, FrameStream, loadPipeline, type Pipeline } from "./serial-pipeline.ts";
import { SerialTraffic, type TrafficCounts } from "./serial-traffic.ts";

export interface SerialParts {
  readonly intake: Intake;
  readonly clock: Clock;
  /** Uniform in 0..1, 1 excluded. */
  readonly random: () => number;
  readonly conditions: Conditions;
  readonly telemetry: Telemetry;
  /** Where USB adapters are looked up; by default the machine's own folders. */
  readonly devices?: DeviceRoots;
}

/** `open`: being read; `waiting`: not open, tried again by itself; `closed`: not started, or stopped. */
export interface SerialStatus {
  readonly name: string;
  readonly kind: "serial";
  readonly state: "open" | "waiting" | "closed";
  /** Wall time in milliseconds. */
  readonly since: number;
  /** The port as the configuration names it. */
  readonly path: string;
  /** The device that it was found at last; absent before the first attempt, and where none was found. */
  readonly device?: string;
  /** Why it is not open. */
  readonly detail?: string;
  readonly traffic: TrafficCounts;
}

interface DiscardCounters {
  readonly frames: Counter<"port" | "reason">;
  readonly bytes: Counter<"port" | "reason">;
}

const CONDITION_CODES = {
  missing: "serial-port-missing",
  ambiguous: "serial-port-ambiguous",
  denied: "serial-permission",
  failed: "serial-failed",
} as const satisfies Record<PortFault["kind"], string>;

/**
 * A source for each configured port, not started yet.
 * Throws a `GatewayError` `CONFIG_INVALID` where a port lacks what its codec needs.
 */
export function createSerialSources(ports: readonly SerialPortConfig[], parts: SerialParts): SerialSource[] {
  const labels: Pick<CounterConfiguration<"port" | "reason">, "labelNames" | "registers"> = {
    labelNames: ["port", "reason"],
    registers: [parts.telemetry.metrics],
  };
  const discarded: DiscardCounters = {
    frames: new Counter({
      name: "summit_edge_serial_frames_discarded_total",
      help: "Frames of a serial port, and stretches of noise, that were given up before they could be decoded, by reason.",
      ...labels,
    }),
    bytes: new Counter({
      name: "summit_edge_serial_discarded_bytes_total",
      help: "Bytes of a serial port that were given up before they could be decoded, by reason.",
      ...labels,
    }),
  };
  const throttled = throttleCounter(parts.telemetry.metrics);
  return ports.map((port) => new SerialSource(port, parts, discarded, throttled));
}

export class SerialSource {
  /** What comes over the port, for whoever looks on. */
  readonly traffic: SerialTraffic = new SerialTraffic();
  readonly #config: SerialPortConfig;
  readonly #pipeline: PipelineConfig;
  readonly #parts: SerialParts;
  readonly #discarded: DiscardCounters;
  readonly #throttled: Counter<"port">;
  readonly #watch: LineWatch;
  readonly #log: Logger;
  readonly #origin: Origin;
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #status: Pick<SerialStatus, "state" | "since" | "detail">;
  #port: Port | undefined;
  /** Where the port was found last. */
  #device: string | undefined;
  /** Whether the port is paused until the intake has room again. */
  #heldBack = false;
  /** Waits for the end of a pause for too much having come; `undefined` where there is none. */
  #cancelThrottle: (() => void) | undefined;
  #reopen = (): void => {};
  /** Faults since data last flowed; a device that is not there is none. */
  #failures = 0;

  constructor(config: SerialPortConfig, parts: SerialParts, discarded: DiscardCounters, throttled: Counter<"port">) {
    this.#config = config;
    this.#parts = parts;
    this.#discarded = discarded;
    this.#throttled = throttled;
    this.#status = { state: "closed", since: parts.clock.now() };
    this.#watch = new LineWatch(config, {
      clock: parts.clock,
      conditions: parts.conditions,
      isHeldBack: () => this.#heldBack,
      reopen: () => this.#reopen(),
      throttle: (ms) => this.#throttle(ms),
    });
    this.#log = parts.telemetry.log.child({ component: `serial:${config.name}` });
    this.#pipeline = checkedPipeline(config);
    this.#origin = {
      kind: "serial",
      name: config.name,
      source: config.source ?? config.name,
      class: config.class ?? defaultClassOf(this.#pipeline.codec),
      ...(config.priority === undefined ? {} : { priority: config.priority }),
      via: placeText(config),
    };
  }

  status(): SerialStatus {
    return {
      name: this.#config.name,
      kind: "serial",
      path: placeText(this.#config),
      ...(this.#device === undefined ? {} : { device: this.#device }),
      ...this.#status,
      traffic: this.traffic.counts(),
    };
  }

  /** The port as it is configured. */
  get config(): SerialPortConfig {
    return this.#config;
  }

  /** Resolves when the first attempt to open the port has ended, well or not. Never rejects. */
  async start(): Promise<void> {
    if (this.#running !== undefined) return;
    this.#become("waiting");
    await new Promise<void>((attempted) => {
      this.#running = this.#keepOpen(attempted);
    });
  }

  /** Resolves once the port is closed and everything read from it has been submitted. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    this.#become("closed");
    this.traffic.end();
  }

  #become(state: SerialStatus["state"], detail?: string): void {
    const since = state === this.#status.state ? this.#status.since : this.#parts.clock.now();
    this.#status = { state, since, ...(detail === undefined ? {} : { detail }) };
  }

  async #keepOpen(attempted: () => void): Promise<void> {
    const { clock } = this.#parts;
    const { signal } = this.#stopping;
    const pipeline = await loadPipeline(this.#pipeline);
    while (!signal.aborted) {
      const outcome = await this.#open({ clock, signal });
      let fault: PortFault | undefined;
      if (outcome.kind === "open") {
        this.#opened(outcome.port);
        attempted();
        fault = await this.#readUntilClosed(outcome.port, pipeline);
      } else {
        fault = outcome;
      }
      if (fault !== undefined && !signal.aborted) {
        this.#report(fault);
        attempted();
        await clock.sleep(this.#delayAfter(fault), signal);
      }
    }
    attempted();
  }

  async #open(surroundings: PortSurroundings): Promise<OpenOutcome> {
    const place = await placeOf(this.#config, this.#parts.devices);
    this.#device = place.kind === "found" ? place.path : undefined;
    if (place.kind !== "found") return place;
    if (place.path.startsWith("tcp://")) return openNetworkPort(place.path, surroundings);
    return openDevicePort(place.path, this.#config, surroundings);
  }

  #opened(port: Port): void {
    this.#port = port;
    this.#become("open");
    this.traffic.opened(this.#device ?? placeText(this.#config));
    for (const code of Object.values(CONDITION_CODES)) {
      this.#parts.conditions.clear(`serial:${this.#config.name}`, code);
    }
    this.#watch.opened();
    this.#log.info({ path: placeText(this.#config), device: this.#device }, "serial port open");
    if (this.#heldBack) port.pause();
  }

  /** Why the port went; `undefined` where it was stopped. */
  async #readUntilClosed(port: Port, { decoder, framer }: Pipeline): Promise<PortFault | undefined> {
    const stream = new FrameStream(framer(), this.#parts.clock, (frames) => this.#take(frames, decoder));
    const { signal } = this.#stopping;
    const fault = await new Promise<PortFault | undefined>((resolve) => {
      const stop = (): void => void port.close().then(() => resolve(undefined));
      if (signal.aborted) return stop();
      signal.addEventListener("abort", stop, { once: true });
      this.#reopen = () => {
        signal.removeEventListener("abort", stop);
        stop();
      };
      port.read({
        onData: (chunk) => {
          this.#failures = 0;
          this.traffic.heard(chunk);
          this.#watch.heard(chunk);
          stream.push(chunk);
          this.#watch.settle(chunk);
        },
        onClosed: (reason) => {
          signal.removeEventListener("abort", stop);
          resolve(reason);
        },
      });
    });
    this.#port = undefined;
    stream.end();
    this.#cancelThrottle?.();
    this.#cancelThrottle = undefined;
    this.#watch.closed();
    return fault;
  }

  #take(frames: readonly Frame[], decoder: Decoder): void {
    const { intake, clock } = this.#parts;
    for (const frame of frames) {
      if (frame.kind === "discarded") {
        this.#watch.judged("discarded");
        this.traffic.discarded(frame);
        this.#discarded.frames.inc({ port: this.#config.name, reason: frame.reason });
        this.#discarded.bytes.inc({ port: this.#config.name, reason: frame.reason }, frame.length);
        const detail = discardDetail(frame, this.#pipeline);
        if (detail !== undefined) intake.refuse("invalid", detail, frame.bytes, this.#origin);
        continue;
      }
      const decoded = decoder.decode(frame.bytes, clock.monotonic(), clock.now());
      this.#watch.judged(decoded.kind === "refused" ? "refused" : "good");
      if (decoded.kind === "reading") {
        const origin = this.#originOf(decoded.class);
        this.traffic.read(frame.bytes, decoded, origin.class, intake.submit(decoded.payload, origin));
        continue;
      }
      this.traffic.decoded(frame.bytes, decoded);
      if (decoded.kind === "refused") intake.refuse("invalid", decoded.detail, frame.bytes, this.#origin);
    }
    if (intake.saturated) this.#holdBack();
  }

  /**
   * The codec's class for this kind of reading counts where the port names none of its own, or just the codec's usual one: on a
   * port of class `position`, wind is still wind.
   */
  #originOf(ownClass: string | undefined): Origin {
    const { class: portClass } = this.#config;
    if (ownClass === undefined) return this.#origin;
    if (portClass !== undefined && portClass !== defaultClassOf(this.#pipeline.codec)) return this.#origin;
    return { ...this.#origin, class: ownClass };
  }

  #holdBack(): void {
    if (this.#heldBack) return;
    this.#heldBack = true;
    this.#port?.pause();
    this.#parts.intake.onceRelieved(() => {
      this.#heldBack = false;
      this.#watch.resumed();
      if (this.#cancelThrottle === undefined) this.#port?.resume();
    });
  }

  #throttle(ms: number): void {
    this.#throttled.inc({ port: this.#config.name });
    this.#port?.pause();
    this.#cancelThrottle?.();
    this.#cancelThrottle = this.#parts.clock.after(ms, () => {
      this.#cancelThrottle = undefined;
      if (!this.#heldBack) this.#port?.resume();
    });
  }

  #report({ kind, detail }: PortFault): void {
    const { conditions } = this.#parts;
    const component = `serial:${this.#config.name}`;
    // The same fault again, after each further attempt, is no news.
    if (this.#status.state !== "waiting" || this.#status.detail !== detail) this.traffic.closed(detail);
    this.#become("waiting", detail);
    conditions.raise(component, CONDITION_CODES[kind], "degraded", detail);
    for (const code of Object.values(CONDITION_CODES)) {
      if (code !== CONDITION_CODES[kind]) conditions.clear(component, code);
    }
  }

  /**
   * Milliseconds until the next attempt, between `reopen.initial` and `reopen.max`. To look for a device that is not there
   * costs next to nothing, so that the wait does not grow: one that is plugged in again is read again at once.
   */
  #delayAfter(fault: PortFault): number {
    const { initial, max } = this.#config.reopen;
    if (fault.kind === "missing") return initial;
    const ceiling = Math.max(initial, Math.min(max, initial * 2 ** this.#failures));
    this.#failures++;
    return initial + this.#parts.random() * (ceiling - initial);
  }
}
