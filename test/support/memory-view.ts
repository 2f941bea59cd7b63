import { Registry } from "prom-client";
import type { Condition } from "#src/kernel/conditions.js";
import type {
  ClockView,
  DeadLetter,
  DeviceView,
  GatewayView,
  Liveness,
  OutboxAdmin,
  OutboxView,
  ReplayAdmin,
  ReplayProgress,
  Selection,
  SourceView,
  StoredReading,
  UplinkView,
  WatchedPort,
} from "#src/operations/view.js";
import type { WearView } from "#src/operations/wear.js";
import type { Ledger } from "#src/outbox/ledger.js";
import { Quarantine, type QuarantineEntry } from "#src/sources/quarantine.js";

const NOON = Date.UTC(2026, 6, 1, 12);

/** A reading as the outbox would hold it, told apart by its sequence number. */
export function storedReading(seq: number, changes: Partial<StoredReading> = {}): StoredReading {
  return {
    id: `00000000-0000-4000-8000-${String(seq).padStart(12, "0")}`,
    class: "smoke",
    ts_iso: new Date(NOON + seq * 1000).toISOString(),
    confidence: 0.87,
    source: "mast-3",
    priority: "normal",
    attributes: { pm2_5_ug_m3: 81 },
    gateway: { id: "sierra-014", seq, received_at: new Date(NOON).toISOString(), clock: "synchronised" },
    ...changes,
  };
}

export function deadLetter(seq: number): DeadLetter {
  const reading = storedReading(seq);
  const { id, class: kind, source, priority, ts_iso } = reading;
  const reason = { code: "class-unknown", detail: "fusion does not know this class" };
  return { id, class: kind, source, priority, ts_iso, deadLetteredAt: ts_iso, ...reason, reading };
}

/** A gateway whose every answer a test may set: a quiet, healthy one to begin with. */
export class MemoryGatewayView implements GatewayView {
  readonly id = "sierra-014";
  readonly version = "0.1.0";
  startedAt = 0;
  readonly metrics = new Registry();

  facts: {
    ready: boolean;
    alive: Liveness;
    ledger: Ledger;
    refused: Record<string, number>;
    outbox: OutboxView;
    uplink: UplinkView;
    sources: SourceView[];
    devices: DeviceView[];
    clock: ClockView;
    wear: WearView | undefined;
    conditions: Condition[];
  } = {
    ready: true,
    alive: { ok: true },
    ledger: {
      accepted: 120,
      pending: 15,
      delivered: 95,
      expired: 4,
      evicted: 3,
      thinned: 0,
      deadLettered: 2,
      damaged: 1,
      duplicates: 7,
    },
    refused: { invalid: 5 },
    outbox: {
      pending: 15,
      pendingByPriority: { critical: 1, high: 2, normal: 4, low: 8 },
      evictedByPriority: { critical: 0, high: 0, normal: 1, low: 2 },
      bytes: 81920,
      maxBytes: 2 ** 31,
      walBytes: 4096,
      oldestAgeSeconds: 61.5,
      deadLetters: 2,
      kept: { readings: 4200, bytes: 123_904 },
      room: { fill: 0.2, limitedBy: "maxBytes", highWater: 0.8, lowWater: 0.6 },
    },
    uplink: {
      state: "idle",
      breaker: "closed",
      url: "https://fusion.example/api/v1/observations/batch",
      lastSuccessAt: NOON,
    },
    sources: [
      { name: "mqtt", kind: "mqtt", state: "listening", accepted: 100, refused: 5, lastReadingAt: NOON },
      { name: "mast", kind: "serial", state: "open", accepted: 20, refused: 0 },
    ],
    devices: [{ source: "mast-3", via: "mqtt", accepted: 100, lastReadingAt: NOON }],
    clock: { quality: "synchronised", source: "timedatectl", forSeconds: 60, steps: 0 },
    wear: {
      writtenBytes: 5_000_000,
      measuredSeconds: 7200,
      bytesPerReading: 558.2,
      commitsPerSecond: 4.08,
      bytesPerYear: 60 * 2 ** 30,
      enduranceBytes: 10 * 2 ** 40,
    },
    conditions: [],
  };

  readings: StoredReading[] = [];
  deadLetters: DeadLetter[] = [];
  quarantined: QuarantineEntry[] = [];
  /** Set to make every call of `outboxAdmin` fail. */
  fault: Error | undefined;

  ready = () => this.facts.ready;
  alive = () => this.facts.alive;
  ledger = () => this.facts.ledger;
  refused = () => this.facts.refused;
  quarantine = () => {
    const quarantine = new Quarantine();
    for (const entry of this.quarantined) quarantine.add(entry);
    return quarantine;
  };
  outbox = () => this.facts.outbox;
  uplink = () => this.facts.uplink;
  sources = () => this.facts.sources;
  devices = () => this.facts.devices;
  clock = () => this.facts.clock;
  wear = () => this.facts.wear;
  conditions = () => this.facts.conditions;

  readonly serialPorts: WatchedPort[] = [];
  serialPort = (name: string) => this.serialPorts.find((port) => port.name === name);

  readonly outboxAdmin: OutboxAdmin = {
    stats: async () => {
      this.#failIfAsked();
      const { evictedByPriority: _, ...outbox } = this.facts.outbox;
      return { ...outbox, ledger: this.facts.ledger };
    },
    peek: async ({ limit, priority }) => {
      this.#failIfAsked();
      return this.readings.filter((each) => priority === undefined || each.priority === priority).slice(0, limit);
    },
    deadLetters: {
      list: async ({ limit, after }) => {
        this.#failIfAsked();
        const start = after === undefined ? 0 : this.deadLetters.findIndex(({ id }) => id === after) + 1;
        if (after !== undefined && start === 0) return undefined;
        const page = this.deadLetters.slice(start, start + limit);
        const last = page.at(-1);
        const more = last !== undefined && start + limit < this.deadLetters.length;
        return {
          deadLetters: page.map(({ reading: _, problem: __, ...summary }) => summary),
          ...(more && { next: last.id }),
        };
      },
      show: async (id) => this.deadLetters.find((each) => each.id === id),
      requeue: async (selection) => {
        const { taken, ...result } = this.#take(selection);
        this.readings.push(...taken.map(({ reading }) => reading));
        return result;
      },
      drop: async (selection) => {
        const { taken: _, ...result } = this.#take(selection);
        return result;
      },
    },
  };

  /** How the replay is to fare. */
  replayProgress: ReplayProgress | undefined;
  /** What a replay was asked for, in order. */
  readonly replays: object[] = [];
  /** Set to refuse a replay. */
  replayRefusal: "running" | "nothing-kept" | "no-uplink" | undefined;

  readonly replay: ReplayAdmin = {
    start: async (request) => {
      if (this.replayRefusal !== undefined) return this.replayRefusal;
      this.replays.push(request);
      const none = { total: undefined, sent: 0, refused: 0, damaged: 0 };
      this.replayProgress ??= { ...request, ...none, state: "counting", startedAt: NOON };
      return this.replayProgress;
    },
    progress: () => this.replayProgress,
    stop: async () => {
      if (this.replayProgress !== undefined)
        this.replayProgress = { ...this.replayProgress, state: "stopped", endedAt: NOON };
      return this.replayProgress;
    },
  };

  #take(selection: Selection) {
    this.#failIfAsked();
    const taken = this.deadLetters.filter(({ id }) => selection === "all" || selection.includes(id));
    this.deadLetters = this.deadLetters.filter((each) => !taken.includes(each));
    const unknown = selection === "all" ? [] : selection.filter((id) => !taken.some((each) => each.id === id));
    return { taken, count: taken.length, unknown };
  }

  #failIfAsked(): void {
    if (this.fault !== undefined) throw this.fault;
  }
}
