/**
 * A port as a serial source sees it: something that can be opened, brings bytes, and goes away. A device file and a TCP
 * connection are interchangeable behind it.
 */
import type { Clock } from "../../kernel/clock.ts";

/**
 * Why a port is not open. `missing`: there is no such device; `ambiguous`: several fit; `denied`: it may not be opened;
 * `failed`: all else.
 */
export interface PortFault {
  readonly kind: "missing" | "ambiguous" | "denied" | "failed";
  /** For the operator: what is wrong, and where it is known what to do. */
  readonly detail: string;
}

export interface PortSink {
  /** Bytes in the order in which they came; `chunk` is valid only during the call. */
  onData(chunk: Uint8Array): void;
  /** Called once when the port has gone by itself: unplugged, hung up, failed. Not after `close()`. */
  onClosed(fault: PortFault): void;
}

export interface Port {
  /** Whether what comes first may be the rest of a frame: a line on which a device was speaking when it was opened. */
  readonly isMidstream?: boolean;
  /** Begins to read into `sink`; called once. */
  read(sink: PortSink): void;
  /** Stops reading, for what was not read yet to wait in the operating system's (small) buffer. */
  pause(): void;
  resume(): void;
  /** Writes all of `bytes`; resolves when they are handed to the line, or the port is going. Never rejects; one at a time. */
  write(bytes: Uint8Array): Promise<void>;
  /** Resolves once the port is closed and `sink` will not be called any more. Never rejects. */
  close(): Promise<void>;
}

export type OpenOutcome = { readonly kind: "open"; readonly port: Port } | PortFault;

export interface LineSettings {
  /** Bits per second. */
  readonly baudRate: number;
  readonly dataBits: 5 | 6 | 7 | 8;
  readonly parity: "none" | "even" | "odd";
  readonly stopBits: 1 | 1.5 | 2;
  readonly flowControl: "none" | "rtscts" | "xonxoff";
  /** States of the lines while the port is open. */
  readonly dtr: boolean;
  readonly rts: boolean;
}

/** What opening needs from outside; `signal` gives an attempt up. */
export interface PortSurroundings {
  readonly clock: Clock;
  readonly signal: AbortSignal;
}
