/**
 * Serial ports: each is kept open, whatever happens to its device; its bytes become frames, its frames readings.
 *
 * A port that is missing, denied, unplugged or failing is a condition of `serial:NAME` and is tried again for ever; it
 * never disturbs another port and never ends the gateway. A serial line has no acknowledgements: while too much waits for
 * its commit the port is not read, and the little that the operating system can hold is all that is held.
 */
import { Counter } from "prom-client";
import type { Decoder } from "../codec/decoder.ts";
import { type Frame, LineFramer } from "../codec/framing.ts";
import { NmeaDecoder } from "../codec/nmea.ts";
import { CsvDecoder, JsonDecoder } from "../codec/text.ts";
import type { SerialPortConfig } from "../config/schema.ts";
import type { Clock } from "../kernel/clock.ts";
import type { Conditions } from "../kernel/conditions.ts";
import { GatewayError } from "../kernel/errors.ts";
import type { Logger, Telemetry } from "../kernel/telemetry.ts";
import { openDevicePort } from "./device-port.ts";
import type { Intake, Origin } from "./intake.ts";
import { openNetworkPort } from "./network-port.ts";
import type { OpenOutcome, Port, PortFault, PortSurroundings } from "./port.ts";

export interface SerialParts {
  readonly intake: Intake;
  readonly clock: Clock;
  /** Uniform in 0..1, 1 excluded. */
  readonly random: () => number;
  readonly conditions: Conditions;
  readonly telemetry: Telemetry;
}

/** `open`: being read; `waiting`: not open, tried again by itself; `closed`: not started, or stopped. */
export interface SerialStatus {
  readonly name: string;
  readonly kind: "serial";
  readonly state: "open" | "waiting" | "closed";
  readonly detail?: string;
}

type DiscardCounter = Counter<"port" | "reason">;

const CONDITION_CODES = {
  missing: "serial-port-missing",
  denied: "serial-permission",
  failed: "serial-failed",
} as const satisfies Record<PortFault["kind"], string>;

/**
 * A source for each configured port, not started yet.
 * Throws a `GatewayError` `CONFIG_INVALID` where a port lacks what its codec needs.
 */
export function createSerialSources(ports: readonly SerialPortConfig[], parts: SerialParts): SerialSource[] {
  const discarded: DiscardCounter = new Counter({
    name: "summit_edge_serial_frames_discarded_total",
    help: "Frames of a serial port that were given up before they could be decoded, by reason.",
    labelNames: ["port", "reason"],
    registers: [parts.telemetry.metrics],
  });
  return ports.map((port) => new SerialSource(port, parts, discarded));
}

export class SerialSource {
  readonly #config: SerialPortConfig;
  readonly #parts: SerialParts;
  readonly #discarded: DiscardCounter;
  readonly #log: Logger;
  readonly #decoder: Decoder;
  readonly #origin: Origin;
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #status: Pick<SerialStatus, "state" | "detail"> = { state: "closed" };
  #port: Port | undefined;
  /** Whether the port is paused until the intake has room again. */
  #heldBack = false;
  /** Faults since data last flowed; a device that is not there is none. */
  #failures = 0;

  constructor(config: SerialPortConfig, parts: SerialParts, discarded: DiscardCounter) {
    this.#config = config;
    this.#parts = parts;
    this.#discarded = discarded;
    this.#log = parts.telemetry.log.child({ component: `serial:${config.name}` });
    this.#decoder = createDecoder(config);
    this.#origin = {
      kind: "serial",
      name: config.name,
      source: config.source ?? config.name,
      class: config.class ?? this.#decoder.defaultClass,
      ...(config.priority === undefined ? {} : { priority: config.priority }),
      via: config.path,
    };
  }

  status(): SerialStatus {
    return { name: this.#config.name, kind: "serial", ...this.#status };
  }

  /** Resolves when the first attempt to open the port has ended, well or not. Never rejects. */
  async start(): Promise<void> {
    if (this.#running !== undefined) return;
    this.#status = { state: "waiting" };
    await new Promise<void>((attempted) => {
      this.#running = this.#keepOpen(attempted);
    });
  }

  /** Resolves once the port is closed and everything read from it has been submitted. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    this.#status = { state: "closed" };
  }

  async #keepOpen(attempted: () => void): Promise<void> {
    const { clock } = this.#parts;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const outcome = await openPort(this.#config, { clock, signal });
      let fault: PortFault | undefined;
      if (outcome.kind === "open") {
        this.#opened(outcome.port);
        attempted();
        fault = await this.#readUntilClosed(outcome.port);
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

  #opened(port: Port): void {
    this.#port = port;
    this.#status = { state: "open" };
    this.#parts.conditions.clearAll(`serial:${this.#config.name}`);
    this.#log.info({ path: this.#config.path }, "serial port open");
    if (this.#heldBack) port.pause();
  }

  /** Why the port went; `undefined` where it was stopped. */
  async #readUntilClosed(port: Port): Promise<PortFault | undefined> {
    const framer = new LineFramer(this.#config.maxFrameBytes);
    const { signal } = this.#stopping;
    const fault = await new Promise<PortFault | undefined>((resolve) => {
      const stop = (): void => void port.close().then(() => resolve(undefined));
      if (signal.aborted) return stop();
      signal.addEventListener("abort", stop, { once: true });
      port.read({
        onData: (chunk) => {
          this.#failures = 0;
          this.#take(framer.push(chunk));
        },
        onClosed: (reason) => {
          signal.removeEventListener("abort", stop);
          resolve(reason);
        },
      });
    });
    this.#port = undefined;
    this.#take(framer.end());
    return fault;
  }

  #take(frames: readonly Frame[]): void {
    const { intake, clock } = this.#parts;
    for (const frame of frames) {
      if (frame.kind === "discarded") {
        this.#discarded.inc({ port: this.#config.name, reason: frame.reason });
        // A frame that was cut when the port went was never said to its end: nothing to refuse.
        if (frame.reason === "unfinished") continue;
        const detail = `a frame of ${frame.length} bytes where ${this.#config.maxFrameBytes} are allowed`;
        intake.refuse("invalid", detail, frame.bytes, this.#origin);
        continue;
      }
      const decoded = this.#decoder.decode(frame.bytes, clock.monotonic());
      if (decoded.kind === "reading") intake.submit(decoded.payload, this.#origin);
      else if (decoded.kind === "refused") intake.refuse("invalid", decoded.detail, frame.bytes, this.#origin);
    }
    if (intake.saturated) this.#holdBack();
  }

  #holdBack(): void {
    if (this.#heldBack) return;
    this.#heldBack = true;
    this.#port?.pause();
    this.#parts.intake.onceRelieved(() => {
      this.#heldBack = false;
      this.#port?.resume();
    });
  }

  #report({ kind, detail }: PortFault): void {
    const { conditions } = this.#parts;
    const component = `serial:${this.#config.name}`;
    this.#status = { state: "waiting", detail };
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

function openPort(config: SerialPortConfig, surroundings: PortSurroundings): Promise<OpenOutcome> {
  if (config.path.startsWith("tcp://")) return openNetworkPort(config.path, surroundings);
  return openDevicePort(config.path, config, surroundings);
}

function createDecoder(config: SerialPortConfig): Decoder {
  switch (config.codec) {
    case "json":
      return new JsonDecoder();
    case "nmea0183":
      return new NmeaDecoder();
    case "csv":
      if (config.columns === undefined) {
        throw new GatewayError({
          code: "CONFIG_INVALID",
          op: "serial.configure",
          message: `serial port ${config.name} has codec csv but no columns`,
          hint: "Name the columns in order, for example columns: [temperature_c, humidity_pct].",
        });
      }
      return new CsvDecoder(config.columns, config.separator);
  }
}
