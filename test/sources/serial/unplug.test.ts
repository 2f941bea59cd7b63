/** Cables pulled and put back while devices talk without a pause: what was not in the cable arrives, in order, once. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { createSerialSources } from "#src/sources/serial/serial-source.js";
import { missing } from "../../support/commands.ts";
import { mutant } from "../../support/mutant.ts";
import { PtyPair } from "../../support/pty-pair.ts";
import { jsonPort, serialHouse } from "../../support/serial-house.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { until } from "../../support/until.ts";

const skip = missing("socat");
const UNPLUGGED = ["north", "east", "south"];
const PLUGS = 4;
/** At least so many readings come in before a cable is pulled. */
const BEFORE_THE_CUT = 300;
/** What the two terminals and socat between them can hold, and so what a cut can take: twice 64 KiB + 4 KiB, and 8 KiB. */
const CABLE_BYTES = 2 * (65_536 + 4096) + 8192;

interface Numbered {
  readonly plug: number;
  readonly n: number;
}

/** A device that talks as fast as its line takes it, until its cable is pulled or `count` frames are said. */
class Talker {
  readonly pair: PtyPair;
  readonly #plug: number;
  said = 0;
  readonly done: Promise<void>;

  constructor(pair: PtyPair, plug: number, count = Number.POSITIVE_INFINITY) {
    this.pair = pair;
    this.#plug = plug;
    this.done = this.#talk(count).catch(() => {
      // The cable was pulled.
    });
  }

  async #talk(count: number): Promise<void> {
    while (this.said < count) {
      const upTo = Math.min(count, this.said + 20);
      let text = "";
      for (let n = this.said; n < upTo; n++)
        text += `${JSON.stringify({ plug: this.#plug, n, pad: "x".repeat(n % 60) })}\r\n`;
      this.said = upTo;
      await this.pair.say(text);
    }
  }

  async pull(): Promise<void> {
    await this.pair.unplug();
    await this.done;
  }
}

/** What came of each plug must be its frames from the first on without a gap, all but those that were in the cable. */
function assertOnlyTheCableCut(received: readonly unknown[], said: readonly number[]): void {
  let at = 0;
  const numbered = received as Numbered[];
  for (const [plug, count] of said.entries()) {
    const from = at;
    while (numbered[at]?.plug === plug && numbered[at]?.n === at - from) at++;
    const lost = Array.from({ length: count - (at - from) }, (_, index) => 30 + ((at - from + index) % 60));
    const bytes = lost.reduce((sum, length) => sum + length, 0);
    assert.ok(bytes <= CABLE_BYTES, `plug ${plug}: ${lost.length} frames lost, more than a cable holds`);
  }
  assert.equal(
    at,
    numbered.length,
    `a gap or a copy behind ${JSON.stringify(numbered[at - 1])}: ${JSON.stringify(numbered[at])}`,
  );
}

/** Pulls and plugs three of four talking devices; a reading of each port, and how many frames each plug has said. */
async function underLoad(t: TestContext, create: typeof createSerialSources) {
  const folder = temporaryFolder(t);
  const names = [...UNPLUGGED, "steady"];
  const pairs = new Map(
    await Promise.all(names.map(async (name) => [name, await PtyPair.plugIn(folder, name)] as const)),
  );
  t.after(() => Promise.all([...pairs.values()].map((pair) => pair.unplug())));
  const house = serialHouse(
    names.map((name) => jsonPort({ name, path: `${folder}/${name}` })),
    {},
    create,
  );
  t.after(() => Promise.all(house.sources.map((source) => source.stop())));
  await Promise.all(house.sources.map((source) => source.start()));
  const state = (name: string) => house.sources.find((source) => source.status().name === name)?.status().state;

  const pairOf = (name: string): PtyPair => {
    const pair = pairs.get(name);
    assert.ok(pair);
    return pair;
  };
  const steady = new Talker(pairOf("steady"), 0, 6000);
  const said = new Map(UNPLUGGED.map((name): [string, number[]] => [name, []]));
  const cable = async (name: string, plug: number): Promise<void> => {
    await until(`${name} open`, () => state(name) === "open");
    const before = house.intake.payloads(name).length;
    const talker = new Talker(pairOf(name), plug);
    await until(`${name} talking`, () => house.intake.payloads(name).length >= before + BEFORE_THE_CUT);
    await talker.pull();
    said.get(name)?.push(talker.said);
    await until(`${name} missed`, () => state(name) === "waiting");
    pairs.set(name, await PtyPair.plugIn(folder, name));
  };
  for (let plug = 0; plug < PLUGS; plug++) await Promise.all(UNPLUGGED.map((name) => cable(name, plug)));
  await steady.done;
  await until("all open", () => names.every((name) => state(name) === "open"));
  return { ...house, said };
}

test("of ports that are unplugged and plugged in again under load, only what was in the cable is lost; of the others nothing", {
  skip,
}, async (t) => {
  const { intake, said, conditions } = await underLoad(t, createSerialSources);
  await until("the steady port's readings", () => intake.payloads("steady").length >= 6000);
  assertOnlyTheCableCut(intake.payloads("steady"), [6000]);
  assert.equal(intake.payloads("steady").length, 6000);
  for (const name of UNPLUGGED) assertOnlyTheCableCut(intake.payloads(name), said.get(name) ?? []);
  assert.deepEqual(intake.refusals, [], "a frame that was cut is not taken for one");
  assert.deepEqual(conditions.list(), []);
});

test("control: a port that loses a chunk in five is found out", { skip }, async (t) => {
  const dist = mutant(
    t,
    "sources/serial/device-port.js",
    "sink.onData(buffer.subarray(0, length));",
    "if ((this.chunks = (this.chunks ?? 0) + 1) % 5) sink.onData(buffer.subarray(0, length));",
  );
  const { createSerialSources: create } = await import(`${dist}/sources/serial/serial-source.js`);
  const { intake, said } = await underLoad(t, create);
  assert.throws(() => {
    for (const name of UNPLUGGED) assertOnlyTheCableCut(intake.payloads(name), said.get(name) ?? []);
  });
});
