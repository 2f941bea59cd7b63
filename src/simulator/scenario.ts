/**
 * What the simulated site goes through: a late-summer day in the mountains, and a fire that starts in it.
 *
 * Pure: every value is a function of the scenario (its seed included), the device and the time asked for, so that a run
 * can be repeated and a value can be computed without those before it. Neighbouring moments give neighbouring values.
 * It is plausible, not physical: good enough to look at and to test with, not to learn about fires from.
 */
import { chanceOf } from "./random.ts";

export const SCENARIO_KINDS = ["day", "ignition"] as const;
export type ScenarioKind = (typeof SCENARIO_KINDS)[number];

/** In the order in which a fire goes through them; it never goes back. */
export const PHASES = ["clear", "smoke", "ignition", "active-fire"] as const;
export type Phase = (typeof PHASES)[number];

export interface Scenario {
  readonly kind: ScenarioKind;
  readonly seed: number;
  /** Where the site is, in degrees. */
  readonly lat: number;
  readonly lon: number;
  /** Milliseconds since the Unix epoch; an ignition counts its phases from here. */
  readonly startedAt: number;
}

export interface Weather {
  readonly temperature_c: number;
  readonly relative_humidity_pct: number;
  readonly pressure_hpa: number;
  readonly wind_speed_m_s: number;
  /** Where it blows from, 0 up to 360. */
  readonly wind_direction_deg: number;
}

export interface Smoke {
  readonly phase: Phase;
  /** How sure the detector is that something burns: 0..1, never falling once a fire has begun. */
  readonly confidence: number;
  readonly pm2_5_ug_m3: number;
}

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** When the nearest device enters each phase, after the start, and how sure it then is. */
const ESCALATION = [
  { phase: "smoke", afterMs: 1 * MINUTE_MS, confidence: 0.35 },
  { phase: "ignition", afterMs: 3 * MINUTE_MS, confidence: 0.7 },
  { phase: "active-fire", afterMs: 5 * MINUTE_MS, confidence: 0.9 },
] as const;
/** From here on the detector is as sure as it gets. */
const CERTAIN = { afterMs: 10 * MINUTE_MS, confidence: 0.99 } as const;
const CLEAR_CONFIDENCE = 0.05;
/** The farthest device notices the fire this much later than the nearest. */
const FARTHEST_DELAY_MS = 30_000;

/** The weather at a device at the time `at` (milliseconds since the Unix epoch). */
export function weatherAt(scenario: Scenario, device: string, at: number): Weather {
  const noise = (channel: string, periodMs: number): number =>
    smoothNoise(scenario.seed, device, channel, at / periodMs);
  const hour = solarHour(scenario.lon, at);
  const warmth = Math.cos(((hour - 15) / 24) * 2 * Math.PI);
  const heat = 12 * fireIntensity(scenario, device, at) ** 2;
  const temperature = 19 + 9 * warmth + 1.5 * noise("temperature", 20 * MINUTE_MS) + heat;
  const dewPoint = Math.min(temperature, 4 + 2 * noise("dew-point", 3 * HOUR_MS));
  const tide = Math.cos(((hour - 10) / 12) * 2 * Math.PI);
  const breeze = 2 + 2.5 * Math.max(0, warmth) + 1.5 * noise("wind", 5 * MINUTE_MS);
  const slope = warmth > 0 ? 225 : 45;
  return {
    temperature_c: round(temperature, 2),
    relative_humidity_pct: round((100 * vapourPressure(dewPoint)) / vapourPressure(temperature), 1),
    pressure_hpa: round(806 + 1.2 * tide + 3 * noise("pressure", 12 * HOUR_MS), 1),
    wind_speed_m_s: round(Math.max(0, breeze), 1),
    wind_direction_deg: Math.round(slope + 40 * noise("direction", 15 * MINUTE_MS) + 360) % 360,
  };
}

/** What a smoke detector makes of the air at the time `at` (milliseconds since the Unix epoch). */
export function smokeAt(scenario: Scenario, device: string, at: number): Smoke {
  const background = 7 + 4 * smoothNoise(scenario.seed, device, "pm2_5", at / (10 * MINUTE_MS));
  const plume = 480 * fireIntensity(scenario, device, at) ** 1.5;
  return {
    phase: phaseAt(scenario, device, at),
    confidence: round(confidenceAt(scenario, device, at), 3),
    pm2_5_ug_m3: round(background + plume, 1),
  };
}

export function phaseAt(scenario: Scenario, device: string, at: number): Phase {
  const elapsed = sinceNoticeable(scenario, device, at);
  return ESCALATION.findLast((step) => elapsed >= step.afterMs)?.phase ?? "clear";
}

/** Where a device stands: within about two kilometres of the site, in degrees. */
export function positionOf(scenario: Scenario, device: string): { lat: number; lon: number } {
  const offset = (axis: string): number => (chanceOf(scenario.seed, device, axis) - 0.5) * 0.04;
  return { lat: round(scenario.lat + offset("lat"), 5), lon: round(scenario.lon + offset("lon"), 5) };
}

function sinceNoticeable(scenario: Scenario, device: string, at: number): number {
  if (scenario.kind === "day") return Number.NEGATIVE_INFINITY;
  return at - scenario.startedAt - FARTHEST_DELAY_MS * chanceOf(scenario.seed, device, "distance");
}

function confidenceAt(scenario: Scenario, device: string, at: number): number {
  const elapsed = sinceNoticeable(scenario, device, at);
  const steps = [...ESCALATION, CERTAIN];
  const next = steps.findIndex((step) => elapsed < step.afterMs);
  const [from, to] = [steps.at(next - 1), steps[next]];
  if (next === 0 || from === undefined) return CLEAR_CONFIDENCE;
  if (to === undefined) return CERTAIN.confidence;
  const share = (elapsed - from.afterMs) / (to.afterMs - from.afterMs);
  return from.confidence + share * (to.confidence - from.confidence);
}

/** 0 without a fire, rising to 1 when it is at its height. */
function fireIntensity(scenario: Scenario, device: string, at: number): number {
  const begins = ESCALATION[0].afterMs;
  const share = (sinceNoticeable(scenario, device, at) - begins) / (CERTAIN.afterMs - begins);
  return Math.min(1, Math.max(0, share));
}

function solarHour(lon: number, at: number): number {
  const offsetMs = (lon / 360) * DAY_MS;
  return ((((at + offsetMs) % DAY_MS) + DAY_MS) % DAY_MS) / HOUR_MS;
}

/** Saturation vapour pressure over water in hPa, by Magnus (coefficients of WMO-No. 8, annex 4.B). */
function vapourPressure(celsius: number): number {
  return 6.112 * Math.exp((17.62 * celsius) / (243.12 + celsius));
}

/** Value noise in −1..1: fixed at whole positions, and smooth in between. */
export function smoothNoise(seed: number, device: string, channel: string, position: number): number {
  const whole = Math.floor(position);
  const at = (index: number): number => 2 * chanceOf(seed, device, channel, index) - 1;
  const share = position - whole;
  const eased = share * share * (3 - 2 * share);
  return at(whole) * (1 - eased) + at(whole + 1) * eased;
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
