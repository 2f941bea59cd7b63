/**
 * Puts device profiles under the ports that name one: what the port does not say itself is the profile's. A key counts as a
 * whole, so that a port's own `checksum` or `layout` takes the place of the profile's.
 */
import type { Finding } from "./problem.ts";
import { findProfile, type ProfileOutcome, profileFault } from "./profiles.ts";
import { isMapping, type Path, pathText } from "./schema-node.ts";

export interface ProfileUse {
  readonly findings: readonly Finding[];
  /** The profile that a value came from, as the configuration names it. */
  profileOf(path: Path): string | undefined;
}

/** What all devices on a line have to have in common. */
const LINE_KEYS = ["baudRate", "dataBits", "parity", "stopBits"] as const;

/** Fills what profiles say into `data`, in place; relative files are seen from `folder`. */
export async function applyProfiles(data: Record<string, unknown>, folder: string): Promise<ProfileUse> {
  const use = new Use(folder);
  const ports: readonly unknown[] = Array.isArray(data.serial) ? data.serial : [];
  for (const [index, port] of ports.entries()) {
    if (isMapping(port)) await use.port(port, ["serial", index]);
  }
  return use;
}

type Keys = Record<string, unknown>;

class Use implements ProfileUse {
  readonly findings: Finding[] = [];
  readonly #folder: string;
  readonly #brought = new Map<string, string>();
  readonly #read = new Map<string, Promise<ProfileOutcome>>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  profileOf(path: Path): string | undefined {
    for (let length = path.length; length > 0; length--) {
      const name = this.#brought.get(pathText(path.slice(0, length)));
      if (name !== undefined) return name;
    }
    return undefined;
  }

  async port(port: Keys, path: Path): Promise<void> {
    const found = await this.#profileAt(port, path);
    if (found !== undefined) {
      const { profile, keys, server } = found;
      this.#fill(port, keys, path, String(port.profile));
      if (server !== undefined) {
        const own = { address: profile.server?.address, ...server };
        this.#fill(port, { modbus: { servers: [own] } }, path, String(port.profile));
      }
    }
    await this.#servers(port, path);
  }

  /** The servers on a Modbus line, each of which may have a profile. */
  async #servers(port: Keys, path: Path): Promise<void> {
    const servers = isMapping(port.modbus) && Array.isArray(port.modbus.servers) ? port.modbus.servers : [];
    const lines: { readonly name: string; readonly keys: Readonly<Keys> }[] = [];
    for (const [index, server] of servers.entries()) {
      if (!isMapping(server)) continue;
      const here = [...path, "modbus", "servers", index];
      const found = await this.#profileAt(server, here);
      if (found === undefined) continue;
      const name = String(server.profile);
      if (found.server === undefined) {
        this.findings.push({ path: [...here, "profile"], message: `${name} is no Modbus device: name it on its port` });
        continue;
      }
      const { address: _, ...keys } = found.server;
      const { class: ownClass } = found.keys;
      this.#fill(server, ownClass === undefined ? keys : { ...keys, class: ownClass }, here, name);
      lines.push({ name, keys: found.keys });
    }
    this.#line(port, lines, path);
  }

  /** The line's speed, where all its devices are made for the same. */
  #line(port: Keys, lines: readonly { readonly name: string; readonly keys: Readonly<Keys> }[], path: Path): void {
    for (const key of LINE_KEYS) {
      if (key in port) continue;
      const [first, ...others] = lines.filter(({ keys }) => key in keys);
      if (first === undefined) continue;
      const other = others.find(({ keys }) => keys[key] !== first.keys[key]);
      if (other === undefined) this.#fill(port, { [key]: first.keys[key] }, path, first.name);
      else {
        const message = `is missing: ${first.name} says ${first.keys[key]} and ${other.name} says ${other.keys[key]}, and a line has one`;
        this.findings.push({ path: [...path, key], message });
      }
    }
  }

  async #profileAt(holder: Keys, path: Path): Promise<(ProfileOutcome & { kind: "found" }) | undefined> {
    const { profile: reference } = holder;
    if (typeof reference !== "string" || reference === "") return undefined;
    const outcome = await this.#find(reference);
    if (outcome.kind === "found") return outcome;
    this.findings.push({ path: [...path, "profile"], message: profileFault(outcome) });
    return undefined;
  }

  #find(reference: string): Promise<ProfileOutcome> {
    const known = this.#read.get(reference) ?? findProfile(reference, this.#folder);
    this.#read.set(reference, known);
    return known;
  }

  #fill(holder: Keys, keys: Readonly<Keys>, path: Path, name: string): void {
    for (const [key, value] of Object.entries(keys)) {
      if (holder[key] !== undefined) continue;
      holder[key] = structuredClone(value);
      this.#brought.set(pathText([...path, key]), name);
    }
  }
}
