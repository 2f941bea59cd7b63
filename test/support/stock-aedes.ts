import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import type { TestContext } from "node:test";
import { Aedes, type AedesOptions } from "aedes";

/**
 * The control for what is done in front of it: aedes as it comes, with the hooks that a program would write. Gives its port; the
 * test's end stops it.
 */
export async function startStockAedes(t: Pick<TestContext, "after">, hooks: AedesOptions = {}): Promise<number> {
  const broker = await Aedes.createBroker(hooks);
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    broker.handle(socket);
  });
  for (const event of ["clientError", "connectionError"] as const) broker.on(event, () => {});
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(async () => {
    await new Promise<void>((resolve) => broker.close(resolve));
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  return typeof address === "object" ? (address?.port ?? 0) : 0;
}
