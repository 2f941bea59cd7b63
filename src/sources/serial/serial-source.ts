/**
 * Serial ports: each is kept open, whatever happens to its device. What is done with an open one is its use (port-use.ts): what
 * comes is read, or its devices are asked.
 *
 * A port that is missing, denied, unplugged or failing is a condition of `serial:NAME` and is tried again for ever; it
 * never disturbs another port and never ends the gateway. A serial line has no acknowledgements: while too much waits for
 * its commit the port is not read, and the little that the operating system can hold is all that is held.
 */
import type { SerialPortConfig } from "../../config/schema.ts";
import type { Clock } from "../../kernel/clock.ts";
import type { Conditions } from "../../kernel/conditions.ts";
import type { Logger, Telemetry } from "../../kernel/telemetry.ts";
import type { DeviceRoots } from "../../kernel/usb-serial.ts";
import type { Intake } from "../intake.ts";
import { openDevicePort } from "./device-port.ts";
import { openNetworkPort } from "./network-port.ts";
import { PortPolling } from "./polling/port-polling.ts";
import type { OpenOutcome, Port, PortFault, PortSurroundings } from "./port.ts";
import { placeOf, placeText } from "./port-place.ts";
import { PortStream } from "./port-stream.ts";
import { createSerialMeters, type PortUse, type SerialMeters } from "./port-use.ts";
import { SerialTraffic, type TrafficCounts } from "./traffic.ts";

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
  const meters = createSerialMeters(parts.telemetry.metrics);
  return ports.map((port) => new SerialSource(port, parts, meters));
}

export class SerialSource {
  /** What comes over the port, for whoever looks on. */
  readonly traffic: SerialTraffic = new SerialTraffic();
  readonly #config: SerialPortConfig;
  readonly #parts: SerialParts;
  readonly #use: PortUse;
  readonly #log: Logger;
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #status: Pick<SerialStatus, "state" | "since" | "detail">;
  /** Where the port was found last. */
  #device: string | undefined;
  #reopen = (): void => {};
  /** Faults since data last flowed; a device that is not there is none. */
  #failures = 0;

  constructor(config: SerialPortConfig, parts: SerialParts, meters: SerialMeters) {
    this.#config = config;
    this.#parts = parts;
    this.#status = { state: "closed", since: parts.clock.now() };
    this.#log = parts.telemetry.log.child({ component: `serial:${config.name}` });
    const isPolled = [config.modbus, config.sdi12, config.poll].some((way) => way !== undefined);
    const { traffic } = this;
    const useParts = { ...parts, meters, traffic, log: this.#log, reopen: () => this.#reopen() };
    this.#use = isPolled ? new PortPolling(config, useParts) : new PortStream(config, useParts);
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
    await this.#use.prepare();
    while (!signal.aborted) {
      const outcome = await this.#open({ clock, signal });
      let fault: PortFault | undefined;
      if (outcome.kind === "open") {
        this.#opened(outcome.port);
        attempted();
        fault = await this.#useUntilClosed(outcome.port);
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
    this.#become("open");
    this.traffic.opened(this.#device ?? placeText(this.#config));
    for (const code of Object.values(CONDITION_CODES)) {
      this.#parts.conditions.clear(`serial:${this.#config.name}`, code);
    }
    this.#log.info({ path: placeText(this.#config), device: this.#device }, "serial port open");
    this.#use.opened(port);
  }

  /** Why the port went; `undefined` where it was stopped, or is to be opened anew. */
  async #useUntilClosed(port: Port): Promise<PortFault | undefined> {
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
          this.#use.heard(chunk);
        },
        onClosed: (reason) => {
          signal.removeEventListener("abort", stop);
          resolve(reason);
        },
      });
    });
    await this.#use.closed(fault);
    return fault;
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
