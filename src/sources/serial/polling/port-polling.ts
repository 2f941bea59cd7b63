/**
 * A port whose devices are asked: Modbus servers, SDI-12 sensors, or one device with commands of its own. One at a time, each in its
 * turn and within its slot; who does not answer is named in health, and keeps nobody else waiting for longer than that.
 */
import type { PipelineConfig } from "../../../codec/pipeline-config.ts";
import type { SerialPortConfig } from "../../../config/schema.ts";
import type { Conditions } from "../../../kernel/conditions.ts";
import type { Logger } from "../../../kernel/telemetry.ts";
import { checkedPipeline } from "../pipeline.ts";
import type { Port, PortFault } from "../port.ts";
import { placeText } from "../port-place.ts";
import type { PortUse } from "../port-use.ts";
import { BusLine, type LineSpeed } from "./bus-line.ts";
import { PollRecord, troubleOf } from "./poll-record.ts";
import type { Station, StationParts, Turn } from "./station.ts";
import { type TurnEnd, Turns } from "./turns.ts";

export interface PollingParts extends StationParts {
  readonly conditions: Conditions;
  readonly log: Logger;
  /** Closes the port, for it to be opened again. */
  readonly reopen: () => void;
}

/** SDI-12, section 4.1, whatever the speed of its adapter: a start bit, seven of data, parity and stop. */
const SDI12_SPEED: LineSpeed = { baudRate: 1200, bits: 10 };

export class PortPolling implements PortUse {
  readonly #config: SerialPortConfig;
  readonly #parts: PollingParts;
  readonly #record: PollRecord;
  readonly #pipeline: PipelineConfig | undefined;
  #stations: readonly Station[] = [];
  #line: BusLine | undefined;
  #polling: Promise<void> | undefined;
  #answeredAt = 0;
  /** Whether the port was opened anew since somebody answered. */
  #isReopened = false;

  /** Throws a `GatewayError` `CONFIG_INVALID` where the port lacks what its codec needs. */
  constructor(config: SerialPortConfig, parts: PollingParts) {
    this.#config = config;
    this.#parts = parts;
    this.#record = new PollRecord(`serial:${config.name}`, placeText(config), parts);
    this.#pipeline = config.poll === undefined ? undefined : checkedPipeline(config);
  }

  async prepare(): Promise<void> {
    this.#stations = await this.#loadStations();
  }

  opened(port: Port): void {
    const { clock, meters } = this.#parts;
    const labels = { port: this.#config.name, reason: "unasked" };
    const unasked = (bytes: number): void => meters.discardedBytes.inc(labels, bytes);
    this.#line = new BusLine(port, this.#speed(), { clock, unasked });
    this.#answeredAt = clock.monotonic();
    for (const station of this.#stations) station.restart?.();
    this.#polling = this.#poll(this.#line);
  }

  heard(chunk: Uint8Array): void {
    this.#line?.heard(chunk);
  }

  async closed(fault: PortFault | undefined): Promise<void> {
    this.#line?.close();
    await this.#polling;
    if (fault !== undefined) this.#record.clear();
  }

  /** Loaded here: a gateway that polls nothing spends no memory on it. */
  async #loadStations(): Promise<readonly Station[]> {
    const { modbus, sdi12, poll } = this.#config;
    if (modbus !== undefined)
      return (await import("./modbus-station.ts")).modbusStations(this.#config, modbus, this.#parts);
    if (sdi12 !== undefined)
      return (await import("./sdi12-station.ts")).sdi12Stations(this.#config, sdi12, this.#parts);
    if (poll === undefined || this.#pipeline === undefined) return [];
    const { commandStations } = await import("./command-station.ts");
    return commandStations(this.#config, this.#pipeline, poll, this.#parts);
  }

  #speed(): LineSpeed {
    const { sdi12, baudRate, dataBits, parity, stopBits } = this.#config;
    if (sdi12 !== undefined) return SDI12_SPEED;
    return { baudRate, bits: 1 + dataBits + (parity === "none" ? 0 : 1) + stopBits };
  }

  async #poll(line: BusLine): Promise<void> {
    const { clock } = this.#parts;
    const turns = new Turns(
      this.#stations.map(({ every }) => every),
      clock.monotonic(),
    );
    while (!line.closed.aborted) {
      await this.#room(line);
      const { index, wait } = turns.next(clock.monotonic());
      const station = this.#stations[index];
      if (station === undefined) return;
      if (wait > 0) {
        await clock.sleep(wait, line.closed);
        continue;
      }
      const turn = await station.turn(line, !turns.isFailing(index));
      if (line.closed.aborted) return;
      turns.ended(index, endOf(turn), clock.monotonic());
      if (turn.kind !== "later") this.#note(station, turn);
      this.#watchSilence(turn);
    }
  }

  #note(station: Station, turn: Turn): void {
    this.#record.note(station, turn);
    const trouble = troubleOf(turn);
    if (trouble !== undefined) this.#parts.traffic.fault(station.label, trouble.what);
  }

  /** Waits while too much waits for its commit: what is not asked is not lost. */
  async #room({ closed }: BusLine): Promise<void> {
    const { intake } = this.#parts;
    if (!intake.saturated || closed.aborted) return;
    await new Promise<void>((resolve) => {
      const goOn = (): void => {
        closed.removeEventListener("abort", goOn);
        resolve();
      };
      intake.onceRelieved(goOn);
      closed.addEventListener("abort", goOn, { once: true });
    });
    this.#answeredAt = this.#parts.clock.monotonic();
  }

  /** The devices that are silent are named each by itself; what is left to do is to open a port anew on which all are. */
  #watchSilence(turn: Turn): void {
    const { silentAfter, reopenWhenSilent } = this.#config;
    const now = this.#parts.clock.monotonic();
    if (turn.kind !== "fault" || turn.partly) {
      this.#answeredAt = now;
      this.#isReopened = false;
    } else if (reopenWhenSilent && silentAfter > 0 && !this.#isReopened && now - this.#answeredAt >= silentAfter) {
      this.#isReopened = true;
      this.#parts.reopen();
    }
  }
}

/** Who answers in part is there, and is not asked less often. */
function endOf(turn: Turn): TurnEnd {
  if (turn.kind === "later") return { later: turn.ms };
  return turn.kind === "fault" && !turn.partly ? "failed" : "answered";
}
