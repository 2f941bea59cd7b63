/** Fills an outbox's file with readings that wait, in blocks of 500 as the daemon would have stored them, without the daemon. */
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { ObservationWriter } from "#src/outbox/observation-text.js";
import { Band, bandStart } from "#src/outbox/rows.js";
import { segmentOf } from "#src/outbox/segment.js";
import { Store } from "#src/outbox/store.js";
import { observation } from "../support/observations.ts";

const BLOCK = 500;
/** Blocks with content of their own; those after them repeat it, which takes nothing from what is measured. */
const DISTINCT = 200;
const BLOCKS_PER_TRANSACTION = 1000;
const NORMAL = 2;

/** The JSON of as many readings as one block holds. */
export function blockOfTexts(): string[] {
  const writer = new ObservationWriter("sierra-014");
  return Array.from({ length: BLOCK }, (_, n) => writer.write(observation(), Date.now(), "synchronised", n));
}

export function fillOutbox(file: string, readings: number): void {
  mkdirSync(dirname(file), { recursive: true });
  const store = new Store({ file, maxBytes: 2 ** 31, bootId: "bench" });
  const segments = Array.from({ length: Math.min(DISTINCT, readings / BLOCK) }, () => segmentOf(blockOfTexts()));
  const now = Date.now();
  const times = { observedFrom: now, observedTo: now, acceptedAt: now, acceptedMonotonic: 1, boot: store.boot };
  for (let block = 0; block < readings / BLOCK; block += BLOCKS_PER_TRANSACTION) {
    store.transaction(() => {
      const end = Math.min(readings / BLOCK, block + BLOCKS_PER_TRANSACTION);
      for (let n = block; n < end; n++) {
        const segment = segments[n % segments.length];
        if (segment === undefined) break;
        const firstSeq = n * BLOCK + 1;
        const numbers = {
          key: bandStart(Band.waiting(NORMAL)) + firstSeq,
          lastSeq: firstSeq + BLOCK - 1,
          sequence: null,
        };
        store.insertBlock({ ...segment, ...numbers, ...times, clock: "synchronised" });
      }
      store.addToLedger(NORMAL, { accepted: (end - block) * BLOCK, pending: (end - block) * BLOCK });
      store.setLastSeq(NORMAL, end * BLOCK);
    });
  }
  store.close();
}
