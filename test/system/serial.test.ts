/** Serial ports of the real daemon, over pseudo-terminals: NMEA, CSV and JSON, unplugged and plugged in again. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Collector, type Received } from "../support/collector.ts";
import { missing } from "../support/commands.ts";
import { Daemon } from "../support/daemon.ts";
import { PtyPair } from "../support/pty-pair.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const skip = missing("socat");
const REOPEN = { initial: "50ms", max: "200ms" };

/** A sentence with its checksum. */
function nmea(content: string): string {
  let checksum = 0;
  for (const character of content) checksum ^= character.charCodeAt(0);
  return `$${content}*${checksum.toString(16).toUpperCase().padStart(2, "0")}\r\n`;
}

const RMC = "GPRMC,120000.00,A,3856.4000,N,12003.0000,W,0.5,54.7,010726,,,A";
const GGA = "GPGGA,120001.00,3856.4000,N,12003.0000,W,1,08,0.9,2545.4,M,46.9,M,,";

interface Site {
  readonly folder: string;
  readonly fusion: Collector;
  readonly daemon: Daemon;
  /** Plugs a device in where the port's configuration looks for it. */
  readonly plugIn: (name: string) => Promise<PtyPair>;
}

async function site(
  t: TestContext,
  ports: readonly object[],
  plugged: readonly string[],
  changes: object = {},
): Promise<Site & { plugs: PtyPair[] }> {
  const folder = temporaryFolder(t);
  const plugIn = async (name: string) => {
    const pair = await PtyPair.plugIn(folder, name);
    t.after(() => pair.unplug());
    return pair;
  };
  const plugs = await Promise.all(plugged.map(plugIn));
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  const serial = ports.map((port) => ({
    reopen: REOPEN,
    ...port,
    path: `${folder}/${(port as { path: string }).path}`,
  }));
  const daemon = await Daemon.start({ folder, changes: { serial, uplink: { url: fusion.url }, ...changes } });
  t.after(() => daemon.stop("SIGKILL"));
  return { folder, fusion, daemon, plugIn, plugs };
}

const sourceOf = async (daemon: Daemon, name: string) =>
  (await daemon.status()).sources.find((source) => source.name === name);

const until = (daemon: Daemon, name: string, expected: object) =>
  daemon.untilStatus(({ sources }) => {
    const source = sources.find((one) => one.name === name) as Record<string, unknown> | undefined;
    return source !== undefined && Object.entries(expected).every(([key, value]) => source[key] === value);
  });

const bySource = (received: readonly Received[], source: string) => received.filter((one) => one.source === source);

test("NMEA, CSV and JSON ports bring their readings to fusion; what cannot be read is counted on its port", {
  skip,
}, async (t) => {
  const ports = [
    { name: "mast", path: "gps", baudRate: 4800, framing: "lines", codec: "nmea0183", class: "position" },
    {
      name: "weather",
      path: "csv",
      codec: "csv",
      columns: ["temperature_c", "humidity_pct", { name: "station", type: "text" }],
      class: "weather",
    },
    { name: "smoke", path: "json", codec: "json", source: "tower-2", priority: "high" },
  ];
  const { fusion, daemon, plugs } = await site(t, ports, ["gps", "csv", "json"]);
  const [gps, csv, json] = plugs as [PtyPair, PtyPair, PtyPair];
  for (const { name } of ports) await until(daemon, name, { kind: "serial", state: "open", accepted: 0, refused: 0 });

  await gps.say(`${nmea(RMC)}${nmea(GGA)}${nmea("GPGSV,1,1,00")}$GPRMC,broken*00\r\n`, 7);
  await csv.say("temperature_c,humidity_pct,station\r\n21.5,40,north\n22,,\n1,2\n");
  await json.say(
    '{"pm2_5":3.5}\n[{"pm2_5":4,"ts":1780000000},{"confidence":7}]\n{broken\n{"pm2_5":5,"class":"smoke","source":"own"}\n',
  );
  await daemon.until(({ delivered, pending }) => delivered === 7 && pending === 0);

  await until(daemon, "mast", { accepted: 2, refused: 1 });
  await until(daemon, "weather", { accepted: 2, refused: 1 });
  await until(daemon, "smoke", { accepted: 3, refused: 2 });
  const { ledger, refused, sources } = await daemon.status();
  assert.equal(ledger.accepted, 7);
  assert.equal(refused.invalid, 4);
  assert.deepEqual(
    sources.map(({ kind, name }) => `${kind} ${name}`),
    ["mqtt mqtt", "serial mast", "serial weather", "serial smoke"],
  );
  for (const { name, lastReadingAt } of sources.slice(1))
    assert.ok(!Number.isNaN(Date.parse(lastReadingAt ?? "")), name);

  const [rmc, gga] = bySource(fusion.received, "mast");
  assert.deepEqual(
    [rmc?.class, rmc?.lat, rmc?.lon, rmc?.ts_iso, rmc?.priority, rmc?.confidence],
    ["position", 38.94, -120.05, "2026-07-01T12:00:00.000Z", "normal", 1],
  );
  assert.equal(rmc?.attributes.speed_knots, 0.5);
  assert.equal(gga?.ts_iso, "2026-07-01T12:00:01.000Z", "a time of day gets the date of the sentence before");
  assert.equal(gga?.attributes.altitude_m, 2545.4);
  assert.deepEqual(
    bySource(fusion.received, "weather").map((one) => [one.class, one.attributes]),
    [
      ["weather", { temperature_c: 21.5, humidity_pct: 40, station: "north" }],
      ["weather", { temperature_c: 22 }],
    ],
  );
  assert.deepEqual(
    bySource(fusion.received, "tower-2").map((one) => [one.class, one.priority, one.attributes]),
    [
      ["telemetry", "high", { pm2_5: 3.5 }],
      ["telemetry", "high", { pm2_5: 4 }],
    ],
  );
  assert.deepEqual(
    bySource(fusion.received, "own").map((one) => one.class),
    ["smoke"],
  );
  const metrics = await (await daemon.get("/metrics")).text();
  assert.match(metrics, /^summit_edge_readings_accepted_total\{source="mast"\} 2$/m);
});

test("a port that is unplugged is read again when it is plugged in; the others and the gateway do not notice", {
  skip,
}, async (t) => {
  const ports = [
    { name: "a", path: "a", codec: "json" },
    { name: "b", path: "b", codec: "json" },
  ];
  const { daemon, plugIn, plugs } = await site(t, ports, ["a", "b"]);
  const [a, b] = plugs as [PtyPair, PtyPair];
  let count = 0;
  const bring = async (port: PtyPair) => {
    await port.say(`{"n":${count++}}\n`);
    await daemon.until(({ accepted }) => accepted === count);
  };
  let plugged = a;
  for (let round = 0; round < 3; round++) {
    await until(daemon, "a", { state: "open" });
    await bring(plugged);
    await plugged.say('{"cut":');
    await plugged.unplug();
    const { conditions } = await until(daemon, "a", { state: "waiting" });
    assert.ok(conditions.some(({ component, severity }) => component === "serial:a" && severity === "degraded"));
    assert.equal((await daemon.get("/healthz")).status, 200);
    assert.equal((await sourceOf(daemon, "b"))?.state, "open");
    await bring(b);
    plugged = await plugIn("a");
  }
  const { conditions } = await until(daemon, "a", { state: "open" });
  assert.deepEqual(
    conditions.filter(({ component }) => component.startsWith("serial:")),
    [],
  );
  await bring(plugged);
  await daemon.until(({ delivered }) => delivered === count);
  assert.equal((await sourceOf(daemon, "a"))?.refused, 0, "what was cut by the unplug was never said");
});

test("a port that is not there yet does not keep the gateway from starting, and is opened when it comes", {
  skip,
}, async (t) => {
  const { daemon, plugIn } = await site(t, [{ name: "late", path: "late", codec: "json" }], []);
  assert.equal((await daemon.get("/readyz")).status, 200);
  await until(daemon, "late", { kind: "serial", state: "waiting" });
  const port = await plugIn("late");
  await until(daemon, "late", { state: "open" });
  await port.say('{"n":1}\n');
  await daemon.until(({ delivered }) => delivered === 1);
});

test("a clean stop commits what a port has said", { skip }, async (t) => {
  const never = { commitDelay: { critical: "1h", high: "1h", normal: "1h", low: "1h" } };
  const { daemon, plugs } = await site(t, [{ name: "a", path: "a", codec: "json" }], ["a"], { outbox: never });
  const [a] = plugs as [PtyPair];
  await a.say('{"n":1}\n');
  await daemon.untilStatus(({ sources }) =>
    sources.some(({ name, lastReadingAt }) => name === "a" && lastReadingAt !== null),
  );
  assert.equal((await daemon.status()).ledger.accepted, 0);
  assert.equal(await daemon.stop(), 0);
  const again = await Daemon.start({ folder: daemon.folder, ports: daemon.ports });
  t.after(() => again.stop("SIGKILL"));
  assert.equal((await again.status()).ledger.accepted, 1);
});
