/** Looks at the daemon's ports and goes the way to fusion, as far as it goes without sending anything. */
import { lookup } from "node:dns/promises";
import { readFile } from "node:fs/promises";
import { connect, createServer, isIP, type Socket } from "node:net";
import { createSecureContext, type SecureContext, connect as secure, type TLSSocket } from "node:tls";
import type { Config, UplinkConfig } from "../../config/schema.ts";
import { type Clock, systemClock } from "../../kernel/clock.ts";
import { codeOf, messageOf } from "../../kernel/errors.ts";
import type { PortFact, UplinkFact } from "./check-network.ts";

/** `running`: the daemon runs; then its ports are looked up among those that are open, and none is tried. */
export async function probePorts({ http, mqtt }: Config, running: boolean): Promise<PortFact[]> {
  const listeners = mqtt.listeners.map(({ bind, port }, index) => ({ key: `mqtt.listeners[${index}]`, bind, port }));
  const { bind, port } = http;
  const all = [{ key: "http", bind, port }, ...listeners];
  const open = running ? await listeningPorts() : undefined;
  const state = async (bind: string, port: number): Promise<string> =>
    open === undefined ? await tryToBind(bind, port) : open.has(port) ? "taken" : "free";
  return await Promise.all(all.map(async (each) => ({ ...each, state: await state(each.bind, each.port) })));
}

/** The TCP ports that somebody listens on, by proc(5). */
async function listeningPorts(): Promise<Set<number>> {
  const tables = await Promise.all(
    ["tcp", "tcp6"].map((name) => readFile(`/proc/net/${name}`, "utf8").catch(() => "")),
  );
  return new Set(tables.flatMap(listeningIn));
}

const LISTENING = /^ *\d+: [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} 0A /gm;

export function listeningIn(table: string): number[] {
  return [...table.matchAll(LISTENING)].map(([, port = ""]) => Number.parseInt(port, 16));
}

function tryToBind(host: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (error) => resolve(codeOf(error) === "EADDRINUSE" ? "taken" : (codeOf(error) ?? "failed")));
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve("free")));
  });
}

/** With a client's certificate of ours, how long fusion may take to say that it does not want it (TLS 1.3 says so afterwards). */
const SECOND_THOUGHTS_MS = 1000;

/** Resolves, connects and shakes hands, each within `uplink.timeouts.connect`; sends nothing. */
export async function probeUplink(config: UplinkConfig, clock: Clock = systemClock): Promise<UplinkFact> {
  if (config.url === undefined) return { kind: "none" };
  const url = new URL(config.url);
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const plain = url.protocol === "http:";
  const port = Number(url.port) || (plain ? 80 : 443);
  const within = <T>(attempt: Promise<T>): Promise<T> => inTime(attempt, config.timeouts.connect, clock);

  const resolved = await within(lookup(host)).catch((error: unknown) => codeOf(error) ?? messageOf(error));
  if (typeof resolved === "string") return { kind: "unresolved", host, code: resolved };
  const socket = connect({ host, port, autoSelectFamilyAttemptTimeout: config.timeouts.connect });
  try {
    await within(once(socket, "connect"));
  } catch (error) {
    socket.destroy();
    return { kind: "unconnected", host, port, code: codeOf(error) ?? messageOf(error) };
  }
  try {
    if (plain) return { kind: "reached", host, port, protocol: undefined, validTo: undefined };
    const context = await secureContext(config).catch((error: unknown) => messageOf(error));
    if (typeof context === "string") return { kind: "unready", host, port, detail: context };
    return await within(shakeHands(socket, host, port, context, config.tls.certFile !== undefined, clock));
  } catch (error) {
    return { kind: "refused", host, code: codeOf(error) ?? "", detail: messageOf(error) };
  } finally {
    socket.destroy();
  }
}

async function secureContext({ tls: { caFile, certFile, keyFile } }: UplinkConfig): Promise<SecureContext> {
  return createSecureContext({
    minVersion: "TLSv1.2",
    ...(caFile === undefined ? {} : { ca: await readFile(caFile) }),
    ...(certFile === undefined ? {} : { cert: await readFile(certFile) }),
    ...(keyFile === undefined ? {} : { key: await readFile(keyFile) }),
  });
}

async function shakeHands(
  socket: Socket,
  host: string,
  port: number,
  secureContext: SecureContext,
  showsCertificate: boolean,
  clock: Clock,
): Promise<UplinkFact> {
  const secured: TLSSocket = secure({ socket, secureContext, ...(isIP(host) === 0 ? { servername: host } : { host }) });
  await once(secured, "secureConnect");
  if (showsCertificate) {
    const refused = once(secured, "close");
    await Promise.race([refused, clock.sleep(SECOND_THOUGHTS_MS)]);
    refused.catch(() => {});
  }
  const protocol = secured.getProtocol() ?? "TLS";
  const validTo = Date.parse(secured.getPeerCertificate().valid_to);
  return { kind: "reached", host, port, protocol, validTo: Number.isNaN(validTo) ? undefined : validTo };
}

/** The first event of that name, or the first error. */
function once(socket: Socket, event: string): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once(event, () => resolve());
    socket.once("error", reject);
  });
}

/** Rejects with ETIMEDOUT where `attempt` takes longer; what it comes to afterwards is of no interest. */
function inTime<T>(attempt: Promise<T>, ms: number, clock: Clock): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = clock.after(ms, () => reject(Object.assign(new Error("timed out"), { code: "ETIMEDOUT" })));
    attempt.then(resolve, reject).finally(cancel);
  });
}
