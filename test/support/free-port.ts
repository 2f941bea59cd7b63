import { createServer, type Server } from "node:net";

/** Ports that the system gives to nobody by itself, in slices. */
const FIRST_PORT = 12_000;
const SLICES = 100;
const PORTS_PER_SLICE = 200;
let slice: Promise<number> | undefined;
let lastPort = 0;

/**
 * A port that nobody listens on, and that no other test is given meanwhile, in this process or another: one of the system's choice could
 * be lent out once more, even for an outgoing connection, before the daemon listens on it, or while it is down between two lives.
 */
export async function freePort(): Promise<number> {
  slice ??= claimSlice();
  const first = await slice;
  for (;;) {
    lastPort = 1 + (lastPort % (PORTS_PER_SLICE - 1));
    const port = first + lastPort;
    const server = createServer();
    if (!(await listens(server, port))) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

/** The first port of a slice, which this process listens on as long as it runs, so that no other takes the slice. */
async function claimSlice(): Promise<number> {
  for (let n = 0; n < SLICES; n++) {
    const first = FIRST_PORT + ((process.pid + n) % SLICES) * PORTS_PER_SLICE;
    const guard = createServer().unref();
    if (await listens(guard, first)) return first;
  }
  throw new Error("every slice of ports is taken");
}

function listens(server: Server, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    server.once("error", () => resolve(false));
    server.listen(port, () => resolve(true));
  });
}
