/** Looks at the files that the configuration names, and at the devices of its serial ports; opens no device. */
import { createPrivateKey, type KeyObject } from "node:crypto";
import { constants } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { environment } from "../../config/environment.ts";
import { barrierTo } from "../../config/file-rights.ts";
import type { Config, SerialPortConfig } from "../../config/schema.ts";
import { daemonGroup, exposure, isCredential } from "../../config/secret-files.ts";
import { makerOf } from "../../gateway-files.ts";
import { parseAcl } from "../../identity/acl.ts";
import { certificatesIn, x509In } from "../../identity/certificate-files.ts";
import { parsePasswords } from "../../identity/passwords.ts";
import { holderText, lockHolder } from "../../kernel/device-holders.ts";
import { codeOf } from "../../kernel/errors.ts";
import { groupName } from "../../sources/serial/device-port.ts";
import { placeOf, placeText } from "../../sources/serial/port-place.ts";
import type { FileFact, SerialFact } from "./check-files.ts";
import { faultOf } from "./probe-host.ts";

interface Named {
  readonly key: string;
  readonly path: string;
  readonly kind: FileFact["kind"];
  /** Of a key: its certificate's file. */
  readonly certificate?: string | undefined;
}

/** The configuration's files. A secret that systemd hands over to the unit alone cannot be looked at from elsewhere. */
function namedFiles({ mqtt, uplink, http }: Config): Named[] {
  const listeners = mqtt.listeners.flatMap(({ tls }, index) =>
    tls === undefined || tls.development ? [] : [{ tls, key: `mqtt.listeners[${index}].tls` }],
  );
  const api = http.tls === undefined ? [] : [{ tls: { ...http.tls, caFile: undefined }, key: "http.tls" }];
  const files = [...listeners, ...api, { tls: uplink.tls, key: "uplink.tls" }].flatMap(({ tls, key }) => [
    { key: `${key}.caFile`, path: tls.caFile, kind: "authority" as const },
    { key: `${key}.certFile`, path: tls.certFile, kind: "certificate" as const },
    { key: `${key}.keyFile`, path: tls.keyFile, kind: "key" as const, certificate: tls.certFile },
  ]);
  const lists = listeners.map(({ tls, key }) => ({
    key: `${key}.crlFile`,
    path: tls.crlFile,
    kind: "revocations" as const,
  }));
  const token = { key: "uplink.tokenFile", path: uplink.tokenFile, kind: "token" as const };
  const access = [
    { key: "mqtt.passwordFile", path: mqtt.passwordFile, kind: "passwords" as const },
    { key: "mqtt.aclFile", path: mqtt.aclFile, kind: "rules" as const },
  ];
  return [...files, ...lists, token, ...access].flatMap(({ path, ...file }) =>
    path === undefined || path.startsWith("${") ? [] : [{ ...file, path }],
  );
}

export async function probeFiles(config: Config): Promise<FileFact[]> {
  const { dataDir } = config.gateway;
  const group = await daemonGroup(dataDir);
  const daemon = process.getuid?.() === 0 ? await stat(dataDir).catch(() => undefined) : undefined;
  return await Promise.all(
    namedFiles(config).map(async (file) => {
      const madeBy = makerOf(file.path, config);
      const isLooked = daemon !== undefined && !isCredential(file.path, environment);
      const barrier = isLooked ? await barrierTo(file.path, daemon) : undefined;
      return {
        ...(await probeFile(file, group)),
        ...(madeBy !== undefined && { madeBy }),
        ...(barrier !== undefined && { barrier }),
      };
    }),
  );
}

async function probeFile(file: Named, group: number | undefined): Promise<FileFact> {
  const { key, path, kind } = file;
  const fact = { key, path, kind };
  try {
    const [text, facts] = await Promise.all([readFile(path, "latin1"), stat(path)]);
    const who = isCredential(path, environment) ? undefined : exposure(facts, group);
    const secret = { ...fact, ...(who !== undefined && { exposed: who }) };
    switch (kind) {
      case "token": {
        // As the uplink will have it in a header.
        const usable = /^[\x21-\x7e]+$/.test(text.trim());
        return { ...secret, ...(usable ? {} : { useless: "does not hold a token" }) };
      }
      case "revocations": {
        const usable = text.includes("-----BEGIN X509 CRL-----");
        return { ...fact, ...(usable ? {} : { useless: "holds no certificate revocation list in PEM" }) };
      }
      case "key": {
        const useless = await faultOfKey(text, file.certificate);
        return { ...secret, ...(useless === undefined ? {} : { useless }) };
      }
      case "passwords":
      case "rules": {
        const parsed = (kind === "rules" ? parseAcl : parsePasswords)(Buffer.from(text, "latin1").toString());
        const [fault] = "faults" in parsed ? parsed.faults : [];
        const useless = fault && `cannot be understood, line ${fault.line}: ${fault.message}`;
        const found = kind === "passwords" ? secret : fact;
        return { ...found, ...(useless === undefined ? {} : { useless }) };
      }
      default:
        return { ...fact, certificates: certificatesIn(text) };
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
  const [certificate] = x509In(pem);
  return certificate === undefined || certificate.checkPrivateKey(key)
    ? undefined
    : `does not belong to ${certificateFile}`;
}

/** `openPorts`: names of the ports that the running daemon has open. */
export async function probeSerial(port: SerialPortConfig, openPorts: ReadonlySet<string>): Promise<SerialFact> {
  const { name } = port;
  const place = await placeOf(port);
  if (openPorts.has(name)) return { name, path: place.kind === "found" ? place.path : placeText(port), state: "open" };
  if (place.kind === "ambiguous") return { name, path: placeText(port), state: "ambiguous", detail: place.detail };
  if (place.kind !== "found") return { name, path: placeText(port), state: "missing" };
  const { path } = place;
  if (path.startsWith("tcp://")) return { name, path, state: "network" };
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) return { name, path, state: "missing" };
  if (!found.isCharacterDevice()) return { name, path, state: "no-device" };
  const group = await groupName(found.gid);
  if ((await faultOf(path, constants.R_OK | constants.W_OK)) !== undefined)
    return { name, path, state: "denied", group };
  const holder = await lockHolder(path);
  if (holder !== undefined) return { name, path, state: "held", detail: holderText([holder]) };
  return { name, path, state: "usable", group };
}
