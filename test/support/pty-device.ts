import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";

/** A device at the far end of a pseudo-terminal that speaks when it is spoken to. */
export class PtyDevice {
  /** What it heard, piece by piece. */
  readonly heard: Buffer[] = [];
  readonly #socat: ChildProcess;

  private constructor(socat: ChildProcess) {
    this.#socat = socat;
  }

  /** Plugs it in at `path`. `answer` gets each piece that it hears. */
  static async plugIn(path: string, answer: (heard: Buffer) => string | Uint8Array | undefined): Promise<PtyDevice> {
    const socat = spawn("socat", ["-d", "-d", `pty,raw,echo=0,link=${path}`, "stdio"], { stdio: "pipe" });
    const device = new PtyDevice(socat);
    socat.stdout.on("data", (heard: Buffer) => {
      device.heard.push(heard);
      const said = answer(heard);
      if (said !== undefined) socat.stdin.write(said);
    });
    await new Promise<void>((resolve, reject) => {
      socat.once("exit", () => reject(new Error("socat ended")));
      socat.stderr.on("data", (said) => String(said).includes("starting data transfer loop") && resolve());
    });
    return device;
  }

  async unplug(): Promise<void> {
    if (this.#socat.exitCode !== null || this.#socat.signalCode !== null) return;
    const gone = once(this.#socat, "exit");
    this.#socat.kill("SIGTERM");
    await gone;
  }
}
