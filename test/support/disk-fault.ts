/** A slow or failing disk under a process that runs: strace gets between it and the kernel. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import type { TestContext } from "node:test";
import { missing } from "./commands.ts";

/** Why a test that needs this is skipped; `false` where it can be had. */
export function noDiskFaults(): string | false {
  const absent = missing("strace");
  if (absent !== false) return absent;
  const tried = spawnSync("strace", ["-o", "/dev/null", "true"], { stdio: "ignore" });
  return tried.status === 0 ? false : "strace may not trace here";
}

const SYNCS = "fsync,fdatasync";

/** Every fsync takes this much longer from now on. */
export function delaySyncs(
  t: Pick<TestContext, "after">,
  pid: number | undefined,
  ms: number,
): Promise<() => Promise<void>> {
  return inject(t, pid, SYNCS, `delay_enter=${ms * 1000}`);
}

/** Every fsync fails from now on. */
export function failSyncs(t: Pick<TestContext, "after">, pid: number | undefined): Promise<() => Promise<void>> {
  return inject(t, pid, SYNCS, "error=EIO");
}

/** Every write at a place in a file, as SQLite's all are, finds the disk full, or what else is wrong, from now on. */
export function fillForWrites(
  t: Pick<TestContext, "after">,
  pid: number | undefined,
  error: "ENOSPC" | "EDQUOT" | "EIO" = "ENOSPC",
): Promise<() => Promise<void>> {
  return inject(t, pid, "pwrite64", `error=${error}`);
}

/** Resolves once the fault is in force; what it resolves with ends it. */
async function inject(
  t: Pick<TestContext, "after">,
  pid: number | undefined,
  calls: string,
  fault: string,
): Promise<() => Promise<void>> {
  const options = ["-e", `trace=${calls}`, "-e", `inject=${calls}:${fault}`];
  const strace = spawn("strace", ["-f", "-o", "/dev/null", "-p", String(pid), ...options], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const end = () => ended(strace);
  t.after(end);
  let said = "";
  await new Promise<void>((resolve, reject) => {
    strace.stderr.on("data", (chunk) => {
      said += String(chunk);
      if (said.includes("attached")) resolve();
    });
    strace.once("exit", () => reject(new Error(`strace did not attach: ${said}`)));
  });
  return end;
}

async function ended(strace: ChildProcess): Promise<void> {
  if (strace.exitCode !== null || strace.signalCode !== null) return;
  const gone = once(strace, "exit");
  strace.kill("SIGTERM");
  await gone;
}
