/**
 * The promise, under SIGKILL: whatever was acknowledged reaches fusion, whenever the daemon is killed. `KILL_ROUNDS` sets
 * the number of kills.
 */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { MqttClient } from "mqtt";
import { Collector } from "../support/collector.ts";
import { Daemon, type DaemonOptions } from "../support/daemon.ts";
import { device } from "../support/device.ts";
import { mutant } from "../support/mutant.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

const ROUNDS = Number(process.env.KILL_ROUNDS ?? 20);
const PUBLISHERS = 3;
const WINDOW = 40;
const LONGEST_LIFE_MS = 600;
const RETRY_MS = 20;

/** Publishes as fast as its window allows until told to stop, again what was not acknowledged, and notes what was. */
class Publisher {
  readonly acknowledged = new Set<string>();
  readonly #client: MqttClient;
  readonly #name: string;
  readonly #qos: 1 | 2;
  #n = 0;
  #stopped = false;
  #abandoned = false;

  private constructor(client: MqttClient, name: string, qos: 1 | 2) {
    this.#client = client;
    this.#name = name;
    this.#qos = qos;
    for (let slot = 0; slot < WINDOW; slot++) void this.#publishOn();
  }

  static async start(t: TestContext, port: number, name: string, qos: 1 | 2): Promise<Publisher> {
    const client = await device(t, port, { clientId: name, clean: false, reconnectPeriod: 50 });
    const publisher = new Publisher(client, name, qos);
    t.after(() => {
      publisher.#abandoned = true;
    });
    return publisher;
  }

  async #publishOn(): Promise<void> {
    while (!this.#stopped && !this.#abandoned) {
      const n = this.#n++;
      // A time of its own makes a reading's id the same each time it is sent.
      const reading = { ts: 1_780_000_000_000 + n, source: this.#name, n, smoke_ppm: n % 100 };
      // The client gives up what it had not handed to a connection when that went: then it is published again.
      while (!(await this.#publish(JSON.stringify(reading)))) {
        if (this.#abandoned) return;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
      this.acknowledged.add(`${this.#name}/${n}`);
    }
  }

  #publish(payload: string): Promise<boolean> {
    return this.#client.publishAsync("observations/smoke", payload, { qos: this.#qos }).then(
      () => true,
      () => false,
    );
  }

  /** Ends once everything that was begun has been acknowledged. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await until(`all of ${this.#name} is acknowledged`, () => this.acknowledged.size === this.#n);
    await this.#client.endAsync();
  }
}

async function killRounds(t: TestContext, rounds: number, options: Partial<DaemonOptions>): Promise<Set<string>> {
  const folder = temporaryFolder(t);
  const ports = await Daemon.freePorts();
  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  const start = () => Daemon.start({ folder, ports, uplinkUrl: fusion.url, ...options });
  let daemon = await start();
  t.after(() => daemon.stop("SIGKILL"));
  const publishers = await Promise.all(
    Array.from({ length: PUBLISHERS }, (_, n) => Publisher.start(t, ports.mqtt, `mast-${n}`, n === 0 ? 2 : 1)),
  );
  for (let round = 0; round < rounds; round++) {
    // Chance, not a wait for something: the kill is to come at any moment of the daemon's work.
    await new Promise((resolve) => setTimeout(resolve, Math.random() * LONGEST_LIFE_MS));
    await daemon.stop("SIGKILL");
    daemon = await start();
    const { ledger } = await daemon.status();
    assert.equal(ledger.accepted, sumOfFates(ledger), `the books balance after kill ${round + 1}`);
  }
  await Promise.all(publishers.map((publisher) => publisher.stop()));
  await daemon.until((ledger) => ledger.pending === 0);
  const { ledger } = await daemon.status();
  assert.equal(ledger.accepted, sumOfFates(ledger));

  const ids = new Map<string, Set<string>>();
  for (const { source, attributes, id } of fusion.received) {
    const reading = `${source}/${attributes.n}`;
    ids.set(reading, (ids.get(reading) ?? new Set()).add(id));
  }
  for (const [reading, own] of ids) assert.equal(own.size, 1, `${reading} carried the same id each time`);
  const acknowledged = publishers.flatMap((publisher) => [...publisher.acknowledged]);
  assert.ok(acknowledged.length > rounds, "there was load");
  t.diagnostic(
    `${rounds} kills, ${acknowledged.length} acknowledged, ${fusion.received.length} received, ${ids.size} different`,
  );
  return new Set(acknowledged.filter((reading) => !ids.has(reading)));
}

function sumOfFates(ledger: Record<string, number>): number {
  const { accepted: _accepted, duplicates: _duplicates, ...fates } = ledger;
  return Object.values(fates).reduce((sum, count) => sum + count, 0);
}

test(`no acknowledged reading is lost in ${ROUNDS} kills, and the books balance after each`, async (t) => {
  assert.deepEqual(await killRounds(t, ROUNDS, {}), new Set());
});

test("control: a gateway that acknowledges before its commit loses readings under the same kills", async (t) => {
  const dist = mutant(t, "outbox/outbox.js", "group.waiters.push(committed);", "setImmediate(committed);");
  const outbox = { commitDelay: { critical: "250ms", high: "250ms", normal: "250ms", low: "250ms" } };
  assert.notEqual((await killRounds(t, 5, { dist, changes: { outbox } })).size, 0);
});
