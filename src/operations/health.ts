/**
 * How the gateway is, component by component. Pure: facts in, verdict out.
 *
 * An uplink that is away makes the gateway *degraded*, never failing (contract, section 1.5): only a part without which no
 * reading could be kept (`gateway`, `outbox`, `ledger`) can make the whole fail.
 */
import type { Condition, Severity } from "../kernel/conditions.ts";
import type { Ledger } from "../outbox/ledger.ts";
import type { ClockView, GatewayView, SourceView } from "./view.ts";

export type Verdict = "ok" | Severity;

export interface ComponentHealth {
  readonly component: string;
  readonly state: Verdict;
  /** 0..100 */
  readonly score: number;
  /** What is wrong with it, in the order in which it was noticed. */
  readonly conditions: readonly Condition[];
}

export interface Health {
  readonly state: Verdict;
  /** 0..100: the weighted mean of the components, but never above the worst vital one. */
  readonly score: number;
  readonly components: readonly ComponentHealth[];
}

const VITAL: readonly string[] = ["gateway", "outbox", "ledger"];
/** A board that has just started gets its time from the network: until then it is nothing to look at. */
const UNSYNCHRONISED_FOR_LONG_S = 600;

type Fate = Exclude<keyof Ledger, "accepted" | "duplicates">;
/** Each fate with the label it has in metrics; the type makes sure that none is forgotten. */
export const FATE_LABELS: Readonly<Record<Fate, string>> = {
  pending: "pending",
  delivered: "delivered",
  expired: "expired",
  evicted: "evicted",
  thinned: "thinned",
  deadLettered: "dead_lettered",
  damaged: "damaged",
};
export const FATE_NAMES = Object.keys(FATE_LABELS) as readonly Fate[];

/** The name under which a source's conditions are raised: `mqtt`, `serial:mast`. */
export function componentOf(source: Pick<SourceView, "kind" | "name">): string {
  return source.kind === "mqtt" ? source.name : `${source.kind}:${source.name}`;
}

/**
 * The gateway's health at wall time `now` (milliseconds). `previous` is the assessment before this one: it tells since
 * when something is wrong that no part has raised as a condition.
 */
export function assessHealth(view: GatewayView, now: number, previous?: Health): Health {
  const known = new Map(
    previous?.components.flatMap(({ conditions }) => conditions.map((each) => [keyOf(each), each.since])),
  );
  const raised = view.conditions();
  const noticed = observed(view, raised).map((each) => ({ ...each, since: known.get(keyOf(each)) ?? now }));
  const all = [...raised, ...noticed];
  const names = new Set([...VITAL, "uplink", "clock", ...view.sources().map(componentOf)]);
  for (const { component } of all) names.add(component);

  const outbox = view.outbox();
  const components = [...names].map((component) => {
    const conditions = all.filter((each) => each.component === component);
    const state = worst(conditions.map(({ severity }) => severity));
    const ceiling = component === "outbox" ? roomScore(outbox.room.fill) : 100;
    return { component, state, score: Math.min(ceiling, scoreOf(state, conditions.length)), conditions };
  });
  return { state: overallState(components), score: overallScore(components), components };
}

/** What the facts themselves say is wrong, where no part has said so already. */
function observed(view: GatewayView, raised: readonly Condition[]): Omit<Condition, "since">[] {
  const found: Omit<Condition, "since">[] = [];
  const notice = (component: string, code: string, severity: Severity, detail: string): void => {
    if (!raised.some((each) => each.component === component)) found.push({ component, code, severity, detail });
  };
  const alive = view.alive();
  if (!alive.ok) notice("gateway", "not-alive", "failing", alive.reason);
  else if (!view.ready())
    notice("gateway", "not-ready", "degraded", "Starting or stopping: not every listener is open.");

  const ledger = view.ledger();
  const missing = FATE_NAMES.reduce((rest, fate) => rest - ledger[fate], ledger.accepted);
  if (missing !== 0)
    notice("ledger", "unbalanced", "failing", `The books do not balance: ${missing} readings have no fate. Report it.`);

  if (view.uplink().breaker === "open")
    notice("uplink", "breaker-open", "degraded", "Fusion is away; readings are kept and go out when it is back.");
  const clock = clockFault(view.clock());
  if (clock !== undefined) notice("clock", clock.code, "degraded", clock.detail);
  return found;
}

function clockFault({ quality, source, forSeconds }: ClockView): { code: string; detail: string } | undefined {
  if (quality === "stepped") {
    const detail = "The clock was set while running and is not synchronised: times before and after may not agree.";
    return { code: "stepped", detail };
  }
  if (quality === "synchronised" || forSeconds < UNSYNCHRONISED_FOR_LONG_S) return undefined;
  const advice =
    source === undefined
      ? "nothing on this machine can tell: install and enable chrony or systemd-timesyncd"
      : `look at what ${source} says, and whether a time server or a GPS receiver can be reached`;
  const detail = `The clock is not synchronised, and the times of readings may be wrong; ${advice}.`;
  return { code: "unsynchronised", detail };
}

const keyOf = ({ component, code }: Pick<Condition, "component" | "code">): string => `${component}\n${code}`;

function worst(severities: readonly Severity[]): Verdict {
  if (severities.includes("failing")) return "failing";
  return severities.length > 0 ? "degraded" : "ok";
}

function scoreOf(state: Verdict, conditions: number): number {
  if (state === "failing") return 0;
  return state === "ok" ? 100 : Math.max(30, 85 - 15 * conditions);
}

/** 100 up to half full, then falling to 40 when full. */
function roomScore(fill: number): number {
  return Math.round(100 - 120 * Math.max(0, Math.min(1, fill) - 0.5));
}

function overallState(components: readonly ComponentHealth[]): Verdict {
  const failing = components.some(({ component, state }) => state === "failing" && VITAL.includes(component));
  if (failing) return "failing";
  return components.every(({ state }) => state === "ok") ? "ok" : "degraded";
}

const weightOf = (component: string): number => (VITAL.includes(component) ? 3 : component === "uplink" ? 2 : 1);

function overallScore(components: readonly ComponentHealth[]): number {
  const weight = components.reduce((sum, { component }) => sum + weightOf(component), 0);
  const mean = components.reduce((sum, { component, score }) => sum + weightOf(component) * score, 0) / weight;
  const vital = components.filter(({ component }) => VITAL.includes(component)).map(({ score }) => score);
  return Math.round(Math.min(mean, ...vital));
}
