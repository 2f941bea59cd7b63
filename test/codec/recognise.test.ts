import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type ChecksumRule, withChecksum } from "#src/codec/checksum.js";
import { sentenceOf } from "#src/codec/nmea-sentence.js";
import { createFrameWriter } from "#src/codec/pipeline.js";
import type { PipelineConfig } from "#src/codec/pipeline-config.js";
import { type Recognition, recognise } from "#src/codec/recognise.js";
import { type HeardPiece, type PipelineKeys, pipelineOf } from "#src/codec/recognise-guess.js";
import { shippedCandidates, vectorBytes } from "#src/config/profile-vectors.js";
import { findProfile } from "#src/config/profiles.js";
import { chance } from "../support/chance.ts";

const random = chance(7);
const byte = (): number => Math.floor(random() * 256);
const some = (length: number): Uint8Array => Uint8Array.from({ length }, byte);

/** The frames as they come in one stream, cut without regard to them, beginning and ending in the middle of one. */
function stream(frames: readonly (Uint8Array | string)[], keepBeginning = false): HeardPiece[] {
  const all = Buffer.concat(frames.map((frame) => Buffer.from(frame as string)));
  const heard = keepBeginning ? all : all.subarray(3, all.length - 3);
  return Array.from({ length: Math.ceil(heard.length / 37) }, (_, at) => ({
    ms: at * 5,
    bytes: heard.subarray(at * 37, at * 37 + 37),
  }));
}

/** A frame every second, each in two pieces. */
function spaced(frames: readonly Uint8Array[]): HeardPiece[] {
  return frames.flatMap((frame, at) => [
    { ms: at * 1000, bytes: frame.subarray(0, 5) },
    { ms: at * 1000 + 6, bytes: frame.subarray(5) },
  ]);
}

async function best(pieces: HeardPiece[]): Promise<Recognition> {
  const [first] = await recognise(pieces);
  assert.ok(first);
  return first;
}

const times = <T>(n: number, make: (at: number) => T): T[] => Array.from({ length: n }, (_, at) => make(at));
const onWire = (keys: PipelineKeys, frames: readonly Uint8Array[]): Uint8Array[] =>
  frames.map(createFrameWriter(pipelineOf(keys)));
/** The keys without what stands for itself. */
const keysOf = ({ keys: { layout: _, ...keys } }: Recognition): Partial<PipelineConfig> => keys;
const rule = (over: Partial<ChecksumRule> & Pick<ChecksumRule, "type">): ChecksumRule => ({
  from: 0,
  endian: "big",
  complement: "none",
  encoding: "bytes",
  ...over,
});

describe("what a device speaks is recognised", () => {
  it("sentences of NMEA 0183, some of them no reading", async () => {
    const lines = times(6, (at) =>
      sentenceOf(at % 2 ? "GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1" : `IIMWV,${at}.0,R,5.7,M,A`),
    );
    const found = await best(stream(lines));
    assert.deepEqual([found.keys, found.certainty, found.proof], [{ codec: "nmea0183" }, "sure", "checksum"]);
  });

  it("objects of JSON, a line each, behind what a board says when it starts", async () => {
    const lines = ["ets Jun  8 2016 00:22:57\r\n", ...times(5, (n) => `{"n":${n},"temperature_c":2${n}.5}\n`)];
    const found = await best(stream(lines));
    assert.deepEqual([found.keys, found.certainty], [{ codec: "json" }, "sure"]);
    assert.deepEqual(found.samples[0], { n: 0, temperature_c: 20.5 });
  });

  it("packs of SenML, which are JSON too", async () => {
    const lines = times(4, (n) => `[{"bn":"urn:dev:1:","n":"temperature","u":"Cel","v":${20 + n}}]\n`);
    assert.deepEqual((await best(stream(lines))).keys, { codec: "senml" });
  });

  it("rows, with the separator that there is and the names of their header", async () => {
    const rows = times(5, (n) => `${n}.5;40;mast\r\n`);
    const lines = ["xx\r\n", "temperature_c;humidity_pct;station\r\n", ...rows];
    const found = await best(spaced(lines.map((line) => Buffer.from(line))));
    const columns = ["temperature_c", "humidity_pct", { name: "station", type: "text" }];
    assert.deepEqual([found.keys, found.certainty], [{ codec: "csv", separator: ";", columns }, "sure"]);
    assert.equal(
      (await best(stream(lines))).certainty,
      "likely",
      "in less than a second it may be a part of something",
    );
    const nameless = await best(stream(times(5, (n) => `${n}.5,40\n`)));
    assert.deepEqual(nameless.keys, { codec: "csv", columns: ["column_1", "column_2"] });
  });

  for (const framing of ["cobs", "slip", "hdlc"] as const)
    it(`${framing} with a CRC, and CBOR in it`, async () => {
      const checksum = rule({ type: "crc-16/ccitt-false" });
      const frames = times(6, (n) => Uint8Array.of(0xa1, 0x61, 0x61, 0x19, n, byte()));
      const found = await best(stream(onWire({ framing, checksum, codec: "cbor" }, frames)));
      assert.deepEqual(keysOf(found), { framing, checksum, codec: "cbor" });
      assert.equal(found.certainty, "sure");
    });

  it("COBS with bytes that nobody here can read, but whose checksum fits", async () => {
    const checksum = rule({ type: "crc-16/modbus", endian: "little" });
    const frames = times(8, () => Uint8Array.of(0xff, ...some(9)));
    const found = await best(stream(onWire({ framing: "cobs", checksum, codec: "binary" }, frames)));
    assert.deepEqual(keysOf(found), { framing: "cobs", checksum, codec: "binary" });
  });

  it("frames that begin alike and are as long, with a sum (PMS5003), with pauses and without", async () => {
    const checksum = rule({ type: "sum16" });
    const keys = { framing: "fixed", header: "42 4d", length: 32, checksum, codec: "binary" } as const;
    const frames = times(8, () => withChecksum(Uint8Array.of(0x42, 0x4d, 0, 28, ...some(26)), checksum));
    for (const heard of [spaced(frames), stream(frames)]) {
      const found = await best(heard);
      assert.deepEqual([keysOf(found), found.certainty], [keys, "sure"]);
      assert.ok(found.frames >= 6);
    }
  });

  it("a checksum that is not the last byte and does not cover the first ones (SDS011)", async () => {
    const checksum = rule({ type: "sum8", from: 2, at: -2 });
    const frames = times(12, () => {
      const data = some(6);
      return Uint8Array.of(0xaa, 0xc0, ...data, data.reduce((sum, each) => sum + each, 0) & 0xff, 0xab);
    });
    const found = await best(spaced(frames));
    assert.deepEqual(keysOf(found), { framing: "fixed", header: "aa c0", length: 10, checksum, codec: "binary" });
    assert.equal(found.certainty, "sure");
  });

  it("frames that tell their length", async () => {
    const checksum = rule({ type: "crc-8" });
    const frames = times(12, (n) => {
      const data = some(4 + (n % 5));
      return withChecksum(Uint8Array.of(0xb5, 0x62, data.length, ...data), checksum);
    });
    const found = await best(spaced(frames));
    assert.equal(found.keys.framing, "length-prefixed");
    assert.deepEqual(found.keys.lengthField, { at: 2, size: 1, endian: "big", counts: "payload", extra: 0 });
    assert.deepEqual(found.keys.checksum, checksum);
  });

  it("frames between pauses, of which nothing but a CRC is known", async () => {
    const checksum = rule({ type: "crc-16/modbus", endian: "little" });
    const frames = times(10, (n) => withChecksum(Uint8Array.of(...some(8 + (n % 4))), checksum));
    const found = await best(spaced(frames));
    assert.deepEqual([found.keys.framing, found.keys.checksum, found.certainty], ["idle", checksum, "sure"]);
  });

  it("a garbled frame among good ones changes nothing", async () => {
    const lines = times(9, (n) => (n === 4 ? "$IIMWV,2.0,R,5.7*00\r\n" : sentenceOf(`IIMWV,${n}.0,R,5.7,M,A`)));
    assert.equal((await best(stream(lines))).certainty, "sure");
  });
});

describe("a device of which there is a profile is recognised by it", () => {
  it("from the frames of its data sheet, repeated", async () => {
    const profiles = await shippedCandidates();
    const names: string[] = [];
    for (const { name } of profiles) {
      const loaded = await findProfile(name, "/");
      assert.equal(loaded.kind, "found");
      if (loaded.kind !== "found") continue;
      const vectors = loaded.profile.vectors.map(vectorBytes);
      if (vectors.length === 0) continue;
      const [found] = await recognise(spaced([...vectors, ...vectors, ...vectors]), profiles);
      assert.deepEqual(
        [found?.profile, found?.certainty],
        [name, found?.proof === "form" ? found?.certainty : "sure"],
        name,
      );
      names.push(name);
    }
    assert.ok(names.length >= 8, names.join(" "));
  });

  it("and not taken for mere rows as long as there is too little of it", async () => {
    const profiles = await shippedCandidates();
    const loaded = await findProfile("victron-ve-direct", "/");
    assert.equal(loaded.kind, "found");
    const block = loaded.kind === "found" ? loaded.profile.vectors.slice(0, 1).map(vectorBytes) : [];
    const slowly = [...block, ...block].map((bytes, at) => ({ ms: at * 9000, bytes }));
    assert.notEqual((await recognise(slowly.slice(0, 1), profiles))[0]?.certainty, "sure");
    assert.equal((await recognise(slowly, profiles))[0]?.profile, "victron-ve-direct");
  });

  it("and not by its language alone, where its words are others", async () => {
    const profiles = await shippedCandidates();
    const lines = times(6, (n) => `{"n":${n},"spam":1,"eggs":2}\n`);
    const [found] = await recognise(stream(lines), profiles);
    assert.deepEqual([found?.profile, found?.keys], [undefined, { codec: "json" }]);
  });
});

describe("what makes no sense is not called anything", () => {
  const candidates = shippedCandidates();

  it("noise is at most frames between pauses", async () => {
    for (let round = 0; round < 20; round++) {
      const found = await recognise(
        stream(
          times(20, () => some(40)),
          true,
        ),
        await candidates,
      );
      assert.deepEqual(
        found.filter(({ certainty }) => certainty !== "perhaps").map(({ what }) => what),
        [],
      );
    }
  });

  it("nothing, one byte, and zeros alone are nothing", async () => {
    assert.deepEqual(await recognise([]), []);
    for (const bytes of [Uint8Array.of(0x41), new Uint8Array(500), new Uint8Array(500).fill(0xff)]) {
      const found = await recognise([{ ms: 0, bytes }]);
      assert.ok(
        found.every(({ certainty }) => certainty === "perhaps"),
        JSON.stringify(found),
      );
    }
  });
});
