/**
 * `npm run bench`: the figures that the project promises, as ratios against a baseline in the same run where they are speeds.
 * `npm run bench -- ingest drain` runs some of them; `--json` prints one object.
 */
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Daemon, type DaemonOptions, FIELD_NODE_OPTIONS, startScript } from "../support/daemon.ts";
import { freePort } from "../support/free-port.ts";
import { measureBacklog } from "./backlog.ts";
import { measureHandshakes, measurePublicKeyWork } from "./handshakes.ts";
import { idleConnections, publishLoad, publishWithMqttJs, steadyLoad, type Target } from "./mqtt-load.ts";
import { measureSaturatedPorts } from "./ports.ts";
import { measureFrameCosts } from "./serial.ts";

interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly bound: number;
  /** `least`: the value is to be at least the bound; `most`: at most. */
  readonly is: "least" | "most";
  readonly detail: string;
}

const ROUNDS = 3;

const figures: Figure[] = [];

function note(figure: Figure): void {
  figures.push(figure);
  const met = figure.is === "least" ? figure.value >= figure.bound : figure.value <= figure.bound;
  const bound = `${figure.is === "least" ? "≥" : "≤"} ${figure.bound}`;
  const line = `${met ? "✓" : "✗"} ${figure.name}: ${figure.value.toFixed(2)} ${figure.unit} (${bound})`;
  if (!asJson) console.log(`${line}  ${figure.detail}`);
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "summit-edge-bench-"));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Median rates of both targets under the same load, in turn, after one turn each that only warms them up. */
async function compare(
  a: Target,
  b: Target,
  load: Parameters<typeof publishLoad>[1],
  publish = publishLoad,
): Promise<[number, number]> {
  const rates: [number[], number[]] = [[], []];
  await publish(a, load);
  await publish(b, load);
  for (let round = 0; round < ROUNDS; round++) {
    rates[0].push((await publish(a, load)).perSecond);
    rates[1].push((await publish(b, load)).perSecond);
  }
  return [median(rates[0]), median(rates[1])];
}

/** What a reading costs the daemon in all its threads, in microseconds of a processor. */
async function processorMicros(
  daemon: Daemon,
  target: Target,
  load: Parameters<typeof publishLoad>[1],
): Promise<number> {
  const before = daemon.processorMs;
  const { acknowledged } = await publishLoad(target, load);
  return (1000 * (daemon.processorMs - before)) / acknowledged;
}

const perSecond = (rate: number): string => `${Math.round(rate).toLocaleString("en")}/s`;

async function ingest(): Promise<void> {
  await inFolder(async (folder) => {
    const stock = await startScript("stock-broker");
    const daemon = await Daemon.start({ folder });
    const ours = { port: daemon.ports.mqtt };
    const loads = [
      { connections: 10, bound: 0.5 },
      { connections: 1, bound: 0.35 },
    ];
    const publishers = [
      { by: "as cheaply as can be", publish: publishLoad, messages: 150_000 },
      { by: "with MQTT.js", publish: publishWithMqttJs, messages: 50_000 },
    ];
    for (const { connections, bound } of loads) {
      for (const { by, publish, messages } of publishers) {
        const load = { connections, window: 50, messages };
        const [mine, theirs] = await compare(ours, { port: stock.port }, load, publish);
        const count = connections === 1 ? "1 connection, window 50" : `${connections} connections`;
        const name = `durable QoS 1 ingest, ${count}, published ${by}, against stock aedes in memory`;
        note({
          name,
          value: mine / theirs,
          unit: "",
          bound,
          is: "least",
          detail: `${perSecond(mine)} against ${perSecond(theirs)}`,
        });
      }
    }
    const tls = { port: daemon.ports.mqtts, ca: daemon.ca };
    const load = { connections: 10, window: 50, messages: 150_000 };
    const [secure, plain] = await compare(tls, ours, load);
    // The rates are of the publisher's TLS as well, which shares the machine; this is not.
    const [ofTls, ofPlain] = [await processorMicros(daemon, tls, load), await processorMicros(daemon, ours, load)];
    note({
      name: "durable ingest over TLS, against plain",
      value: secure / plain,
      unit: "",
      bound: 0.85,
      is: "least",
      detail:
        `${perSecond(secure)} against ${perSecond(plain)}; the daemon's processor time ` +
        `${ofTls.toFixed(1)} µs against ${ofPlain.toFixed(1)} µs a reading`,
    });
    await daemon.stop();
    stock.child.kill();
  });
}

const DRAINED = 300_000;

async function drain(): Promise<void> {
  await inFolder(async (folder) => {
    const stock = await startScript("stock-broker");
    const baseline = await publishLoad({ port: stock.port }, { connections: 10, window: 50, messages: 100_000 });
    stock.child.kill();
    const sinkPort = await freePort();
    const daemon = await Daemon.start({ folder, uplinkUrl: `http://127.0.0.1:${sinkPort}/api/v1/observations/batch` });
    const load = { connections: 4, window: 8, messages: DRAINED / 100, readingsPerMessage: 100 };
    await publishLoad({ port: daemon.ports.mqtt }, load);
    const sink = await startScript("sink", String(sinkPort));
    await daemon.until((ledger) => (ledger.delivered ?? 0) > 0, 5);
    const already = (await daemon.status()).ledger.delivered ?? 0;
    const seconds = await daemon.until((ledger) => ledger.pending === 0);
    const rate = (DRAINED - already) / seconds;
    note({
      name: "drain of 300,000 waiting readings, against what stock aedes acknowledges",
      value: rate / baseline.perSecond,
      unit: "",
      bound: 80_000 / 96_000,
      is: "least",
      detail: `${perSecond(rate)} against ${perSecond(baseline.perSecond)}`,
    });
    await daemon.stop();
    sink.child.kill();
  });
}

async function memory(): Promise<void> {
  await inFolder(async (folder) => {
    const ports = await Daemon.freePorts();
    // Without the development authority, which the field never has.
    const mqtt = { listeners: [{ bind: "127.0.0.1", port: ports.mqtt }], limits: { publishRate: 0 } };
    const uplinkUrl = `http://127.0.0.1:${await freePort()}/`;
    const daemon = await Daemon.start({ folder, ports, uplinkUrl, changes: { mqtt }, nodeOptions: FIELD_NODE_OPTIONS });
    // Long enough for what is only needed at the start to be given back.
    await new Promise((resolve) => setTimeout(resolve, 5000));
    const idle = daemon.residentMiB;
    note({ name: "idle resident memory", value: idle, unit: "MiB", bound: 90, is: "most", detail: "" });
    const close = await idleConnections({ port: daemon.ports.mqtt }, 100);
    const load = { connections: 4, window: 4, messages: 10_000, readingsPerMessage: 100 };
    await publishLoad({ port: daemon.ports.mqtt }, load);
    const { outbox } = await daemon.status();
    note({
      name: "resident memory with 100 connections and 1,000,000 readings waiting",
      value: daemon.residentMiB,
      unit: "MiB",
      bound: 180,
      is: "most",
      detail: `${outbox.pending} waiting`,
    });
    close();
    await daemon.stop();
  });
}

/** Bytes written per reading from its acceptance to its deletion, with what the last checkpoint writes at the most. */
async function writtenPerReading(
  name: string,
  bound: number,
  changes: NonNullable<DaemonOptions["changes"]>,
  load: { readings: number; publish: (target: Target) => Promise<unknown> },
): Promise<void> {
  await inFolder(async (folder) => {
    const sink = await startScript("sink");
    const ports = await Daemon.freePorts();
    const listeners = [{ bind: "127.0.0.1", port: ports.mqtt }];
    // A group of 500 is one packet, and larger than the usual limit.
    const mqtt = { listeners, limits: { publishRate: 0, maxPacketBytes: "512KiB" } };
    const uplinkUrl = `http://127.0.0.1:${sink.port}/`;
    const daemon = await Daemon.start({ folder, ports, uplinkUrl, changes: { mqtt, ...changes } });
    const before = daemon.writtenBytes;
    await load.publish({ port: daemon.ports.mqtt });
    await daemon.until((ledger) => ledger.pending === 0);
    const written = daemon.writtenBytes - before;
    await daemon.stop();
    const lastCheckpoint = statSync(join(folder, "data", "outbox.db")).size;
    const value = (written + lastCheckpoint) / load.readings;
    note({ name, value, unit: "B", bound, is: "most", detail: `${load.readings} readings` });
    sink.child.kill();
  });
}

async function wear(): Promise<void> {
  for (const { group, groups, bound } of [
    { group: 100, groups: 1000, bound: 300 },
    { group: 500, groups: 400, bound: 100 },
  ]) {
    const load = { connections: 1, window: 1, messages: groups, readingsPerMessage: group };
    await writtenPerReading(
      `bytes written per reading over its life, in groups of ${group}`,
      bound,
      {},
      { readings: group * groups, publish: (target) => publishLoad(target, load) },
    );
  }
  const steady = { perSecond: 100, seconds: 40 };
  await writtenPerReading(
    "bytes written per reading over its life, at 100 readings/s with the default commitDelay",
    1200,
    { outbox: {} },
    { readings: steady.perSecond * steady.seconds, publish: (target) => steadyLoad(target, steady) },
  );
}

async function backlog(): Promise<void> {
  const seen = await inFolder(measureBacklog);
  const drain = { many: median(seen.drainMany), few: median(seen.drainFew), rows: median(seen.drainRows) };
  note({
    name: "drain with 10,000,000 waiting, against 100,000 waiting",
    value: drain.many / drain.few,
    unit: "",
    bound: 0.95,
    is: "least",
    detail: `${perSecond(drain.many)} against ${perSecond(drain.few)}`,
  });
  note({
    name: "drain, against a row per reading (SQLite rows, gzip, POST)",
    value: drain.few / drain.rows,
    unit: "",
    bound: 1.2,
    is: "least",
    detail: `${perSecond(drain.few)} against ${perSecond(drain.rows)}`,
  });
  note({
    name: "start to ready with 10,000,000 waiting",
    value: seen.startSeconds,
    unit: "s",
    bound: 3,
    is: "most",
    detail: `${seen.startSecondsFew.toFixed(2)} s with 100,000`,
  });
  const [resident, without] = [median(seen.residentMany), median(seen.residentNone)];
  const more = resident - without;
  note({
    name: "resident memory with 10,000,000 waiting, beyond that with none",
    value: more,
    unit: "MiB",
    bound: 30,
    is: "most",
    detail: `${resident.toFixed(1)} against ${without.toFixed(1)}, medians of ${seen.residentMany.length} starts`,
  });
  const [alone, draining] = [median(seen.ingestAlone), median(seen.ingestDraining)];
  note({
    name: "ingest while draining, against ingest alone",
    value: draining / alone,
    unit: "",
    bound: 0.6,
    is: "least",
    detail: `${perSecond(draining)} against ${perSecond(alone)}, 10,000,000 waiting`,
  });
}

async function tls(): Promise<void> {
  const { rsa, p256, resumed } = await inFolder(measureHandshakes);
  const work = measurePublicKeyWork();
  const [fullRsa, fullP256] = [median(rsa.full), median(p256.full)];
  const [shortRsa, shortP256] = [median(rsa.resumed), median(p256.resumed)];
  const ms = (a: number, b: number): string => `${a.toFixed(2)} ms against ${b.toFixed(2)} ms`;
  note({
    name: "full TLS handshakes, server time with RSA-2048 against P-256",
    value: fullRsa / fullP256,
    unit: "",
    bound: 3,
    is: "least",
    detail: `${ms(fullRsa, fullP256)}; of public-key work ${ms(work.rsa, work.p256)}, ${(work.rsa / work.p256).toFixed(2)} to 1`,
  });
  note({
    name: "the same beyond what a resumed handshake takes, which has no public-key work",
    value: (fullRsa - shortRsa) / (fullP256 - shortP256),
    unit: "",
    bound: 3,
    is: "least",
    detail: ms(fullRsa - shortRsa, fullP256 - shortP256),
  });
  note({
    name: "TLS sessions resumed",
    value: resumed,
    unit: "",
    bound: 1,
    is: "least",
    detail: ms(shortP256, fullP256),
  });
}

/** How many times the cost of `JSON.parse` a frame may cost. Eight ports at 115,200 baud bring some 3,000 such frames a second. */
const MOST_TIMES_JSON_PARSE = 20;

async function serial(): Promise<void> {
  for (const { name, micros, baselineMicros } of await measureFrameCosts()) {
    note({
      name: `a frame of ${name}, against JSON.parse of the same reading`,
      value: micros / baselineMicros,
      unit: "",
      bound: MOST_TIMES_JSON_PARSE,
      is: "most",
      detail: `${micros.toFixed(2)} µs against ${baselineMicros.toFixed(2)} µs`,
    });
  }
}

async function ports(): Promise<void> {
  const { frames, missing, dropped, lag } = await inFolder(measureSaturatedPorts);
  note({
    name: "frames lost by eight serial ports saturated at 115,200 baud",
    value: missing + dropped,
    unit: "",
    bound: 0,
    is: "most",
    detail: `of ${frames}`,
  });
  note({
    name: "event loop's p99 lag meanwhile",
    value: lag.p99,
    unit: "ms",
    bound: 20,
    is: "most",
    detail: `median ${lag.p50.toFixed(2)} ms, longest ${lag.most.toFixed(1)} ms, ${lag.samples} samples`,
  });
}

const BENCHES = { ingest, drain, memory, wear, backlog, tls, serial, ports };
const asJson = process.argv.includes("--json");
const wanted = process.argv.slice(2).filter((arg) => !arg.startsWith("--"));
for (const [name, bench] of Object.entries(BENCHES)) {
  if (wanted.length === 0 || wanted.includes(name)) await bench();
}
if (asJson) console.log(JSON.stringify({ figures }, null, 2));
