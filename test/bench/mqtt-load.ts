/**
 * Publishers: one that costs as little as possible, so that what is measured is the broker, and MQTT.js, as a device of the field would
 * publish. What is published is made before the clock starts.
 */
import { randomUUID } from "node:crypto";
import { connect as connectPlain, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { connectAsync, type MqttClient } from "mqtt";

export interface Target {
  readonly port: number;
  /** PEM of the authority to trust; plain without one. */
  readonly ca?: string;
}

export interface LoadResult {
  readonly acknowledged: number;
  readonly seconds: number;
  readonly perSecond: number;
}

/** QoS 1 PUBLISHes over `connections`, at most `window` unacknowledged on each; resolves when all are acknowledged. */
export async function publishLoad(
  target: Target,
  load: { connections: number; window: number; messages: number; readingsPerMessage?: number },
): Promise<LoadResult> {
  const each = Math.floor(load.messages / load.connections);
  const publishers = await Promise.all(
    Array.from({ length: load.connections }, (_, index) =>
      Publisher.open(target, `load-${index}`, packetsFor(each, index, load.readingsPerMessage ?? 1)),
    ),
  );
  const from = performance.now();
  await Promise.all(publishers.map((publisher) => publisher.run(load.window)));
  const seconds = (performance.now() - from) / 1000;
  for (const publisher of publishers) publisher.close();
  const acknowledged = each * load.connections;
  return { acknowledged, seconds, perSecond: acknowledged / seconds };
}

/** As `publishLoad`, one reading a message, through MQTT.js. */
export async function publishWithMqttJs(
  { port }: Target,
  load: { connections: number; window: number; messages: number },
): Promise<LoadResult> {
  const each = Math.floor(load.messages / load.connections);
  const clients = await Promise.all(
    Array.from({ length: load.connections }, (_, index) =>
      connectAsync({ host: "127.0.0.1", port, clientId: `mqtt-js-${index}`, reconnectPeriod: 0 }),
    ),
  );
  const payloads = clients.map((_, index) => payloadsFor(each, index, 1));
  const from = performance.now();
  await Promise.all(clients.map((client, index) => publishAll(client, payloads[index] ?? [], load.window)));
  const seconds = (performance.now() - from) / 1000;
  for (const client of clients) client.end(true);
  const acknowledged = each * load.connections;
  return { acknowledged, seconds, perSecond: acknowledged / seconds };
}

function publishAll(client: MqttClient, payloads: readonly string[], window: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let [sent, acknowledged] = [0, 0];
    client.on("error", reject);
    const fill = (): void => {
      for (; sent < payloads.length && sent - acknowledged < window; sent++) {
        client.publish("observations/smoke", payloads[sent] ?? "", { qos: 1 }, (error) => {
          if (error) reject(error);
          else if (++acknowledged === payloads.length) resolve();
          else fill();
        });
      }
    };
    fill();
  });
}

/** One reading a message at a steady `perSecond` on one connection, whatever is acknowledged; resolves when all are. */
export async function steadyLoad(target: Target, load: { perSecond: number; seconds: number }): Promise<void> {
  const publisher = await Publisher.open(target, "steady", packetsFor(load.perSecond * load.seconds, 0, 1));
  await publisher.runSteadily(load.perSecond);
  publisher.close();
}

/** Connections that stay open and send nothing; the returned function closes them. */
export async function idleConnections(target: Target, count: number): Promise<() => void> {
  const all = await Promise.all(
    Array.from({ length: count }, (_, index) => Publisher.open(target, `idle-${index}`, [])),
  );
  return () => {
    for (const one of all) one.close();
  };
}

function packetsFor(count: number, publisher: number, readingsPerMessage: number): Buffer[] {
  const payloads = payloadsFor(count, publisher, readingsPerMessage);
  return payloads.map((payload, n) => publish("observations/smoke", payload, (n % 65_535) + 1));
}

function payloadsFor(count: number, publisher: number, readingsPerMessage: number): string[] {
  const started = Date.now();
  return Array.from({ length: count }, (_, n) => {
    const readings = Array.from({ length: readingsPerMessage }, (_, k) => ({
      id: randomUUID(),
      ts: started + n * readingsPerMessage + k,
      source: `mast-${publisher}`,
      pm2_5_ug_m3: ((n + k) % 4000) / 10,
      temperature_c: 20 + ((n + k) % 200) / 10,
      humidity_pct: 30 + ((n * 7 + k) % 500) / 10,
    }));
    return JSON.stringify(readingsPerMessage === 1 ? readings[0] : readings);
  });
}

function publish(topic: string, payload: string, packetId: number): Buffer {
  const body = Buffer.concat([text(topic), Buffer.of(packetId >> 8, packetId & 0xff), Buffer.from(payload)]);
  return Buffer.concat([Buffer.of(0x32), remainingLength(body.length), body]);
}

function connectPacket(clientId: string): Buffer {
  const body = Buffer.concat([text("MQTT"), Buffer.of(4, 2, 0, 0), text(clientId)]);
  return Buffer.concat([Buffer.of(0x10), remainingLength(body.length), body]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 0xff), bytes]);
}

function remainingLength(length: number): Buffer {
  const bytes: number[] = [];
  let rest = length;
  do {
    bytes.push((rest % 128) | (rest >= 128 ? 0x80 : 0));
    rest = Math.floor(rest / 128);
  } while (rest > 0);
  return Buffer.from(bytes);
}

const PUBACK_BYTES = 4;
const CONNACK_BYTES = 4;

class Publisher {
  readonly #socket: Socket;
  readonly #packets: readonly Buffer[];
  #sent = 0;
  #ackBytes = 0;
  #window = 0;
  /** Packets that may be sent by now. */
  #due = Number.POSITIVE_INFINITY;
  #finish: (() => void) | undefined;

  private constructor(socket: Socket, packets: readonly Buffer[]) {
    this.#socket = socket;
    this.#packets = packets;
  }

  static open(target: Target, clientId: string, packets: readonly Buffer[]): Promise<Publisher> {
    return new Promise((resolve, reject) => {
      const socket =
        target.ca === undefined
          ? connectPlain(target.port, "127.0.0.1")
          : connectTls({ port: target.port, host: "127.0.0.1", servername: "localhost", ca: target.ca });
      socket.setNoDelay(true);
      socket.once("error", reject);
      socket.once(target.ca === undefined ? "connect" : "secureConnect", () => socket.write(connectPacket(clientId)));
      let greeting = 0;
      const greet = (chunk: Buffer): void => {
        greeting += chunk.length;
        if (greeting < CONNACK_BYTES) return;
        socket.off("data", greet);
        const publisher = new Publisher(socket, packets);
        socket.on("data", (acks: Buffer) => publisher.#acknowledged(acks.length));
        resolve(publisher);
      };
      socket.on("data", greet);
    });
  }

  run(window: number): Promise<void> {
    this.#window = window;
    return new Promise((resolve, reject) => {
      this.#finish = resolve;
      this.#socket.once("close", () => reject(new Error("the broker closed the connection")));
      this.#fill();
    });
  }

  async runSteadily(perSecond: number): Promise<void> {
    this.#due = 0;
    const done = this.run(Number.POSITIVE_INFINITY);
    const from = performance.now();
    while (this.#due < this.#packets.length) {
      this.#due = Math.floor(((performance.now() - from) / 1000) * perSecond);
      this.#fill();
      await new Promise((resolve) => setTimeout(resolve, 1000 / perSecond));
    }
    await done;
  }

  close(): void {
    this.#socket.removeAllListeners("close");
    this.#socket.destroy();
  }

  #acknowledged(bytes: number): void {
    this.#ackBytes += bytes;
    if (this.#ackBytes >= this.#packets.length * PUBACK_BYTES) this.#finish?.();
    else this.#fill();
  }

  #fill(): void {
    const upTo = Math.min(this.#packets.length, this.#due, Math.floor(this.#ackBytes / PUBACK_BYTES) + this.#window);
    if (upTo > this.#sent) this.#socket.write(Buffer.concat(this.#packets.slice(this.#sent, upTo)));
    this.#sent = upTo;
  }
}
