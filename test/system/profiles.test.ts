/** Simulated devices of the shipped profiles, read by the real daemon over pseudo-terminals, with no more than the profile's name. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import { findProfile, shippedProfiles } from "#src/config/profiles.js";
import type { DeviceProfile } from "#src/config/schema-profile.js";
import { Collector } from "../support/collector.ts";
import { projectRoot } from "../support/command.ts";
import { missing } from "../support/commands.ts";
import { Daemon } from "../support/daemon.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";

test("a device of each profile, those that are asked included, is read by a port that names its profile", {
  skip: missing("script"),
}, async (t) => {
  const profiles: DeviceProfile[] = [];
  for (const name of await shippedProfiles()) {
    const outcome = await findProfile(name, "/");
    if (outcome.kind === "found") profiles.push(outcome.profile);
  }

  const names = profiles.map(({ name }) => name);
  const devices = spawn(
    process.execPath,
    ["dist/main.js", "simulate", "serial", "--json", "--speed", "60", "--profile", ...names],
    { cwd: projectRoot, stdio: ["ignore", "pipe", "inherit"] },
  );
  t.after(() => devices.kill("SIGKILL"));
  let said = "";
  devices.stdout.on("data", (chunk) => {
    said += String(chunk);
  });
  await until("the devices are there", () => said.includes("\n"));
  const { serial } = JSON.parse(said.split("\n")[0] ?? "") as { serial: { profile: string; path: string }[] };

  const fusion = await Collector.start();
  t.after(() => fusion.stop());
  const ports = serial.map(({ profile, path }) => ({ name: profile, path, profile }));
  const changes = { serial: ports, uplink: { url: fusion.url } };
  const daemon = await Daemon.start({ folder: temporaryFolder(t), changes });
  t.after(() => daemon.stop("SIGKILL"));

  // A board may name its own source; a server on a Modbus line is one by its address.
  const sourceOf = ({ name, server, vectors: [vector] }: DeviceProfile): string =>
    String(vector?.reading.source ?? (server === undefined ? name : `${name}-1`));
  const isWhole = (profile: DeviceProfile): boolean => {
    const received = fusion.received.filter(({ source }) => source === sourceOf(profile));
    return profile.vectors.every(({ reading, class: of }) =>
      reading.sentence === undefined
        ? received.length > 0
        : received.some((one) => one.attributes.sentence === reading.sentence && (of ?? one.class) === one.class),
    );
  };
  await until("a reading of every kind came from each", () => profiles.every(isWhole));

  const { sources } = await daemon.status();
  for (const profile of profiles) {
    const { name, class: of, vectors } = profile;
    const source = sources.find((one) => one.name === name);
    assert.ok(source !== undefined && source.accepted > 0, name);
    // The first frame may have been cut where the port was opened.
    assert.ok(source.refused <= 1, `${name} refused ${source.refused}`);
    const [first] = fusion.received.filter((one) => one.source === sourceOf(profile));
    if (of !== undefined) assert.equal(first?.class, of);
    const [vector] = vectors;
    const { source: _, ...measured } = vector?.reading ?? {};
    if (vectors.length === 1)
      assert.deepEqual(Object.keys(first?.attributes ?? {}).sort(), Object.keys(measured).sort());
  }
});
