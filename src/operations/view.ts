/**
 * The gateway as operations sees it: what the HTTP API, the metrics, the status page and the commands read, and the few
 * things that an operator may do. `gateway.ts` implements it; this room knows no other part of the gateway. Types only.
 *
 * Every method but those of `OutboxAdmin` is called at each scrape and each refresh of the page: it answers at once, from
 * memory, and never throws.
 */
import type { Registry } from "prom-client";
import type { Condition } from "../kernel/conditions.ts";
import type { ClockQuality, Observation, Priority } from "../observation/observation.ts";
import type { Ledger } from "../outbox/ledger.ts";
import type { Refusals } from "../sources/quarantine.ts";
import type { SerialWatcher, TrafficCounts } from "../sources/serial/traffic.ts";
import type { WearView } from "./wear.ts";

export type Liveness = { readonly ok: true } | { readonly ok: false; readonly reason: string };

export type BreakerState = "closed" | "open" | "half-open";

export interface OutboxView {
  /** Readings that wait. */
  readonly pending: number;
  readonly pendingByPriority: Readonly<Record<Priority, number>>;
  /** Since the outbox began, or since this start: it only grows while the process runs. */
  readonly evictedByPriority: Readonly<Record<Priority, number>>;
  /** In use: used pages × page size + WAL. */
  readonly bytes: number;
  /** `outbox.maxBytes`. */
  readonly maxBytes: number;
  readonly walBytes?: number;
  /** Age of the oldest reading that waits, since its acceptance; 0 where none waits. */
  readonly oldestAgeSeconds: number;
  /** Dead letters that can still be looked at and requeued. */
  readonly deadLetters: number;
  readonly kept: KeptView;
  readonly room: RoomView;
}

/** Delivered readings that are kept for replay (`outbox.keepDelivered`); no part of the ledger. */
export interface KeptView {
  readonly readings: number;
  /** Of what is stored of them, compressed. */
  readonly bytes: number;
}

/** How full the outbox is, against `maxBytes` or against what `reserveFreeDisk` leaves of the disk: 1 is full. */
export interface RoomView {
  readonly fill: number;
  readonly limitedBy: "maxBytes" | "reserveFreeDisk";
  /** From this fill on it is degraded, and below the lower one well again. */
  readonly highWater: number;
  readonly lowWater: number;
}

export interface UplinkFailure {
  /** Wall time, milliseconds. */
  readonly at: number;
  /** `timeout`, `connect`, `http-503`, …: the outcome's stable name. */
  readonly code: string;
  readonly detail: string;
}

export interface UplinkView {
  /** What the forwarder does at the moment: `off` (no url), `idle`, `sending`, `waiting`, … */
  readonly state: string;
  readonly breaker: BreakerState;
  /** Without user name, password and query. */
  readonly url?: string;
  /** Wall time, milliseconds. */
  readonly lastSuccessAt?: number;
  readonly lastFailure?: UplinkFailure;
  /** Until the next try, where one is waited for. */
  readonly nextTryInSeconds?: number;
  /** Where that try comes earlier, as soon as fusion can be connected to: how often that is looked at. */
  readonly looksEverySeconds?: number;
}

export interface SourceView {
  readonly name: string;
  /** `mqtt`, `serial`, … */
  readonly kind: string;
  /** In the source's own words: `listening`, `open`, `reopening`, … */
  readonly state: string;
  readonly accepted: number;
  readonly refused: number;
  /** Wall time, milliseconds. */
  readonly lastReadingAt?: number;
  /** Of a serial port. */
  readonly port?: PortView;
  /** Of the MQTT broker: messages that no route matched and no subscriber took. No readings, and not among those refused. */
  readonly unrouted?: number;
}

/** A serial port: which device it is at the moment, and what comes over it. */
export interface PortView {
  /** As the configuration names it: a path, or what its `match` says. */
  readonly path: string;
  /** The device that was found there last. */
  readonly device?: string;
  /** Since when the port has been in its state: wall time, milliseconds. */
  readonly since: number;
  /** What is wrong with it, in words. */
  readonly detail?: string;
  readonly traffic: TrafficCounts;
}

/** How a serial port is set up, for whoever looks at its bytes. */
export interface PortSettings {
  readonly baudRate: number;
  readonly dataBits: number;
  readonly parity: string;
  readonly stopBits: number;
  readonly framing: string;
  readonly codec: string;
}

/** A serial port that can be looked on at. */
export interface WatchedPort {
  readonly name: string;
  readonly settings: PortSettings;
  status(): PortView & { readonly state: string };
  /** Calls `watcher` for all that comes from now on, while the port is being read: it returns at once. Gives back how to end it. */
  watch(watcher: SerialWatcher): () => void;
}

/** A device, by the `source` of its readings. Whoever keeps the list keeps it bounded. */
export interface DeviceView {
  readonly source: string;
  /** The name of the `SourceView` it last came in by. */
  readonly via: string;
  readonly accepted: number;
  /** Wall time, milliseconds. */
  readonly lastReadingAt?: number;
}

export interface ClockView {
  readonly quality: ClockQuality;
  /** Who said so; absent where nobody on this machine can tell. */
  readonly source?: string;
  /** For how long the quality has been what it is. */
  readonly forSeconds: number;
  /** How often the wall clock has jumped since the start. */
  readonly steps: number;
  /** `at`: wall time after it, milliseconds; `seconds` is positive where it went forward. */
  readonly lastStep?: { readonly at: number; readonly seconds: number };
}

export interface GatewayView {
  readonly id: string;
  readonly version: string;
  /** On the monotonic clock, milliseconds. */
  readonly startedAt: number;
  /** The outbox is open and the listeners are bound. */
  ready(): boolean;
  /** Whether the daemon can do its work; an uplink that is away takes nothing from that. */
  alive(): Liveness;
  ledger(): Ledger;
  /** Readings that were never accepted, by reason. */
  refused(): Readonly<Record<string, number>>;
  /** What was refused last, in part. */
  quarantine(): Refusals;
  outbox(): OutboxView;
  uplink(): UplinkView;
  sources(): readonly SourceView[];
  devices(): readonly DeviceView[];
  clock(): ClockView;
  /** `undefined` where the kernel does not account for what is written. */
  wear(): WearView | undefined;
  conditions(): readonly Condition[];
  readonly outboxAdmin: OutboxAdmin;
  readonly replay: ReplayAdmin;
  /** The serial port of that name in the configuration; `undefined` where there is none. */
  serialPort(name: string): WatchedPort | undefined;
  readonly metrics: Registry;
}

/** A reading as it is stored and sent: the observation with what the outbox added when it committed. */
export interface StoredReading extends Observation {
  readonly gateway: {
    readonly id: string;
    readonly seq: number;
    /** RFC 3339. */
    readonly received_at: string;
    readonly clock: ClockQuality;
    /** The device's time is before 2020, or more than a day ahead of a synchronised clock. */
    readonly time?: "suspect";
    /** The gateway stamped it before its clock was synchronised: the boot, and how long after its start it came in. */
    readonly boot?: string;
    readonly uptime_ms?: number;
    /** RFC 3339: what the gateway had stamped it with before its clock was synchronised. */
    readonly restamped_from?: string;
  };
}

export interface OutboxStats {
  readonly ledger: Ledger;
  readonly pending: number;
  readonly pendingByPriority: Readonly<Record<Priority, number>>;
  readonly bytes: number;
  readonly maxBytes: number;
  readonly walBytes?: number;
  readonly oldestAgeSeconds: number;
  readonly deadLetters: number;
  readonly kept: KeptView;
  readonly room: RoomView;
}

export interface DeadLetterSummary {
  /** The reading's id. */
  readonly id: string;
  readonly class: string;
  readonly source: string;
  readonly priority: Priority;
  /** RFC 3339. */
  readonly ts_iso: string;
  /** RFC 3339. */
  readonly deadLetteredAt: string;
  /** Why fusion refused it: the answer's own code, or `http-422` and the like. */
  readonly code: string;
  readonly detail: string;
}

export interface DeadLetter extends DeadLetterSummary {
  /** Fusion's problem details as it sent them, where it sent any. */
  readonly problem?: unknown;
  readonly reading: StoredReading;
}

export interface DeadLetterPage {
  /** Oldest first. */
  readonly deadLetters: readonly DeadLetterSummary[];
  /** Where the next page begins: the `after` to ask with. Absent on the last one. */
  readonly next?: string;
}

/** Which dead letters a call means. */
export type Selection = readonly string[] | "all";

/** What became of a selection: how many were found and dealt with, and which ids were not known. */
export interface SelectionResult {
  readonly count: number;
  readonly unknown: readonly string[];
}

export interface DeadLetterAdmin {
  /** At most `limit` (1..1000), those after the cursor `after` (a page's `next`); `undefined` where it is none. */
  list(query: { readonly limit: number; readonly after?: string }): Promise<DeadLetterPage | undefined>;
  show(id: string): Promise<DeadLetter | undefined>;
  /**
   * Back to waiting, in its old place by the order of acceptance: the fate changes from dead-lettered to pending, and its age
   * begins anew. `by`: who asks, for the audit trail.
   */
  requeue(selection: Selection, by?: string): Promise<SelectionResult>;
  /** Forgets the readings for good; their fate stays dead-lettered. */
  drop(selection: Selection, by?: string): Promise<SelectionResult>;
}

/** What an operator may do with the outbox; the same while the daemon runs and when its file is opened offline. */
export interface OutboxAdmin {
  stats(): Promise<OutboxStats>;
  /** The readings that would be sent next, without leasing them; at most `limit` (1..1000). */
  peek(query: { readonly limit: number; readonly priority?: Priority }): Promise<readonly StoredReading[]>;
  readonly deadLetters: DeadLetterAdmin;
}

export interface ReplayRequest {
  /** Observed from then to then, both included; wall time, milliseconds. */
  readonly from: number;
  readonly to: number;
  readonly class?: string;
  readonly source?: string;
  /** Readings per second, at most. */
  readonly rate: number;
}

export interface ReplayProgress extends ReplayRequest {
  /** `waiting`: for live readings, which go first, or for fusion. */
  readonly state: "counting" | "sending" | "waiting" | "done" | "stopped" | "failed";
  /** Readings that were found; `undefined` while they are being counted. */
  readonly total: number | undefined;
  /** Readings that fusion has taken. */
  readonly sent: number;
  /** Readings that fusion refused for good. */
  readonly refused: number;
  /** Readings that could not be read back. */
  readonly damaged: number;
  /** Wall time, milliseconds. */
  readonly startedAt: number;
  readonly endedAt?: number;
  readonly lastFailure?: { readonly code: string; readonly detail: string };
}

/** Why no replay was begun: there is no uplink, one is under way, or delivered readings are not kept. */
export type ReplayRefusal = "no-uplink" | "running" | "nothing-kept";

/** Sending a past range of delivered readings again, one range at a time; only while the daemon runs. */
export interface ReplayAdmin {
  start(request: ReplayRequest, by?: string): Promise<ReplayProgress | ReplayRefusal>;
  /** Of the one that runs, or ran last since the daemon started; `undefined` where none has. */
  progress(): ReplayProgress | undefined;
  /** Ends it; returns how far it came. */
  stop(by?: string): Promise<ReplayProgress | undefined>;
}

/** The outbox opened without a daemon, under the `dataDir` lock. */
export interface OfflineOutbox {
  readonly admin: OutboxAdmin;
  /** Closes the file and gives the lock back. */
  close(): Promise<void>;
}
