/**
 * Device profiles: where they are, and what one says. Those that are shipped lie in `device/profiles/`, a file each; a site's own is
 * named by its path. A profile is read and judged as the configuration is, by one schema and the same rules.
 */
import { access, readdir } from "node:fs/promises";
import { basename, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { registerFaults } from "../codec/modbus-registers.ts";
import { listed, nearest } from "./nearest.ts";
import { pollingFaults } from "./polling-semantics.ts";
import { ConfigError, type Finding, located, type Problem, problemText } from "./problem.ts";
import type { SerialPortConfig } from "./schema.ts";
import { isMapping, mapScalars, type SchemaNode } from "./schema-node.ts";
import { type DeviceProfile, profileSchema } from "./schema-profile.ts";
import { serialProfile } from "./schema-serial.ts";
import { frameFaults } from "./serial-semantics.ts";
import { completer, numberOf } from "./validation.ts";
import { readYamlFile, type YamlFile } from "./yaml-file.ts";

/** As the program is built and as it is packed, this stands beside the compiled code. */
const SHIPPED = fileURLToPath(new URL("../../device/profiles/", import.meta.url));
const EXTENSION = /\.ya?ml$/;

export interface LoadedProfile {
  /** Its file, as an absolute path. */
  readonly file: string;
  readonly profile: DeviceProfile;
  /** What it brings to a port, as it is written. */
  readonly keys: Readonly<Record<string, unknown>>;
  /** What it brings to a Modbus server, as it is written, where it is one. */
  readonly server?: Readonly<Record<string, unknown>>;
}

/** A profile, or why there is none. */
export type ProfileOutcome =
  | ({ readonly kind: "found" } & LoadedProfile)
  | { readonly kind: "unknown"; readonly message: string }
  | { readonly kind: "invalid"; readonly file: string; readonly problems: readonly Problem[] };

/** The names of the profiles that are shipped, in order. */
export async function shippedProfiles(): Promise<string[]> {
  const files = await readdir(SHIPPED).catch(() => []);
  return files
    .filter((file) => EXTENSION.test(file))
    .map((file) => file.replace(EXTENSION, ""))
    .sort();
}

/** The profile that `reference` names: one that is shipped, by one of its names, or a file, seen from `folder`. */
export async function findProfile(reference: string, folder: string): Promise<ProfileOutcome> {
  if (reference.includes("/") || EXTENSION.test(reference)) return readProfile(resolve(folder, reference));
  const names = await shippedProfiles();
  if (names.includes(reference)) return readProfile(shippedFile(reference));
  const others = new Map<string, string>();
  for (const name of names) {
    const outcome = await readProfile(shippedFile(name));
    for (const other of outcome.kind === "found" ? outcome.profile.also : []) others.set(other, name);
  }
  const meant = others.get(reference);
  if (meant !== undefined) return readProfile(shippedFile(meant));
  const guess = nearest(reference, [...names, ...others.keys()]);
  const file = `${reference}.yaml`;
  const isFile = await access(resolve(folder, file)).then(
    () => true,
    () => false,
  );
  const meantOrAll = guess?.close ? `did you mean \`${guess.name}\`?` : listed(names);
  const advice = isFile ? `write ./${file} for the file` : meantOrAll;
  return { kind: "unknown", message: `there is no profile \`${reference}\`; ${advice}` };
}

function shippedFile(name: string): string {
  return resolve(SHIPPED, `${name}.yaml`);
}

const profileNode: SchemaNode = profileSchema;
let complete: ReturnType<typeof completer> | undefined;

/** The profile in a file. Never throws for what is in it. */
export async function readProfile(file: string): Promise<ProfileOutcome> {
  let yaml: YamlFile;
  try {
    yaml = await readYamlFile(file);
  } catch (thrown) {
    if (thrown instanceof ConfigError) return { kind: "invalid", file, problems: thrown.problems };
    throw thrown;
  }
  const written = yaml.data;
  if (!isMapping(written))
    return { kind: "invalid", file, problems: [{ path: "", message: "must be a mapping of keys, such as `name:`" }] };
  const data = structuredClone(written);
  complete ??= completer(profileNode);
  const misfits = complete(data);
  const profile = withNumbers(data) as DeviceProfile;
  const findings = misfits.length > 0 ? misfits : faultsOf(profile);
  if (findings.length === 0) return { kind: "found", file, profile, ...broughtBy(written) };
  const problems = findings.map((finding) => {
    const line = yaml.find(finding.path)?.line;
    return located(finding, line === undefined ? undefined : { line });
  });
  return { kind: "invalid", file, problems };
}

/** With durations in milliseconds and sizes in bytes, where they can be read. */
function withNumbers(data: unknown): unknown {
  return mapScalars(profileNode, data, (node, value) => {
    if (typeof value !== "string") return value;
    try {
      return numberOf(node.format, value) ?? value;
    } catch {
      return value;
    }
  });
}

/** What a schema cannot say. */
function faultsOf(profile: DeviceProfile): Finding[] {
  const faults: Finding[] = [];
  if (profile.server === undefined) {
    const port = profile as unknown as SerialPortConfig;
    faults.push(...frameFaults(port), ...pollingFaults(port));
  } else {
    const beside = ["codec", "modbus", "sdi12", "poll"].find((key) => key in profile);
    if (beside !== undefined)
      faults.push({ path: [beside], message: "stands beside `server`, which says all of a Modbus device" });
    const registers = registerFaults(profile.server.registers);
    faults.push(...registers.map(({ path, message }) => ({ path: ["server", "registers", ...path], message })));
  }
  for (const [index, { hex, text }] of profile.vectors.entries()) {
    if ((hex === undefined) === (text === undefined))
      faults.push({ path: ["vectors", index], message: "has its frame either in `hex` or in `text`" });
  }
  return faults;
}

function broughtBy(written: Readonly<Record<string, unknown>>): Pick<LoadedProfile, "keys" | "server"> {
  const keys = Object.fromEntries(Object.entries(written).filter(([key]) => Object.hasOwn(serialProfile, key)));
  return isMapping(written.server) ? { keys, server: written.server } : { keys };
}

/** What is wrong with a profile, on one line. */
export function profileFault(outcome: Exclude<ProfileOutcome, { readonly kind: "found" }>): string {
  if (outcome.kind === "unknown") return outcome.message;
  return `the profile ${basename(outcome.file)} cannot be used: ${outcome.problems.map(problemText).join("; ")}`;
}
