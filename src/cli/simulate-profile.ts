/** `summit-edge simulate serial --profile`: a simulated device of a profile, on a serial line of its own. */
import { resolve } from "node:path";
import { systemClock } from "../kernel/clock.ts";
import { GatewayError } from "../kernel/errors.ts";
import type { ScenarioKind } from "../simulator/scenario.ts";
import { json } from "./format.ts";
import { linkTo } from "./port-link.ts";
import { loadedProfile } from "./profiles.ts";
import { untilStopped } from "./signals.ts";

/** Where the simulated devices stand: a ridge in the Sierra Nevada. */
const SITE = { lat: 38.94, lon: -120.05 } as const;

export interface SimulateProfileOptions {
  /** Names of profiles; one device each, on a line of its own. */
  readonly profile: readonly string[];
  readonly scenario: ScenarioKind;
  readonly seed: number;
  readonly speed: number;
  /** Milliseconds; without it, until a signal. */
  readonly duration?: number | undefined;
  /** Where the port of a single device is to be found. */
  readonly port?: string | undefined;
  readonly json?: boolean | undefined;
}

/** Runs the devices until they are to end, and says where they are and how much they said. */
export async function simulateProfiles(options: SimulateProfileOptions): Promise<void> {
  if (options.port !== undefined && options.profile.length > 1) throw onePort(options.profile.length);
  const [{ createLog }, { ProfileDevice }, { openVirtualPort }] = await Promise.all([
    import("../kernel/telemetry.ts"),
    import("../simulator/profile-device.ts"),
    import("../simulator/virtual-port.ts"),
  ]);
  const log = await createLog({ level: "info", format: "json" }, { part: "simulate" }, process.stderr);
  const clock = systemClock;
  const profiles = await Promise.all(options.profile.map(loadedProfile));
  const ended = new AbortController();
  const stopped = untilStopped(clock).then(() => ended.abort());

  const lines = await Promise.all(
    profiles.map(async ({ profile }, index) => {
      const port = await openVirtualPort({ baudRate: profile.baudRate, clock, log });
      const { scenario: kind, seed, speed } = options;
      const scenario = { kind, seed, ...SITE, startedAt: clock.now() };
      const device = new ProfileDevice({ profile, port, scenario, speed, clock });
      return { name: options.profile[index] ?? profile.name, port, device };
    }),
  );
  const link = options.port;
  const unlinkPorts = await Promise.all(lines.map(({ port }) => linkTo(port.path, link))).catch(
    async (error: unknown) => {
      await Promise.all(lines.map(({ port }) => port.close()));
      throw error;
    },
  );
  for (const { device } of lines) device.start();
  const paths = lines.map(({ name, port }) => ({
    profile: name,
    path: link === undefined ? port.path : resolve(link),
  }));
  if (options.json) process.stdout.write(json({ serial: paths }));
  else console.log(startText(paths));

  await (options.duration === undefined ? stopped : clock.sleep(options.duration, ended.signal));
  const counts = lines.map(({ name, device }) => ({ profile: name, ...device.stop() }));
  await Promise.all(unlinkPorts.map((unlinkPort) => unlinkPort()));
  await Promise.all(lines.map(({ port }) => port.close()));
  if (options.json) process.stdout.write(json({ serial: counts }));
  else
    for (const { profile, frames, dropped } of counts) console.log(`${profile}: frames=${frames} dropped=${dropped}`);
}

function onePort(devices: number): GatewayError {
  return new GatewayError({
    code: "USAGE",
    op: "simulate.serial",
    message: `--port is one port, and there are ${devices} devices`,
    hint: "Run the command once for each device, with a --port of its own.",
  });
}

function startText(lines: readonly { readonly profile: string; readonly path: string }[]): string {
  const ports = lines.map(
    ({ profile, path }, index) => `  - { name: ${portName(profile, index)}, path: "${path}", profile: ${profile} }`,
  );
  return ["simulating; in the gateway's configuration:", "serial:", ...ports].join("\n");
}

/** A port's name that is no other one's. */
function portName(profile: string, index: number): string {
  const stem = profile
    .replace(/^.*\//, "")
    .replace(/\.ya?ml$/, "")
    .replaceAll(/[^A-Za-z0-9_-]/g, "-");
  return `${stem}-${index + 1}`;
}
