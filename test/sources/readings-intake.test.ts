import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Origin } from "#src/sources/intake.js";
import { MAX_DEVICES, MAX_READINGS_PER_PAYLOAD, ReadingsIntake } from "#src/sources/readings-intake.js";
import { recordingTelemetry } from "../support/broker-under-test.ts";
import { RecordingOutbox } from "../support/recording-outbox.ts";
import { TestClock } from "../support/test-clock.ts";

const origin: Origin = { kind: "serial", name: "mast", source: "mast", class: "position", via: "/dev/ttyUSB0" };

async function makeIntake() {
  const { telemetry, log } = await recordingTelemetry();
  const outbox = new RecordingOutbox();
  const clock = new TestClock();
  return { intake: new ReadingsIntake({ outbox, clock, telemetry }), outbox, clock, telemetry, log };
}

describe("submit", () => {
  it("calls back once, after it has returned, when what was accepted is committed", async () => {
    const { intake, outbox } = await makeIntake();
    let calls = 0;
    outbox.hold();
    assert.deepEqual(
      intake.submit([{ a: 1 }, { a: 2 }], origin, () => calls++),
      { accepted: 2, duplicates: 0, refused: 0, unauthorised: 0 },
    );
    assert.equal(calls, 0);
    outbox.release();
    assert.equal(calls, 1);
  });

  it("calls back soon, and not at once, where nothing was accepted", async () => {
    const { intake } = await makeIntake();
    for (const payload of [5, null, "text", [], [[]], { lat: 91 }]) {
      let returned = false;
      await new Promise<void>((resolve, reject) => {
        intake.submit(payload, origin, () => (returned ? resolve() : reject(new Error("called too early"))));
        returned = true;
      });
    }
    assert.equal(intake.refused().invalid, 5);
  });

  it("accepts the good readings of an array and counts the others one by one", async () => {
    const { intake, outbox } = await makeIntake();
    const admission = intake.submit([{ a: 1 }, 7, { confidence: -1 }, { a: 2 }, [{ a: 3 }]], origin);
    assert.deepEqual(admission, { accepted: 2, duplicates: 0, refused: 3, unauthorised: 0 });
    assert.deepEqual(
      outbox.readings.map(({ attributes }) => attributes),
      [{ a: 1 }, { a: 2 }],
    );
  });

  it("takes no more than the maximum of one payload, and counts the rest", async () => {
    const { intake } = await makeIntake();
    const payload = Array.from({ length: MAX_READINGS_PER_PAYLOAD + 3 }, () => ({}));
    const { accepted, refused } = intake.submit(payload, origin);
    assert.deepEqual([accepted, refused], [MAX_READINGS_PER_PAYLOAD, 3]);
    assert.equal(intake.refused().invalid, 3);
  });

  it("counts by name what nobody waits for while a full outbox refuses, and hands on what somebody waits for", async () => {
    const { intake, outbox } = await makeIntake();
    outbox.refusing = true;
    assert.deepEqual(intake.submit([{ a: 1 }, { a: 2 }, 7], origin), {
      accepted: 0,
      duplicates: 0,
      refused: 3,
      unauthorised: 0,
    });
    const { invalid, "outbox-full": full } = intake.refused();
    assert.deepEqual([invalid, full, outbox.readings.length], [1, 2, 0]);
    intake.submit({ a: 3 }, origin, () => {});
    assert.equal(outbox.readings.length, 1);
    const some = [{ a: 4, priority: "critical" }, { a: 5 }];
    assert.deepEqual(intake.submit(some, origin), { accepted: 1, duplicates: 0, refused: 1, unauthorised: 0 });
    assert.equal(outbox.readings.at(-1)?.priority, "critical", "critical readings are taken as long as there is room");
    outbox.refusing = false;
    assert.equal(intake.submit({ a: 4 }, origin).accepted, 1);
  });

  it("counts copies apart", async () => {
    const { intake, outbox } = await makeIntake();
    outbox.hold();
    intake.submit({ ts: 1, a: 1 }, origin);
    assert.deepEqual(intake.submit({ a: 1, ts: 1 }, origin), {
      accepted: 0,
      duplicates: 1,
      refused: 0,
      unauthorised: 0,
    });
    outbox.release();
    const [source] = intake.sources();
    assert.equal(source?.accepted, 1);
    assert.equal(source?.duplicates, 1);
  });

  it("counts a reading as accepted when it is committed, and not before", async () => {
    const { intake, outbox, telemetry } = await makeIntake();
    outbox.hold();
    intake.submit({ a: 1 }, origin);
    assert.equal(intake.sources()[0]?.accepted, 0);
    assert.match(await telemetry.metrics.metrics(), /^summit_edge_readings_accepted_total{source="mast"} 0$/m);
    outbox.release();
    assert.equal(intake.sources()[0]?.accepted, 1);
  });
});

describe("what the operator sees", () => {
  it("is each source's counts and last reading, and the same in the metrics", async () => {
    const { intake, outbox, clock, telemetry } = await makeIntake();
    outbox.hold();
    intake.submit({ a: 1 }, origin);
    clock.setWall(5000);
    intake.submit([{ a: 1 }, 4], { ...origin, kind: "mqtt", name: "mqtt" });
    outbox.release();
    intake.refuse("unauthorised", "not allowed", "{}", { ...origin, kind: "mqtt", name: "mqtt" });
    const counts = { accepted: 1, duplicates: 0 };
    assert.deepEqual(intake.sources(), [
      { name: "mast", kind: "serial", ...counts, refused: 0, lastReadingAt: Date.UTC(2026, 6, 1, 12) },
      { name: "mqtt", kind: "mqtt", ...counts, refused: 2, lastReadingAt: 5000 },
    ]);
    const metrics = await telemetry.metrics.metrics();
    assert.match(metrics, /^summit_edge_readings_accepted_total{source="mast"} 1$/m);
    assert.match(metrics, /^summit_edge_readings_accepted_total{source="mqtt"} 1$/m);
    assert.match(metrics, /^summit_edge_readings_refused_total{reason="invalid"} 1$/m);
    assert.match(metrics, /^summit_edge_readings_refused_total{reason="unauthorised"} 1$/m);
    assert.equal(await telemetry.metrics.metrics(), metrics);
  });

  it("is what was refused last, in part, and a log that a broken device cannot fill", async () => {
    const { intake, log } = await makeIntake();
    for (let index = 0; index < 250; index++) {
      intake.refuse("invalid", `fault ${index}`, Buffer.from(`${index} ${"x".repeat(1000)}`), origin);
    }
    const kept = intake.quarantine().list();
    assert.equal(kept.length, 100);
    assert.equal(kept[0]?.detail, "fault 150");
    assert.equal(kept[99]?.detail, "fault 249");
    assert.ok(kept.every(({ head }) => head.length === 256));
    const logged = log.lines.filter(({ msg }) => msg === "reading refused");
    assert.equal(logged.length, 10);
    assert.equal(logged[0]?.level, "warn");
    assert.equal(logged[0]?.detail, "fault 0");
  });

  it("is who sent what was refused, and its bytes where it is no text", async () => {
    const { intake } = await makeIntake();
    const mqtt: Origin = { kind: "mqtt", name: "mqtt", source: "mast-3", via: "telemetry/mast-3" };
    intake.refuse("invalid", "not JSON", Buffer.from("{ä\r\n\t"), mqtt);
    intake.refuse("invalid", "not UTF-8", Buffer.from([0x42, 0xff]), mqtt);
    intake.refuse("invalid", "no frame", Buffer.from([0x01, 0x03, 0x00]), origin);
    intake.submit(
      { lat: 91, note: "x".repeat(1000) },
      { ...mqtt, via: "v".repeat(65_535), source: "s".repeat(65_535) },
    );
    const [text, binary, frame, reading] = intake.quarantine().list();
    const from = { at: Date.UTC(2026, 6, 1, 12), reason: "invalid", source: "mqtt", device: "mast-3" };
    assert.deepEqual(text, { ...from, detail: "not JSON", via: "telemetry/mast-3", head: "{ä\r\n\t" });
    assert.deepEqual(binary, { ...from, detail: "not UTF-8", via: "telemetry/mast-3", head: "B\ufffd", hex: "42ff" });
    assert.deepEqual([frame?.device, frame?.via, frame?.hex], ["mast", "/dev/ttyUSB0", "010300"]);
    assert.match(reading?.head ?? "", /^\{"lat":91,"note":"x+$/);
    assert.deepEqual([reading?.head.length, reading?.via.length, reading?.device.length], [256, 512, 512]);
  });

  const bad = (source: string): Origin => ({ kind: "mqtt", name: "mqtt", source, via: "telemetry" });

  it("holds what each device sent that is refused, and shows it, however much one of them sends", async () => {
    const { intake } = await makeIntake();
    intake.refuse("invalid", "first", "", bad("quiet"));
    intake.refuse("invalid", "second", "", bad("quiet"));
    for (let index = 0; index < 250; index++) intake.refuse("invalid", `fault ${index}`, "", bad("noisy"));
    intake.refuse("invalid", "third", "", bad("quiet"));
    const kept = intake.quarantine().list();
    assert.deepEqual([kept.length, intake.quarantine().size], [100, 100]);
    const details = kept.map(({ detail }) => detail);
    assert.deepEqual(
      [details.slice(0, 3), details.slice(-2)],
      [
        ["first", "second", "fault 153"],
        ["fault 249", "third"],
      ],
    );
    const shown = (most: number) =>
      intake
        .quarantine()
        .list(most)
        .map(({ detail }) => detail);
    assert.deepEqual(shown(5), ["second", "fault 247", "fault 248", "fault 249", "third"]);
    assert.equal(shown(20).filter((detail) => !detail.startsWith("fault")).length, 3);
    assert.deepEqual(shown(1), ["third"]);
  });

  it("is of the newest where none sends much, and a device that begins to has its share", async () => {
    const { intake } = await makeIntake();
    for (let index = 0; index < 150; index++) intake.refuse("invalid", "fault", "", bad(`d${index}`));
    const devices = () =>
      intake
        .quarantine()
        .list()
        .map(({ device }) => device);
    assert.deepEqual([devices()[0], devices()[99]], ["d50", "d149"]);
    for (let index = 0; index < 50; index++) intake.refuse("invalid", "fault", "", bad("mast-3"));
    assert.deepEqual([devices().filter((device) => device === "mast-3").length, devices()[0]], [10, "d60"]);
  });

  it("is text also where the last character was cut in two", async () => {
    const { intake } = await makeIntake();
    for (const [before, character] of [
      [255, "ä"],
      [254, "€"],
      [253, "😀"],
      [254, "ä"],
    ] as const)
      intake.refuse("invalid", "not JSON", Buffer.from(`${"x".repeat(before)}${character.repeat(2)}`), origin);
    intake.refuse("invalid", "not UTF-8", Buffer.from(`${"x".repeat(255)}\xc3`, "latin1").fill(0xff, 255), origin);
    assert.deepEqual(
      intake
        .quarantine()
        .list()
        .map(({ head, hex }) => [head.replace(/^x+/, (xs) => String(xs.length)), hex?.slice(-2)]),
      [
        ["255", undefined],
        ["254", undefined],
        ["253", undefined],
        ["254ä", undefined],
        ["255\ufffd", "ff"],
      ],
    );
  });

  it("is the devices heard last, the quietest forgotten", async () => {
    const { intake } = await makeIntake();
    for (let index = 0; index < MAX_DEVICES; index++) intake.submit({ source: `device-${index}` }, origin);
    intake.submit({ source: "device-0" }, origin);
    intake.submit({ source: "one-more" }, origin);
    const devices = intake.devices();
    assert.equal(devices.length, MAX_DEVICES);
    assert.equal(
      devices.some(({ source }) => source === "device-1"),
      false,
    );
  });

  it("is, for each device, the readings that were committed, not the copies", async () => {
    const { intake, outbox } = await makeIntake();
    const accepted = () => Object.fromEntries(intake.devices().map((device) => [device.source, device.accepted]));
    const reading = { source: "a", ts: 1, t: 21.5 };
    outbox.hold();
    intake.submit([reading, { source: "b", ts: 1 }], origin);
    assert.deepEqual(accepted(), { a: 0, b: 0 });
    outbox.release();
    intake.submit([reading, { source: "b", ts: 2 }, { source: "c", ts: 1 }], origin);
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(accepted(), { a: 1, b: 2, c: 1 });
  });

  it("is, at debug, where each reading came in, with its id and trace", async () => {
    const { intake, outbox, log } = await makeIntake();
    intake.submit({ traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" }, origin);
    const line = await log.line("reading taken");
    assert.equal(line.reading, outbox.readings[0]?.id);
    assert.deepEqual(
      [line.source, line.class, line.via, line.trace],
      ["mast", "position", "/dev/ttyUSB0", "0af7651916cd43dd8448eb211c80319c"],
    );
  });
});
