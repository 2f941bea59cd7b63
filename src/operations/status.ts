/** What the HTTP API says about the gateway, put together from the view. Pure; times leave as RFC 3339 in UTC. */
import type { Condition } from "../kernel/conditions.ts";
import type { ComponentHealth, Health } from "./health.ts";
import type { ClockView, DeviceView, GatewayView, PortView, SourceView, UplinkFailure } from "./view.ts";
import type { WearView } from "./wear.ts";

const iso = (wall: number): string => new Date(wall).toISOString();
const isoOrNull = (wall: number | undefined): string | null => (wall === undefined ? null : iso(wall));

const conditionOut = (condition: Condition) => ({ ...condition, since: iso(condition.since) });
const readingTime = <T extends SourceView | DeviceView>(each: T) => ({
  ...each,
  lastReadingAt: isoOrNull(each.lastReadingAt),
});

/** A source as the API shows it: with `port` where it is a serial one. */
function sourceOut({ port, ...source }: SourceView) {
  return { ...readingTime(source), ...(port !== undefined && { port: portOut(port) }) };
}

function portOut({ path, device, since, detail, traffic }: PortView) {
  const { bytes, frames, refused, discarded, discardedBytes } = traffic;
  const counts = { bytes, frames, refused, discarded, discardedBytes };
  return { path, device: device ?? null, since: iso(since), detail: detail ?? null, ...counts };
}

const failureOut = (failure: UplinkFailure | undefined) =>
  failure === undefined ? null : { ...failure, at: iso(failure.at) };

function wearOut(wear: WearView | undefined) {
  if (wear === undefined) return null;
  const { bytesPerReading = null, bytesPerYear = null, enduranceBytes } = wear;
  const enduranceSharePerYear = bytesPerYear === null || enduranceBytes === 0 ? null : bytesPerYear / enduranceBytes;
  return { ...wear, bytesPerReading, bytesPerYear, enduranceSharePerYear };
}

function clockOut({ quality, source, forSeconds, steps, lastStep }: ClockView, now: number) {
  return {
    quality,
    source: source ?? null,
    since: iso(now - forSeconds * 1000),
    steps,
    lastStep: lastStep === undefined ? null : { at: iso(lastStep.at), seconds: lastStep.seconds },
  };
}

/** `GET /api/v1/status`: the contract's members, and health, conditions, devices and the time besides. */
export function statusOf(view: GatewayView, health: Health, at: { readonly now: number; readonly monotonic: number }) {
  const { pending, bytes, oldestAgeSeconds, ...outbox } = view.outbox();
  const { state, breaker, ...uplink } = view.uplink();
  return {
    gateway: view.id,
    version: view.version,
    time: iso(at.now),
    uptimeSeconds: Math.max(0, Math.floor((at.monotonic - view.startedAt) / 1000)),
    ready: view.ready(),
    health: { state: health.state, score: health.score },
    ledger: view.ledger(),
    refused: view.refused(),
    outbox: { pending, bytes, oldestAgeSeconds, ...outbox },
    uplink: {
      state,
      breaker,
      url: uplink.url ?? null,
      lastSuccessAt: isoOrNull(uplink.lastSuccessAt),
      lastFailure: failureOut(uplink.lastFailure),
      nextTryInSeconds: uplink.nextTryInSeconds ?? null,
      looksEverySeconds: uplink.looksEverySeconds ?? null,
    },
    sources: view.sources().map(sourceOut),
    devices: view.devices().map(readingTime),
    clock: clockOut(view.clock(), at.now),
    wear: wearOut(view.wear()),
    conditions: health.components.flatMap(({ conditions }) => conditions.map(conditionOut)),
  };
}

export type Status = ReturnType<typeof statusOf>;

function componentOut({ component, state, score, conditions }: ComponentHealth) {
  return {
    component,
    state,
    score,
    why: conditions.length === 0 ? null : conditions.map(({ detail }) => detail).join(" "),
    since: conditions.length === 0 ? null : iso(Math.min(...conditions.map(({ since }) => since))),
    conditions: conditions.map(conditionOut),
  };
}

/** `GET /health`. */
export function healthOut(health: Health) {
  return { state: health.state, score: health.score, components: health.components.map(componentOut) };
}

/** The gateway in one line, for `systemctl status`. */
export function statusLine(view: GatewayView): string {
  const { pending } = view.outbox();
  const { breaker, state } = view.uplink();
  const uplink = breaker === "closed" ? state : `breaker ${breaker}`;
  return `${pending} ${pending === 1 ? "reading waits" : "readings wait"}; uplink: ${uplink}`;
}
