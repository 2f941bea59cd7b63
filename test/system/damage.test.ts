/**
 * The promise, on a card that flips bits: the daemon finds the damage, sets it aside, delivers the rest, and starts the next time as if
 * nothing had been. `FLIP_DAEMON_ROUNDS` sets the number of rounds, `FLIP_SEED` the seed.
 */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import Database from "better-sqlite3";
import { noteClosed, readState } from "#src/outbox/file-state.js";
import { decodeSegment } from "#src/outbox/segment.js";
import { seededRandom } from "#src/simulator/random.js";
import { Collector } from "../support/collector.ts";
import { summitEdge } from "../support/command.ts";
import { Daemon, type DaemonOptions } from "../support/daemon.ts";
import { breakLeaf, closeEngine, copyOutbox, type Filled, fill, flip, openEngine, store } from "../support/damage.ts";
import { device } from "../support/device.ts";
import { freePort } from "../support/free-port.ts";
import { mutant } from "../support/mutant.ts";
import { observation } from "../support/observations.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const ROUNDS = Number(process.env.FLIP_DAEMON_ROUNDS ?? 5);
const SEED = Number(process.env.FLIP_SEED ?? Math.floor(Math.random() * 2 ** 31));
const FLIPS = 20;

interface Rig {
  readonly folder: string;
  readonly file: string;
  readonly fusion: Collector;
  readonly start: () => Promise<Daemon>;
}

async function rig(t: TestContext, options: Partial<DaemonOptions> = {}, port = 0): Promise<Rig> {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, "data"));
  const fusion = await Collector.start(port);
  t.after(() => fusion.stop());
  const ports = await Daemon.freePorts();
  const start = async (): Promise<Daemon> => {
    const daemon = await Daemon.start({ folder, ports, uplinkUrl: fusion.url, ...options });
    t.after(() => daemon.stop("SIGKILL"));
    return daemon;
  };
  return { folder, file: join(folder, "data", "outbox.db"), fusion, start };
}

/** An outbox in which much waits, made once. */
async function filledIn(folder: string, blocks = 120): Promise<Filled> {
  mkdirSync(folder, { recursive: true });
  return await fill(folder, blocks);
}

function sumOfFates(ledger: Record<string, number>): number {
  const { accepted: _accepted, duplicates: _duplicates, ...fates } = ledger;
  return Object.values(fates).reduce((sum, count) => sum + count, 0);
}

const setsBeside = (file: string): number =>
  readdirSync(join(file, "..")).filter((name) => /\.damaged-\d+$/.test(name)).length;

test(`${FLIPS} bits flipped at random places, ${ROUNDS} times (seed ${SEED}): the daemon delivers the rest and the books balance`, async (t) => {
  const random = seededRandom(SEED);
  const original = await filledIn(join(temporaryFolder(t), "data"));
  for (let round = 0; round < ROUNDS; round++) {
    const { file, fusion, start } = await rig(t);
    copyOutbox(original.folder, join(file, ".."));
    const bits = statSync(file).size * 8;
    for (let n = 0; n < FLIPS; n++) flip(file, Math.floor(random() * bits));
    let daemon = await start();
    await daemon.until(({ pending }) => pending === 0);
    const { ledger, conditions } = await daemon.status();
    const ids = new Set(fusion.received.map(({ id }) => id));
    assert.equal(ledger.accepted, sumOfFates(ledger));
    assert.equal(ledger.damaged, original.waiting.size - ids.size);
    assert.equal(fusion.received.length, ids.size, "nothing goes out twice");
    for (const id of ids) assert.ok(original.waiting.has(id));
    if ((ledger.damaged ?? 0) > 0)
      assert.ok(
        conditions.some(({ component }) => component === "outbox"),
        "health says so",
      );
    assert.equal(await daemon.stop(), 0);
    const sets = setsBeside(file);
    daemon = await start();
    assert.deepEqual((await daemon.status()).ledger, ledger);
    assert.equal(setsBeside(file), sets, "the next start repairs nothing");
    await daemon.stop();
    t.diagnostic(`round ${round + 1}: ${ids.size} delivered, ${ledger.damaged} damaged, ${sets} set aside`);
  }
});

const MESSAGES = 300;

/** Acknowledged while fusion is away, then SIGKILL, and a bit in the middle of the log flips. */
async function afterDamagedLog(t: TestContext, dist?: string) {
  const port = await freePort();
  const { file, fusion, start } = await rig(t, dist === undefined ? {} : { dist }, port);
  await fusion.stop();
  const daemon = await start();
  const client = await device(t, daemon.ports.mqtt);
  const payload = (n: number) => JSON.stringify({ ts: 1_780_000_000_000 + n, n });
  for (let n = 0; n < MESSAGES; n += 10)
    await Promise.all(
      Array.from({ length: 10 }, (_, k) => client.publishAsync("observations/smoke", payload(n + k), { qos: 1 })),
    );
  await daemon.stop("SIGKILL");
  flip(`${file}-wal`, Math.floor(statSync(`${file}-wal`).size / 2) * 8);
  await fusion.listen();
  const again = await start();
  await again.until(({ pending }) => pending === 0);
  const { ledger } = await again.status();
  assert.equal(ledger.accepted, sumOfFates(ledger));
  await again.stop();
  return { ledger, delivered: new Set(fusion.received.map(({ id }) => id)).size };
}

test("a log that was damaged while the daemon was down after SIGKILL: every acknowledged reading is delivered or counted", async (t) => {
  const { ledger, delivered } = await afterDamagedLog(t);
  assert.equal(ledger.accepted, MESSAGES);
  assert.equal(delivered, MESSAGES - (ledger.damaged ?? 0));
});

test("control: without a look at the log, acknowledged readings are gone, and the books know nothing of them", async (t) => {
  const dist = mutant(t, "outbox/file-check.js", "-wal`)?.fault;", "-wal`)?.none;");
  const { ledger, delivered } = await afterDamagedLog(t, dist);
  assert.equal(ledger.damaged, 0);
  assert.ok(delivered < MESSAGES);
});

test("damage that is met in use ends the daemon with status 74; it is repaired at the next start, and only then", async (t) => {
  const port = await freePort();
  const { folder, file, fusion, start } = await rig(t, {}, port);
  await fusion.stop();
  // More than the newest 100,000, which each start reads to recognise copies.
  const opened = await openEngine(join(folder, "data"));
  const waiting = new Set<string>();
  for (let n = 0; n < 350; n++)
    for (const id of store(
      opened.engine,
      2,
      Array.from({ length: 400 }, () => observation()),
    ))
      waiting.add(id);
  closeEngine(opened);
  const known = readState(file)?.known;
  assert.ok(known);
  breakLeaf(file, 2 * 2 ** 48 + 20 * 400);
  noteClosed(file, known); // As if the card alone had done it: no time of change tells.
  const daemon = await start();
  assert.equal(setsBeside(file), 0);
  const ended = daemon.ended();
  await fusion.listen();
  assert.equal(await ended, 74);
  const again = await start();
  await again.until(({ pending }) => pending === 0);
  const { ledger } = await again.status();
  assert.equal(ledger.accepted, sumOfFates(ledger));
  assert.equal(ledger.accepted, waiting.size);
  assert.equal(new Set(fusion.received.map(({ id }) => id)).size, waiting.size - (ledger.damaged ?? 0));
  assert.ok(Number(ledger.damaged) < 3 * 400);
  assert.equal(await again.stop(), 0);
  assert.equal(setsBeside(file), 1);
});

/** Flips a bit of a block's body so that it is read as other readings, not as nonsense. Returns how many it holds. */
function falsify(file: string): number {
  const db = new Database(file);
  const rows = db.prepare("SELECT key, count, raw_bytes AS rawBytes, body FROM block WHERE sequence IS NULL").all();
  try {
    for (const { key, count, rawBytes, body } of rows as {
      key: number;
      count: number;
      rawBytes: number;
      body: Buffer;
    }[]) {
      const before = JSON.stringify(decodeSegment(body, rawBytes).map((text) => JSON.parse(text)));
      for (let bit = 0; bit < body.length * 8; bit++) {
        const flipped = Buffer.from(body);
        flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        if (!readsOtherwise(flipped, rawBytes, before)) continue;
        db.prepare("UPDATE block SET body = ? WHERE key = ?").run(flipped, key);
        return count;
      }
    }
  } finally {
    db.close();
  }
  throw new Error("no bit makes other readings");
}

function readsOtherwise(body: Buffer, rawBytes: number, before: string): boolean {
  try {
    const texts = decodeSegment(body, rawBytes);
    const ids = texts.map((text) => (JSON.parse(text) as { id: string }).id);
    return JSON.stringify(texts.map((text) => JSON.parse(text))) !== before && ids.every((id) => before.includes(id));
  } catch {
    return false;
  }
}

async function deliveredFalsified(
  t: TestContext,
  dist?: string,
): Promise<{ damaged: number; received: number; held: number }> {
  const uplink = (url: string) => ({ uplink: { url, reachability: "100ms", batch: { compression: "none" } } });
  const port = await freePort();
  const url = `http://127.0.0.1:${port}/api/v1/observations/batch`;
  const { file, fusion, start } = await rig(t, { changes: uplink(url), ...(dist !== undefined && { dist }) }, port);
  await filledIn(join(file, ".."), 10);
  const held = falsify(file);
  const daemon = await start();
  await daemon.until(({ pending }) => pending === 0);
  const { ledger } = await daemon.status();
  await daemon.stop();
  return { damaged: ledger.damaged ?? 0, received: fusion.received.length, held };
}

test("a flipped bit that turns readings into other readings is found before they go out", async (t) => {
  const { damaged, held } = await deliveredFalsified(t);
  assert.equal(damaged, held);
});

test("control: without the checksum the false readings go out, and nobody notices", async (t) => {
  const checked = 'return stored === rowCrc(headOf(block), block.body) ? restamped(block, this.#offsets) : "damaged";';
  const dist = mutant(t, "outbox/store.js", checked, "return block;");
  const { damaged, received } = await deliveredFalsified(t, dist);
  assert.equal(damaged, 0);
  assert.ok(received > 0);
});

test("verify and backup work beside the daemon, restore only without it, and what was restored is delivered", async (t) => {
  const port = await freePort();
  const { folder, file, fusion, start } = await rig(t, {}, port);
  await fusion.stop();
  const original = await filledIn(join(file, ".."), 30);
  const daemon = await start();
  const config = ["--config", join(folder, "gateway.yaml")];
  const copy = join(folder, "copy.db");
  const verified = await summitEdge(["outbox", "verify", "--json", ...config]);
  assert.equal(verified.status, 0, verified.stderr);
  assert.equal((JSON.parse(verified.stdout) as { readings: number }).readings, original.waiting.size);
  const copied = await summitEdge(["outbox", "backup", copy, ...config]);
  assert.equal(copied.status, 0, copied.stderr);
  assert.match(copied.stdout, /whole/);
  const taken = await summitEdge(["outbox", "backup", copy, ...config]);
  assert.deepEqual([taken.status, /--overwrite/.test(taken.stderr)], [1, true]);
  const refused = await summitEdge(["outbox", "restore", copy, ...config]);
  assert.deepEqual([refused.status, /another Summit Edge/.test(refused.stderr)], [1, true]);
  await daemon.stop("SIGKILL");

  flip(file, 5 * 4096 * 8 + 1);
  const damaged = await summitEdge(["outbox", "verify", ...config]);
  assert.equal(damaged.status, 1);
  assert.match(damaged.stderr, /^hint: .*restart the daemon/m);
  const restored = await summitEdge(["outbox", "restore", copy, ...config]);
  assert.equal(restored.status, 0, restored.stderr);
  assert.match(restored.stdout, /kept as .*replaced-1\.\nIt .*hold.* which nobody sends now: /);
  await fusion.listen();
  const again = await start();
  await again.until(({ pending }) => pending === 0);
  assert.deepEqual(new Set(fusion.received.map(({ id }) => id)), original.waiting);
  assert.equal(setsBeside(file), 0);
  await again.stop();
});
