/** What a backlog costs: drain, start, memory and ingest with 10⁷ readings waiting, against 10⁵ or none. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { Daemon, FIELD_NODE_OPTIONS, startScript } from "../support/daemon.ts";
import { freePort } from "../support/free-port.ts";
import { fillOutbox } from "./fill-outbox.ts";
import { publishLoad } from "./mqtt-load.ts";

const MANY = 10_000_000;
const FEW = 100_000;
const ROUNDS = 7;
/** Starts: what one weighs at rest depends on when its heap was last collected, by 5 MiB. */
const STARTS = 3;
/** Requests of 500 readings: the first ones pay for the start. */
const MEASURED = { from: 20, to: 190 };
const PER_REQUEST = 500;

export interface BacklogFigures {
  /** Readings per second, one for each round. */
  readonly drainMany: number[];
  readonly drainFew: number[];
  readonly drainRows: number[];
  readonly startSeconds: number;
  readonly startSecondsFew: number;
  /** MiB, at rest, one for each start. */
  readonly residentMany: number[];
  readonly residentNone: number[];
  readonly ingestAlone: number[];
  readonly ingestDraining: number[];
}

/** Where the daemon's sink listens, and what it has seen of requests: their times, ms. */
async function requestTimes(port: number): Promise<number[]> {
  const answer = (await (await fetch(`http://127.0.0.1:${port}/`)).json()) as { times: number[] };
  return answer.times;
}

async function drainRate(folder: string): Promise<number> {
  const sink = await startScript("sink");
  const daemon = await Daemon.start({ folder, uplinkUrl: `http://127.0.0.1:${sink.port}/` });
  for (;;) {
    const times = await requestTimes(sink.port);
    const [from, to] = [times[MEASURED.from], times[MEASURED.to]];
    if (from !== undefined && to !== undefined) {
      await daemon.stop();
      sink.child.kill();
      return ((MEASURED.to - MEASURED.from) * PER_REQUEST) / ((to - from) / 1000);
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

async function rowsRate(folder: string): Promise<number> {
  const sink = await startScript("sink");
  const script = new URL("row-baseline.js", import.meta.url).pathname;
  const file = join(folder, "rows.db");
  const child = spawn(process.execPath, [script, file, String(FEW), String(sink.port)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const { perSecond } = JSON.parse(await text(child.stdout)) as { perSecond: number };
  sink.child.kill();
  return perSecond;
}

/** Seconds from the start of the process until `/readyz` says so, and what it weighs once it has come to rest. */
async function startAndRest(folder: string): Promise<{ seconds: number; resident: number }> {
  const ports = await Daemon.freePorts();
  const uplinkUrl = `http://127.0.0.1:${await freePort()}/`;
  const mqtt = { listeners: [{ bind: "127.0.0.1", port: ports.mqtt }], limits: { publishRate: 0 } };
  const options = { folder, ports, uplinkUrl, changes: { mqtt }, nodeOptions: FIELD_NODE_OPTIONS };
  const from = performance.now();
  const daemon = await Daemon.start(options);
  const seconds = (performance.now() - from) / 1000;
  await new Promise((resolve) => setTimeout(resolve, 10_000));
  const resident = daemon.residentMiB;
  await daemon.stop();
  return { seconds, resident };
}

async function ingestRates(folder: string): Promise<[number[], number[]]> {
  const sinkPort = await freePort();
  const daemon = await Daemon.start({ folder, uplinkUrl: `http://127.0.0.1:${sinkPort}/` });
  const load = { connections: 10, window: 50, messages: 30_000 };
  const rates: [number[], number[]] = [[], []];
  for (let round = 0; round < 3; round++) {
    rates[0].push((await publishLoad({ port: daemon.ports.mqtt }, load)).perSecond);
    const sink = await startScript("sink", String(sinkPort));
    while ((await requestTimes(sinkPort)).length < MEASURED.from) await new Promise((go) => setTimeout(go, 50));
    rates[1].push((await publishLoad({ port: daemon.ports.mqtt }, load)).perSecond);
    sink.child.kill();
    await daemon.untilStatus(({ uplink }) => uplink.state === "waiting");
  }
  await daemon.stop();
  return rates;
}

/** Takes some minutes; `folder` needs 2 GB. */
export async function measureBacklog(folder: string): Promise<BacklogFigures> {
  const [many, none] = [join(folder, "many"), join(folder, "none")];
  fillOutbox(join(many, "data", "outbox.db"), MANY);
  const drainMany: number[] = [];
  const drainFew: number[] = [];
  const drainRows: number[] = [];
  const resting: { seconds: number; resident: number }[] = [];
  const empty: { seconds: number; resident: number }[] = [];
  for (let start = 0; start < STARTS; start++) {
    resting.push(await startAndRest(many));
    empty.push(await startAndRest(none));
  }
  let startSecondsFew = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const few = join(folder, `few-${round}`);
    fillOutbox(join(few, "data", "outbox.db"), FEW);
    if (round === 0) startSecondsFew = (await startAndRest(few)).seconds;
    // Each first in turn: a window of some hundred milliseconds tells of the moment as well.
    if (round % 2 === 1) drainMany.push(await drainRate(many));
    drainFew.push(await drainRate(few));
    if (round % 2 === 0) drainMany.push(await drainRate(many));
    drainRows.push(await rowsRate(few));
  }
  const [ingestAlone, ingestDraining] = await ingestRates(many);
  return {
    ...{ drainMany, drainFew, drainRows, ingestAlone, ingestDraining, startSecondsFew },
    startSeconds: Math.max(...resting.map(({ seconds }) => seconds)),
    residentMany: resting.map(({ resident }) => resident),
    residentNone: empty.map(({ resident }) => resident),
  };
}
