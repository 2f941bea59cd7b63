import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";

/** Two pseudo-terminals joined by socat: `device` for the part under test, the far end for the test to speak from. */
export class PtyPair {
  /** A link that is there as long as the pair is. */
  readonly device: string;
  readonly #socat: ChildProcess;
  readonly #farEnd: FileHandle;

  private constructor(device: string, socat: ChildProcess, farEnd: FileHandle) {
    this.device = device;
    this.#socat = socat;
    this.#farEnd = farEnd;
  }

  /** Plugs a device in at `folder/name`. */
  static async plugIn(folder: string, name = "tty"): Promise<PtyPair> {
    const device = join(folder, name);
    const far = `${device}.far`;
    const pty = (link: string): string => `pty,raw,echo=0,link=${link}`;
    const socat = spawn("socat", ["-d", "-d", pty(device), pty(far)], { stdio: ["ignore", "ignore", "pipe"] });
    await new Promise<void>((resolve, reject) => {
      let said = "";
      socat.once("error", reject);
      socat.once("exit", () => reject(new Error(`socat ended: ${said}`)));
      socat.stderr?.on("data", (chunk) => {
        said += String(chunk);
        if (said.includes("starting data transfer loop")) resolve();
      });
    });
    return new PtyPair(device, socat, await open(far, "r+"));
  }

  /** Says `what` to the port, in pieces of `pieceBytes` where that is given. */
  async say(what: string | Uint8Array, pieceBytes = Number.POSITIVE_INFINITY): Promise<void> {
    const bytes = typeof what === "string" ? Buffer.from(what) : what;
    for (let from = 0; from < bytes.length; from += pieceBytes) {
      const piece = bytes.subarray(from, from + Math.min(pieceBytes, bytes.length));
      for (let at = 0; at < piece.length; ) at += (await this.#farEnd.write(piece, at)).bytesWritten;
    }
  }

  /** Pulls the plug: both terminals and their links are gone. */
  async unplug(): Promise<void> {
    if (this.#socat.exitCode !== null || this.#socat.signalCode !== null) return;
    const gone = once(this.#socat, "exit");
    this.#socat.kill("SIGTERM");
    await gone;
    await this.#farEnd.close();
  }
}
