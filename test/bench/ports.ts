/** The daemon with eight serial ports at their full pace: what is lost, and how late its event loop is. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Daemon, FIELD_NODE_OPTIONS } from "../support/daemon.ts";
import { BYTES_PER_SECOND_AT_115200, PacedPorts } from "../support/paced-ports.ts";

const PORTS = 8;
const SECONDS = 15;
const PROBE = new URL("../support/lag-probe.js", import.meta.url).href;

export interface Saturation {
  readonly frames: number;
  /** Frames that were sent and not accepted. */
  readonly missing: number;
  /** Bytes that found no room because the port was not read in time. */
  readonly dropped: number;
  /** Milliseconds. */
  readonly lag: { readonly samples: number; readonly p50: number; readonly p99: number; readonly most: number };
}

export async function measureSaturatedPorts(folder: string): Promise<Saturation> {
  const undo: (() => Promise<void>)[] = [];
  try {
    const pace = BYTES_PER_SECOND_AT_115200;
    const devices = await PacedPorts.plugIn(
      { after: (action) => void undo.push(action) },
      { folder, ports: PORTS, pace, seconds: SECONDS },
    );
    const serial = devices.paths.map((path, port) => ({ name: `port${port}`, path, baudRate: 115_200, codec: "json" }));
    const file = join(folder, "lag.json");
    process.env.LAG_FILE = file;
    const daemon = await Daemon.start({
      folder,
      changes: { serial },
      nodeOptions: [...FIELD_NODE_OPTIONS, "--import", PROBE],
    });
    delete process.env.LAG_FILE;
    undo.push(async () => void daemon.child.kill("SIGKILL"));
    daemon.child.kill("SIGUSR2");
    const sent = await devices.talk();
    const frames = total(sent.frames);
    const { ledger } = await daemon
      .untilStatus((status) => (status.ledger.accepted ?? 0) >= frames)
      .catch(() => daemon.status());
    await daemon.stop();
    const lag = JSON.parse(readFileSync(file, "utf8")) as Saturation["lag"];
    return { frames, missing: frames - (ledger.accepted ?? 0), dropped: total(sent.dropped), lag };
  } finally {
    for (const action of undo.reverse()) await action();
  }
}

function total(counts: readonly number[]): number {
  return counts.reduce((sum, count) => sum + count, 0);
}
