/** The gateway as operations sees it, put together from what its parts say of themselves. */
import type { Config } from "./config/schema.ts";
import { portViewOf, watchedPort } from "./gateway-serial.ts";
import type { Clock } from "./kernel/clock.ts";
import type { ClockWatch } from "./kernel/clock-quality.ts";
import type { Conditions } from "./kernel/conditions.ts";
import { version } from "./kernel/version.ts";
import { PRIORITIES, type Priority } from "./observation/observation.ts";
import { type AuditSink, auditedOutbox, auditedReplay } from "./operations/audit/audited.ts";
import type { ClockView, GatewayView, ReplayAdmin, SourceView, UplinkView } from "./operations/view.ts";
import type { WearMeter } from "./operations/wear.ts";
import { adminOf, statsOf } from "./outbox/admin.ts";
import type { Outbox } from "./outbox/outbox.ts";
import type { MqttBroker } from "./sources/mqtt/broker.ts";
import type { ReadingsIntake, SourceCounts } from "./sources/readings-intake.ts";
import type { SerialSource } from "./sources/serial/serial-source.ts";
import type { Forwarder } from "./uplink/forwarder.ts";

/** What the view looks at. `ready` and `dead` are the gateway's own state. */
export interface ViewedParts {
  readonly config: Config;
  readonly clock: Clock;
  readonly conditions: Conditions;
  readonly clockWatch: ClockWatch;
  readonly outbox: Outbox;
  readonly intake: ReadingsIntake;
  readonly broker: MqttBroker;
  readonly serial: readonly SerialSource[];
  readonly forwarder: Forwarder | undefined;
  readonly uplinkUrl: string | undefined;
  readonly wear: WearMeter;
  readonly metrics: GatewayView["metrics"];
  readonly state: { ready: boolean; fatal: string | undefined };
  readonly trail: AuditSink;
}

/** Who asks, where nobody says so. */
const UNNAMED = "api";

export function viewOf(parts: ViewedParts): GatewayView {
  const { config, clock, outbox } = parts;
  const { maxBytes } = config.outbox;
  const evictedByPriority = () =>
    Object.fromEntries(PRIORITIES.map((priority) => [priority, outbox.ledgerOf(priority).evicted])) as Record<
      Priority,
      number
    >;
  return {
    id: config.gateway.id,
    version,
    startedAt: clock.monotonic(),
    ready: () => parts.state.ready,
    alive: () => (parts.state.fatal === undefined ? { ok: true } : { ok: false, reason: parts.state.fatal }),
    ledger: () => outbox.ledger(),
    refused: () => parts.intake.refused(),
    quarantine: () => parts.intake.quarantine(),
    outbox: () => {
      const { ledger: _ledger, ...stats } = statsOf(outbox.books(), maxBytes, clock.monotonic());
      return { ...stats, evictedByPriority: evictedByPriority() };
    },
    uplink: () => uplinkOf(parts),
    sources: () => sourcesOf(parts),
    devices: () => parts.intake.devices(),
    clock: () => clockOf(parts.clockWatch),
    wear: () => parts.wear.view(),
    conditions: () => parts.conditions.list(),
    outboxAdmin: auditedOutbox(
      adminOf(
        {
          books: () => outbox.books(),
          monotonic: clock.monotonic,
          peek: (limit, priority) => outbox.peek(limit, priority),
          deadLetters: (after, limit) => outbox.deadLetters(after, limit),
          deadLettersOf: (id) => outbox.deadLettersOf(id),
          requeue: (selection) => outbox.requeue(selection),
          drop: (selection) => outbox.drop(selection),
        },
        maxBytes,
      ),
      parts.trail,
      UNNAMED,
    ),
    serialPort: (name) => {
      const source = parts.serial.find(({ config: { name: itsName } }) => itsName === name);
      return source === undefined ? undefined : watchedPort(source, parts.conditions);
    },
    replay: auditedReplay(replayOf(parts.forwarder), parts.trail, UNNAMED),
    metrics: parts.metrics,
  };
}

function clockOf(watch: ClockWatch): ClockView {
  const { quality, source, forMs, steps, lastStep } = watch.status();
  return {
    quality,
    ...(source === undefined ? {} : { source }),
    forSeconds: forMs / 1000,
    steps,
    ...(lastStep === undefined ? {} : { lastStep: { at: lastStep.at, seconds: lastStep.byMs / 1000 } }),
  };
}

function replayOf(forwarder: Forwarder | undefined): ReplayAdmin {
  const replay = forwarder?.replay;
  return {
    start: async (request) => (await replay?.start(request)) ?? "no-uplink",
    progress: () => replay?.progress(),
    stop: async () => replay?.stop(),
  };
}

function uplinkOf({ forwarder, uplinkUrl }: ViewedParts): UplinkView {
  if (forwarder === undefined) return { state: "off", breaker: "closed" };
  const { lastSuccessAt, lastFailure, nextTryInSeconds, looksEverySeconds, ...status } = forwarder.status();
  return {
    ...status,
    ...(uplinkUrl === undefined ? {} : { url: uplinkUrl }),
    ...(lastSuccessAt === null ? {} : { lastSuccessAt }),
    ...(lastFailure === null ? {} : { lastFailure }),
    ...(nextTryInSeconds === null ? {} : { nextTryInSeconds }),
    ...(looksEverySeconds === null ? {} : { looksEverySeconds }),
  };
}

function sourcesOf({ intake, broker, serial, conditions }: ViewedParts): SourceView[] {
  const mqtt = broker.status();
  const counts = new Map(intake.sources().map((source) => [source.name, source]));
  const view = (name: string, kind: string, state: string): SourceView => ({
    name,
    kind,
    state,
    ...countsOf(counts.get(name)),
  });
  return [
    { ...view("mqtt", "mqtt", mqtt.state), unrouted: mqtt.unrouted },
    ...serial.map((source) => {
      const { state, ...port } = portViewOf(source, conditions);
      return { ...view(source.config.name, "serial", state), port };
    }),
  ];
}

function countsOf(counts: SourceCounts | undefined): Pick<SourceView, "accepted" | "refused" | "lastReadingAt"> {
  const { accepted = 0, refused = 0, lastReadingAt } = counts ?? {};
  return lastReadingAt === undefined ? { accepted, refused } : { accepted, refused, lastReadingAt };
}
