/** TCP ports on loopback for a road that is not to clash with anything. */
import { once } from "node:events";
import { createServer } from "node:net";
import { GatewayError } from "../../kernel/errors.ts";

/**
 * Below the ports that Linux gives to outgoing connections (32768 and up): one of those could be taken by anybody while
 * the gateway or fusion is away, and a connection to it could even meet itself.
 */
const LOWEST = 15_000;
const HIGHEST = 32_000;
const MAX_TRIES = 200;

/** As many different ports that nobody listens on. @throws GatewayError NO_FREE_PORT */
export async function freePorts(howMany: number, random: () => number): Promise<number[]> {
  const found = new Set<number>();
  for (let tries = 0; tries < MAX_TRIES && found.size < howMany; tries++) {
    const port = LOWEST + Math.floor(random() * (HIGHEST - LOWEST));
    if (await isFree(port)) found.add(port);
  }
  if (found.size === howMany) return [...found];
  throw new GatewayError({
    code: "NO_FREE_PORT",
    op: "demo.ports",
    message: `no free TCP ports on 127.0.0.1 between ${LOWEST} and ${HIGHEST}`,
    hint: "See what holds them (ss -ltn), or whether this user may listen at all.",
  });
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, "127.0.0.1");
  try {
    await once(server, "listening");
  } catch {
    return false;
  }
  server.close();
  await once(server, "close");
  return true;
}
