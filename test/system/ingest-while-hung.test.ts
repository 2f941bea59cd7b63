/**
 * Left and right of the outbox nobody waits for the other: a fusion that takes a request and never answers stops no
 * device, the backlog lies on the disk and not in memory, and what is critical goes first when fusion is well.
 */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { publishLoad } from "../bench/mqtt-load.ts";
import { Collector, type ReceivedBatch } from "../support/collector.ts";
import { Daemon, type DaemonOptions } from "../support/daemon.ts";
import { device } from "../support/device.ts";
import { mutant } from "../support/mutant.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const HALF = 100_000;
const READINGS_PER_MESSAGE = 100;
/** What a hundred thousand waiting readings may weigh in memory; as bare JSON they are about 30 MiB. */
const MAY_GROW_MIB = 25;
/** In that time memory that is not needed any more is given back. */
const SETTLES_WITHIN_MS = 10_000;
const LOOKS_FOR_MS = 2000;

async function publishReadings(daemon: Daemon, readings: number): Promise<void> {
  const messages = readings / READINGS_PER_MESSAGE;
  const load = { connections: 4, window: 4, messages, readingsPerMessage: READINGS_PER_MESSAGE };
  const { acknowledged } = await publishLoad({ port: daemon.ports.mqtt }, load);
  assert.equal(acknowledged, messages);
}

/** The least resident memory within `ms`, MiB; ends early where it is at most `wanted`. */
async function settledMemory(daemon: Daemon, ms: number, wanted = 0): Promise<number> {
  const deadline = performance.now() + ms;
  let least = daemon.residentMiB;
  while (least > wanted && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    least = Math.min(least, daemon.residentMiB);
  }
  return least;
}

interface Rig {
  readonly fusion: Collector;
  readonly daemon: Daemon;
  /** MiB by which memory has grown with the second half of the backlog. */
  readonly grown: number;
}

/** A daemon with a backlog, in front of a fusion that hangs. */
async function backlog(t: TestContext, half: number, options: Partial<DaemonOptions> = {}): Promise<Rig> {
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  let requests = 0;
  fusion.remembers = false;
  fusion.answer = () => {
    requests++;
    return "hang";
  };
  const uplink = {
    url: fusion.url,
    timeouts: { read: "2s" },
    retry: { initial: "10ms", max: "10ms" },
    breaker: { recovery: "10ms" },
  };
  const daemon = await Daemon.start({ folder: temporaryFolder(t), changes: { uplink }, ...options });
  t.after(() => daemon.stop("SIGKILL"));
  await publishReadings(daemon, half);
  await until("fusion has a request and is silent", () => requests > 0);
  const before = await settledMemory(daemon, LOOKS_FOR_MS);
  await publishReadings(daemon, half);
  const after = await settledMemory(daemon, SETTLES_WITHIN_MS, before + MAY_GROW_MIB);
  await daemon.until(({ accepted, pending }) => accepted === 2 * half && pending === 2 * half);
  t.diagnostic(`${before.toFixed(0)} MiB with ${half} waiting, ${after.toFixed(0)} MiB with ${2 * half}`);
  return { fusion, daemon, grown: after - before };
}

test("a fusion that hangs stops no device; the backlog costs no memory; critical goes first, then the order of acceptance", async (t) => {
  const { fusion, daemon, grown } = await backlog(t, HALF);
  assert.ok(grown <= MAY_GROW_MIB, `memory grew by ${grown} MiB with ${HALF} readings`);

  const client = await device(t, daemon.ports.mqtt);
  await client.publishAsync("alerts/tower", '{"flame":true}', { qos: 1 });
  const last: Record<string, number> = {};
  let received = 0;
  let before: number | undefined;
  let disorder = 0;
  fusion.answer = ({ observations }: ReceivedBatch) => {
    for (const { priority, gateway } of observations) {
      if (priority === "critical") before ??= received;
      if (gateway.seq <= (last[priority] ?? 0)) disorder++;
      last[priority] = gateway.seq;
      received++;
    }
    return { status: 204 };
  };
  await daemon.until(({ pending }) => pending === 0);
  assert.equal(received, 2 * HALF + 1, "each once");
  assert.equal(disorder, 0, "in the order of acceptance within each priority");
  assert.ok(before !== undefined && before <= 2000, `${before} of ${2 * HALF} came before the critical reading`);
});

test("control: a gateway that keeps its backlog in memory grows with it", async (t) => {
  const dist = mutant(
    t,
    "outbox/group-commit.js",
    "waits.on(this.#gathering.add(observation, text,",
    "(globalThis.kept ??= []).push(Buffer.alloc(1024, observation.id)); waits.on(this.#gathering.add(observation, text,",
  );
  const { grown } = await backlog(t, HALF / 2, { dist });
  assert.ok(grown > MAY_GROW_MIB, `memory grew by ${grown} MiB with ${HALF / 2} readings`);
});
