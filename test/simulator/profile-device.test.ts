import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { AnswerSearch, encodeRequest } from "#src/codec/modbus.js";
import { planReads, readBlock } from "#src/codec/modbus-plan.js";
import { tryPipeline } from "#src/codec/profile-scores.js";
import { pipelineOf } from "#src/config/profile-vectors.js";
import { findProfile, shippedProfiles } from "#src/config/profiles.js";
import type { DeviceProfile } from "#src/config/schema-profile.js";
import { ProfileDevice } from "#src/simulator/profile-device.js";
import { frameEncoder } from "#src/simulator/profile-frames.js";
import { readingAt, type SimulatedReading } from "#src/simulator/profile-reading.js";
import type { Scenario } from "#src/simulator/scenario.js";
import type { VirtualPort } from "#src/simulator/virtual-port.js";
import { TestClock } from "../support/test-clock.ts";

const START = Date.parse("2026-08-01T00:00:00Z");
const SCENARIO: Scenario = { kind: "ignition", seed: 7, lat: 38.94, lon: -120.05, startedAt: START };
const names = await shippedProfiles();

async function profileOf(name: string): Promise<DeviceProfile> {
  const outcome = await findProfile(name, "/");
  assert.ok(outcome.kind === "found");
  return outcome.profile;
}

/** The far end of a line without a line. */
class Wire implements VirtualPort {
  readonly path = "nowhere";
  readonly kind = "tcp";
  readonly written: Uint8Array[] = [];
  #listener: (chunk: Uint8Array) => void = () => {};

  write(bytes: Uint8Array): boolean {
    this.written.push(bytes);
    return true;
  }

  onData(listener: (chunk: Uint8Array) => void): void {
    this.#listener = listener;
  }

  /** The gateway says something. */
  say(bytes: Uint8Array): void {
    this.#listener(bytes);
  }

  async close(): Promise<void> {}
}

/** What its sentences of NMEA do not say. */
const LEFT_OUT = new Map([["airmar-wx", ["dew_point_c", "wind_direction_magnetic_deg"]]]);

describe("a simulated device of a profile", () => {
  for (const name of names) {
    it(`${name} says what it measures, and what it measures changes`, async () => {
      const profile = await profileOf(name);
      const pipeline = pipelineOf(profile);
      if (pipeline === undefined) return;
      const [vector] = profile.vectors;
      assert.ok(vector);
      const encode = frameEncoder(profile, vector);
      const seen = new Set<string>();
      for (let minute = 0; minute <= 12; minute++) {
        const at = START + minute * 60_000;
        const reading = readingAt(vector.reading, SCENARIO, name, at);
        let given: SimulatedReading = {};
        const trial = await tryPipeline(pipeline, [{ bytes: encode(reading, at) }], at, ({ decoded }) => {
          if (decoded?.kind === "reading") given = { ...decoded.payload };
        });
        assert.deepEqual([trial.readings, trial.refused, trial.discarded], [1, 0, 0]);
        seen.add(JSON.stringify(given));
        assert.deepEqual(
          Object.keys(reading).filter((key) => !(key in given)),
          LEFT_OUT.get(name) ?? [],
        );
        // The same but for what the wire has no digits for.
        assert.deepEqual(encode(given, at), encode(reading, at));
      }
      assert.ok(seen.size > 6, `${seen.size} different readings`);
    });
  }

  it("reports at its own pace", async () => {
    const clock = new TestClock();
    const port = new Wire();
    const device = new ProfileDevice({
      profile: await profileOf("plantower-pms5003"),
      port,
      scenario: SCENARIO,
      clock,
    });
    device.start();
    await clock.advance(2299);
    assert.equal(port.written.length, 0);
    await clock.advance(1);
    await clock.advance(2300);
    assert.equal(port.written.length, 2);
    assert.deepEqual(device.stop(), { frames: 2, dropped: 0 });
    await clock.advance(10_000);
    assert.equal(port.written.length, 2);
  });

  it("that is asked answers its request, however that is cut, and nothing else", async () => {
    const port = new Wire();
    const clock = new TestClock();
    const device = new ProfileDevice({ profile: await profileOf("winsen-mh-z19b"), port, scenario: SCENARIO, clock });
    device.start();
    const request = Buffer.from("ff0186000000000079", "hex");
    port.say(Buffer.from("ff0179a000000000e6", "hex"));
    port.say(request.subarray(0, 4));
    assert.equal(port.written.length, 0);
    port.say(request.subarray(4));
    assert.equal(port.written.length, 1);
    port.say(request);
    assert.equal(device.counts().frames, 2);
  });

  it("that is a Modbus server answers reads of its registers, and refuses others", async () => {
    const port = new Wire();
    const clock = new TestClock();
    const profile = await profileOf("generic-modbus-soil");
    assert.ok(profile.server);
    const device = new ProfileDevice({ profile, port, scenario: SCENARIO, clock, address: 9 });
    device.start();
    const [block] = planReads(profile.server);
    assert.ok(block);
    const ask = (address: number, at: number, count: number) =>
      port.say(encodeRequest({ address, function: 3, at, count }));
    ask(1, block.at, block.count);
    assert.equal(port.written.length, 0, "another server is meant");
    ask(9, block.at, block.count);
    const values: Record<string, number> = {};
    const answer = new AnswerSearch({ address: 9, ...block }).push(port.written[0] ?? new Uint8Array());
    assert.ok(answer?.kind === "data");
    readBlock(block, answer.data, values);
    assert.deepEqual(Object.keys(values), ["soil_moisture_pct", "soil_temperature_c", "soil_conductivity_us_cm"]);
    assert.ok(Math.abs((values.soil_temperature_c ?? 0) + 10.1) < 2, "below zero");
    ask(9, 3, 1);
    const refusal = new AnswerSearch({ address: 9, function: 3, at: 3, count: 1 }).push(
      port.written[1] ?? new Uint8Array(),
    );
    assert.deepEqual(refusal, { kind: "exception", code: 2 });
  });
});
