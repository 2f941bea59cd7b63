import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { NmeaDecoder } from "#src/codec/nmea.js";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const decode = (sentence: string) => new NmeaDecoder().decode(bytes(sentence), 0);

/** `body` as a sentence with its checksum. */
function sentence(body: string): string {
  const checksum = [...bytes(body)].reduce((sum, byte) => sum ^ byte, 0);
  return `$${body}*${checksum.toString(16).toUpperCase().padStart(2, "0")}`;
}

function payloadOf(decoded: ReturnType<typeof decode>): Record<string, unknown> {
  assert.equal(decoded.kind, "reading", JSON.stringify(decoded));
  return { ...decoded.payload };
}

const rmc = (time: string, date: string, talker = "GP") =>
  sentence(`${talker}RMC,${time},A,4807.038,N,01131.000,E,022.4,084.4,${date},,,A`);
const gga = (time: string) => sentence(`GPGGA,${time},4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,`);

describe("codec nmea0183", () => {
  it("reads the published RMC examples, checksums and all", () => {
    assert.deepEqual(payloadOf(decode("$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A")), {
      ts_iso: "1994-03-23T12:35:19.000Z",
      lat: 48.1173,
      lon: 11.516666667,
      speed_knots: 22.4,
      course_deg: 84.4,
      sentence: "RMC",
      talker: "GP",
    });
    const vancouver = payloadOf(decode("$GPRMC,225446,A,4916.45,N,12311.12,W,000.5,054.7,191194,020.3,E*68"));
    assert.equal(vancouver.lat, 49.274166667);
    assert.equal(vancouver.lon, -123.185333333);
    const geelong = payloadOf(decode("$GPRMC,081836,A,3751.65,S,14507.36,E,000.0,360.0,130998,011.3,E*62"));
    assert.equal(geelong.lat, -37.860833333);
    assert.equal(geelong.ts_iso, "1998-09-13T08:18:36.000Z");
    const niwot = payloadOf(decode("$GNRMC,001031.00,A,4404.13993,N,12118.86023,W,0.146,,100117,,,A*7B"));
    assert.equal(niwot.talker, "GN");
    assert.equal(niwot.ts_iso, "2017-01-10T00:10:31.000Z");
    assert.equal("course_deg" in niwot, false);
  });

  it("reads the published GGA examples; without a date they carry no time", () => {
    assert.deepEqual(payloadOf(decode("$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47")), {
      lat: 48.1173,
      lon: 11.516666667,
      fix_quality: 1,
      satellites: 8,
      hdop: 0.9,
      altitude_m: 545.4,
      sentence: "GGA",
      talker: "GP",
    });
    const trimble = decode("$GPGGA,172814.0,3723.46587704,N,12202.26957864,W,2,6,1.2,18.893,M,-25.669,M,2.0,0031*4F");
    assert.equal(payloadOf(trimble).lat, 37.391097951);
    assert.equal(payloadOf(trimble).fix_quality, 2);
  });

  it("reads the other sentences that bring a position", () => {
    assert.deepEqual(payloadOf(decode("$GPGLL,4916.45,N,12311.12,W,225444,A,*1D")), {
      lat: 49.274166667,
      lon: -123.185333333,
      sentence: "GLL",
      talker: "GP",
    });
    const gns = decode(sentence("GNGNS,014035.00,4332.69262,S,17235.48549,E,RR,13,0.9,25.63,11.24,,"));
    assert.equal(payloadOf(gns).satellites, 13);
    assert.equal(payloadOf(gns).altitude_m, 25.63);
  });

  it("ignores well-formed sentences that bring none", () => {
    for (const other of [
      "$GPGSV,2,1,08,01,40,083,46,02,17,308,41,12,07,344,39,14,22,228,45*75",
      "$GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1*39",
      "!AIVDM,1,1,,B,177KQJ5000G?tO`K>RA1wUbN0TKH,0*5C",
      sentence("PUBX,00,123519.00"),
      sentence("PGRMC,A,218.8,100,6378137.000,298.257223563"),
    ]) {
      assert.deepEqual(decode(other), { kind: "ignored" }, other);
    }
  });

  it("refuses a wrong checksum, and a sentence without one", () => {
    const refusal = (text: string) => {
      const decoded = decode(text);
      return decoded.kind === "refused" ? decoded.detail : decoded.kind;
    };
    assert.equal(refusal("$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*48"), "bad checksum");
    assert.equal(refusal("$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*49"), "bad checksum");
    assert.equal(refusal("$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W"), "no checksum");
    assert.equal(refusal("hello"), "not a sentence");
    assert.equal(refusal("$*00"), "not a sentence");
  });

  it("refuses every sentence with one wrong character", () => {
    const good = rmc("123519", "230394");
    const place = fc.integer({ min: 1, max: good.length - 4 });
    fc.assert(
      fc.property(place, fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const frame = bytes(good);
        frame[at] = (frame[at] ?? 0) ^ flip;
        assert.equal(new NmeaDecoder().decode(frame, 0).kind, "refused");
      }),
    );
  });

  it("takes lower-case checksums, trailing blanks, and a sentence after the rest of a cut one", () => {
    const good = "$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6a";
    assert.equal(decode(`${good}  `).kind, "reading");
    assert.equal(decode(`$GPGGA,1235${good}`).kind, "reading");
    assert.equal(decode(`\\g:1-2-73874,n:157036,s:r3669961*4A\\${good}`).kind, "reading");
  });

  it("refuses a sentence that says that it has no fix", () => {
    for (const lost of [
      "GPRMC,123519,V,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W",
      "GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W,N",
      "GPRMC,,V,,,,,,,,,,N",
      "GPGGA,123519,,,,,0,00,,,M,,M,,",
      "GPGLL,4916.45,N,12311.12,W,225444,V",
      "GNGNS,014035.00,,,,,NN,00,,,,,",
    ]) {
      assert.deepEqual(decode(sentence(lost)), { kind: "refused", detail: "no fix" }, lost);
    }
  });

  it("refuses coordinates that are none", () => {
    const at = (lat: string, ns: string, lon: string, ew: string) =>
      decode(sentence(`GPRMC,123519,A,${lat},${ns},${lon},${ew},0,0,230394,,`));
    for (const [lat, ns] of [
      ["9000.001", "N"],
      ["4860.000", "N"],
      ["4807.038", "E"],
      ["", ""],
      ["07.038", "N"],
      ["-4807.0", "N"],
    ]) {
      assert.deepEqual(at(lat ?? "", ns ?? "", "01131.000", "E"), { kind: "refused", detail: "bad latitude" }, lat);
    }
    for (const [lon, ew] of [
      ["18000.001", "E"],
      ["01160.000", "E"],
      ["01131.000", "N"],
      ["1131.000", "E"],
      ["0113100", "E"],
    ]) {
      assert.deepEqual(at("4807.038", "N", lon ?? "", ew ?? ""), { kind: "refused", detail: "bad longitude" }, lon);
    }
    assert.equal(payloadOf(at("9000.000", "S", "18000.000", "W")).lat, -90);
    assert.ok(Object.is(payloadOf(at("0000.000", "S", "00000.000", "W")).lat, 0));
  });

  it("does not lose a valid position for a measurement or a time that cannot be read", () => {
    const odd = payloadOf(decode(sentence("GPRMC,996099,A,4807.038,N,01131.000,E,fast,,310294,,")));
    assert.deepEqual(Object.keys(odd), ["lat", "lon", "sentence", "talker"]);
  });

  it("puts years 80 to 99 into the last century, the others into this one", () => {
    const yearOf = (date: string) => String(payloadOf(decode(rmc("000000", date))).ts_iso).slice(0, 4);
    assert.deepEqual(["010180", "311299", "010100", "311279"].map(yearOf), ["1980", "1999", "2000", "2079"]);
  });

  it("knows the calendar", () => {
    assert.equal(payloadOf(decode(rmc("235959.999", "290228"))).ts_iso, "2028-02-29T23:59:59.999Z");
    assert.equal("ts_iso" in payloadOf(decode(rmc("120000", "290226"))), false);
    assert.equal(payloadOf(decode(rmc("235960", "311216"))).ts_iso, "2017-01-01T00:00:00.000Z", "leap second");
  });

  it("dates a time of day by the last dated sentence, across midnight in both directions", () => {
    const decoder = new NmeaDecoder();
    const timeOf = (text: string, arrivedAt: number) => payloadOf(decoder.decode(bytes(text), arrivedAt)).ts_iso;
    timeOf(rmc("235959", "311226"), 1000);
    assert.equal(timeOf(gga("235959"), 1100), "2026-12-31T23:59:59.000Z");
    assert.equal(timeOf(gga("000000"), 2000), "2027-01-01T00:00:00.000Z");
    timeOf(rmc("000000", "010127"), 2100);
    assert.equal(timeOf(gga("235959"), 2200), "2026-12-31T23:59:59.000Z", "sent before, arrived after");
    assert.equal(timeOf(gga("000001"), 3000), "2027-01-01T00:00:01.000Z");
  });

  it("dates a time of day rightly when the last date is days old", () => {
    const decoder = new NmeaDecoder();
    decoder.decode(bytes(rmc("120000", "010726")), 0);
    const hours = 3_600_000;
    const later = (text: string, elapsed: number) => payloadOf(decoder.decode(bytes(text), elapsed)).ts_iso;
    assert.equal(later(gga("010000"), 13 * hours), "2026-07-02T01:00:00.000Z");
    assert.equal(later(gga("110000"), 71 * hours), "2026-07-04T11:00:00.000Z");
  });

  it("takes no date from a sentence without a fix", () => {
    const decoder = new NmeaDecoder();
    decoder.decode(bytes(sentence("GPRMC,120000,V,4807.038,N,01131.000,E,,,010106,,")), 0);
    assert.equal("ts_iso" in payloadOf(decoder.decode(bytes(gga("120001")), 1000)), false);
  });

  it("never throws, and gives only positions in range, whatever the fields", () => {
    const field = fc.oneof(
      fc.string({ unit: fc.constantFrom(..."0123456789.-NSEWAV$*"), maxLength: 10 }),
      fc.constantFrom("A", "N", "S", "E", "W", "4807.038", "01131.000", "123519", "230394", "1"),
    );
    const decoder = new NmeaDecoder();
    fc.assert(
      fc.property(
        fc.constantFrom("RMC", "GGA", "GLL", "GNS", "XXX"),
        fc.array(field, { maxLength: 14 }),
        (kind, fields) => {
          const decoded = decoder.decode(bytes(sentence(`GP${kind},${fields.join(",")}`)), 0);
          if (decoded.kind !== "reading") return;
          const { lat, lon } = payloadOf(decoded);
          assert.ok(Math.abs(Number(lat)) <= 90 && Math.abs(Number(lon)) <= 180);
        },
      ),
    );
    fc.assert(fc.property(fc.uint8Array(), (frame) => decoder.decode(frame, 0).kind !== undefined));
  });
});
