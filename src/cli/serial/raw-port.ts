/** A serial port that no configuration need know: opened under the same lock, and only listened to. */
import { systemClock } from "../../kernel/clock.ts";
import { openDevicePort } from "../../sources/serial/device-port.ts";
import { openNetworkPort } from "../../sources/serial/network-port.ts";
import type { LineSettings, PortFault } from "../../sources/serial/port.ts";

/** How the line is set up where nothing else is said. */
export const PLAIN_LINE: LineSettings = {
  baudRate: 9600,
  dataBits: 8,
  parity: "none",
  stopBits: 1,
  flowControl: "none",
  dtr: true,
  rts: true,
};

/**
 * Hands the bytes that come to `take`, with the milliseconds since the port was open, until `signal` ends it. Resolves to why the
 * port could not be opened, or went by itself; to nothing where it was ended.
 */
export async function listen(
  path: string,
  settings: LineSettings,
  signal: AbortSignal,
  take: (bytes: Uint8Array, ms: number) => void,
): Promise<PortFault | undefined> {
  const surroundings = { clock: systemClock, signal };
  const isNetwork = path.startsWith("tcp://");
  const outcome = await (isNetwork
    ? openNetworkPort(path, surroundings)
    : openDevicePort(path, settings, surroundings));
  if (outcome.kind !== "open") return signal.aborted ? undefined : outcome;
  const { port } = outcome;
  const openedAt = systemClock.monotonic();
  return await new Promise((resolve) => {
    const stop = (): void => void port.close().then(() => resolve(undefined));
    if (signal.aborted) return stop();
    signal.addEventListener("abort", stop, { once: true });
    port.read({
      onData: (chunk) => take(chunk, systemClock.monotonic() - openedAt),
      onClosed: (fault) => {
        signal.removeEventListener("abort", stop);
        resolve(fault);
      },
    });
  });
}
