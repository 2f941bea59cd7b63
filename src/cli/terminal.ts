import { setTimeout as timer } from "node:timers/promises";
import { installedConfig } from "./config-file.ts";

/** Where a command writes, and what it knows of its surroundings. */
export interface Terminal {
  readonly env: NodeJS.ProcessEnv;
  /** Whether a person looks on, so that the screen may be cleared. */
  readonly interactive: boolean;
  /** The configuration of the gateway that is installed on this machine, if any. */
  installedConfig(): string | undefined;
  write(text: string): void;
  /** Waits before the next refresh; resolves to whether there is to be one. */
  pause(ms: number): Promise<boolean>;
}

/** The one that the command was started in. */
export const processTerminal: Terminal = {
  env: process.env,
  interactive: process.stdout.isTTY === true,
  installedConfig,
  write: (text) => void process.stdout.write(text),
  // Not the Clock's sleep, which does not keep the process alive: here the wait is all that the process does.
  pause: (ms) => timer(ms, true),
};
