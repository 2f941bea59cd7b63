/** The broker's doors: TCP and TLS servers, how many connections may be open through all of them together. */
import { createServer, type Server, type Socket } from "node:net";
import type { ListenerConfig } from "../../config/schema.ts";
import { isLoopback } from "../../identity/access.ts";
import type { ServerTls } from "../../identity/server-tls.ts";
import type { Clock } from "../../kernel/clock.ts";
import { codeOf, GatewayError, messageOf } from "../../kernel/errors.ts";
import type { CutOffCode } from "./cut-offs.ts";
import { Headcount } from "./headcount.ts";
import { TlsDoor, type TurnedAway } from "./tls-door.ts";

/** A connection that is ready to speak MQTT, and what is known of the other side. */
export interface Arrival {
  readonly socket: Socket;
  readonly address: string;
  readonly loopback: boolean;
  /** The name in its verified certificate; a listener that requires one brings no arrival without. */
  readonly certificateName: string | undefined;
}

export interface BoundListener {
  readonly bind: string;
  /** The port that is bound in fact, where the configuration says 0. */
  readonly port: number;
  readonly tls: boolean;
}

export interface ListenersOptions {
  readonly maxConnections: number;
  /** From one address, loopback excepted; 0: no limit. */
  readonly maxConnectionsPerAddress: number;
  /** Longest TLS handshake, in milliseconds. */
  readonly handshakeTimeout: number;
  readonly clock: Pick<Clock, "now">;
  readonly arrived: (arrival: Arrival) => void;
  /** A connection was turned away before it could speak MQTT. */
  readonly refused: (why: CutOffCode, reason: string, address: string | undefined, client?: TurnedAway) => void;
  /** A client that had been let in was sent off, because its certificate is accepted no longer. */
  readonly expelled: (client: TurnedAway, address: string | undefined) => void;
  readonly failed: (error: Error) => void;
}

/** Between probes of a silent connection, so that one whose other end has vanished is noticed. */
const KEEP_ALIVE_MS = 60_000;

export class MqttListeners {
  readonly #options: ListenersOptions;
  readonly #servers: Server[] = [];
  /** By the listener's key in the configuration. */
  readonly #doors = new Map<string, TlsDoor>();
  readonly #bound: BoundListener[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #ofAddress: Headcount<Socket>;
  #closed: Promise<void>[] = [];

  constructor(options: ListenersOptions) {
    this.#options = options;
    this.#ofAddress = new Headcount(options.maxConnectionsPerAddress);
  }

  /** Connections open now, those in their TLS handshake included. */
  get connections(): number {
    return this.#sockets.size;
  }

  /** What is bound now. */
  get bound(): readonly BoundListener[] {
    return this.#bound;
  }

  /**
   * Binds one listener and says what was bound. `key` names it in the configuration, for errors.
   * @throws GatewayError where the address or port cannot be had.
   */
  async listen(listener: ListenerConfig, tls: ServerTls | undefined, key: string): Promise<BoundListener> {
    const server = tls === undefined ? this.#plain() : this.#secure(tls, key);
    await new Promise<void>((resolve, reject) => {
      server.once("error", (error) => reject(listenFault(error, listener, key)));
      server.listen({ host: listener.bind, port: listener.port }, resolve);
    });
    server.removeAllListeners("error");
    server.on("error", this.#options.failed);
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : listener.port;
    this.#servers.push(server);
    const bound = { bind: listener.bind, port, tls: tls !== undefined };
    this.#bound.push(bound);
    return bound;
  }

  /** Gives a TLS listener new material; `key` as it was given to `listen`. */
  renew(key: string, tls: ServerTls): void {
    this.#doors.get(key)?.renew(tls);
  }

  /** Lets nobody in any more; who is in stays. */
  stopAccepting(): void {
    this.#closed = this.#servers.map((server) => new Promise((resolve) => server.close(() => resolve())));
    this.#servers.length = 0;
    this.#bound.length = 0;
  }

  /** Ends what is still open; resolves once all is closed. */
  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(this.#closed);
  }

  #plain(): Server {
    const server = createServer({ allowHalfOpen: true });
    server.on("connection", (socket) => {
      if (this.#admit(socket)) this.#arrive(socket, undefined);
    });
    return server;
  }

  #secure(tls: ServerTls, key: string): Server {
    const { handshakeTimeout, clock, refused, expelled } = this.#options;
    const door = new TlsDoor({
      tls,
      handshakeTimeout,
      clock,
      began: (socket) => this.#admit(socket),
      arrived: (socket, name) => this.#arrive(socket, name),
      refused: (client, address) => refused("tls", client.reason, address, client),
      expelled,
    });
    this.#doors.set(key, door);
    return door.server;
  }

  #admit(socket: Socket): boolean {
    const { maxConnections, maxConnectionsPerAddress, refused } = this.#options;
    const address = socket.remoteAddress;
    if (this.#sockets.size >= maxConnections) {
      const reason = `${maxConnections} connections, the most allowed (mqtt.limits.maxConnections), are open`;
      refused("connections", reason, address);
      socket.destroy();
      return false;
    }
    const counted = countedAddress(address);
    if (counted !== undefined && !this.#ofAddress.enter(counted, socket)) {
      const reason = `${maxConnectionsPerAddress} connections from its address, the most allowed (mqtt.limits.maxConnectionsPerAddress), are open`;
      refused("connections-per-address", reason, address);
      socket.destroy();
      return false;
    }
    this.#sockets.add(socket);
    socket.once("close", () => {
      this.#sockets.delete(socket);
      if (counted !== undefined) this.#ofAddress.leave(counted, socket);
    });
    return true;
  }

  #arrive(socket: Socket, certificateName: string | undefined): void {
    const address = socket.remoteAddress;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    this.#options.arrived({ socket, address: address ?? "unknown", loopback: isLoopback(address), certificateName });
  }
}

/** An address as it is counted: an IPv4 one alike on either kind of socket; programs of this machine are not counted. */
function countedAddress(address: string | undefined): string | undefined {
  return isLoopback(address) ? undefined : (address ?? "unknown").replace(/^::ffff:(?=\d+\.)/i, "");
}

function listenFault(error: Error, listener: ListenerConfig, key: string): GatewayError {
  const where = `${listener.bind} port ${listener.port}`;
  const code = codeOf(error);
  const taken = code === "EADDRINUSE";
  return new GatewayError({
    code: taken ? "PORT_TAKEN" : "LISTEN_FAILED",
    op: "mqtt.listen",
    message: taken ? `${where} is taken by another program` : `cannot listen on ${where}: ${code ?? messageOf(error)}`,
    hint: taken ? `Stop that program, or change ${key}.port.` : `Check ${key}.bind and ${key}.port.`,
    cause: error,
  });
}
