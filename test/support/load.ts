/**
 * Devices that publish as fast as they may while a gateway crashes again and again, and a fusion that remembers: together
 * they tell which acknowledged readings were lost.
 */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { MqttClient } from "mqtt";
import { Collector } from "./collector.ts";
import { Daemon, type Ports } from "./daemon.ts";
import { device } from "./device.ts";
import { sumOfFates } from "./ledger.ts";
import { until } from "./until.ts";

const PUBLISHERS = 3;
/** Messages of one publisher that wait for their acknowledgement at any time. */
const WINDOW = 40;
const RETRY_MS = 20;
/** What only a gateway that never comes reaches. */
const CONNECTS_WITHIN_MS = 60_000;
const FIRST_TIME = 1_780_000_000_000;

export interface Verdict {
  /** Readings that were acknowledged and did not arrive, each with the life in which it was acknowledged. */
  readonly lost: readonly { readonly reading: string; readonly life: number }[];
  readonly acknowledged: number;
  /** One line of figures. */
  readonly summary: string;
}

/** Publishes as fast as its window allows until told to stop, again what was not acknowledged, and notes what was. */
class Publisher {
  /** Each acknowledged reading with the life of the gateway that acknowledged it. */
  readonly acknowledged = new Map<string, number>();
  readonly #client: MqttClient;
  readonly #name: string;
  readonly #qos: 1 | 2;
  readonly #life: () => number;
  #n = 0;
  #stopped = false;
  #abandoned = false;

  private constructor(client: MqttClient, name: string, qos: 1 | 2, life: () => number) {
    this.#client = client;
    this.#name = name;
    this.#qos = qos;
    this.#life = life;
    for (let slot = 0; slot < WINDOW; slot++) void this.#publishOn();
  }

  /** Resolves once it is connected; a gateway that is not there yet is tried again. */
  static async start(t: TestContext, port: number, name: string, qos: 1 | 2, life: () => number): Promise<Publisher> {
    const client = await connected(t, port, name);
    const publisher = new Publisher(client, name, qos, life);
    t.after(() => {
      publisher.#abandoned = true;
    });
    return publisher;
  }

  async #publishOn(): Promise<void> {
    while (!this.#stopped && !this.#abandoned) {
      const n = this.#n++;
      // A time of its own makes a reading's id the same each time it is sent.
      const reading = { ts: FIRST_TIME + n, source: this.#name, n, smoke_ppm: n % 100 };
      // The client gives up what it had not handed to a connection when that went: then it is published again.
      while (!(await this.#publish(JSON.stringify(reading)))) {
        if (this.#abandoned) return;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
      this.acknowledged.set(`${this.#name}/${n}`, this.#life());
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

async function connected(t: TestContext, port: number, clientId: string): Promise<MqttClient> {
  const deadline = performance.now() + CONNECTS_WITHIN_MS;
  for (;;) {
    try {
      return await device(t, port, { clientId, clean: false, reconnectPeriod: 50 });
    } catch (refused) {
      if (performance.now() > deadline) throw refused;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

export class Load {
  /** Of the gateway, in each of its lives. */
  readonly ports: Ports;
  readonly fusion: Collector;
  /** Which life the gateway is in; the test counts it up. */
  life = 0;
  readonly #publishers: Promise<Publisher[]>;
  readonly #ids = new Map<string, Set<string>>();
  #received = 0;

  private constructor(t: TestContext, ports: Ports, fusion: Collector) {
    this.ports = ports;
    this.fusion = fusion;
    fusion.remembers = false;
    fusion.answer = ({ observations }) => {
      for (const { source, attributes, id } of observations) {
        const reading = `${source}/${attributes.n}`;
        this.#ids.set(reading, (this.#ids.get(reading) ?? new Set()).add(id));
        this.#received++;
      }
      return { status: 204 };
    };
    const names = Array.from({ length: PUBLISHERS }, (_, n) => `mast-${n}`);
    this.#publishers = Promise.all(
      names.map((name, n) => Publisher.start(t, ports.mqtt, name, n === 0 ? 2 : 1, () => this.life)),
    );
    // A test that failed before its gateway was there has said why.
    this.#publishers.catch(() => {});
  }

  /** The publishers begin as soon as a gateway listens on `ports`. */
  static async begin(t: TestContext): Promise<Load> {
    const fusion = await Collector.start();
    t.after(() => fusion.stop());
    return new Load(t, await Daemon.freePorts(), fusion);
  }

  /** Has everything acknowledged and delivered by `daemon`, the last life, and compares. The books have to balance. */
  async end(daemon: Daemon): Promise<Verdict> {
    const publishers = await this.#publishers;
    await Promise.all(publishers.map((publisher) => publisher.stop()));
    await daemon.until((ledger) => ledger.pending === 0);
    await assertBalanced(daemon, "in the end");
    for (const [reading, own] of this.#ids) assert.equal(own.size, 1, `${reading} carried the same id each time`);
    const acknowledged = publishers.flatMap((publisher) => [...publisher.acknowledged]);
    const lost = acknowledged.filter(([reading]) => !this.#ids.has(reading));
    return {
      lost: lost.map(([reading, life]) => ({ reading, life })),
      acknowledged: acknowledged.length,
      summary: `${acknowledged.length} acknowledged, ${this.#received} received, ${this.#ids.size} different, ${lost.length} lost`,
    };
  }
}

/** What was accepted has exactly one fate. */
export async function assertBalanced(daemon: Daemon, when: string): Promise<void> {
  const { ledger } = await daemon.status();
  assert.equal(ledger.accepted, sumOfFates(ledger), `the books balance ${when}: ${JSON.stringify(ledger)}`);
}
