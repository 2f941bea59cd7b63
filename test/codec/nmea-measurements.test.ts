import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Decoded } from "#src/codec/decoder.js";
import { NmeaDecoder } from "#src/codec/nmea.js";
import { sentenceOf } from "#src/codec/nmea-sentence.js";
import { isSuspect, latestBelieved } from "#src/observation/suspect.js";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const decode = (sentence: string): Decoded => new NmeaDecoder().decode(bytes(sentence), 0);

/** Class and measurements of a sentence; its name and talker are looked at once, below. */
function measured(sentence: string): [string | undefined, Record<string, unknown>] {
  const decoded = decode(sentence);
  assert.equal(decoded.kind, "reading", `${sentence} ${JSON.stringify(decoded)}`);
  if (decoded.kind !== "reading") return [undefined, {}];
  const { sentence: _, talker: __, ...values } = { ...decoded.payload } as Record<string, unknown>;
  return [decoded.class, values];
}

describe("codec nmea0183, what is no position", () => {
  it("reads published sentences of instruments, checksums and all", () => {
    assert.deepEqual(measured("$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*48"), [
      "motion",
      { course_deg: 54.7, course_magnetic_deg: 34.4, speed_knots: 5.5, speed_km_h: 10.2 },
    ]);
    assert.deepEqual(measured("$GPHDT,274.07,T*03"), ["heading", { heading_deg: 274.07 }]);
    assert.deepEqual(measured("$WIMWV,214.8,R,0.1,K,A*28"), [
      "wind",
      { wind_angle_deg: 214.8, wind_speed_m_s: 0.027778, wind_reference: "relative" },
    ]);
    assert.deepEqual(measured("$IIMWV,017,R,02.91,N,A*2F"), [
      "wind",
      { wind_angle_deg: 17, wind_speed_m_s: 1.497033, wind_reference: "relative" },
    ]);
    assert.deepEqual(measured("$IIMWD,,,046.,M,10.1,N,05.2,M*0B"), [
      "wind",
      { wind_direction_magnetic_deg: 46, wind_speed_m_s: 5.2 },
    ]);
    assert.deepEqual(measured("$WIMDA,29.7544,I,1.0076,B,35.5,C,,,42.1,,20.6,C,116.4,T,107.7,M,1.2,N,0.6,M*66"), [
      "weather",
      {
        pressure_hpa: 1007.6,
        temperature_c: 35.5,
        relative_humidity_pct: 42.1,
        dew_point_c: 20.6,
        wind_direction_deg: 116.4,
        wind_direction_magnetic_deg: 107.7,
        wind_speed_m_s: 0.6,
      },
    ]);
    assert.deepEqual(measured("$HCXDR,A,171,D,PITCH,A,-37,D,ROLL,G,367,,MAGX,G,2420,,MAGY,G,-8984,,MAGZ*41"), [
      "telemetry",
      { angle_pitch_deg: 171, angle_roll_deg: -37, generic_magx: 367, generic_magy: 2420, generic_magz: -8984 },
    ]);
    assert.deepEqual(measured("$IIXDR,P,1.02481,B,Barometer*29"), ["telemetry", { pressure_barometer_bar: 1.02481 }]);
  });

  it("says which sentence it was, and of which talker", () => {
    assert.deepEqual(decode("$GPHDT,274.07,T*03"), {
      kind: "reading",
      class: "heading",
      payload: { heading_deg: 274.07, sentence: "HDT", talker: "GP" },
    });
  });

  it("gives wind in metres per second, whatever unit it was sent in", () => {
    const speed = (unit: string) => measured(sentenceOf(`WIMWV,10,T,36,${unit},A`))[1].wind_speed_m_s;
    assert.deepEqual(["M", "K", "N", "S"].map(speed), [36, 10, 18.52, 16.09344]);
    assert.equal(measured(sentenceOf("WIMWD,10,T,,M,36,N,,M"))[1].wind_speed_m_s, 18.52);
    assert.equal("wind_speed_m_s" in measured(sentenceOf("WIMWV,10,T,36,X,A"))[1], false);
  });

  it("gives pressure in hPa, from inches of mercury where no bars are there", () => {
    const [, values] = measured(sentenceOf("WIMDA,29.92,I,,B,20.1,C,,,,,,,,,,,,,,"));
    assert.deepEqual(values, { pressure_hpa: 1013.207489, temperature_c: 20.1 });
  });

  it("reads course and speed as receivers wrote them before NMEA 2.3", () => {
    assert.deepEqual(measured(sentenceOf("GPVTG,054.7,034.4,005.5,010.2"))[1], {
      course_deg: 54.7,
      course_magnetic_deg: 34.4,
      speed_knots: 5.5,
      speed_km_h: 10.2,
    });
  });

  it("refuses what says that it is not valid, and what says nothing", () => {
    const refusal = (body: string) => {
      const decoded = decode(sentenceOf(body));
      return decoded.kind === "refused" ? decoded.detail : decoded.kind;
    };
    assert.equal(refusal("IIMWV,014,R,00.0,N,V"), "not valid");
    assert.equal(refusal("GPVTG,,,,,,,,,N"), "no fix");
    assert.equal(refusal("GPHDT,,T"), "no value in any field");
    assert.equal(refusal("WIMDA,,I,,B,,C,,,,,,,,,,,,,,"), "no value in any field");
    assert.equal(refusal("IIMWV,,R,,N,A"), "no value in any field");
  });

  it("takes the date from ZDA, with its year in full", () => {
    const decoder = new NmeaDecoder();
    const timeOf = (text: string, at: number) => {
      const decoded = decoder.decode(bytes(text), at);
      return decoded.kind === "reading" ? (decoded.payload as { ts_iso?: string }).ts_iso : decoded.kind;
    };
    assert.equal(timeOf("$GPZDA,201530.00,04,07,2002,00,00*60", 0), "ignored");
    const gll = (time: string) => sentenceOf(`GPGLL,4916.45,N,12311.12,W,${time},A`);
    assert.equal(timeOf(gll("201531"), 1000), "2002-07-04T20:15:31.000Z");
    assert.equal(timeOf(sentenceOf("GPZDA,235959,31,12,2026,00,00"), 2000), "ignored");
    assert.equal(timeOf(gll("000000"), 3000), "2027-01-01T00:00:00.000Z", "across midnight");
    assert.equal(timeOf(sentenceOf("GPZDA,,,,,,"), 3500), "ignored");
    assert.equal(timeOf(sentenceOf("GPZDA,120000,31,02,2026,,"), 3500), "ignored");
    assert.equal(timeOf(gll("235959"), 4000), "2026-12-31T23:59:59.000Z", "and back");
  });

  it("passes on the date of a receiver that lost count of the weeks, for the outbox to mark as suspect", () => {
    const WEEKS_1024_MS = 1024 * 7 * 86_400_000;
    const now = Date.parse("2026-11-21T08:00:00Z");
    const wrong = new Date(now - WEEKS_1024_MS).toISOString();
    const [year = "", month = "", day = ""] = wrong.slice(2, 10).split("-");
    const decoder = new NmeaDecoder();
    const latest = latestBelieved(now, "synchronised");
    const rmc = sentenceOf(`GPRMC,080000,A,4807.038,N,01131.000,E,,,${day}${month}${year},,,A`);
    const gga = sentenceOf("GPGGA,080001,4807.038,N,01131.000,E,1,08,0.9,545.4,M,,M,,");
    for (const text of [rmc, gga]) {
      const decoded = decoder.decode(bytes(text), 0);
      assert.equal(decoded.kind, "reading");
      const { ts_iso } = (decoded.kind === "reading" ? decoded.payload : {}) as { ts_iso: string };
      assert.equal(ts_iso.slice(0, 10), "2007-04-07");
      assert.ok(isSuspect(ts_iso, latest));
    }
    assert.ok(!isSuspect(new Date(now).toISOString(), latest));
  });

  it("never throws, and gives numbers and words only, whatever the fields", () => {
    const field = fc.oneof(
      fc.string({ unit: fc.constantFrom(..."0123456789.-TMNKBCADPV"), maxLength: 8 }),
      fc.constantFrom("T", "M", "N", "K", "A", "C", "D", "12.5", "__proto__", "1e9", ""),
    );
    const formatter = fc.constantFrom("VTG", "ZDA", "MWV", "MWD", "MDA", "XDR", "HDT");
    const decoder = new NmeaDecoder();
    fc.assert(
      fc.property(formatter, fc.array(field, { maxLength: 30 }), (kind, fields) => {
        const decoded = decoder.decode(bytes(sentenceOf(`WI${kind},${fields.join(",")}`)), 0);
        if (decoded.kind !== "reading") return;
        for (const [name, value] of Object.entries(decoded.payload)) {
          assert.match(name, /^[a-z0-9_]+$/);
          assert.ok(typeof value === "string" || Number.isFinite(value), JSON.stringify(decoded));
        }
      }),
      { numRuns: 3000, examples: [["XDR", [".", "1", "", ""]]] },
    );
  });
});
