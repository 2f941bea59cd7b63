/**
 * A simulated weather mast with two serial lines: a receiver that speaks NMEA 0183, and a station that speaks CSV.
 * A line has no acknowledgement and does not wait: what nobody reads is lost, and counted here as dropped.
 */
import type { Clock } from "../kernel/clock.ts";
import { gga, mwv, rmc } from "./nmea.ts";
import { scenarioTimes } from "./pace.ts";
import { type Scenario, smokeAt, weatherAt } from "./scenario.ts";
import type { VirtualPort } from "./virtual-port.ts";

/** The columns of the CSV line, as `serial[].columns` of the gateway's configuration takes them. */
export const MAST_COLUMNS = [
  { name: "ts_iso", type: "text" },
  { name: "temperature_c", type: "number" },
  { name: "relative_humidity_pct", type: "number" },
  { name: "pressure_hpa", type: "number" },
  { name: "wind_speed_m_s", type: "number" },
  { name: "wind_direction_deg", type: "number" },
  { name: "pm2_5_ug_m3", type: "number" },
] as const;

/** Bits per second of both lines; NMEA 0183's own. */
export const MAST_BAUD_RATE = 4800;

export interface MastOptions {
  readonly name: string;
  readonly nmea?: VirtualPort;
  readonly csv?: VirtualPort;
  readonly scenario: Scenario;
  /** How fast the scenario runs; readings are stamped with the real time all the same. Default 1. */
  readonly speed?: number;
  /** Between two reports. Default 1000. */
  readonly intervalMs?: number;
  /** Speak of the wind in NMEA as well; a gateway that does not know the sentence counts it as refused. */
  readonly windSentence?: boolean;
  readonly clock: Clock;
}

export interface MastCounts {
  /** Lines put on the wire. */
  readonly nmeaLines: number;
  readonly csvLines: number;
  /** Lines that nobody was there to read. */
  readonly dropped: number;
}

const ALTITUDE_M = 1903;
const DEFAULT_INTERVAL_MS = 1000;

export class WeatherMast {
  readonly #options: MastOptions;
  readonly #nextTime: () => number;
  #cancel: (() => void) | undefined;
  #nmeaLines = 0;
  #csvLines = 0;
  #dropped = 0;

  constructor(options: MastOptions) {
    this.#options = options;
    const { scenario, speed = 1, intervalMs = DEFAULT_INTERVAL_MS } = options;
    this.#nextTime = scenarioTimes(scenario, intervalMs, speed);
  }

  start(): void {
    const { clock, intervalMs = DEFAULT_INTERVAL_MS } = this.#options;
    const report = (): void => {
      this.#report();
      this.#cancel = clock.after(intervalMs, report);
    };
    this.#cancel = clock.after(intervalMs, report);
  }

  /** Says nothing more; the ports stay open, they are their opener's. */
  stop(): MastCounts {
    this.#cancel?.();
    this.#cancel = undefined;
    return this.counts();
  }

  counts(): MastCounts {
    return { nmeaLines: this.#nmeaLines, csvLines: this.#csvLines, dropped: this.#dropped };
  }

  #report(): void {
    const { name, nmea, csv, scenario, clock } = this.#options;
    const at = clock.now();
    const scenarioTime = this.#nextTime();
    const weather = weatherAt(scenario, name, scenarioTime);
    if (nmea !== undefined) {
      const fix = { at, lat: scenario.lat, lon: scenario.lon, altitude: ALTITUDE_M };
      const sentences = [gga(fix), rmc(fix)];
      if (this.#options.windSentence === true) {
        sentences.push(mwv(weather.wind_direction_deg, weather.wind_speed_m_s));
      }
      for (const sentence of sentences) this.#nmeaLines += this.#write(nmea, sentence);
    }
    if (csv !== undefined) {
      const smoke = smokeAt(scenario, name, scenarioTime);
      const row = { ts_iso: new Date(at).toISOString(), ...weather, pm2_5_ug_m3: smoke.pm2_5_ug_m3 };
      this.#csvLines += this.#write(csv, `${MAST_COLUMNS.map((column) => row[column.name]).join(",")}\r\n`);
    }
  }

  /** How many lines went out: one or none. */
  #write(port: VirtualPort, line: string): number {
    if (port.write(line)) return 1;
    this.#dropped++;
    return 0;
  }
}
