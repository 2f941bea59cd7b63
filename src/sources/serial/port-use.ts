/** What is done with a port while it is open: what comes is read (port-stream.ts), or its devices are asked (polling/). */
import { Counter, type Registry } from "prom-client";
import type { Port, PortFault } from "./port.ts";

export interface PortUse {
  /** Once, before the port is opened for the first time. */
  prepare(): Promise<void>;
  /** The port is open; before its first byte. */
  opened(port: Port): void;
  /** Bytes in the order in which they came; `chunk` is valid only during the call. */
  heard(chunk: Uint8Array): void;
  /**
   * The port is closed: by itself, for the `fault`, or because it was stopped or is to be opened anew. Resolves when everything that
   * was heard has been submitted.
   */
  closed(fault: PortFault | undefined): Promise<void>;
}

/** What the serial ports count. */
export interface SerialMeters {
  readonly discardedFrames: Counter<"port" | "reason">;
  readonly discardedBytes: Counter<"port" | "reason">;
  readonly throttled: Counter<"port">;
  readonly polls: Counter<"port" | "device" | "outcome">;
}

export function createSerialMeters(registry: Registry): SerialMeters {
  const registers = [registry];
  return {
    discardedFrames: new Counter({
      name: "summit_edge_serial_frames_discarded_total",
      help: "Frames of a serial port, and stretches of noise, that were given up before they could be decoded, by reason.",
      labelNames: ["port", "reason"],
      registers,
    }),
    discardedBytes: new Counter({
      name: "summit_edge_serial_discarded_bytes_total",
      help: "Bytes of a serial port that were given up before they could be decoded, by reason.",
      labelNames: ["port", "reason"],
      registers,
    }),
    throttled: new Counter({
      name: "summit_edge_serial_throttled_total",
      help: "How often a serial port was left unread for a while because more than its maxRate came.",
      labelNames: ["port"],
      registers,
    }),
    polls: new Counter({
      name: "summit_edge_serial_polls_total",
      help: "Requests to the devices on a polled serial port, by device and outcome: answered, timeout, bad-crc, bad-answer or exception.",
      labelNames: ["port", "device", "outcome"],
      registers,
    }),
  };
}
