/** A real daemon whose one listener asks for certificates of a site's authority, with its files in reach. */
import { copyFileSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { type ConnectionOptions, connect } from "node:tls";
import { connect as connectMqtt, type IClientOptions, type MqttClient } from "mqtt";
import { Daemon } from "./daemon.ts";
import { type CertificateFiles, SiteAuthority } from "./site-authority.ts";
import { temporaryFolder } from "./temporary-folder.ts";
import { until } from "./until.ts";

export type LogLine = Readonly<Record<string, unknown>> & { readonly msg: string };
type FileName = "certFile" | "keyFile" | "caFile" | "crlFile";

interface Options {
  readonly dist?: string;
  readonly uplink?: object;
}

export class MtlsGateway {
  readonly daemon: Daemon;
  readonly site: SiteAuthority;
  /** What the daemon logged. */
  readonly log: LogLine[] = [];
  readonly #files: Readonly<Record<FileName, string>>;

  private constructor(daemon: Daemon, site: SiteAuthority, files: Readonly<Record<FileName, string>>) {
    this.daemon = daemon;
    this.site = site;
    this.#files = files;
    let rest = "";
    daemon.child.stdout?.on("data", (chunk) => {
      const lines = (rest + String(chunk)).split("\n");
      rest = lines.pop() ?? "";
      this.log.push(...lines.map((line) => JSON.parse(line) as LogLine));
    });
  }

  static async start(t: TestContext, { dist, uplink }: Options = {}): Promise<MtlsGateway> {
    const folder = temporaryFolder(t);
    const site = new SiteAuthority(folder, "site");
    const server = site.issue("localhost", { usage: "serverAuth" });
    const inUse = (name: string): string => join(folder, `${name}.pem`);
    const files = { certFile: inUse("cert"), keyFile: inUse("key"), caFile: inUse("ca"), crlFile: inUse("crl") };
    copyFileSync(server.certFile, files.certFile);
    copyFileSync(server.keyFile, files.keyFile);
    copyFileSync(site.caFile, files.caFile);
    site.writeCrl(files.crlFile);
    const ports = await Daemon.freePorts();
    const tls = { ...files, clientCertificate: "required" };
    const mqtt = {
      listeners: [{ bind: "127.0.0.1", port: ports.mqtts, tls }],
      limits: { publishRate: 0 },
    };
    const daemon = await Daemon.launch({
      folder: join(folder, "gateway"),
      ports,
      log: "pipe",
      changes: { mqtt, log: { level: "info" }, ...(uplink === undefined ? {} : { uplink }) },
      ...(dist === undefined ? {} : { dist }),
    });
    t.after(() => daemon.stop("SIGKILL"));
    const gateway = new MtlsGateway(daemon, site, files);
    await daemon.ready();
    return gateway;
  }

  get port(): number {
    return this.daemon.ports.mqtts;
  }

  /** An MQTT client with a certificate, or without; rejects where it is not let in. */
  async client(
    t: Pick<TestContext, "after">,
    clientId: string,
    files: CertificateFiles | undefined,
    more: IClientOptions = {},
  ): Promise<MqttClient> {
    const client = connectMqtt(`mqtts://localhost:${this.port}`, {
      ...credentials(files),
      ca: readFileSync(this.site.caFile),
      clientId,
      reconnectPeriod: 0,
      ...more,
    });
    t.after(() => client.end(true));
    await new Promise<void>((resolve, reject) => {
      client.once("connect", () => resolve());
      client.on("error", reject);
      client.once("close", () => reject(new Error("closed")));
    });
    return client;
  }

  /** A TLS connection that speaks MQTT by hand: whether its CONNECT was accepted, and the session to come back with. */
  connectRaw(clientId: string, files: CertificateFiles, options: ConnectionOptions = {}): Promise<RawLogin> {
    const ca = readFileSync(this.site.caFile);
    return loginRaw(clientId, { host: "localhost", port: this.port, ca, ...credentials(files), ...options });
  }

  /** Puts a file in the place of one that is in use: `source`'s content, or a text. */
  install(name: FileName, source: { readonly path: string } | { readonly text: string }): void {
    const target = this.#files[name];
    if ("path" in source) copyFileSync(source.path, `${target}.new`);
    else writeFileSync(`${target}.new`, source.text);
    renameSync(`${target}.new`, target);
  }

  installPair({ certFile, keyFile }: CertificateFiles): void {
    this.install("certFile", { path: certFile });
    this.install("keyFile", { path: keyFile });
  }

  /** Revokes a certificate, and puts the new list in place. */
  revoke(files: CertificateFiles): void {
    this.site.revoke(files);
    this.site.writeCrl(this.#files.crlFile);
  }

  path(name: FileName): string {
    return this.#files[name];
  }

  /** Waits for a line of the log. */
  async line(what: string, holds: (line: LogLine) => boolean, from = 0): Promise<LogLine> {
    let found: LogLine | undefined;
    await until(what, () => {
      found = this.log.slice(from).find(holds);
      return found !== undefined;
    });
    return found ?? { msg: "" };
  }

  /** Has all files read now, and waits for the line that tells what came of it. */
  async hangUp(): Promise<LogLine> {
    const from = this.log.length;
    this.daemon.child.kill("SIGHUP");
    return this.line("SIGHUP was answered", ({ msg }) => msg.startsWith("read again"), from);
  }
}

function credentials(files: CertificateFiles | undefined): { cert?: Buffer; key?: Buffer } {
  return files === undefined ? {} : { cert: readFileSync(files.certFile), key: readFileSync(files.keyFile) };
}

export interface RawLogin {
  /** CONNACK said yes. */
  readonly accepted: boolean;
  readonly resumed: boolean;
  readonly session: Buffer | undefined;
}

/** MQTT 3.1.1 CONNECT, clean, keep-alive 60 s. */
function connectPacket(clientId: string): Buffer {
  const id = Buffer.from(clientId);
  const body = Buffer.concat([Buffer.from("00044d5154540402003c", "hex"), Buffer.from([0, id.length]), id]);
  return Buffer.concat([Buffer.from([0x10, body.length]), body]);
}

/** Logs in over a TLS connection of its own, and leaves. */
export function loginRaw(clientId: string, options: ConnectionOptions): Promise<RawLogin> {
  const socket = connect(options);
  let session: Buffer | undefined;
  let accepted = false;
  let resumed = false;
  return new Promise((resolve) => {
    socket.on("error", () => {});
    socket.on("session", (latest) => (session = latest));
    socket.once("secureConnect", () => {
      resumed = socket.isSessionReused();
      socket.write(connectPacket(clientId));
    });
    socket.once("data", (answer: Buffer) => {
      accepted = answer.equals(Buffer.from("20020000", "hex"));
      socket.end(Buffer.from("e000", "hex"));
    });
    socket.once("close", () => resolve({ accepted, resumed, session }));
  });
}
