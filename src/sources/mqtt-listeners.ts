/** The broker's doors: TCP and TLS servers, how many connections may be open through all of them together. */
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket, type TlsOptions } from "node:tls";
import type { ListenerConfig } from "../config/schema.ts";
import { isLoopback } from "../identity/access.ts";
import { clientCertificateOf } from "../identity/server-tls.ts";
import { codeOf, GatewayError, messageOf } from "../kernel/errors.ts";

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
  /** Longest TLS handshake, in milliseconds. */
  readonly handshakeTimeout: number;
  readonly arrived: (arrival: Arrival) => void;
  /** A connection was turned away before it could speak MQTT. */
  readonly refused: (why: "limit" | "tls", reason: string, address: string | undefined) => void;
  readonly failed: (error: Error) => void;
}

/** Between probes of a silent connection, so that one whose other end has vanished is noticed. */
const KEEP_ALIVE_MS = 60_000;

export class MqttListeners {
  readonly #options: ListenersOptions;
  readonly #servers: Server[] = [];
  readonly #bound: BoundListener[] = [];
  readonly #sockets = new Set<Socket>();
  #closed: Promise<void>[] = [];

  constructor(options: ListenersOptions) {
    this.#options = options;
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
  async listen(listener: ListenerConfig, tls: TlsOptions | undefined, key: string): Promise<BoundListener> {
    const server = tls === undefined ? this.#plain() : this.#secure(tls);
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

  #secure(tls: TlsOptions): Server {
    const { handshakeTimeout, refused } = this.#options;
    const server = createTlsServer({ ...tls, handshakeTimeout, allowHalfOpen: true });
    // Before the handshake begins: an unfinished one is a connection too.
    server.prependListener("connection", (socket: Socket) => this.#admit(socket));
    server.on("secureConnection", (socket: TLSSocket) => {
      const certificate = clientCertificateOf(socket);
      if (certificate.kind !== "unacceptable" && !(certificate.kind === "none" && tls.rejectUnauthorized === true)) {
        this.#arrive(socket, certificate.kind === "verified" ? certificate.name : undefined);
        return;
      }
      const reason = certificate.kind === "unacceptable" ? certificate.reason : "no certificate";
      refused("tls", reason, socket.remoteAddress);
      socket.destroy();
    });
    server.on("tlsClientError", (error, socket) => {
      refused("tls", codeOf(error) ?? messageOf(error), socket.remoteAddress);
      socket.destroy(); // Node.js leaves it open
    });
    return server;
  }

  #admit(socket: Socket): boolean {
    if (this.#sockets.size >= this.#options.maxConnections) {
      this.#options.refused(
        "limit",
        `${this.#options.maxConnections} connections, the most allowed, are open`,
        socket.remoteAddress,
      );
      socket.destroy();
      return false;
    }
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    return true;
  }

  #arrive(socket: Socket, certificateName: string | undefined): void {
    const address = socket.remoteAddress;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    this.#options.arrived({ socket, address: address ?? "unknown", loopback: isLoopback(address), certificateName });
  }
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
