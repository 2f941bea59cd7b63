import type { PortView, WatchedPort } from "#src/operations/view.js";
import { SerialTraffic } from "#src/sources/serial/traffic.js";

/** A serial port over which comes what a test says. */
export class MemoryPort implements WatchedPort {
  readonly name: string;
  readonly traffic = new SerialTraffic();
  readonly settings = {
    baudRate: 4800,
    dataBits: 8,
    parity: "none",
    stopBits: 1,
    framing: "lines",
    codec: "nmea0183",
  };
  /** How many look on. */
  watchers = 0;

  constructor(name: string) {
    this.name = name;
  }

  status(): PortView & { state: string } {
    return { state: "open", path: "/dev/ttyUSB0", since: 0, traffic: this.traffic.counts() };
  }

  watch(watcher: Parameters<WatchedPort["watch"]>[0]): () => void {
    this.watchers++;
    const end = this.traffic.watch(watcher);
    return () => {
      this.watchers--;
      end();
    };
  }
}
