import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/**
 * Devices on pseudo-terminals that send at a line's pace and wait for nobody: what the terminal cannot take at once is
 * dropped and counted, as a UART that overruns does. (A pseudo-terminal by itself would make the device wait, and lose nothing.)
 */
const PROGRAM = `
import json, os, sys, time, tty
folder, ports, pace, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
masters, held = [], []
for port in range(ports):
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    os.symlink(os.ttyname(slave), f"{folder}/port{port}")
    masters.append(master)
    held.append(slave)
print("ready", flush=True)
sys.stdin.readline()
frames, rest, sent, dropped = [0] * ports, [b""] * ports, [0] * ports, [0] * ports
start = time.monotonic()
while (now := time.monotonic() - start) < seconds:
    due = int(now * pace)
    for port in range(ports):
        piece = b""
        while sent[port] + len(piece) < due:
            piece += json.dumps({"port": port, "n": frames[port], "wind_ms": 5.7, "pad": "x" * (frames[port] % 20)}).encode() + b"\\r\\n"
            frames[port] += 1
        sent[port] += len(piece)
        if piece:
            try: dropped[port] += len(piece) - os.write(masters[port], piece)
            except BlockingIOError: dropped[port] += len(piece)
    time.sleep(0.005)
print(json.dumps({"frames": frames, "bytes": sent, "dropped": dropped}), flush=True)
sys.stdin.readline()
`;

export interface Sent {
  /** Frames, bytes, and bytes that found no room, of each port. */
  readonly frames: readonly number[];
  readonly bytes: readonly number[];
  readonly dropped: readonly number[];
}

/** 115,200 baud: ten bits a byte. */
export const BYTES_PER_SECOND_AT_115200 = 11_520;

export class PacedPorts {
  /** The devices' files. */
  readonly paths: readonly string[];
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(paths: readonly string[], child: ChildProcess, lines: AsyncIterator<string>) {
    this.paths = paths;
    this.#child = child;
    this.#lines = lines;
  }

  /** Plugs `ports` devices in. `pace`: bytes per second of each, for `seconds`. */
  static async plugIn(
    t: { after(action: () => Promise<void>): void },
    options: { readonly folder: string; readonly ports: number; readonly pace: number; readonly seconds: number },
  ): Promise<PacedPorts> {
    const { folder, ports, pace, seconds } = options;
    const args = ["-c", PROGRAM, folder, ...[ports, pace, seconds].map(String)];
    const child = spawn("python3", args, { stdio: ["pipe", "pipe", "inherit"] });
    t.after(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGKILL");
      await once(child, "exit");
    });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    await lines.next();
    const paths = Array.from({ length: ports }, (_, port) => `${folder}/port${port}`);
    return new PacedPorts(paths, child, lines);
  }

  /** Lets all talk at once; what they have sent, once they have. They stay plugged in. */
  async talk(): Promise<Sent> {
    this.#child.stdin?.write("\n");
    const { value } = await this.#lines.next();
    return JSON.parse(value) as Sent;
  }
}
