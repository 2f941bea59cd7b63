/** What is wrong with a configuration, said so that the reader can mend it: where, what, and what was probably meant. */
import { GatewayError } from "../kernel/errors.ts";
import { type Path, pathText } from "./schema-node.ts";

/** Something wrong, before it is known where it was written. */
export interface Finding {
  readonly path: Path;
  readonly message: string;
}

export interface Problem {
  /** The key, as `mqtt.listeners[0].port`; empty for the file as a whole. */
  readonly path: string;
  readonly message: string;
  /** Line in the configuration file, from 1. */
  readonly line?: number;
  /** The environment variable that brought the value. */
  readonly variable?: string;
  /** The device profile that brought the value. */
  readonly profile?: string;
}

/** Where a value was written. */
export type Origin = { readonly line: number } | { readonly variable: string } | { readonly profile: string };

export function located(finding: Finding, origin: Origin | undefined): Problem {
  return { path: pathText(finding.path), message: finding.message, ...origin };
}

/** One line: where it was written, the key, what is wrong. */
export function problemText(problem: Problem): string {
  const { variable, line, profile } = problem;
  const place = variable ?? (line !== undefined ? `line ${line}` : profile !== undefined ? `profile ${profile}` : "");
  const parts = [place, problem.path];
  return [...parts.filter((part) => part !== ""), problem.message].join(": ");
}

/** Where the file itself is the trouble. */
export interface FileTrouble {
  /** `syntax`: it is not valid YAML, and nothing else has been looked at. */
  readonly about?: keyof typeof FURTHER;
  /** What to do instead of mending what stands in it. */
  readonly hint?: string;
  /** What the system said. */
  readonly cause?: unknown;
}

const FURTHER = {
  content: ", and `summit-edge config schema` says what may stand there.",
  syntax: ", and only then at what the keys say: until it is valid YAML nobody can tell them apart.",
} as const;

/** An invalid configuration, with everything that is wrong with it, in the order of the file. */
export class ConfigError extends GatewayError {
  readonly problems: readonly Problem[];

  constructor(file: string, problems: readonly Problem[], { about = "content", hint, cause }: FileTrouble = {}) {
    const sorted = [...problems].sort((a, b) => (a.line ?? Number.MAX_VALUE) - (b.line ?? Number.MAX_VALUE));
    const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
    super({
      code: "CONFIG_INVALID",
      op: "config.load",
      message: [`${file} has ${count}`, ...sorted.map((problem) => `  ${problemText(problem)}`)].join("\n"),
      hint: hint ?? `Mend what is listed; \`summit-edge config check --config ${file}\` looks again${FURTHER[about]}`,
      cause,
    });
    this.name = "ConfigError";
    this.problems = sorted;
  }
}
