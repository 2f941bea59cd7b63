/**
 * The files without which the daemon would not start, or would not send: looked at as `run` does, each with its key in the
 * configuration and what to do next. What `run` makes by itself (dataDir, development certificates) is none of them.
 */
import { stat } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import type { Environment } from "./config/environment.ts";
import { barrierTo } from "./config/file-rights.ts";
import type { Finding } from "./config/problem.ts";
import type { Config } from "./config/schema.ts";
import { type Path, pathText } from "./config/schema-node.ts";
import { isCredential } from "./config/secret-files.ts";
import { aclMaterial, passwordMaterial } from "./identity/access-control.ts";
import { httpTlsMaterial, serverTlsMaterial } from "./identity/server-tls.ts";
import { codeOf, GatewayError } from "./kernel/errors.ts";
import { type FileFault, type FileMaterial, faultsOfFiles } from "./kernel/reloading.ts";
import { tokenMaterial, uplinkTlsMaterial } from "./uplink/credentials.ts";

export interface FilesVerdict {
  /** What is wrong with a file. */
  readonly problems: readonly Finding[];
  /** What cannot be known by whoever asks. */
  readonly warnings: readonly Finding[];
}

interface Needed {
  /** Where the files stand in the configuration. */
  readonly path: Path;
  readonly files: Readonly<Record<string, string | undefined>>;
  readonly faults: () => Promise<FileFault[]>;
}

/** `asDaemon`: whether whoever asks may read what the daemon may. */
export async function examineFiles(config: Config, env: Environment, asDaemon: boolean): Promise<FilesVerdict> {
  const problems: Finding[] = [];
  const warnings: Finding[] = await beyondReach(config, env);
  for (const needed of neededFiles(config)) {
    const { path, files } = needed;
    // A credential that nobody has handed over to this shell: a warning of the configuration's own says so.
    if (Object.values(files).some((file) => file?.startsWith("${"))) continue;
    for (const { name, fault } of await needed.faults()) {
      const file = name === undefined ? undefined : files[name];
      const code = codeOf(fault.cause);
      const warn = (message: string) => warnings.push({ path: [...path, name ?? ""], message: `${file} ${message}` });
      if (code === "EACCES" && !asDaemon) warn("cannot be read by this user: ask as root (sudo) to know how it is");
      else if (code === "ENOENT" && file !== undefined && isCredential(file, env))
        warn("is not there, as systemd puts it there only for a service that runs");
      else problems.push(findingOf(file === undefined ? fault : advised(fault, file, config), name, needed));
    }
  }
  return { problems, warnings };
}

/** Where root asks for a daemon that is somebody else: what that one, by the bits, may not read. Its further groups are not known. */
async function beyondReach(config: Config, env: Environment): Promise<Finding[]> {
  const daemon = process.getuid?.() === 0 ? await stat(config.gateway.dataDir).catch(() => undefined) : undefined;
  if (daemon === undefined) return [];
  const found: Finding[] = [];
  for (const { path, files } of neededFiles(config)) {
    for (const [name, file] of Object.entries(files)) {
      if (file === undefined || isCredential(file, env)) continue;
      const barrier = await barrierTo(file, daemon);
      if (barrier === undefined) continue;
      const advice =
        barrier === file
          ? `chown ${daemon.uid}:${daemon.gid} ${file}`
          : `put it elsewhere, or hand it over with LoadCredential= in the unit; the rights of ${barrier} are in the way`;
      const message = `${file} may be read by root, and not by the gateway's user (that of gateway.dataDir): ${advice}`;
      found.push({ path: [...path, name], message });
    }
  }
  return found;
}

function neededFiles({ mqtt, http, uplink }: Config): Needed[] {
  const listeners = mqtt.listeners.flatMap(({ tls }, index) => {
    const path = ["mqtt", "listeners", index, "tls"];
    return tls === undefined || tls.development ? [] : [neededFor(path, serverTlsMaterial(tls, pathText(path)))];
  });
  const { passwordFile, aclFile } = mqtt;
  return [
    ...listeners,
    ...(passwordFile === undefined ? [] : [neededFor(["mqtt"], passwordMaterial(passwordFile))]),
    ...(aclFile === undefined ? [] : [neededFor(["mqtt"], aclMaterial(aclFile))]),
    ...(http.tls === undefined ? [] : [neededFor(["http", "tls"], httpTlsMaterial(http.tls))]),
    ...(uplink.url?.startsWith("https:") ? [neededFor(["uplink", "tls"], uplinkTlsMaterial(uplink))] : []),
    ...(uplink.url === undefined ? [] : [neededFor(["uplink"], tokenMaterial(uplink))]),
  ];
}

function neededFor<T, F extends Needed["files"]>(path: Path, material: FileMaterial<T, F>): Needed {
  return { path, files: material.files, faults: () => faultsOfFiles(material) };
}

/** Where no file is named, the fault may begin with one, or with its key. */
function findingOf({ message, hint }: GatewayError, named: string | undefined, { path, files }: Needed): Finding {
  const section = pathText(path);
  const begins = (name: string): boolean =>
    [`${section}.${name}: `, `${files[name]}: `, `${files[name]} `].some((start) => message.startsWith(start));
  const name = named ?? Object.keys(files).find(begins);
  const key = name === undefined ? path : [...path, name];
  const said = message.startsWith(`${pathText(key)}: `) ? message.slice(pathText(key).length + 2) : message;
  return { path: key, message: `${said}. ${hint}` };
}

/** What to do about a file that is not there yet, where a command makes it. */
export function makerOf(file: string, { gateway, certs, mqtt }: Config): string | undefined {
  if (file === mqtt.passwordFile) return "Make it with summit-edge devices add NAME --generate";
  if (dirname(file) !== resolve(gateway.dataDir, certs.folder)) return undefined;
  return `Make it with summit-edge ${basename(file).startsWith("ca.") ? "certs init" : "certs issue --server"}`;
}

/** What to do about a file without which the daemon does not start, in the words of `config check`, where a command makes it. */
export function withMaker(fault: unknown, config: Config): unknown {
  if (!(fault instanceof GatewayError) || codeOf(fault.cause) !== "ENOENT") return fault;
  const { path } = fault.cause as { readonly path?: unknown };
  const maker = typeof path === "string" ? makerOf(path, config) : undefined;
  return maker === undefined ? fault : withHint(fault, `${maker}.`);
}

function advised(fault: GatewayError, file: string, config: Config): GatewayError {
  if (codeOf(fault.cause) !== "ENOENT") return fault;
  return withHint(fault, makerOf(file, config) ?? "Put it there, or correct this key");
}

function withHint({ code, op, message, cause }: GatewayError, hint: string): GatewayError {
  return new GatewayError({ code, op, message, hint, cause });
}
