/**
 * The far end of a serial line that a gateway can open without hardware: a pseudo-terminal, or, where there is none to be
 * had, a TCP socket on loopback that the gateway's port names as `tcp://127.0.0.1:PORT`.
 */
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import type { Clock } from "../kernel/clock.ts";
import { messageOf } from "../kernel/errors.ts";
import type { Logger } from "../kernel/telemetry.ts";
import { openPseudoTerminal } from "./pseudo-terminal.ts";

export interface VirtualPort {
  /** What a serial port's `path` in the gateway's configuration says to get at this line. */
  readonly path: string;
  readonly kind: "pseudo-terminal" | "tcp";
  /**
   * Puts bytes on the wire, all of them or none. Never waits: `false` says that they were dropped, as on a wire to
   * which nobody listens.
   */
  write(bytes: Uint8Array | string): boolean;
  /** Calls `listener` with what the gateway sends to the device. */
  onData(listener: (chunk: Uint8Array) => void): void;
  /** Takes the line away; a gateway that has it open sees it close. */
  close(): Promise<void>;
}

/** Opens a pseudo-terminal, or a TCP socket where that cannot be had (and says so in the log). */
export async function openVirtualPort(options: {
  /** Bits per second, as the gateway's port has it: bounds how many unread bytes are kept. */
  baudRate: number;
  clock: Clock;
  log: Pick<Logger, "warn">;
}): Promise<VirtualPort> {
  try {
    return await openPseudoTerminal(options);
  } catch (error) {
    const port = await openTcpPort();
    options.log.warn(
      { path: port.path },
      `no pseudo-terminal: ${messageOf(error)}; the serial line is a TCP socket instead`,
    );
    return port;
  }
}

/** A socket that does not take its bytes is no better than a wire without a listener. */
const MAX_UNSENT_BYTES = 64 * 1024;
const MAX_CONNECTIONS = 4;

/** A serial line as a TCP socket on loopback. */
export async function openTcpPort(): Promise<VirtualPort> {
  const sockets = new Set<Socket>();
  const listeners: ((chunk: Uint8Array) => void)[] = [];
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("data", (chunk) => {
      for (const listener of listeners) listener(chunk);
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
  });
  server.maxConnections = MAX_CONNECTIONS;
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    path: `tcp://127.0.0.1:${portOf(server)}`,
    kind: "tcp",
    write(bytes) {
      let taken = false;
      for (const socket of sockets) {
        if (socket.writableLength > MAX_UNSENT_BYTES) continue;
        socket.write(bytes);
        taken = true;
      }
      return taken;
    },
    onData(listener) {
      listeners.push(listener);
    },
    async close() {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}
