import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { chanceOf, seededRandom } from "#src/simulator/random.js";
import { PHASES, positionOf, type Scenario, smokeAt, weatherAt } from "#src/simulator/scenario.js";
import { Sensor } from "#src/simulator/sensor.js";

const NOON = Date.UTC(2026, 6, 1, 20);
const site = { lat: 38.94, lon: -120.05, startedAt: NOON };
const day = (seed: number): Scenario => ({ kind: "day", seed, ...site });
const ignition = (seed: number): Scenario => ({ kind: "ignition", seed, ...site });

const seeds = fc.integer({ min: 0, max: 2 ** 31 });
const devices = fc.stringMatching(/^[a-z]{1,8}-\d{2}$/);
const times = fc.integer({ min: Date.UTC(2020, 0), max: Date.UTC(2040, 0) });
const kinds = fc.constantFrom<Scenario["kind"]>("day", "ignition");

test("the same seed, device and time give the same values, whatever was asked before", () => {
  fc.assert(
    fc.property(seeds, devices, times, kinds, (seed, device, at, kind) => {
      const ask = (): unknown => {
        const scenario = { kind, seed, ...site };
        return [weatherAt(scenario, device, at), smokeAt(scenario, device, at), positionOf(scenario, device)];
      };
      const first = ask();
      weatherAt(day(seed + 1), device, at + 1);
      assert.deepEqual(ask(), first);
    }),
  );
});

test("another seed gives another day", () => {
  const hours = Array.from({ length: 24 }, (_, hour) => NOON + hour * 3_600_000);
  const temperatures = (seed: number): number[] => hours.map((at) => weatherAt(day(seed), "mast", at).temperature_c);
  assert.notDeepEqual(temperatures(1), temperatures(2));
});

test("weather and smoke are plausible at every time, with a fire or without", () => {
  fc.assert(
    fc.property(seeds, devices, times, kinds, (seed, device, at, kind) => {
      const scenario = { kind, seed, ...site };
      const weather = weatherAt(scenario, device, at);
      const smoke = smokeAt(scenario, device, at);
      assert.ok(weather.temperature_c > 5 && weather.temperature_c < 50, `${weather.temperature_c} °C`);
      assert.ok(weather.relative_humidity_pct > 5 && weather.relative_humidity_pct <= 100);
      assert.ok(weather.pressure_hpa > 790 && weather.pressure_hpa < 820, `${weather.pressure_hpa} hPa`);
      assert.ok(weather.wind_speed_m_s >= 0 && weather.wind_speed_m_s < 15);
      assert.ok(weather.wind_direction_deg >= 0 && weather.wind_direction_deg < 360);
      assert.ok(smoke.pm2_5_ug_m3 >= 0 && smoke.pm2_5_ug_m3 < 600);
      assert.ok(smoke.confidence >= 0 && smoke.confidence <= 1);
    }),
  );
});

test("neighbouring seconds differ by little", () => {
  fc.assert(
    fc.property(seeds, devices, times, (seed, device, at) => {
      const [now, next] = [weatherAt(day(seed), device, at), weatherAt(day(seed), device, at + 1000)];
      assert.ok(Math.abs(now.temperature_c - next.temperature_c) < 0.1);
      assert.ok(Math.abs(now.pressure_hpa - next.pressure_hpa) <= 0.11);
    }),
  );
});

test("the afternoon is warmer and drier than the night", () => {
  fc.assert(
    fc.property(seeds, devices, (seed, device) => {
      const [afternoon, night] = [Date.UTC(2026, 6, 1, 23), Date.UTC(2026, 6, 2, 11)].map((at) =>
        weatherAt(day(seed), device, at),
      );
      assert.ok(afternoon !== undefined && night !== undefined);
      assert.ok(afternoon.temperature_c > night.temperature_c + 10);
      assert.ok(afternoon.relative_humidity_pct < night.relative_humidity_pct);
    }),
  );
});

test("a fire goes through its phases in order, and never gets less sure or less smoky on the whole", () => {
  fc.assert(
    fc.property(seeds, devices, (seed, device) => {
      const seen = Array.from({ length: 80 }, (_, step) => smokeAt(ignition(seed), device, NOON + step * 10_000));
      const phases = [...new Set(seen.map(({ phase }) => phase))];
      assert.deepEqual(phases, [...PHASES]);
      for (const [index, now] of seen.entries()) {
        const before = seen[index - 1] ?? now;
        assert.ok(now.confidence >= before.confidence);
        assert.ok(PHASES.indexOf(now.phase) >= PHASES.indexOf(before.phase));
      }
      assert.ok((seen.at(-1)?.pm2_5_ug_m3 ?? 0) > 300 && (seen[0]?.pm2_5_ug_m3 ?? 999) < 20);
      assert.ok((seen.at(-1)?.confidence ?? 0) > 0.95 && (seen[0]?.confidence ?? 1) < 0.1);
    }),
  );
});

test("nothing burns on an ordinary day", () => {
  fc.assert(
    fc.property(seeds, devices, times, (seed, device, at) => {
      const { phase, confidence, pm2_5_ug_m3 } = smokeAt(day(seed), device, at);
      assert.ok(phase === "clear" && confidence < 0.1 && pm2_5_ug_m3 < 20);
    }),
  );
});

function conversation(sensor: Sensor, messages: number, stepMs: number) {
  return Array.from({ length: messages }, (_, index) => {
    const at = NOON + index * stepMs;
    return sensor.next({ now: at, scenarioTime: at });
  });
}

test("a sensor says the same for the same seed, and never the same twice", () => {
  const say = (seed: number) => conversation(new Sensor("smoke-01", "smoke", ignition(seed)), 100, 5000);
  assert.deepEqual(say(1), say(1));
  assert.notDeepEqual(say(1), say(2));
  assert.equal(new Set(say(1).map(({ payload }) => payload)).size, 100);
  const ids = say(1).flatMap(({ id }) => id ?? []);
  assert.equal(new Set(ids).size, ids.length);
  for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test("an ignition is an alert at each new phase, critical, and observations turn from smoke to fire", () => {
  const said = conversation(new Sensor("smoke-01", "smoke", ignition(7)), 100, 5000);
  const payloads = said.map(({ topic, kind, payload }) => {
    const said = JSON.parse(payload) as { phase?: string; priority?: string; ts_iso?: string; source?: string };
    return { topic, kind, ...said };
  });
  const alerts = payloads.filter(({ kind }) => kind === "alert");
  assert.deepEqual([...new Set(alerts.map(({ phase }) => phase))], ["smoke", "ignition", "active-fire"]);
  assert.ok(alerts.every(({ topic, priority }) => topic === "alerts/smoke-01" && priority === "critical"));
  const topics = [...new Set(payloads.filter(({ kind }) => kind === "observation").map(({ topic }) => topic))];
  assert.deepEqual(topics, ["observations/smoke", "observations/fire"]);
  assert.ok(payloads.some(({ topic }) => topic === "health/smoke-01/heartbeat"));
  assert.ok(payloads.every(({ ts_iso, source }) => typeof ts_iso === "string" && source === "smoke-01"));
});

test("a temperature sensor speaks of the weather on its own topic", () => {
  const [first] = conversation(new Sensor("temperature-02", "temperature", day(1)), 1, 1000);
  assert.equal(first?.topic, "telemetry/temperature-02");
  assert.equal(typeof (JSON.parse(first?.payload ?? "{}") as Record<string, unknown>).temperature_c, "number");
});

test("chance is spread evenly over 0 to 1, and repeats", () => {
  const random = seededRandom(42);
  const drawn = Array.from({ length: 10_000 }, random);
  const named = Array.from({ length: 10_000 }, (_, index) => chanceOf("seed", index));
  for (const values of [drawn, named]) {
    assert.ok(values.every((value) => value >= 0 && value < 1));
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    assert.ok(Math.abs(mean - 0.5) < 0.02, `mean ${mean}`);
  }
  const again = seededRandom(42);
  assert.deepEqual(drawn.slice(0, 5), [again(), again(), again(), again(), again()]);
});
