/** The real daemon as tests of the broker's limits look at it: its log, its metrics, its memory. */
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { Daemon, FIELD_NODE_OPTIONS } from "./daemon.ts";
import { type ConnectOptions, PUBACK, publishPacket, RawMqtt } from "./raw-mqtt.ts";
import { temporaryFolder } from "./temporary-folder.ts";
import { until } from "./until.ts";

export const MIB = 1024 * 1024;
export const READING = '{"source":"node","temperature":21.5}';

export interface LogLine {
  readonly msg: string;
  readonly [key: string]: unknown;
}

export interface World {
  readonly daemon: Daemon;
  readonly port: number;
  readonly log: readonly LogLine[];
  /** Log lines of a reason; waits until there is one. */
  named(code: string): Promise<readonly LogLine[]>;
  /** The value of a metric of the broker, 0 where it has none. */
  metric(name: string): Promise<number>;
}

/** TLS tells its reasons apart by `kind`, everybody else by `code`. */
function isOf({ code, kind }: LogLine, wanted: string): boolean {
  return code === wanted || kind === wanted;
}

/** A daemon with these limits; `tls` adds a listener with TLS on `ports.mqtts`, `bind` is the plain one's address. */
export async function gateway(
  t: TestContext,
  limits: object = {},
  options: {
    readonly mqtt?: object;
    readonly bind?: string;
    readonly tls?: boolean;
    readonly dist?: string;
  } = {},
): Promise<World> {
  const { mqtt = {}, bind = "127.0.0.1", tls = false, dist } = options;
  const folder = temporaryFolder(t);
  const ports = await Daemon.freePorts();
  const listeners: object[] = [{ bind, port: ports.mqtt }];
  if (tls) listeners.push({ bind, port: ports.mqtts, tls: { development: true } });
  const daemon = await Daemon.start({
    folder,
    ports,
    log: "pipe",
    nodeOptions: FIELD_NODE_OPTIONS,
    changes: { mqtt: { listeners, limits, ...mqtt } },
    ...(dist === undefined ? {} : { dist }),
  });
  t.after(() => daemon.stop("SIGKILL"));
  const log: LogLine[] = [];
  const { stdout } = daemon.child;
  if (stdout !== null) createInterface({ input: stdout }).on("line", (line) => log.push(JSON.parse(line)));
  const named = async (code: string) => {
    await until(`a log line says ${code}`, () => log.some((line) => isOf(line, code)));
    return log.filter((line) => isOf(line, code));
  };
  const metric = async (name: string) => {
    const text = await (await daemon.get("/metrics")).text();
    const line = text.split("\n").find((each) => each.startsWith(`summit_edge_mqtt_${name} `));
    return Number(line?.split(" ").at(-1) ?? 0);
  };
  return { daemon, port: ports.mqtt, log, named, metric };
}

/** A client that was let in. */
export async function connected(
  port: number,
  id: string,
  options: ConnectOptions = {},
  where: { readonly from?: string; readonly to?: string } = {},
): Promise<RawMqtt> {
  const client = new RawMqtt(port, where);
  assert.equal(await client.connect(id, options), 0);
  return client;
}

/** A fresh client is served: its reading is acknowledged. */
export async function isServed(port: number): Promise<void> {
  const client = await connected(port, "fresh");
  client.send(publishPacket("telemetry/fresh", READING, { qos: 1 }));
  await client.next(PUBACK);
  await client.vanish();
}

/** By how many MiB resident memory rises while `load` runs, at the most. The daemon has served a client before. */
export async function growth({ daemon, port }: World, load: () => Promise<void>): Promise<number> {
  for (let n = 0; n < 20; n++) await isServed(port);
  const before = daemon.residentMiB;
  let most = before;
  const timer = setInterval(() => {
    most = Math.max(most, daemon.residentMiB);
  }, 20);
  await load();
  clearInterval(timer);
  return Math.max(most, daemon.residentMiB) - before;
}

/** Writes as fast as the other end takes it, up to so many bytes, or until it closes. */
export async function pour(client: RawMqtt, chunk: Buffer, bytes: number): Promise<void> {
  for (let sent = 0; sent < bytes && !client.closed; sent += chunk.length) {
    if (client.socket.write(chunk)) continue;
    await new Promise<void>((resolve) => {
      const { socket } = client;
      const goOn = () => {
        socket.off("drain", goOn).off("close", goOn);
        resolve();
      };
      socket.once("drain", goOn).once("close", goOn);
    });
  }
}
