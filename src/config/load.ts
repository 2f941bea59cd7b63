/**
 * From a YAML file and the environment to the effective configuration. Reports everything that is wrong at once, each with
 * its line or variable. Reads the one file and the device profiles that it names, and nothing else: `config check` looks at the
 * other files it names (gateway-files.ts).
 */
import { hostname } from "node:os";
import { dirname, resolve } from "node:path";
import { shortenBackOffs } from "./back-off.ts";
import type { Environment } from "./environment.ts";
import { apply, overridesOf } from "./overrides.ts";
import { findPath } from "./paths.ts";
import { ConfigError, type Finding, located, type Origin, type Problem } from "./problem.ts";
import { applyProfiles, type ProfileUse } from "./profile-use.ts";
import type { Config } from "./schema.ts";
import { isMapping, isSection, mapScalars, type Path, pathText, rootNode, type SchemaNode } from "./schema-node.ts";
import { examine, type Soundness } from "./semantics.ts";
import { complete, type Misfit, numberOf } from "./validation.ts";
import { readYamlFile, type YamlFile } from "./yaml-file.ts";

export interface LoadOptions {
  /**
   * Whether a path below `${CREDENTIALS_DIRECTORY}` is an error where nobody handed over credentials, as it is for the daemon;
   * otherwise it is a warning, so that an operator's shell can check the configuration of a service.
   */
  readonly credentials?: "required" | "optional";
}

export interface LoadedConfig {
  /** The file, as an absolute path. */
  readonly file: string;
  readonly config: Config;
  /** Nothing that keeps the gateway from running, but somebody should know. */
  readonly warnings: readonly Problem[];
  /** Where a value was written; `undefined` for a default. */
  originOf(path: Path): Origin | undefined;
}

/**
 * The effective configuration of `file` and the `SUMMIT_EDGE__…` variables in `env`.
 * @throws ConfigError (CONFIG_INVALID) with every problem
 */
export async function loadConfig(file: string, env: Environment, options?: LoadOptions): Promise<Config> {
  return (await readConfig(file, env, options)).config;
}

/** `loadConfig`, with warnings and origins. */
export async function readConfig(file: string, env: Environment, options: LoadOptions = {}): Promise<LoadedConfig> {
  const absolute = resolve(file);
  const yaml = await readYamlFile(absolute);
  if (yaml.data !== undefined && !isMapping(yaml.data))
    throw new ConfigError(absolute, [{ path: "", message: "must be a mapping of keys, such as `uplink:`" }]);
  const data = withoutEmptySections(rootNode, yaml.data ?? {}) as Record<string, unknown>;

  const { variables, problems } = override(data, env);
  const profiles = await applyProfiles(data, dirname(absolute));
  const originOf = (path: Path): Origin | undefined =>
    originIn(yaml, variables, path) ?? originInProfile(profiles, path);
  const nearestOrigin = (path: Path): Origin | undefined => originOf(path) ?? lineNear(yaml, path);

  shortenBackOffs(data);
  const unfit = profiles.findings.map((finding) => ({ ...finding, unknownKey: false }));
  const misfits = [...unfit, ...complete(data)];
  const sound = soundness(misfits);
  const paths = withPaths(withNumbers(data, sound), dirname(absolute), env);
  // Where a part is not sound it need not have its type: whoever looks asks first, and nobody gets it in the end.
  const config = { ...paths.config, gateway: named(paths.config.gateway) } as Config;
  const verdict = examine(config, sound);
  const [required, optional] = options.credentials === "required" ? [paths.missing, []] : [[], paths.missing];
  const findings = [...misfits, ...paths.invalid, ...required, ...verdict.problems];
  problems.push(...findings.map((finding) => located(finding, nearestOrigin(finding.path))));
  if (problems.length > 0) throw new ConfigError(absolute, problems);

  const warnings = [...verdict.warnings, ...optional].map((finding) => located(finding, nearestOrigin(finding.path)));
  return { file: absolute, config, warnings, originOf };
}

/** A section whose keys are all commented out is `null` in YAML, and meant as absent. */
function withoutEmptySections(node: SchemaNode | undefined, value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => withoutEmptySections(node?.items, item));
  if (!isMapping(value)) return value;
  const kept = Object.entries(value).flatMap(([key, item]) => {
    const child = node?.properties?.[key];
    return item === null && isSection(child) ? [] : [[key, withoutEmptySections(child, item)] as const];
  });
  return Object.fromEntries(kept);
}

function override(
  data: Record<string, unknown>,
  env: Environment,
): { variables: Map<string, string>; problems: Problem[] } {
  const { overrides, misnamed } = overridesOf(env, process.cwd());
  const variables = new Map<string, string>();
  const problems: Problem[] = misnamed.map(({ variable, message }) => ({ path: "", variable, message }));
  for (const item of overrides) {
    const fault = apply(data, item);
    if (fault === undefined) variables.set(pathText(item.path), item.variable);
    else problems.push({ path: pathText(item.path), variable: item.variable, message: fault });
  }
  return { variables, problems };
}

function originIn(yaml: YamlFile, variables: ReadonlyMap<string, string>, path: Path): Origin | undefined {
  for (let length = path.length; length > 0; length--) {
    const variable = variables.get(pathText(path.slice(0, length)));
    if (variable !== undefined) return { variable };
  }
  const found = yaml.find(path);
  return found?.whole === true ? { line: found.line } : undefined;
}

function originInProfile(profiles: ProfileUse, path: Path): Origin | undefined {
  const profile = profiles.profileOf(path);
  return profile === undefined ? undefined : { profile };
}

/** For something that is missing: the line of the section in which it is. */
function lineNear(yaml: YamlFile, path: Path): Origin | undefined {
  const found = yaml.find(path);
  return found === undefined ? undefined : { line: found.line };
}

/** A key that nobody knows leaves the others as they are; any other misfit spoils what it is part of. */
function soundness(misfits: readonly Misfit[]): Soundness {
  const spoilt = misfits.filter(({ unknownKey }) => !unknownKey).map(({ path }) => path);
  const begins = (path: Path, start: Path): boolean => start.every((step, depth) => path[depth] === step);
  return (path) => !spoilt.some((fault) => begins(path, fault) || begins(fault, path));
}

/** With durations in milliseconds and sizes in bytes. */
function withNumbers(data: Record<string, unknown>, sound: Soundness): unknown {
  return mapScalars(rootNode, data, (node, value, path) =>
    typeof value === "string" && sound(path) ? (numberOf(node.format, value) ?? value) : value,
  );
}

function withPaths(
  data: unknown,
  folder: string,
  env: Environment,
): { config: Record<string, unknown>; invalid: Finding[]; missing: Finding[] } {
  const invalid: Finding[] = [];
  const missing: Finding[] = [];
  const config = mapScalars(rootNode, data, (node, value, path) => {
    if (node.format !== "path" || typeof value !== "string") return value;
    const found = findPath(folder, value, env);
    if ("invalid" in found) {
      invalid.push({ path, message: found.invalid });
      return value;
    }
    if ("missing" in found) missing.push({ path, message: found.missing });
    return found.path;
  });
  return { config: config as Record<string, unknown>, invalid, missing };
}

/** With the host name for an id where none is given; what an id may not hold becomes a hyphen. */
function named(gateway: unknown): unknown {
  if (!isMapping(gateway) || gateway.id !== undefined) return gateway;
  const id = hostname()
    .replaceAll(/[^A-Za-z0-9._-]/g, "-")
    .slice(0, 64);
  return { ...gateway, id: id === "" ? "gateway" : id };
}
