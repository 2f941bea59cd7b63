import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";

/** Holds the master side. A thread for each direction: what nobody takes in one leaves the other alone. */
const MASTER = `
import os, pty, threading, tty

def carry(source, target):
    while piece := os.read(source, 65536):
        while piece:
            piece = piece[os.write(target, piece):]

master, slave = pty.openpty()
tty.setraw(slave)
os.write(1, os.ttyname(slave).encode())
threading.Thread(target=carry, args=(0, master), daemon=True).start()
carry(master, 1)
`;

/**
 * A pseudo-terminal whose directions do not wait for each other. socat carries both in one thread, which stands still in a
 * write that its far end has no room for, and then carries nothing the other way either.
 */
export class DuplexPty {
  readonly device: string;
  readonly #master: ChildProcessByStdio<Writable, Readable, null>;

  private constructor(device: string, master: ChildProcessByStdio<Writable, Readable, null>) {
    this.device = device;
    this.#master = master;
  }

  static async plugIn(): Promise<DuplexPty> {
    const master = spawn("python3", ["-c", MASTER], { stdio: ["pipe", "pipe", "inherit"] });
    const [device] = await once(master.stdout, "data");
    master.stdout.pause();
    return new DuplexPty(String(device), master);
  }

  /** Says `what` to the port. */
  say(what: string): void {
    this.#master.stdin.write(what);
  }

  /** Takes what the port says, from now on; until then it stays where it is, and fills the way. */
  take(onData: (chunk: Buffer) => void): void {
    this.#master.stdout.on("data", onData);
    this.#master.stdout.resume();
  }

  async unplug(): Promise<void> {
    const gone = once(this.#master, "exit");
    this.#master.kill("SIGKILL");
    await gone;
  }
}
