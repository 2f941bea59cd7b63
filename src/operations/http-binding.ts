/** Binding listeners and letting go of them, and what to say where that cannot be. */
import { lookup } from "node:dns/promises";
import type { Server } from "node:http";
import type { ListenOptions } from "node:net";
import type { HttpConfig } from "../config/schema.ts";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";

/** What `localhost` means here: one address or both. */
export async function loopbackAddresses(): Promise<readonly string[]> {
  return (await lookup("localhost", { all: true })).map(({ address }) => address);
}

/** Resolves once it listens; rejects with Node.js's own error. */
export function listening(server: Server, options: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(options, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

/** The page's polls would hold up the end of the daemon until each connection's keep-alive has run out: idle ones go. */
export function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
  });
}

/** The commands' socket cannot be opened. */
export function localFault(error: unknown, path: string): GatewayError {
  return new GatewayError({
    code: "LISTEN_FAILED",
    op: "http.open",
    message: `the commands' socket ${path} cannot be opened: ${messageOf(error)}`,
    hint: "Look at gateway.dataDir: its file system must know sockets, and the daemon's user must be able to write there.",
    cause: error,
  });
}

/** The address or port of the configuration cannot be had. */
export function listenFault(error: unknown, { bind, port }: HttpConfig): GatewayError {
  const where = `port ${port} on ${bind}`;
  const fault = (code: string, message: string, hint: string): GatewayError =>
    new GatewayError({ code, op: "http.open", message, hint, cause: error });
  switch (codeOf(error)) {
    case "EADDRINUSE":
      return fault("PORT_TAKEN", `${where} is taken`, `Stop the program that holds it, or change http.port.`);
    case "EACCES":
      return fault("PORT_FORBIDDEN", `${where} may not be opened`, "Set http.port to a port above 1023.");
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return fault("ADDRESS_UNAVAILABLE", `this machine has no address ${bind}`, "Set http.bind to one that it has.");
    default:
      return fault(
        "LISTEN_FAILED",
        `${where} cannot be opened: ${messageOf(error)}`,
        "Look at http.bind and http.port.",
      );
  }
}
