/**
 * Builds, starts and stops everything; the only file that knows all the parts.
 *
 * Order: outbox, uplink, HTTP, sources; and back: sources, the outbox's last commit, the uplink drained to a deadline, HTTP,
 * outbox. READY is said once the outbox is open and the listeners are bound, not when the uplink answers.
 */
import { environment } from "./config/environment.ts";
import { readConfigApart } from "./config/load-apart.ts";
import { redactUrl } from "./config/redact.ts";
import type { Config } from "./config/schema.ts";
import { auditConfig, sayEnd, TrailCheck, trailOf } from "./gateway-audit.ts";
import { createHttpServer } from "./gateway-http.ts";
import { watchSecrets } from "./gateway-secrets.ts";
import { viewOf } from "./gateway-view.ts";
import { AccessControl } from "./identity/access-control.ts";
import { CertificateWatch } from "./identity/certificate-watch.ts";
import type { Audit } from "./kernel/audit.ts";
import { bootId } from "./kernel/boot.ts";
import { type Clock, systemClock } from "./kernel/clock.ts";
import { type ClockStatus, ClockWatch } from "./kernel/clock-quality.ts";
import { clockSources } from "./kernel/clock-source.ts";
import { Conditions } from "./kernel/conditions.ts";
import { ExitStatus } from "./kernel/errors.ts";
import { Reloads } from "./kernel/reloading.ts";
import { createMetrics, type Logger, type Telemetry } from "./kernel/telemetry.ts";
import { version } from "./kernel/version.ts";
import type { AuditTrail } from "./operations/audit/trail.ts";
import { registerMetrics } from "./operations/metrics.ts";
import { statusLine } from "./operations/status.ts";
import { type Notify, systemdNotify, Watchdog, watchdogTimeout } from "./operations/systemd.ts";
import type { GatewayView } from "./operations/view.ts";
import { WearMeter, writtenBytes } from "./operations/wear.ts";
import { Outbox } from "./outbox/outbox.ts";
import { MqttBroker } from "./sources/mqtt/broker.ts";
import { ReadingsIntake } from "./sources/readings-intake.ts";
import { createSerialSources, type SerialSource } from "./sources/serial/serial-source.ts";
import { Forwarder } from "./uplink/forwarder.ts";
import { HttpsTransport } from "./uplink/https.ts";

/** What a stop waits for requests that are under way. */
const UPLINK_STOP_MS = 5_000;

export interface GatewayOptions {
  readonly configPath: string;
  readonly log: Logger;
  readonly clock?: Clock;
  /** Ends the process at once; nothing is acknowledged any more. */
  readonly exit: (status: number) => void;
}

export class Gateway {
  readonly #config: Config;
  readonly #options: GatewayOptions;
  readonly #clock: Clock;
  readonly #telemetry: Telemetry;
  readonly #notify: Notify;
  readonly #state: { ready: boolean; fatal: string | undefined } = { ready: false, fatal: undefined };
  #reloads: Reloads | undefined;
  /** How to stop what has been started, in the order of starting. */
  readonly #stops: (() => Promise<void> | void)[] = [];
  #trail: AuditTrail | undefined;
  #trailCheck: TrailCheck | undefined;
  #conditions: Conditions | undefined;

  private constructor(config: Config, options: GatewayOptions) {
    this.#config = config;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#telemetry = { log: options.log, metrics: createMetrics() };
    this.#notify = systemdNotify(environment, options.log);
  }

  /** Starts everything. @throws GatewayError where a part cannot start; what had started is stopped again. */
  static async start(config: Config, options: GatewayOptions): Promise<Gateway> {
    const gateway = new Gateway(config, options);
    try {
      await gateway.#start();
      return gateway;
    } catch (fault) {
      await gateway.#stopAll();
      throw fault;
    }
  }

  /** Ends cleanly: what was accepted is durable, and every part has let go. */
  async stop(): Promise<void> {
    this.#state.ready = false;
    await this.#notify("STOPPING=1");
    await this.#stopAll();
    this.#options.log.info("stopped");
  }

  /**
   * Reads again the files that the configuration names, and the configuration: of it, the log's level follows, the rest
   * asks for a restart.
   */
  async reload(): Promise<void> {
    const { log } = this.#options;
    const { changed = [], refused = [] } = (await this.#reloads?.reload()) ?? {};
    let restart: string[] | undefined;
    try {
      restart = await this.#reloadConfig();
    } finally {
      // What was refused is in the log and in health already, with its reason.
      const fields = { changed, refused: refused.map(({ section }) => section), restart };
      const waits = restart !== undefined && restart.length > 0;
      if (waits) log.warn(fields, "read again; what is under `restart` has changed too, and waits for a restart");
      else log.info(fields, "read again");
    }
  }

  /** The sections in which the configuration differs from the one in force. */
  async #reloadConfig(): Promise<string[]> {
    const { log, configPath } = this.#options;
    const { config: next } = await readConfigApart(configPath, { credentials: "required" });
    log.level = next.log.level;
    if (this.#conditions !== undefined) await watchSecrets(next, environment, this.#conditions);
    if (this.#trail !== undefined) await auditConfig(this.#trail, configPath, next, log);
    void this.#trailCheck?.look();
    const sections = Object.keys(next) as (keyof Config)[];
    return sections.filter((key) => key !== "log" && JSON.stringify(next[key]) !== JSON.stringify(this.#config[key]));
  }

  async #start(): Promise<void> {
    const { log } = this.#options;
    const clock = this.#clock;
    const conditions = new Conditions(clock, log);
    this.#conditions = conditions;
    await watchSecrets(this.#config, environment, conditions);
    const clockWatch = new ClockWatch(clock, clockSources());
    this.#stops.push(() => clockWatch.stop());
    const firstAnswer = clockWatch.start((status) => this.#sayClock(status, clockWatch.awaited));

    const trail = trailOf({
      config: this.#config,
      clock,
      conditions,
      bootId: bootId(),
      clockQuality: () => clockWatch.quality(),
    });
    const audit = trail.record;
    const reloads = new Reloads({ clock, conditions, log, audit });
    this.#reloads = reloads;
    this.#stops.push(() => reloads.stop());
    const outbox = await this.#openOutbox(conditions, clockWatch, audit);
    this.#startTrail(trail, conditions);
    clockWatch.onceSynchronised((offsetMs) => this.#fixClock(outbox, offsetMs));
    const certificates = new CertificateWatch({
      config: this.#config,
      clock,
      conditions,
      clockIsTrusted: () => clockWatch.quality() === "synchronised",
    });
    this.#stops.push(() => certificates.stop());
    const forwarder = this.#createUplink(outbox, conditions, reloads, audit);
    const intake = new ReadingsIntake({ outbox, clock, telemetry: this.#telemetry });
    const { dataDir } = this.#config.gateway;
    const access = await AccessControl.open(this.#config.mqtt, reloads);
    const broker = new MqttBroker({
      config: this.#config.mqtt,
      dataDir,
      intake,
      clock,
      telemetry: this.#telemetry,
      reloads,
      conditions,
      audit,
      access,
    });
    const serial = createSerialSources(this.#config.serial, {
      intake,
      clock,
      random: Math.random,
      conditions,
      telemetry: this.#telemetry,
    });
    const wear = this.#measureWear(outbox);
    const { url } = this.#config.uplink;
    const view = viewOf({
      config: this.#config,
      clock,
      conditions,
      clockWatch,
      outbox,
      intake,
      broker,
      serial,
      forwarder,
      uplinkUrl: url === undefined ? undefined : redactUrl(url),
      wear,
      metrics: this.#telemetry.metrics,
      state: this.#state,
      trail,
    });
    this.#stops.push(registerMetrics(view, clock));
    const http = await createHttpServer(this.#config, { view, clock, log, audit, reloads });
    this.#stops.push(() => http.close());
    if (forwarder !== undefined) {
      forwarder.start();
      this.#stops.push(() => forwarder.stop(UPLINK_STOP_MS));
    }
    this.#stops.push(() => outbox.flush());
    await http.open();
    // Before that it is not known how far the times of readings can be trusted.
    await firstAnswer;
    await auditConfig(trail, this.#options.configPath, this.#config, log);
    await certificates.start();
    await this.#startSources(outbox, broker, serial);
    await this.#sayReady(view, outbox, forwarder);
    // In nobody's way: what it finds stops nothing.
    void this.#trailCheck?.look();
  }

  /** In the outbox's folder, and so after it; what was reported before has waited. */
  #startTrail(trail: AuditTrail, conditions: Conditions): void {
    const { log } = this.#options;
    this.#trail = trail;
    trail.start();
    const check = new TrailCheck(this.#config, { clock: this.#clock, conditions, log });
    this.#trailCheck = check;
    this.#stops.push(async () => {
      await check.stop();
      await trail.close();
      await sayEnd(trail, this.#config, log);
    });
  }

  async #openOutbox(conditions: Conditions, clockWatch: ClockWatch, audit: Audit): Promise<Outbox> {
    const { gateway, outbox: config, uplink } = this.#config;
    const outbox = await Outbox.open(
      {
        gatewayId: gateway.id,
        dataDir: gateway.dataDir,
        file: config.file,
        maxBytes: config.maxBytes,
        maxAge: config.maxAge,
        whenFull: config.whenFull,
        reserveFreeDisk: config.reserveFreeDisk,
        maxDeadLetters: config.maxDeadLetters,
        waitForClock: config.waitForClock,
        keepDelivered: config.keepDelivered,
        bootId: bootId(),
        commitDelay: config.commitDelay,
        block: uplink.batch,
      },
      {
        clock: this.#clock,
        telemetry: this.#telemetry,
        conditions,
        audit,
        clockQuality: () => clockWatch.quality(),
        clockAwaited: () => clockWatch.awaited,
        onFatal: (error, ioError) => this.#die(error, ioError),
      },
    );
    this.#stops.push(() => outbox.close());
    return outbox;
  }

  #measureWear(outbox: Outbox): WearMeter {
    const wear = new WearMeter({
      clock: this.#clock,
      enduranceBytes: this.#config.outbox.cardEndurance,
      read: () => ({
        writtenBytes: writtenBytes(),
        accepted: outbox.ledger().accepted,
        commits: outbox.commits,
      }),
    });
    wear.start();
    this.#stops.push(() => wear.stop());
    return wear;
  }

  #sayClock({ quality, source, lastStep }: ClockStatus, awaited: boolean): void {
    const fields = { component: "clock", quality, source };
    const { log } = this.#options;
    if (quality === "stepped") log.warn({ ...fields, byMs: lastStep?.byMs }, "the clock was stepped");
    else if (quality === "synchronised") log.info(fields, "the clock is synchronised");
    else if (source === undefined)
      log.warn(fields, "nothing here can tell whether the clock is synchronised: install chrony or systemd-timesyncd");
    else {
      const waits = awaited && this.#config.outbox.waitForClock > 0;
      const what = waits ? "wait for it, for outbox.waitForClock at most" : "may have a wrong one";
      log.warn(fields, `the clock is not synchronised: readings without a time of their own ${what}`);
    }
  }

  #fixClock(outbox: Outbox, offsetMs: number): void {
    const { log } = this.#options;
    outbox
      .fixClock(offsetMs)
      .catch((err: unknown) => log.error({ err }, "the offset of the clock could not be stored"));
  }

  /** The forwarder; none where no uplink is configured. */
  #createUplink(outbox: Outbox, conditions: Conditions, reloads: Reloads, audit: Audit): Forwarder | undefined {
    const config = this.#config.uplink;
    const { log, metrics } = this.#telemetry;
    if (config.url === undefined) {
      log.warn("no uplink.url is configured: readings are kept, and none is sent");
      return undefined;
    }
    return new Forwarder({
      source: outbox,
      kept: outbox,
      transport: new HttpsTransport({ config, clock: this.#clock, version, reloads }),
      config,
      clock: this.#clock,
      random: Math.random,
      conditions,
      log: log.child({ part: "uplink" }),
      metrics,
      audit,
    });
  }

  async #startSources(outbox: Outbox, broker: MqttBroker, serial: readonly SerialSource[]): Promise<void> {
    // The last commit is made while the broker waits for it, so that what is in it is acknowledged before the clients go.
    this.#stops.push(async () => {
      const stopped = broker.stop();
      await outbox.flush();
      await stopped;
    });
    this.#stops.push(async () => void (await Promise.all(serial.map((port) => port.stop()))));
    await broker.start();
    await Promise.all(serial.map((port) => port.start()));
  }

  async #sayReady(view: GatewayView, outbox: Outbox, forwarder: Forwarder | undefined): Promise<void> {
    const { log } = this.#options;
    this.#state.ready = true;
    const watchdog = new Watchdog({
      notify: this.#notify,
      timeoutMs: watchdogTimeout(environment, process.pid),
      probes: [
        { name: "outbox", roundTrip: () => outbox.ping() },
        ...(forwarder === undefined ? [] : [{ name: "forwarder", progress: () => forwarder.tick }]),
      ],
      statusLine: () => statusLine(view),
      clock: this.#clock,
      log,
    });
    watchdog.start();
    this.#stops.push(() => watchdog.stop());
    const { pending, accepted } = outbox.ledger();
    log.info({ dataDir: this.#config.gateway.dataDir, accepted, pending }, "ready");
    await this.#notify("READY=1", `STATUS=${statusLine(view)}`);
  }

  async #stopAll(): Promise<void> {
    for (const stop of this.#stops.splice(0).reverse()) {
      try {
        await stop();
      } catch (err) {
        this.#options.log.error({ err }, "a part could not stop cleanly");
      }
    }
  }

  /** The outbox's state is unknown: nothing is acknowledged any more, and the supervisor starts afresh. */
  #die(error: Error, ioError: boolean): void {
    this.#state.fatal = error.message;
    this.#options.log.fatal({ err: error }, "the outbox failed; ends, to be started afresh");
    this.#options.exit(ioError ? ExitStatus.ioError : ExitStatus.failed);
  }
}
