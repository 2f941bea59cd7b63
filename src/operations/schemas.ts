/** JSON Schemas of what the HTTP API takes and gives: requests are validated by them, and the OpenAPI document shows them. */
import type { FromSchema } from "json-schema-to-ts";

const count = { type: "integer", minimum: 0 } as const;
const amount = { type: "number", minimum: 0 } as const;
const amountOrNull = { type: ["number", "null"], minimum: 0 } as const;
const text = { type: "string" } as const;
const time = { type: ["string", "null"], format: "date-time" } as const;
const strict = { type: "object", additionalProperties: false } as const;
const verdict = { type: "string", enum: ["ok", "degraded", "failing"] } as const;
const score = { type: "integer", minimum: 0, maximum: 100 } as const;
const priority = { type: "string", enum: ["critical", "high", "normal", "low"] } as const;

/** An object that has all of these members, and may have more. */
const having = <const T extends Record<string, unknown>>(properties: T) =>
  ({ type: "object", required: Object.keys(properties), properties }) as const;
const listOf = <const T>(items: T) => ({ type: "array", items }) as const;

const limit = { type: "integer", minimum: 1, maximum: 1000, default: 20, description: "At most so many." } as const;

export const peekQuery = {
  ...strict,
  properties: { limit, priority: { ...priority, description: "Only this lane." } },
  required: ["limit"],
} as const;
export type PeekQuery = FromSchema<typeof peekQuery>;

export const deadLetterQuery = {
  ...strict,
  properties: {
    limit,
    after: { type: "string", minLength: 1, maxLength: 128, description: "The `next` of the page before." },
  },
  required: ["limit"],
} as const;
export type DeadLetterQuery = FromSchema<typeof deadLetterQuery>;

/** As many as the gateway keeps. */
export const MAX_QUARANTINE = 100;
export const quarantineQuery = {
  ...strict,
  properties: { limit: { ...limit, maximum: MAX_QUARANTINE } },
  required: ["limit"],
} as const;
export type QuarantineQuery = FromSchema<typeof quarantineQuery>;

const readingId = { type: "string", minLength: 1, maxLength: 128, description: "The reading's id." } as const;
export const deadLetterParams = { ...strict, properties: { id: readingId }, required: ["id"] } as const;
export type DeadLetterParams = FromSchema<typeof deadLetterParams>;

export const selection = {
  oneOf: [
    {
      ...strict,
      properties: { ids: { type: "array", minItems: 1, maxItems: 1000, items: readingId } },
      required: ["ids"],
    },
    { ...strict, properties: { all: { const: true } }, required: ["all"] },
  ],
} as const;
export type SelectionBody = FromSchema<typeof selection>;

export const serialParams = {
  ...strict,
  properties: { name: { type: "string", pattern: "^[A-Za-z0-9_-]{1,64}$", description: "The port's name." } },
  required: ["name"],
} as const;
export type SerialParams = FromSchema<typeof serialParams>;

export const tailQuery = {
  ...strict,
  properties: {
    what: {
      type: "string",
      enum: ["frames", "bytes"],
      default: "frames",
      description: "Each frame and what became of it, or the bytes as they came.",
    },
  },
  required: ["what"],
} as const;
export type TailQuery = FromSchema<typeof tailQuery>;

const ledger = having({
  accepted: count,
  pending: count,
  delivered: count,
  expired: count,
  evicted: count,
  thinned: count,
  deadLettered: count,
  damaged: count,
  duplicates: count,
});
const perPriority = having({ critical: count, high: count, normal: count, low: count });
const outbox = {
  pending: count,
  bytes: count,
  oldestAgeSeconds: { type: "number", minimum: 0 },
  maxBytes: count,
  pendingByPriority: perPriority,
  deadLetters: count,
  kept: having({ readings: count, bytes: count }),
  room: having({
    fill: { type: "number", minimum: 0 },
    limitedBy: { type: "string", enum: ["maxBytes", "reserveFreeDisk"] },
    highWater: { type: "number" },
    lowWater: { type: "number" },
  }),
} as const;
const condition = having({
  component: text,
  code: text,
  severity: { type: "string", enum: ["degraded", "failing"] },
  detail: text,
  since: time,
});

const serialPort = having({
  path: text,
  device: { type: ["string", "null"], description: "The device that was found there last." },
  since: time,
  detail: { type: ["string", "null"], description: "What is wrong with it, and what to do." },
  bytes: count,
  frames: { ...count, description: "Frames that were handed to the codec." },
  refused: { ...count, description: "Of them, those that the codec could not read." },
  discarded: { ...count, description: "Frames, and stretches of noise, given up before the codec." },
  discardedBytes: count,
});

const sourceMembers = { name: text, kind: text, state: text, accepted: count, refused: count, lastReadingAt: time };
const source = {
  ...having(sourceMembers),
  properties: {
    ...sourceMembers,
    unrouted: {
      ...count,
      description:
        "Of the MQTT broker: messages that no route of mqtt.routes matched and no subscriber took: not stored.",
    },
    port: {
      ...serialPort,
      description:
        "Of a serial port: which device it is, since when its state lasts, what is wrong, what came over it.",
    },
  },
} as const;

export const status = having({
  gateway: text,
  version: text,
  time,
  uptimeSeconds: count,
  ready: { type: "boolean" },
  health: having({ state: verdict, score }),
  ledger,
  refused: { type: "object", additionalProperties: count },
  outbox: having(outbox),
  uplink: having({
    state: text,
    breaker: { type: "string", enum: ["closed", "open", "half-open"] },
    url: { type: ["string", "null"] },
    lastSuccessAt: time,
    lastFailure: { anyOf: [{ type: "null" }, having({ at: time, code: text, detail: text })] },
    nextTryInSeconds: { type: ["number", "null"], minimum: 0, description: "At the latest; see looksEverySeconds." },
    looksEverySeconds: {
      type: ["number", "null"],
      minimum: 0,
      description: "Where the next try comes as soon as fusion can be connected to: how often that is looked at.",
    },
  }),
  sources: listOf(source),
  devices: listOf(having({ source: text, via: text, accepted: count, lastReadingAt: time })),
  clock: having({
    quality: { type: "string", enum: ["synchronised", "unsynchronised", "stepped"] },
    source: { type: ["string", "null"], description: "Who says so; null where nobody on this machine can tell." },
    since: time,
    steps: count,
    lastStep: { anyOf: [{ type: "null" }, having({ at: time, seconds: { type: "number" } })] },
  }),
  wear: {
    description: "What is written, before the file system's journal and the card's own amplification.",
    anyOf: [
      { type: "null" },
      having({
        writtenBytes: count,
        measuredSeconds: amount,
        bytesPerReading: amountOrNull,
        commitsPerSecond: amount,
        bytesPerYear: amountOrNull,
        enduranceBytes: count,
        enduranceSharePerYear: amountOrNull,
      }),
    ],
  },
  conditions: listOf(condition),
});

export const health = having({
  state: verdict,
  score,
  components: listOf(
    having({
      component: text,
      state: verdict,
      score,
      why: { type: ["string", "null"] },
      since: time,
      conditions: listOf(condition),
    }),
  ),
});

export const outboxStats = having({ ...outbox, ledger });

const reading = having({
  id: text,
  class: text,
  ts_iso: time,
  confidence: { type: "number", minimum: 0, maximum: 1 },
  source: text,
  priority,
  attributes: { type: "object" },
  gateway: having({ id: text, seq: count, received_at: time, clock: text }),
});
export const readings = having({ readings: listOf(reading) });

const summary = {
  id: text,
  class: text,
  source: text,
  priority,
  ts_iso: time,
  deadLetteredAt: time,
  code: text,
  detail: text,
} as const;
export const deadLetterPage = having({ deadLetters: listOf(having(summary)), next: { type: ["string", "null"] } });
export const deadLetter = having({ ...summary, reading });
export const selectionResult = having({ count, unknown: listOf(text) });

export const quarantine = having({
  kept: { ...count, description: "How many there are." },
  quarantine: listOf(
    having({
      at: time,
      reason: { ...text, description: "What it is counted under in the status's `refused`." },
      detail: text,
      source: { ...text, description: "The source's name: `mqtt`, or the serial port's." },
      via: { ...text, description: "The topic, or the device file." },
      device: { ...text, description: "Who sent it, as far as the topic, the login, the client id or the port tell." },
      head: { ...text, description: "Its first 256 bytes as text; what is no UTF-8 shows as U+FFFD." },
      hex: {
        type: ["string", "null"],
        description: "The same in hexadecimal; null where it is text, without control characters.",
      },
    }),
  ),
});

/** A time as readings carry it: RFC 3339, with its offset from UTC. */
const moment = {
  type: "string",
  format: "date-time",
  pattern: "^\\d{4}-\\d{2}-\\d{2}[Tt]\\d{2}:\\d{2}:\\d{2}(\\.\\d+)?([Zz]|[+-]\\d{2}:\\d{2})$",
} as const;
const name = { type: "string", minLength: 1, maxLength: 256 } as const;

export const DEFAULT_REPLAY_RATE = 500;
export const MAX_REPLAY_RATE = 1_000_000;
export const replayRequest = {
  ...strict,
  properties: {
    from: { ...moment, description: "Readings observed from then on." },
    to: { ...moment, description: "And until then, included." },
    class: { ...name, description: "Only readings of this class." },
    source: { ...name, description: "Only readings of this source." },
    rate: {
      type: "integer",
      minimum: 1,
      maximum: MAX_REPLAY_RATE,
      default: DEFAULT_REPLAY_RATE,
      description: "Readings per second, at most.",
    },
  },
  required: ["from", "to", "rate"],
} as const;
export type ReplayBody = FromSchema<typeof replayRequest>;

const nullable = <const T extends string>(type: T) => ({ type: [type, "null"] }) as const;
export const replay = having({
  state: { type: "string", enum: ["none", "counting", "sending", "waiting", "done", "stopped", "failed"] },
  from: time,
  to: time,
  class: nullable("string"),
  source: nullable("string"),
  rate: nullable("integer"),
  total: nullable("integer"),
  sent: count,
  refused: count,
  damaged: count,
  startedAt: time,
  endedAt: time,
  lastFailure: { anyOf: [{ type: "null" }, having({ code: text, detail: text })] },
});

export const alive = having({ status: { type: "string", enum: ["ok", "degraded"] } });
export const ready = having({ status: { const: "ready" } });

export const problemDetails = having({ type: text, title: text, status: count, code: text, detail: text });
