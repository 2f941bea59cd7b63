/**
 * How much of what was sent its receiver has not acknowledged, as the kernel counts it.
 *
 * Node.js says that a write is done when the kernel has all of it, and the kernel takes more only when a third of its send
 * buffer has gone out: up to megabytes, which over a slow link is minutes. The kernel's own count moves with every segment.
 */
import { readFileSync } from "node:fs";
import type { Socket } from "node:net";

/** By the protocol's version. Both are made as they are read: nothing here waits for a disk. */
const TABLES = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

type Ports = { readonly [end in "localPort" | "remotePort"]?: Socket[end] | undefined };

/**
 * A text that changes when the receiver has taken something; `undefined` where the system does not tell. Another
 * connection between the same two ports, of other addresses, would change it as well.
 */
export function sendQueueOf({ localPort, remotePort }: Ports): string | undefined {
  if (localPort === undefined || remotePort === undefined) return undefined;
  // local_address rem_address st tx_queue:rx_queue
  const line = new RegExp(`:${hex(localPort)} [0-9A-F]+:${hex(remotePort)} [0-9A-F]{2} ([0-9A-F]+):`, "g");
  const queues = TABLES.flatMap((table) => [...textOf(table).matchAll(line)].map(([, queue]) => queue));
  return queues.length === 0 ? undefined : queues.join(" ");
}

function hex(port: number): string {
  return port.toString(16).toUpperCase().padStart(4, "0");
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return ""; // another system, or one without IPv6
  }
}
