/** A serial line at the other end of a TCP connection: a serial-to-network adapter in raw mode, or a simulated device. */
import { connect, type Socket } from "node:net";
import { networkAddress } from "../../config/network-path.ts";
import type { OpenOutcome, Port, PortFault, PortSink, PortSurroundings } from "./port.ts";

/** How long an attempt to connect may take. */
export const CONNECT_TIMEOUT_MS = 10_000;
/** A peer that vanished without a word is noticed by TCP keep-alive, first asked after this silence. */
const KEEP_ALIVE_MS = 30_000;

class NetworkPort implements Port {
  readonly #socket: Socket;
  #sink: PortSink | undefined;
  #fault: PortFault | undefined;
  #closing = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    let problem = "the other end closed the connection";
    socket.on("error", (error) => {
      problem = error.message;
    });
    socket.once("close", () => {
      this.#fault = { kind: "failed", detail: problem };
      this.#reportClosed();
    });
  }

  read(sink: PortSink): void {
    this.#sink = sink;
    this.#socket.on("data", (chunk) => sink.onData(chunk));
    if (this.#fault !== undefined) queueMicrotask(() => this.#reportClosed());
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      this.#socket.write(bytes, () => resolve());
    });
  }

  close(): Promise<void> {
    this.#closing = true;
    if (this.#socket.closed) return Promise.resolve();
    return new Promise((resolve) => {
      this.#socket.once("close", () => resolve());
      this.#socket.destroy();
    });
  }

  #reportClosed(): void {
    if (this.#fault !== undefined && !this.#closing) this.#sink?.onClosed(this.#fault);
  }
}

/** Opens `tcp://host:port`. */
export async function openNetworkPort(path: string, { clock, signal }: PortSurroundings): Promise<OpenOutcome> {
  const address = networkAddress(path);
  if (address === undefined) {
    return { kind: "failed", detail: `${path} is not of the form tcp://host:port; correct the port's path` };
  }
  return new Promise((resolve) => {
    const socket = connect({ ...address, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS });
    const giveUp = (detail: string): void => {
      socket.destroy();
      settle({ kind: "failed", detail });
    };
    const settle = (outcome: OpenOutcome): void => {
      cancelTimeout();
      signal.removeEventListener("abort", abort);
      socket.removeListener("error", fail);
      // A socket that is given up may still report an error, which nobody needs.
      if (outcome.kind !== "open") socket.on("error", () => {});
      resolve(outcome);
    };
    const fail = (error: Error): void => giveUp(`cannot connect to ${path}: ${error.message}`);
    const abort = (): void => giveUp("given up");
    const cancelTimeout = clock.after(CONNECT_TIMEOUT_MS, () =>
      giveUp(`cannot connect to ${path}: no answer within ${CONNECT_TIMEOUT_MS / 1000} s`),
    );
    signal.addEventListener("abort", abort, { once: true });
    socket.once("error", fail);
    socket.once("connect", () => settle({ kind: "open", port: new NetworkPort(socket) }));
  });
}
