/**
 * A pseudo-terminal whose slave side a program can open like any serial port. Node.js has no openpty, so util-linux's
 * `script` (bsdutils, essential on Debian) holds the master side: what is written here goes in at its standard input
 * and comes out at the slave.
 *
 * - The line is raw: bytes come out as they went in, nothing is echoed, no byte means anything to it.
 * - It ends with this process, however that ends: the shell on the slave side reads from a socket that only this process
 *   holds open at the other end, and `script` ends with its shell.
 * - Nothing grows when nobody reads. `script` would keep any amount of unread bytes in memory, so `write` counts what it
 *   sent since the slave was last read (its access time tells). What is more than a wire carries in ten seconds is dropped,
 *   and the shell is asked to throw away what lies unread, so that a late reader finds the present and not the past.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { statSync } from "node:fs";
import { Socket } from "node:net";
import type { Clock } from "../kernel/clock.ts";
import { GatewayError, messageOf } from "../kernel/errors.ts";
import type { VirtualPort } from "./virtual-port.ts";

/** File descriptor 3: each line asks for the unread bytes to be thrown away and is answered by one; its end is the end. */
const CONTROL = 3;
const SHELL = `
  stty raw -echo -onlcr && tty && while read -r _ <&${CONTROL}; do
    dd iflag=nonblock of=/dev/null bs=4096 2>/dev/null
    echo >&${CONTROL}
  done
`;
const START_DEADLINE_MS = 5000;
const END_DEADLINE_MS = 2000;
const MAX_GREETING_BYTES = 1024;

/** Linux notes the access time of a terminal in steps of eight seconds; unread bytes are kept for longer than that. */
const KEEP_UNREAD_S = 10;
/** A byte on the wire is ten bits: start, eight of data, stop. */
const BITS_PER_BYTE = 10;

/** Opens a pseudo-terminal. Throws `PSEUDO_TERMINAL` where `script` is missing or does not do its part. */
export async function openPseudoTerminal(options: { baudRate: number; clock: Clock }): Promise<VirtualPort> {
  // `env` because script runs its command with $SHELL; detached because a Ctrl-C is for us to see first, not for it.
  const child = spawn("env", ["SHELL=/bin/sh", "script", "-q", "-e", "-c", SHELL, "/dev/null"], {
    stdio: ["pipe", "pipe", "ignore", "pipe"],
    detached: true,
  });
  for (const stream of child.stdio) stream?.on("error", () => stream.destroy());
  const ended = new Promise<void>((resolve) => {
    child.once("exit", () => resolve());
    child.once("error", () => resolve());
  });
  const end = (): Promise<void> => endChild(child, ended, options.clock);
  try {
    const path = await slavePath(child, options.clock);
    const [wire, heard, , control] = child.stdio;
    if (!(wire instanceof Socket && heard instanceof Socket && control instanceof Socket))
      throw new Error("its pipes are not sockets");
    return new PseudoTerminal(path, options.baudRate, { wire, heard, control, end });
  } catch (error) {
    await end();
    throw new GatewayError({
      code: "PSEUDO_TERMINAL",
      op: "simulator.openPseudoTerminal",
      message: `the command script gave no pseudo-terminal (${messageOf(error)})`,
      hint: "Install it (Debian: apt install bsdutils), or name a tcp:// path as the serial port.",
      cause: error,
    });
  }
}

interface Master {
  /** What is written here comes out at the slave. */
  readonly wire: Socket;
  /** What is written to the slave comes out here. */
  readonly heard: Socket;
  readonly control: Socket;
  end(): Promise<void>;
}

class PseudoTerminal implements VirtualPort {
  readonly path: string;
  readonly kind = "pseudo-terminal";
  readonly #master: Master;
  readonly #maxUnread: number;
  #unread = 0;
  #lastRead: number;
  #discarding = false;

  constructor(path: string, baudRate: number, master: Master) {
    this.path = path;
    this.#maxUnread = (baudRate / BITS_PER_BYTE) * KEEP_UNREAD_S;
    this.#master = master;
    this.#lastRead = lastReadAt(path);
    master.control.on("data", () => {
      this.#discarding = false;
      this.#unread = 0;
    });
  }

  write(bytes: Uint8Array | string): boolean {
    if (!this.#master.wire.writable) return false;
    const readAt = lastReadAt(this.path);
    if (readAt !== this.#lastRead) {
      this.#lastRead = readAt;
      this.#unread = 0;
    }
    const length = Buffer.byteLength(bytes);
    if (this.#unread + length > this.#maxUnread) {
      this.#discard();
      return false;
    }
    this.#unread += length;
    this.#master.wire.write(bytes);
    return true;
  }

  onData(listener: (chunk: Uint8Array) => void): void {
    this.#master.heard.on("data", listener);
  }

  close(): Promise<void> {
    return this.#master.end();
  }

  #discard(): void {
    if (this.#discarding) return;
    this.#discarding = true;
    this.#master.control.write("\n");
  }
}

function lastReadAt(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.atimeMs ?? 0;
}

/** The slave's device file, which the shell on it prints first. */
async function slavePath(child: ChildProcess, clock: Clock): Promise<string> {
  const started = new AbortController();
  const overdue = clock
    .sleep(START_DEADLINE_MS, started.signal)
    .then(() => Promise.reject(new Error("it did not start")));
  overdue.catch(() => {});
  try {
    const path = await Promise.race([firstLine(child), overdue]);
    if (!path.startsWith("/dev/")) throw new Error(`it said "${path}" instead of a device`);
    return path;
  } finally {
    started.abort();
  }
}

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    child.once("error", reject);
    child.once("exit", (status) => reject(new Error(`it ended with status ${status}`)));
    // Goes on listening: what the gateway sends to a device that does not care must not fill the pipe.
    child.stdout?.on("data", (chunk) => {
      if (text.length >= MAX_GREETING_BYTES) return;
      text += String(chunk);
      if (text.includes("\n")) resolve(text.slice(0, text.indexOf("\n")).trim());
    });
  });
}

async function endChild(child: ChildProcess, ended: Promise<void>, clock: Clock): Promise<void> {
  const cancel = clock.after(END_DEADLINE_MS, () => child.kill("SIGKILL"));
  // In this order: at the end of its input, script would give the slave's reader two seconds to catch up.
  child.stdio[CONTROL]?.destroy();
  await ended;
  cancel();
  child.stdin?.destroy();
  child.stdout?.destroy();
}
