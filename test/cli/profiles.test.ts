import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { summitEdge } from "../support/command.ts";

const folder = mkdtempSync(join(tmpdir(), "summit-profiles-"));
after(() => rmSync(folder, { recursive: true }));

function file(name: string, content: string | Uint8Array): string {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
}

const FRAME = "aac0d4043a0aa1601dab";
const dust = file("dust.bin", Buffer.from(`1dab${FRAME.repeat(4)}ff00${FRAME.repeat(4)}aac0`, "hex"));
const poem = file("poem.txt", "Shall I compare thee to a summer's day?\n".repeat(9));

describe("summit-edge profiles", { concurrency: 4 }, () => {
  it("list says which there are", async () => {
    const { status, stdout } = await summitEdge(["profiles", "list"]);
    assert.equal(status, 0);
    assert.match(stdout, /^name +manner +bit\/s +device\n/);
    assert.match(stdout, /^victron-ve-direct +speaks +19200 +Victron/m);
    assert.match(stdout, /^winsen-mh-z19b +is asked/m);
    const { profiles } = JSON.parse((await summitEdge(["profiles", "list", "--json"])).stdout);
    assert.equal(profiles.length, 12);
    assert.deepEqual(Object.keys(profiles[0]), ["name", "title", "also", "manner", "baudRate", "class"]);
  });

  it("show tells all of one, and tries its vectors", async () => {
    const { status, stdout } = await summitEdge(["profiles", "show", "nova-sds011"]);
    assert.equal(status, 0);
    assert.match(stdout, /data sheet +Laser Dust Sensor Control Protocol; V1\.3/);
    assert.match(stdout, /\{ name: NAME, path: \/dev\/serial\/by-id\/…, profile: nova-sds011 \}/);
    assert.match(stdout, /\{"pm2_5_ug_m3":123\.6.*\n +read as it ought to be; quoted from the data sheet/);
  });

  it("show fails for a profile whose vector does not give its reading", async () => {
    const own = file(
      "own.yaml",
      'name: own\ntitle: Own\ncodec: json\nvectors: [{ origin: made up, text: "{\\"a\\":1}\\n", reading: { a: 2 } }]\n',
    );
    const { status, stdout } = await summitEdge(["profiles", "show", own]);
    assert.equal(status, 1);
    assert.match(stdout, /WRONG: gives \{"a":1\}/);
  });

  it("test finds the profile of a capture", async () => {
    const { status, stdout } = await summitEdge(["profiles", "test", dust]);
    assert.equal(status, 0);
    assert.match(stdout, /^nova-sds011 +8 +97\.5% +100% +fits$/m);
    assert.match(stdout, /most probably a device of profile nova-sds011/);
    const { best, scores } = JSON.parse((await summitEdge(["profiles", "test", dust, "--json"])).stdout);
    assert.equal(best, "nova-sds011");
    assert.equal(scores[0].readings, 8);
  });

  it("test reads what serial capture has recorded", async () => {
    const lines = [
      { format: "summit-edge.serial-capture/1" },
      { ms: 0, hex: FRAME.slice(0, 8) },
      { ms: 5, hex: FRAME.slice(8) },
    ];
    const capture = file("dust.capture", lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
    const { status, stdout } = await summitEdge(["profiles", "test", capture]);
    assert.equal(status, 0, stdout);
    assert.match(stdout, /^nova-sds011 +1 +100%/m);
    const broken = file("broken.capture", '{"format":"summit-edge.serial-capture/1"}\n{"ms":"x"}\n');
    assert.match((await summitEdge(["profiles", "test", broken])).stderr, /is no capture: line 2/);
  });

  it("test of one profile shows what became of each frame, and fails where it does not fit", async () => {
    const fits = await summitEdge(["profiles", "test", dust, "--profile", "nova-sds018", "--limit", "2"]);
    assert.equal(fits.status, 0);
    assert.match(
      fits.stdout,
      /^discarded {2}noise, 2 bytes: 1d ab\nreading {4}\{"pm2_5_ug_m3":123\.6.*\}\n… and 9 more \(--limit\)\n\nnova-sds011 fits: 86 bytes/,
    );
    const not = await summitEdge(["profiles", "test", dust, "--profile", "gill-windsonic"]);
    assert.equal(not.status, 1);
    assert.match(not.stdout, /gill-windsonic does NOT fit/);
  });

  it("test says when nothing fits, and what cannot be tried", async () => {
    const none = await summitEdge(["profiles", "test", poem]);
    assert.equal(none.status, 1);
    assert.match(none.stdout, /No profile fits.*Modbus devices are not told by a capture/);
    const modbus = await summitEdge(["profiles", "test", poem, "--profile", "generic-modbus-wind"]);
    assert.equal(modbus.status, 2);
    assert.match(modbus.stderr, /reads registers that it asks for/);
    const missing = await summitEdge(["profiles", "test", join(folder, "none")]);
    assert.equal(missing.status, 1);
    assert.match(missing.stderr, /cannot be read/);
  });

  it("names what was meant, or what is wrong with a file", async () => {
    const unknown = await summitEdge(["profiles", "show", "victron"]);
    assert.equal(unknown.status, 2);
    assert.match(unknown.stderr, /there is no profile `victron`; did you mean `victron-/);
    const broken = await summitEdge(["profiles", "show", file("broken.yaml", "name: broken\ntitle: B\ncodec: jsn\n")]);
    assert.equal(broken.status, 2);
    assert.match(broken.stderr, /broken\.yaml is no profile\n {2}line 3: codec: must be one of .*did you mean `json`/);
  });
});
