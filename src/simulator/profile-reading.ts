/**
 * What a simulated device of a profile measures: the readings of the profile's vectors, come alive. A value whose name the
 * scenario knows is the scenario's; another measurement moves about the value that it has in the vector; a name, a state or a count
 * stays. Pure.
 */
import { type Scenario, smokeAt, smoothNoise, weatherAt } from "./scenario.ts";

export type SimulatedReading = { readonly [name: string]: unknown };

/** Names that end in the unit of something that is measured, and so varies. */
const MEASURED = /_(?:ug_m3|per_l|per_cm3|um|ppm|v|a|w|ah|c|pct|hpa|deg|m|m_s|us_cm|mm|knots)$/;
/** By how much of itself a value moves that the scenario does not know. */
const MOVES_BY = 0.08;
const MOVES_IN_MS = 30_000;

/** The reading at `at`, milliseconds since the Unix epoch of the scenario, with the names of `template` and as many decimals. */
export function readingAt(
  template: SimulatedReading,
  scenario: Scenario,
  device: string,
  at: number,
): SimulatedReading {
  const known = knownAt(scenario, device, at);
  const entries = Object.entries(template).map(([name, value]): [string, unknown] => {
    if (typeof value !== "number") return [name, value];
    const simulated = known[name] ?? known[name.replace("_cf1_", "_")] ?? moved(name, value, scenario, device, at);
    return [name, withDecimals(simulated, decimalsOf(value))];
  });
  return Object.fromEntries(entries);
}

function knownAt(scenario: Scenario, device: string, at: number): { readonly [name: string]: number } {
  const weather = weatherAt(scenario, device, at);
  const { pm2_5_ug_m3: pm } = smokeAt(scenario, device, at);
  const uptime = Math.floor((at - scenario.startedAt) / 1000);
  return {
    ...weather,
    wind_angle_deg: weather.wind_direction_deg,
    wind_direction_magnetic_deg: (weather.wind_direction_deg + 347) % 360,
    pm1_0_ug_m3: 0.7 * pm,
    pm2_5_ug_m3: pm,
    pm4_0_ug_m3: 1.1 * pm,
    pm10_ug_m3: 1.3 * pm,
    co2_ppm: 420 + pm,
    uptime_s: uptime,
    sequence: Math.floor(uptime / 5),
    lat: scenario.lat,
    lon: scenario.lon,
  };
}

function moved(name: string, value: number, scenario: Scenario, device: string, at: number): number {
  if (!MEASURED.test(name)) return value;
  return value * (1 + MOVES_BY * smoothNoise(scenario.seed, device, name, at / MOVES_IN_MS));
}

/** How many decimals a number is written with. */
function decimalsOf(value: number): number {
  return /\.(\d+)$/.exec(String(value))?.[1]?.length ?? 0;
}

function withDecimals(value: number, decimals: number): number {
  return Number(value.toFixed(decimals));
}
