import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { TestContext } from "node:test";
import { projectRoot } from "./command.ts";

// biome-ignore lint/suspicious/noExplicitAny: a test reads whatever the line holds
export type Line = any;

/** A program whose output is looked at while it runs. */
export class Onlooker {
  readonly child: ChildProcess;
  text = "";
  errors = "";
  readonly ended: Promise<number | null>;

  constructor(t: TestContext, program: string, args: readonly string[]) {
    this.child = spawn(program, args, { cwd: projectRoot, stdio: ["ignore", "pipe", "pipe"] });
    this.child.stdout?.on("data", (chunk) => (this.text += String(chunk)));
    this.child.stderr?.on("data", (chunk) => (this.errors += String(chunk)));
    this.ended = once(this.child, "close").then(([status]) => status as number | null);
    t.after(() => this.child.kill("SIGKILL"));
  }

  get lines(): Line[] {
    return this.text
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line));
  }

  kinds(): string[] {
    return this.lines.map(({ kind }) => kind as string).filter((kind) => kind !== "alive");
  }

  /** Resolves with its exit status. */
  interrupt(): Promise<number | null> {
    this.child.kill("SIGINT");
    return this.ended;
  }
}

/** `summit-edge` with these arguments. */
export const summitEdge = (t: TestContext, ...args: string[]): Onlooker =>
  new Onlooker(t, process.execPath, ["dist/main.js", ...args]);
