/** Looks at the files that the configuration names, and at the devices of its serial ports; opens no device. */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { constants } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import type { Config, SerialPortConfig } from "../../config/schema.ts";
import { codeOf } from "../../kernel/errors.ts";
import type { CertificateFact, FileFact, SerialFact } from "./check-files.ts";
import { faultOf } from "./probe-host.ts";

interface Named {
  readonly key: string;
  readonly path: string;
  readonly kind: FileFact["kind"];
  /** Of a key: its certificate's file. */
  readonly certificate?: string | undefined;
}

/** The configuration's files. A secret that systemd hands over to the unit alone cannot be looked at from elsewhere. */
function namedFiles({ mqtt, uplink }: Config): Named[] {
  const listeners = mqtt.listeners.flatMap(({ tls }, index) =>
    tls === undefined || tls.development ? [] : [{ tls, key: `mqtt.listeners[${index}].tls` }],
  );
  const files = [...listeners, { tls: uplink.tls, key: "uplink.tls" }].flatMap(({ tls, key }) => [
    { key: `${key}.caFile`, path: tls.caFile, kind: "authority" as const },
    { key: `${key}.certFile`, path: tls.certFile, kind: "certificate" as const },
    { key: `${key}.keyFile`, path: tls.keyFile, kind: "key" as const, certificate: tls.certFile },
  ]);
  const token = { key: "uplink.tokenFile", path: uplink.tokenFile, kind: "token" as const };
  return [...files, token].flatMap(({ path, ...file }) =>
    path === undefined || path.startsWith("${") ? [] : [{ ...file, path }],
  );
}

export async function probeFiles(config: Config): Promise<FileFact[]> {
  return await Promise.all(namedFiles(config).map(probeFile));
}

async function probeFile(file: Named): Promise<FileFact> {
  const { key, path, kind } = file;
  const fact = { key, path, kind };
  try {
    const [text, { mode }] = await Promise.all([readFile(path, "latin1"), stat(path)]);
    switch (kind) {
      case "token": {
        // As the uplink will have it in a header.
        const usable = /^[\x21-\x7e]+$/.test(text.trim());
        return { ...fact, mode, ...(usable ? {} : { useless: "does not hold a token" }) };
      }
      case "key": {
        const useless = await faultOfKey(text, file.certificate);
        return { ...fact, mode, ...(useless === undefined ? {} : { useless }) };
      }
      default:
        return { ...fact, mode, certificates: certificatesIn(text).map(factOf) };
    }
  } catch (error) {
    return { ...fact, fault: codeOf(error) ?? "EIO" };
  }
}

async function faultOfKey(text: string, certificateFile: string | undefined): Promise<string | undefined> {
  let key: KeyObject;
  try {
    key = createPrivateKey(text);
  } catch {
    return "is not a private key in PEM that can be used without a password";
  }
  const pem = certificateFile === undefined ? "" : await readFile(certificateFile, "latin1").catch(() => "");
  const [certificate] = certificatesIn(pem);
  return certificate === undefined || certificate.checkPrivateKey(key)
    ? undefined
    : `does not belong to ${certificateFile}`;
}

function certificatesIn(text: string): X509Certificate[] {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----/gs) ?? [];
  try {
    return blocks.map((pem) => new X509Certificate(pem));
  } catch {
    return [];
  }
}

function factOf({ subject, validFrom, validTo }: X509Certificate): CertificateFact {
  const subjectLine = subject === undefined || subject === "" ? "a certificate without a name" : subject;
  return {
    subject: subjectLine.replaceAll("\n", ", "),
    validFrom: Date.parse(validFrom),
    validTo: Date.parse(validTo),
  };
}

/** `openPorts`: names of the ports that the running daemon has open. */
export async function probeSerial(port: SerialPortConfig, openPorts: ReadonlySet<string>): Promise<SerialFact> {
  const { name, path } = port;
  if (openPorts.has(name)) return { name, path, state: "open" };
  if (path.startsWith("tcp://")) return { name, path, state: "network" };
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) return { name, path, state: "missing" };
  if (!found.isCharacterDevice()) return { name, path, state: "no-device" };
  const group = await groupName(found.gid);
  const denied = (await faultOf(path, constants.R_OK | constants.W_OK)) !== undefined;
  return { name, path, state: denied ? "denied" : "usable", ...(group === undefined ? {} : { group }) };
}

async function groupName(gid: number): Promise<string | undefined> {
  const groups = await readFile("/etc/group", "utf8").catch(() => "");
  const line = groups.split("\n").find((entry) => entry.split(":")[2] === String(gid));
  return line?.split(":")[0];
}
