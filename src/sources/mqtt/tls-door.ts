/**
 * One TLS listener: its server, whom it lets in, and the material that it may be given anew while it runs.
 *
 * New material holds for connections that begin from then on. Those that are open stay, but for clients whose certificate
 * has been revoked, or whose authority has gone: they are ended at once, or as soon as a handshake is done that was under way. Sessions from before cannot be resumed, because a server
 * takes other keys for its tickets with each new context; so nobody comes back past the verification.
 */
import type { X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import {
  type AcceptedClient,
  judgeClient,
  type RefusedClient,
  refusalSince,
  type ServerTls,
  serialOf,
} from "../../identity/server-tls.ts";
import { handshakeRefusal, type TlsRefusal } from "../../identity/tls-refusals.ts";
import type { Clock } from "../../kernel/clock.ts";

/** Who was turned away or sent off: what its certificate says, which nothing may have verified. */
export interface TurnedAway extends TlsRefusal {
  readonly name: string | undefined;
  readonly serial: string | undefined;
}

export interface TlsDoorParts {
  readonly tls: ServerTls;
  /** Milliseconds. */
  readonly handshakeTimeout: number;
  readonly clock: Pick<Clock, "now">;
  /** Told of a connection before its handshake: an unfinished one is a connection too. */
  readonly began: (socket: Socket) => void;
  /** `name` is the common name of a certificate that is accepted. */
  readonly arrived: (socket: TLSSocket, name: string | undefined) => void;
  /** A client was not let in. */
  readonly refused: (client: TurnedAway, address: string | undefined) => void;
  /** A client that had been let in is no longer welcome; its connection is ended. */
  readonly expelled: (client: TurnedAway, address: string | undefined) => void;
}

interface Guest {
  readonly certificate: X509Certificate;
  readonly name: string | undefined;
}

export class TlsDoor {
  readonly server: Server;
  readonly #parts: TlsDoorParts;
  #tls: ServerTls;
  /** Open connections of clients with a certificate. */
  readonly #guests = new Map<TLSSocket, Guest>();
  /** The material with which each connection began, by its other end: Node.js tells nothing else of it before and after the handshake. */
  readonly #begunWith = new Map<string, ServerTls>();

  constructor(parts: TlsDoorParts) {
    const { tls, handshakeTimeout, refused } = parts;
    this.#parts = parts;
    this.#tls = tls;
    this.server = createServer({ ...tls.options, handshakeTimeout, allowHalfOpen: true });
    this.server.prependListener("connection", (socket) => this.#begin(socket));
    this.server.on("secureConnection", (socket: TLSSocket) => this.#judge(socket));
    this.server.on("tlsClientError", (error, socket) => {
      refused({ ...handshakeRefusal(error), name: undefined, serial: undefined }, socket.remoteAddress);
      socket.destroy(); // Node.js leaves it open
    });
  }

  /** Takes `tls` for new connections, and ends those whose certificate is accepted no longer. */
  renew(tls: ServerTls): void {
    const before = this.#tls;
    this.server.setSecureContext(tls.options);
    this.#tls = tls;
    for (const [socket, { certificate, name }] of this.#guests) {
      const refusal = refusalSince(certificate, before, tls);
      if (refusal === undefined) continue;
      this.#parts.expelled({ ...refusal, name, serial: serialOf(certificate) }, socket.remoteAddress);
      socket.destroy();
    }
  }

  #begin(socket: Socket): void {
    const end = endOf(socket);
    this.#begunWith.set(end, this.#tls);
    socket.once("close", () => this.#begunWith.delete(end));
    this.#parts.began(socket);
  }

  #judge(socket: TLSSocket): void {
    const client = judgeClient(socket, this.#tls, this.#parts.clock.now());
    const refusal = client.accepted ? this.#refusalSinceItBegan(socket, client) : client;
    if (refusal !== undefined) this.#refuse(socket, refusal);
    else if (client.accepted) this.#welcome(socket, client);
  }

  /** OpenSSL has verified the client with the material with which the handshake began. */
  #refusalSinceItBegan(socket: TLSSocket, { certificate, name }: AcceptedClient): RefusedClient | undefined {
    const before = this.#begunWith.get(endOf(socket));
    if (certificate === undefined || before === undefined || before === this.#tls) return undefined;
    const refusal = refusalSince(certificate, before, this.#tls);
    return refusal && { ...refusal, accepted: false, name, serial: certificate.serialNumber };
  }

  #welcome(socket: TLSSocket, { certificate, name }: AcceptedClient): void {
    if (certificate !== undefined) {
      this.#guests.set(socket, { certificate, name });
      socket.once("close", () => this.#guests.delete(socket));
    }
    this.#parts.arrived(socket, name);
  }

  #refuse(socket: TLSSocket, { kind, reason, name, serial }: RefusedClient): void {
    this.#parts.refused({ kind, reason, name, serial }, socket.remoteAddress);
    socket.destroy();
  }
}

function endOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
