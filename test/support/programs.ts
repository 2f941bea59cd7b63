import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The project's own folder, from where this file is once compiled. */
export const projectRoot = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");

/** Whether a program of this machine, not of npm, can be found on the PATH. */
export function isInstalled(program: string): boolean {
  const folders = (process.env.PATH ?? "").split(":").filter((folder) => folder !== "");
  return folders.some((folder) => {
    try {
      return readdirSync(folder).includes(program);
    } catch {
      return false;
    }
  });
}

/** Why a test that needs `program` is skipped on a machine without it; `false` where it is there. */
export const skipWithout = (program: string): string | false =>
  isInstalled(program) ? false : `${program} is not installed`;

/** Runs a program to its end. `output` is what it wrote on either stream. */
export function run(
  program: string,
  args: readonly string[],
  options: { readonly input?: string; readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {},
): { readonly status: number | null; readonly output: string } {
  const result = spawnSync(program, args, { encoding: "utf8", timeout: 120_000, ...options });
  return { status: result.status, output: `${result.stdout ?? ""}${result.stderr ?? ""}${result.error ?? ""}` };
}
