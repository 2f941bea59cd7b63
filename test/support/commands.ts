import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";

/** Why a test that needs a program is skipped; `false` where the program is there. */
export function missing(program: string): string | false {
  return spawnSync(program, ["--help"], { stdio: "ignore" }).error === undefined
    ? false
    : `${program} is not installed`;
}

/** Runs a program to its end. */
export async function run(
  program: string,
  args: readonly string[],
  input = "",
): Promise<{ status: number | null; output: string }> {
  const child = spawn(program, args, { stdio: "pipe" });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const [status] = await once(child, "close");
  return { status, output };
}

/** A program that is running, and the lines it has written. */
export class Running {
  readonly lines: string[] = [];
  readonly #child: ChildProcess;

  constructor(program: string, args: readonly string[]) {
    this.#child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    let rest = "";
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on("data", (chunk) => {
        rest += chunk;
        const lines = rest.split("\n");
        rest = lines.pop() ?? "";
        this.lines.push(...lines);
        this.#child.emit("lines");
      });
    }
  }

  /** Resolves with the first line that contains `text`. */
  async line(text: string): Promise<string> {
    for (;;) {
      const found = this.lines.find((line) => line.includes(text));
      if (found !== undefined) return found;
      await once(this.#child, "lines");
    }
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill();
    await once(this.#child, "close");
  }
}
