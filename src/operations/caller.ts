/** Who asks the HTTP API, for the audit trail. */
import type { FastifyRequest } from "fastify";
import { isLoopback } from "../config/http-access.ts";
import { actorOf } from "./http-guard.ts";

/** The header in which a command on this machine says which user runs it. */
export const CALLER_HEADER = "x-summit-edge-user";

/**
 * `key:NAME` where an API key let the call in, else `api:ADDRESS`; where the address is loopback, `cli:NAME` as the command says. Nobody proves that: whoever is on this machine
 * may write the header, and the API as well.
 */
export function callerOf(request: FastifyRequest): string {
  const actor = actorOf(request);
  if (actor.startsWith("key:")) return actor;
  const { headers, socket } = request;
  const address = socket.remoteAddress ?? "local"; // the socket in the dataDir has none
  const user = headers[CALLER_HEADER];
  const isLocal = address === "local" || isLoopback(address.replace(/^::ffff:/i, ""));
  return isLocal && typeof user === "string" && /^[\w.-]{1,64}$/.test(user) ? `cli:${user}` : `api:${address}`;
}
