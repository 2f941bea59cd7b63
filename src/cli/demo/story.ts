/**
 * The story of one outage, told by the real parts: sensors, gateway and fusion on this machine. Each act waits for what it is
 * about, and lasts long enough to be watched. At the end the books of both sides are compared; nothing of the outcome is
 * taken on trust.
 */
import type { Clock } from "../../kernel/clock.ts";
import { GatewayError } from "../../kernel/errors.ts";
import type { Status } from "../../operations/status.ts";
import type { Fault } from "../../simulator/fusion-faults.ts";
import { PHASES, type Phase } from "../../simulator/scenario.ts";
import { count } from "../format.ts";
import type { Books } from "./books.ts";
import { endingText } from "./gateway-child.ts";
import { Interrupted } from "./interrupted.ts";
import type { Screen } from "./screen.ts";
import { SENSORS, type StoryRoad } from "./story-road.ts";

export interface StoryOptions {
  /** How long the acts last, as a share of about a minute. */
  readonly pace: number;
  /** A fault that fusion shows throughout. */
  readonly fault?: Fault;
  readonly clock: Clock;
  readonly screen: Screen;
  readonly stopping: AbortSignal;
}

/** How fast the ignition runs at pace 1: the fire is at its height 22 seconds after the beginning. */
export const SPEED = 15;
const LOOK_EVERY_MS = 100;
/** What an act waits for has to come within this; only a fault takes longer. */
const ACT_DEADLINE_MS = 90_000;
/** For so long nothing more is accepted: the longest commit delay, and what was on the wire. */
const QUIET_MS = 1_500;
/** The link after the outage, at pace 1: what each request takes, so that the order of the backlog can be seen. */
const SLOW_LINK_MS = 250;
const MAX_ALERTS = 1_000;
/** How long the devices wait at the end for acknowledgements that are still on their way. */
const DRAIN_MS = 10_000;
/** What the devices speak of before the fire. */
const CLASSES = ["smoke", "telemetry", "heartbeat", "position", "weather"];

/** An alert as fusion has it. */
interface Alert {
  readonly source: string;
  readonly confidence: number;
  readonly attributes: { readonly phase: Phase };
}

/** What an act sees at each look: the gateway's status, `undefined` while it does not answer. */
type Look = Status | undefined;

export class Story {
  readonly #road: StoryRoad;
  readonly #options: StoryOptions;
  readonly #screen: Screen;

  constructor(road: StoryRoad, options: StoryOptions) {
    this.#road = road;
    this.#options = options;
    this.#screen = options.screen;
  }

  /**
   * Tells it from beginning to end, and returns the books of both sides.
   * @throws Interrupted, and GatewayError DEMO_STALLED or DEMO_GATEWAY where something does not come about
   */
  async tell(): Promise<Books> {
    this.#road.fusion.setFault(this.#options.fault ?? { mode: "none" });
    await this.#normalTraffic();
    await this.#ignition();
    await this.#outage();
    await this.#kill();
    await this.#return();
    return this.#settle();
  }

  async #normalTraffic(): Promise<void> {
    this.#screen.heading(
      "1  Normal traffic",
      `${SENSORS} sensors publish over MQTT with TLS, a weather mast speaks on two serial lines. The gateway acknowledges a ` +
        "message once it is safe on the disk, not before, and then sends it on to fusion.",
    );
    const { fusion } = this.#road;
    await this.#until("readings of every class at fusion", 4_000, () => {
      const { byClass } = fusion.stats();
      return CLASSES.every((name) => (byClass[name] ?? 0) > 0);
    });
    const { byClass } = fusion.stats();
    const counts = CLASSES.map((name) => `${count(byClass[name] ?? 0)} ${name}`);
    this.#screen.good(`At fusion so far: ${counts.join(", ")}.`);
  }

  async #ignition(): Promise<void> {
    this.#screen.heading(
      "2  Ignition",
      "Something burns. Each sensor raises an alert when it sees smoke, then an ignition, then an active fire. Alerts are " +
        "critical: they are committed and sent at once, ahead of whatever else waits.",
    );
    const told = new Set<Phase>();
    await this.#until("the alert of an active fire from every sensor", 0, () => {
      const alerts = this.#road.fusion.find({ class: "alert", limit: MAX_ALERTS }) as Alert[];
      for (const phase of PHASES) {
        const first = alerts.findLast((alert) => alert.attributes.phase === phase);
        if (first === undefined || told.has(phase)) continue;
        told.add(phase);
        const sure = Math.round(first.confidence * 100);
        this.#screen.say(
          `${this.#screen.paint("yellow", phase.padEnd(11))} first from ${first.source}, ${sure} % sure`,
        );
      }
      const burning = alerts.filter(({ attributes }) => attributes.phase === "active-fire");
      return new Set(burning.map(({ source }) => source)).size === SENSORS;
    });
    const { alert = 0 } = this.#road.fusion.stats().byClass;
    this.#screen.good(`Fusion has ${count(alert)} alerts, and an active fire from each of the ${SENSORS} sensors.`);
  }

  async #outage(): Promise<void> {
    this.#screen.heading(
      "3  Fusion goes away",
      "It refuses connections. The circuit breaker opens, so that the gateway stops asking for a while; the outbox keeps " +
        "what is accepted. The devices notice nothing.",
    );
    await this.#road.takeFusionAway();
    const before = this.#acknowledged;
    const status = await this.#until(
      "the breaker open and a backlog in the outbox",
      11_000,
      (look) => look !== undefined && look.uplink.breaker !== "closed" && look.outbox.pending > 0,
    );
    const more = count(this.#acknowledged - before);
    this.#screen.good(
      `The breaker is ${status?.uplink.breaker}. The devices got ${more} more acknowledgements all the same, and ` +
        `${count(status?.outbox.pending ?? 0)} readings wait.`,
    );
  }

  async #kill(): Promise<void> {
    this.#screen.heading(
      "4  The gateway is killed",
      "As by a power cut: SIGKILL, no time to put anything in order. The devices get no acknowledgement now, so they keep " +
        "what they have and send it again.",
    );
    const before = (await this.#road.daemon.status()).ledger.accepted;
    await this.#road.gateway.kill();
    await this.#until("a pause", 3_000, () => true, "killed");
    await this.#road.startGateway();
    const { ledger } = await this.#road.daemon.status();
    if (ledger.accepted < before) {
      throw stalled(`the gateway had accepted ${before} readings and knows of ${ledger.accepted} after the kill`);
    }
    this.#screen.good(
      `It is back, with all ${count(ledger.accepted)} readings that it had accepted; ${count(ledger.pending)} wait.`,
    );
    const { published } = this.#road.devices.fleet.counts();
    await this.#until("what the sensors held acknowledged", 2_000, () => this.#acknowledged >= published);
    this.#screen.good("The sensors have found it again, and what they held is acknowledged.");
  }

  async #return(): Promise<void> {
    const slowLinkMs = Math.round(SLOW_LINK_MS * this.#options.pace);
    this.#screen.heading(
      "5  Fusion returns",
      "The gateway has been trying the line about twice a second, so it sends at once, without sitting out the breaker's " +
        `pause. The link is slow (${slowLinkMs} ms a request), so that you can watch: critical first, then high, normal, low.`,
    );
    const { fusion } = this.#road;
    if (this.#options.fault === undefined) fusion.setFault({ mode: "latency", latencyMs: slowLinkMs });
    const before = fusion.stats().unique;
    await this.#road.bringFusionBack();
    let overtaken: number | undefined;
    await this.#until("the backlog at fusion", 3_000, (look) => {
      if (look === undefined) return false;
      const { critical, normal } = look.outbox.pendingByPriority;
      if (critical === 0 && fusion.stats().unique > before) overtaken ??= normal;
      return look.uplink.breaker === "closed" && look.outbox.oldestAgeSeconds < 2 && look.ledger.delivered > 0;
    });
    if (this.#options.fault === undefined) fusion.setFault({ mode: "none" });
    if (overtaken !== undefined && overtaken > 0) {
      this.#screen.good(
        `The alerts went first: they were all at fusion while ${count(overtaken)} other readings waited.`,
      );
    }
    this.#screen.good(`The backlog is at fusion: ${count(fusion.stats().unique - before)} readings since it returned.`);
  }

  async #settle(): Promise<Books> {
    this.#screen.heading(
      "6  The books",
      "The devices stop, and what is still on its way arrives. Then the gateway stops, and its ledger, as it lies on the " +
        "disk, is compared with what fusion has and with what the devices were promised.",
    );
    const { devices, fusion, gateway } = this.#road;
    const counts = await devices.stop(DRAIN_MS);
    await this.#settled();
    const ending = await gateway.stop();
    if (ending.status !== 0) throw stalled(`the gateway did not stop cleanly: ${endingText(ending)}`);
    const promised = [...devices.fleet.acknowledgedIds()];
    const books = {
      gateway: await this.#road.ledgerOnDisk(),
      fusion: fusion.stats(),
      missing: promised.filter((id) => !fusion.has(id)),
    };
    const { acknowledged } = counts;
    this.#screen.say(
      `${count(acknowledged)} MQTT messages were acknowledged; ${count(promised.length)} of them brought an id of their own, ` +
        `and ${count(promised.length - books.missing.length)} of those are at fusion.`,
    );
    return books;
  }

  /** Waits until nothing is pending, and nothing more is accepted. */
  async #settled(): Promise<void> {
    const { clock } = this.#options;
    let accepted = -1;
    let since = clock.monotonic();
    await this.#until("everything settled", 0, (look) => {
      if (look === undefined || look.ledger.accepted !== accepted || look.ledger.pending > 0) {
        accepted = look?.ledger.accepted ?? accepted;
        since = clock.monotonic();
        return false;
      }
      return clock.monotonic() - since >= QUIET_MS;
    });
  }

  /**
   * Looks at the gateway until `holds`, at least for `atLeastMs` (at pace 1), and shows how things stand. Returns the last
   * look. `gateway` says whether it is meant to be running.
   */
  async #until(
    what: string,
    atLeastMs: number,
    holds: (look: Look) => boolean,
    gateway: "running" | "killed" = "running",
  ): Promise<Look> {
    const { clock, pace, stopping } = this.#options;
    const begun = clock.monotonic();
    for (;;) {
      const look = gateway === "killed" ? undefined : await this.#look();
      this.#screen.live(this.#line(look));
      const elapsedMs = clock.monotonic() - begun;
      if (elapsedMs >= atLeastMs * pace && holds(look)) {
        this.#screen.keep();
        return look;
      }
      if (elapsedMs > ACT_DEADLINE_MS) throw stalled(`not within ${ACT_DEADLINE_MS / 1000} s: ${what}`);
      await clock.sleep(LOOK_EVERY_MS, stopping);
      if (stopping.aborted) throw new Interrupted();
    }
  }

  /** The gateway's status; `undefined` where it does not answer in spite of being there. */
  async #look(): Promise<Look> {
    if (this.#road.gateway.ending !== undefined) throw this.#road.gateway.fault("the gateway ended by itself");
    return this.#road.daemon.status().catch((fault: unknown) => {
      if (fault instanceof GatewayError) return undefined;
      throw fault;
    });
  }

  #line(look: Look): string {
    if (look === undefined) {
      const { published, acknowledged } = this.#road.devices.fleet.counts();
      return `no gateway; the sensors hold ${count(published - acknowledged)} messages without an acknowledgement`;
    }
    const { ledger, outbox, uplink } = look;
    const lanes = Object.entries(outbox.pendingByPriority).filter(([, n]) => n > 0);
    const parts = [
      `accepted ${count(ledger.accepted)}`,
      `delivered ${count(ledger.delivered)}`,
      `pending ${count(ledger.pending)}`,
      `breaker ${uplink.breaker}`,
      `oldest ${Math.floor(outbox.oldestAgeSeconds)} s`,
      ...(lanes.length === 0 ? [] : [`(${lanes.map(([name, n]) => `${count(n)} ${name}`).join(", ")})`]),
    ];
    return parts.join("  ");
  }

  get #acknowledged(): number {
    return this.#road.devices.fleet.counts().acknowledged;
  }
}

function stalled(message: string): GatewayError {
  return new GatewayError({
    code: "DEMO_STALLED",
    op: "demo.story",
    message,
    hint: "The gateway's log says what it was doing.",
  });
}
