/** What TLS handshakes cost the server: with a P-256 certificate, as this project makes them, and with RSA-2048. */
import { createPublicKey, diffieHellman, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ConnectionOptions, connect } from "node:tls";
import { certify, makeAuthority, newKey } from "#src/identity/authority.js";
import { processorMs, startScript } from "../support/daemon.ts";

const ROUNDS = 3;
const HANDSHAKES = 600;
const AT_ONCE = 4;
const DAY_MS = 86_400_000;

export interface HandshakeCosts {
  /** Milliseconds of the server's processor per handshake, a value a round. */
  readonly rsa: { readonly full: number[]; readonly resumed: number[] };
  readonly p256: { readonly full: number[]; readonly resumed: number[] };
  /** The share of the handshakes with a session of before that were resumed. */
  readonly resumed: number;
}

/**
 * Milliseconds of one thread for what of a full handshake is the server's public-key work (RFC 8446, section 4.4.3; RFC 8422): a key
 * pair, a shared secret, and a signature with the certificate's key. What this machine makes of RSA-2048 and P-256 there is the most
 * that whole handshakes can come to: where RSA is done with vector instructions (AVX-512) it is below 3 to 1, on small boards ten times that.
 */
export function measurePublicKeyWork(): { readonly rsa: number; readonly p256: number } {
  const client = generateKeyPairSync("x25519").publicKey;
  const hello = Buffer.alloc(128, 1);
  const costOf = (key: KeyObject): number => {
    let before = process.cpuUsage();
    for (let made = 0; made < 2 * HANDSHAKES; made++) {
      if (made === HANDSHAKES) before = process.cpuUsage();
      diffieHellman({ privateKey: generateKeyPairSync("x25519").privateKey, publicKey: client });
      sign("sha256", hello, key);
    }
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000 / HANDSHAKES;
  };
  return { rsa: costOf(generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey), p256: costOf(newKey()) };
}

export async function measureHandshakes(folder: string): Promise<HandshakeCosts> {
  const costs = { rsa: { full: [], resumed: [] }, p256: { full: [], resumed: [] } } as {
    [kind in "rsa" | "p256"]: { full: number[]; resumed: number[] };
  };
  const keys = { rsa: generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey, p256: newKey() };
  const servers = { rsa: await serverWith(folder, "rsa", keys.rsa), p256: await serverWith(folder, "p256", keys.p256) };
  let resumed = 0;
  // The first round only warms up.
  for (let round = 0; round <= ROUNDS; round++) {
    for (const kind of ["rsa", "p256"] as const) {
      const full = await servers[kind].cost(() => servers[kind].handshake());
      const session = await servers[kind].session();
      const again = await servers[kind].cost(async () => {
        if (await servers[kind].handshake(session)) resumed++;
      });
      if (round === 0) continue;
      costs[kind].full.push(full);
      costs[kind].resumed.push(again);
    }
  }
  for (const { stop } of Object.values(servers)) stop();
  return { ...costs, resumed: resumed / (2 * (ROUNDS + 1) * HANDSHAKES) };
}

async function serverWith(folder: string, name: string, key: KeyObject) {
  const now = Date.now();
  const validity = { notBefore: now - DAY_MS, notAfter: now + DAY_MS };
  const authority = await makeAuthority("bench", newKey(), validity);
  const names = { dns: ["localhost"], addresses: [] };
  const wanted = {
    purpose: "server",
    commonName: "localhost",
    names,
    publicKey: createPublicKey(key),
    validity,
  } as const;
  const [certFile, keyFile] = [join(folder, `${name}.crt`), join(folder, `${name}.key`)];
  writeFileSync(certFile, await certify(authority, wanted));
  writeFileSync(keyFile, key.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  const { child, port } = await startScript("handshake-server", certFile, keyFile);
  // The protocol of most devices in the field; what its sessions hold is known as soon as the handshake is over.
  const target: ConnectionOptions = { port, host: "localhost", ca: authority.certificate, maxVersion: "TLSv1.2" };
  return {
    handshake: (session?: Buffer) => handshake({ ...target, ...(session && { session }) }),
    session: () => sessionOf(target),
    cost: async (one: () => Promise<unknown>): Promise<number> => {
      const before = processorMs(child.pid);
      let left = HANDSHAKES;
      await Promise.all(
        Array.from({ length: AT_ONCE }, async () => {
          while (left-- > 0) await one();
        }),
      );
      return (processorMs(child.pid) - before) / HANDSHAKES;
    },
    stop: () => void child.kill(),
  };
}

/** One handshake and the end of the connection; resolves to whether a session of before was resumed. */
function handshake(target: ConnectionOptions): Promise<boolean> {
  return new Promise((resolve, reject) => {
    let reused = false;
    const socket = connect(target, () => {
      reused = socket.isSessionReused();
      socket.end();
    });
    socket.on("error", reject);
    socket.on("close", () => resolve(reused));
    socket.resume();
  });
}

function sessionOf(target: ConnectionOptions): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect(target);
    socket.on("error", reject);
    socket.once("session", (session: Buffer) => {
      socket.end();
      resolve(session);
    });
    socket.resume();
  });
}
