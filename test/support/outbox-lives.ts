/** Lives of an outbox: a machine's settings, and what happens to it, step after step. */
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { Machine, type MachineSettings, type OutboxModules } from "./model-machine.ts";
import { OutboxModel } from "./outbox-model.ts";

export const KIB = 1024;
export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;
const START = Date.UTC(2026, 6, 1);

/** Something that can happen: the name of a method of the model, and its arguments. */
export type Step = {
  [Name in keyof OutboxModel]: OutboxModel[Name] extends (...args: infer Args) => void
    ? readonly [Name, ...Args]
    : never;
}[keyof OutboxModel];

export interface Life {
  readonly settings: MachineSettings;
  readonly steps: readonly Step[];
}

type Arbitraries<Values extends readonly unknown[]> = { [Index in keyof Values]: fc.Arbitrary<Values[Index]> };

/** A step, so often as its weight says. */
function may<Name extends Step[0]>(
  weight: number,
  what: Name,
  ...args: Arbitraries<Parameters<OutboxModel[Name]>>
): fc.WeightedArbitrary<Step> {
  return { weight, arbitrary: a(what, ...args) };
}

function a<Name extends Step[0]>(what: Name, ...args: Arbitraries<Parameters<OutboxModel[Name]>>): fc.Arbitrary<Step> {
  return fc.tuple(fc.constant(what), ...(args as fc.Arbitrary<unknown>[])) as unknown as fc.Arbitrary<Step>;
}

const from = fc.constantFrom;
const which = fc.nat(5);
const always = from(0);
const ever = from(2 * START);
const fates = fc.oneof(
  { weight: 3, arbitrary: fc.constant("d") },
  from("w", "l", "x"),
  fc.string({ unit: from("d", "x", "l", "w"), minLength: 1, maxLength: 9 }),
);

const possible = {
  maxBytes: from(256 * KIB, 320 * KIB, 640 * KIB),
  maxAge: from(HOUR, 30 * DAY),
  whenFull: from("evict" as const, "evict" as const, "refuse" as const),
  keepDelivered: from(0, 30 * MINUTE),
  maxDeadLetters: from(3, 1000),
  waitForClock: from(0, 2 * MINUTE),
};

const step: fc.Arbitrary<Step> = fc.oneof(
  may(12, "append", fc.nat(3), fc.integer({ min: 1, max: 12 }), from(0, 300, 1500, 3000), fc.boolean()),
  may(10, "commit", from(0, 0, 0, 1)),
  may(7, "lease", from(1, 3, 7, 500), fc.boolean()),
  may(6, "settle", which, fates),
  may(2, "part", which),
  may(2, "loseReply", which),
  may(1, "requeue", which),
  may(1, "drop", which),
  may(2, "tend"),
  may(1, "purge"),
  may(
    1,
    "replay",
    fc.oneof(always, from(START, START + HOUR)),
    fc.oneof(ever, from(START + 30 * MINUTE)),
    from(2, 500),
  ),
  may(2, "crash", from("now", "before-commit", "after-commit"), from(1, 1, 2, 3)),
  may(1, "reopen", fc.record(possible, { requiredKeys: [] })),
  may(1, "powerCut", from(1000, 40 * MINUTE, 3 * DAY), fc.boolean()),
  may(3, "pass", from(1, 49, 1000, MINUTE, 11 * MINUTE, 29 * MINUTE, 31 * MINUTE)),
  may(1, "step", from(-30 * DAY, 2 * DAY)),
  may(1, "synchronise"),
  may(1, "fillDisk", from(0, 3, 20, Number.POSITIVE_INFINITY)),
);

/** The same for a while, so that an outbox fills up, empties itself, or grows old. */
const spell: fc.Arbitrary<readonly Step[]> = fc.oneof(
  again(a("append", fc.nat(3), from(12), from(1500, 3000), fc.boolean()), a("commit", from(0))),
  again(a("append", from(0), from(12), from(3000), fc.boolean()), a("commit", from(0))),
  again(
    a("lease", from(7, 500), from(true)),
    a("settle", from(0), from("d", "dx")),
    a("replay", always, ever, from(3)),
  ),
  again(a("lease", from(7), from(false)), a("settle", from(0), from("x", "xl")), a("requeue", which)),
  again(a("pass", from(11 * MINUTE, 31 * MINUTE)), a("tend"), a("purge")),
);

function again(...steps: fc.Arbitrary<Step>[]): fc.Arbitrary<Step[]> {
  return fc.array(fc.tuple(...steps), { minLength: 2, maxLength: 8 }).map((rounds) => rounds.flat());
}

export const lives: fc.Arbitrary<Life> = fc.record({
  settings: fc.record({ ...possible, reserveFreeDisk: fc.constant(0) }),
  steps: fc
    .array(
      fc.oneof({ weight: 12, arbitrary: step.map((one): readonly Step[] => [one]) }, { weight: 2, arbitrary: spell }),
      { minLength: 20, maxLength: 80, size: "max" },
    )
    .map((spells) => spells.flat()),
});

/**
 * Lives one of them, in a folder of its own, and at its end has everything that waits delivered. Returns how often what happened.
 * @throws where the outbox and the model do not agree.
 */
export function live(within: string, { settings, steps }: Life, modules: OutboxModules): Record<string, number> {
  const folder = mkdtempSync(join(within, "life-"));
  const model = new OutboxModel(new Machine(folder, settings, modules));
  try {
    for (const [what, ...args] of steps) (model[what] as (...args: unknown[]) => void)(...args);
    model.drain();
    return model.tally;
  } finally {
    model.machine.close();
    rmSync(folder, { recursive: true });
  }
}
