import { pino } from "pino";
import type { SerialPortConfig } from "#src/config/schema.js";
import { Conditions } from "#src/kernel/conditions.js";
import { createMetrics } from "#src/kernel/telemetry.js";
import { PortPolling } from "#src/sources/serial/polling/port-polling.js";
import type { Port } from "#src/sources/serial/port.js";
import { createSerialMeters } from "#src/sources/serial/port-use.js";
import { SerialTraffic } from "#src/sources/serial/traffic.js";
import { RecordingIntake } from "./recording-intake.ts";
import { jsonPort } from "./serial-house.ts";
import { TestClock } from "./test-clock.ts";

/** What a simulated device says to what it hears: nothing, or bytes after so many milliseconds, once or several times. */
export type SimulatedDevice = (heard: Buffer, attempt: number) => readonly Said[] | undefined;
export interface Said {
  readonly after: number;
  readonly bytes: Uint8Array | string;
}

/** A polled port on which everything happens by a clock that the test moves. `Polling`: a mutant's, for a control. */
export async function simulatedBus(
  over: Partial<SerialPortConfig>,
  device: SimulatedDevice,
  Polling: typeof PortPolling = PortPolling,
) {
  const clock = new TestClock();
  const intake = new RecordingIntake();
  const lines: { msg: string; level: number }[] = [];
  const log = pino({ level: "debug" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const conditions = new Conditions(clock, log);
  const metrics = createMetrics();
  const meters = createSerialMeters(metrics);
  const start = clock.monotonic();
  const sent: { readonly at: number; readonly bytes: Buffer }[] = [];
  let reopened = 0;
  const config: SerialPortConfig = { ...jsonPort({ name: "bus", path: "/dev/bus" }), ...over };
  const traffic = new SerialTraffic();
  const use = new Polling(config, { intake, clock, conditions, meters, traffic, log, reopen: () => reopened++ });
  const port: Port = {
    read: () => {},
    pause: () => {},
    resume: () => {},
    close: async () => {},
    write: async (bytes) => {
      sent.push({ at: clock.monotonic() - start, bytes: Buffer.from(bytes) });
      for (const said of device(Buffer.from(bytes), sent.length) ?? [])
        clock.after(said.after, () => use.heard(Buffer.from(said.bytes as string)));
    },
  };
  await use.prepare();
  use.opened(port);
  const condition = (code: string) => conditions.list().find((one) => one.code === code)?.detail;
  const textsSent = () => sent.map(({ bytes }) => bytes.toString("latin1"));
  return {
    use,
    port,
    clock,
    intake,
    conditions,
    condition,
    metrics,
    traffic,
    sent,
    textsSent,
    lines,
    reopened: () => reopened,
  };
}
