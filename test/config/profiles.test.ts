import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import fc from "fast-check";
import { profileScores } from "#src/codec/profile-scores.js";
import { candidateOf, shippedCandidates, vectorBytes, vectorFault } from "#src/config/profile-vectors.js";
import { findProfile, type LoadedProfile, profileFault, shippedProfiles } from "#src/config/profiles.js";
import { originsOf } from "#src/config/show.js";
import { projectRoot } from "../support/command.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { load, problemsOf } from "./fixture.ts";

const names = await shippedProfiles();

async function shipped(name: string): Promise<LoadedProfile> {
  const outcome = await findProfile(name, "/");
  assert.ok(outcome.kind === "found", outcome.kind === "found" ? "" : profileFault(outcome));
  return outcome;
}

/** A name with its unit at its end, or one that has none: a name, a state, a count. */
const UNIT =
  /_(?:ug_m3|per_l|per_cm3|um|ppm|v|a|w|ah|kwh|c|pct|hpa|deg|m|m_s|us_cm|mm|min|s|raw|knots|code|bits)$|^(?:source|sequence|lat|lon|ts_iso|sentence|talker|hdop|satellites|fix_quality|wind_reference|device_id|device_error|serial_number|product_id|firmware|charge_state|tracker|load_output|relay|alarm|day_number|charge_cycles)$/;

describe("the device profiles that are shipped", () => {
  it("are the ones that are promised", () => {
    assert.deepEqual(names, [
      "airmar-wx",
      "esp32-ndjson",
      "generic-modbus-rain",
      "generic-modbus-soil",
      "generic-modbus-wind",
      "gill-windsonic",
      "nova-sds011",
      "plantower-pms5003",
      "sensirion-sps30",
      "ublox-nmea",
      "victron-ve-direct",
      "winsen-mh-z19b",
    ]);
  });

  for (const name of names) {
    it(`${name} cites its data sheet and reads its vectors`, async () => {
      const { profile } = await shipped(name);
      assert.equal(profile.name, name);
      assert.ok(profile.dataSheet?.title && profile.dataSheet.section, "a data sheet, and where in it");
      assert.ok(profile.wiring, "how it is wired");
      assert.ok(profile.vectors.length > 0);
      for (const vector of profile.vectors) {
        assert.equal(await vectorFault(profile, vector), undefined, vector.origin);
        for (const field of Object.keys(vector.reading)) assert.match(field, UNIT);
      }
    });
  }

  it("stand in the table of device/README.md with their speed", async () => {
    const page = await readFile(join(projectRoot, "device/README.md"), "utf8");
    const rows = page.split("\n").filter((line) => /^\| `[a-z0-9-]+` +\|.*\| \d+ +\|/.test(line));
    const cells = rows.map((row) => row.split("|").map((cell) => cell.trim().replaceAll("`", "")));
    const listed = new Map(cells.map(([, name, , , , speed]) => [name, Number(speed)]));
    for (const name of names) assert.equal(listed.get(name), (await shipped(name)).profile.baudRate, name);
    assert.equal(listed.size, names.length);
  });

  it("answer to no name twice", async () => {
    const all: string[] = [];
    for (const name of names) all.push(name, ...(await shipped(name)).profile.also);
    assert.equal(new Set(all).size, all.length);
    assert.equal((await shipped("plantower-pms7003")).profile.name, "plantower-pms5003");
  });

  it("are told from one another by what they say", async () => {
    const candidates = await shippedCandidates();
    for (const name of names) {
      const { profile } = await shipped(name);
      if (candidateOf(profile) === undefined) continue;
      const wire = Buffer.concat(profile.vectors.map(vectorBytes));
      // A capture begins and ends anywhere.
      const capture = Buffer.concat([wire.subarray(wire.length - 5), wire, wire, wire, wire.subarray(0, 5)]);
      const [best, second] = await profileScores([{ bytes: capture }], candidates, 0);
      assert.equal(best?.name, name);
      assert.ok(best.fits && best.explained === 1, `${name}: ${best.explained}`);
      assert.ok(second !== undefined && (!second.fits || second.familiar < best.familiar), name);
    }
  });
});

describe("any bytes whatever", () => {
  it("are tried against every profile and never thrown over", async () => {
    const candidates = await shippedCandidates();
    const piece = fc.record({ bytes: fc.uint8Array({ maxLength: 120 }), at: fc.constant(0) });
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 5 }), async (capture) => {
        for (const { explained, fits, readings } of await profileScores(capture, candidates, 0)) {
          assert.ok(explained >= 0 && explained <= 1);
          assert.ok(!fits || readings > 0);
        }
      }),
    );
  });
});

const PORT = "name: dust, path: /dev/x";

async function siteProfile(t: TestContext, text: string): Promise<string> {
  const folder = await temporaryFolder(t);
  await writeFile(join(folder, "probe.yaml"), text);
  return join(folder, "probe.yaml");
}

describe("a port with a profile", () => {
  it("needs nothing more than its path", async (t) => {
    const { config } = await load(t, `serial: [{ ${PORT}, profile: nova-sds011 }]`);
    const [port] = config.serial;
    assert.equal(port?.framing, "fixed");
    assert.equal(port?.codec, "binary");
    assert.equal(port?.class, "air-quality");
    assert.equal(port?.silentAfter, 15_000);
    assert.equal(port?.checksum?.type, "sum8");
    assert.equal(port?.checksum?.complement, "none", "defaults are filled in below it");
  });

  it("keeps what it says itself, key by key, and can say what came from where", async (t) => {
    const loaded = await load(
      t,
      `serial:\n  - ${PORT.replace(", ", "\n    ")}\n    profile: nova-sds011\n    silentAfter: 45m\n    class: smoke\n`,
      { SUMMIT_EDGE__SERIAL__0__BAUDRATE: "19200" },
    );
    const [port] = loaded.config.serial;
    assert.deepEqual([port?.silentAfter, port?.class, port?.baudRate], [45 * 60_000, "smoke", 19_200]);
    const origins = originsOf(loaded);
    assert.equal(origins["serial[0].silentAfter"], "line 5");
    assert.equal(origins["serial[0].baudRate"], "SUMMIT_EDGE__SERIAL__0__BAUDRATE");
    assert.equal(origins["serial[0].framing"], "profile nova-sds011");
    assert.equal(origins["serial[0].layout.fields[1].name"], "profile nova-sds011");
    assert.equal(origins["serial[0].parity"], "default");
  });

  it("may have a file of the site's own, seen from the configuration", async (t) => {
    const file = await siteProfile(
      t,
      "name: probe\ntitle: Our probe\ncodec: csv\ncolumns: [level_m]\nbaudRate: 1200\n",
    );
    const { config } = await load(t, `serial: [{ ${PORT}, profile: ${file} }]`);
    assert.deepEqual([config.serial[0]?.baudRate, config.serial[0]?.columns], [1200, ["level_m"]]);
  });

  it("may have the profile that device/README.md shows how to write", async (t) => {
    const page = await readFile(join(projectRoot, "device/README.md"), "utf8");
    const [, text = ""] = /```yaml\n(# probe\.yaml\n[\s\S]*?)```/.exec(page) ?? [];
    const outcome = await findProfile(await siteProfile(t, text), "/");
    assert.ok(outcome.kind === "found", outcome.kind === "found" ? "" : profileFault(outcome));
    const [vector] = outcome.profile.vectors;
    assert.ok(vector);
    assert.equal(await vectorFault(outcome.profile, vector), undefined);
  });

  it("whose profile is not known is told the nearest one", async (t) => {
    assert.deepEqual(await problemsOf(t, `serial: [{ ${PORT}, profile: plantower-pms503 }]`), [
      "line 1: serial[0].profile: there is no profile `plantower-pms503`; did you mean `plantower-pms5003`?",
    ]);
  });

  it("whose own profile is wrong is told its file, its line and its key", async (t) => {
    const file = await siteProfile(
      t,
      "name: probe\ntitle: Our probe\ncodec: binary\nlayout: { fields: [{ typ: u8 }] }\n",
    );
    const problems = await problemsOf(t, `serial: [{ ${PORT}, profile: ${file} }]`);
    assert.equal(problems.length, 1);
    assert.match(problems[0] ?? "", /serial\[0\]\.profile: the profile probe\.yaml cannot be used/);
    assert.match(problems[0] ?? "", /line 4: layout\.fields\[0\]\.typ: unknown key; did you mean `type`\?/);
    const [missing] = await problemsOf(t, `serial: [{ ${PORT}, profile: ./none.yaml }]`);
    assert.match(missing ?? "", /the profile none\.yaml cannot be used: cannot be read: there is no such file/);
    const bare = await siteProfile(t, "name: probe\ntitle: Our probe\n");
    const [codec] = await problemsOf(t, `serial: [{ ${PORT}, profile: ${bare} }]`);
    assert.match(codec ?? "", /codec: is missing/);
  });

  it("that does not go with its profile is told which of the profile's keys it is", async (t) => {
    const [problem] = await problemsOf(t, `serial: [{ ${PORT}, profile: nova-sds011, codec: json }]`);
    assert.match(problem ?? "", /profile nova-sds011: serial\[0\]\.layout: is of no use with codec json/);
  });

  it("whose profile is missing but for a typing error in its file's name is told how to name a file", async (t) => {
    const file = await siteProfile(t, "name: probe\ntitle: Our probe\ncodec: json\n");
    const outcome = await findProfile("probe", dirname(file));
    assert.equal(outcome.kind === "unknown" && /write \.\/probe\.yaml for the file/.test(outcome.message), true);
  });
});

describe("a Modbus line with profiles", () => {
  it("takes a single device's profile for the whole port", async (t) => {
    const { config } = await load(t, `serial: [{ ${PORT}, profile: generic-modbus-wind }]`);
    const [port] = config.serial;
    assert.equal(port?.baudRate, 4800);
    assert.deepEqual(
      port?.modbus?.servers.map(({ address, every, registers }) => [address, every, registers.length]),
      [[1, 5000, 2]],
    );
  });

  it("takes one for each server, its own keys first, and the speed that all agree upon", async (t) => {
    const loaded = await load(
      t,
      `serial: [{ ${PORT}, modbus: { servers: [{ address: 3, profile: generic-modbus-soil, every: 5m }, { address: 4, profile: generic-modbus-rain }] } }]`,
    );
    const [port] = loaded.config.serial;
    assert.deepEqual(
      port?.modbus?.servers.map(({ address, every, class: of, registers }) => [address, every, of, registers[0]?.name]),
      [
        [3, 300_000, "soil", "soil_moisture_pct"],
        [4, 60_000, "rain", "rain_count_mm"],
      ],
    );
    assert.equal(port?.baudRate, 9600);
    const origins = originsOf(loaded);
    assert.equal(origins["serial[0].modbus.servers[1].registers[0].at"], "profile generic-modbus-rain");
    assert.equal(origins["serial[0].modbus.servers[0].every"], "line 1");
  });

  it("has to say its speed where its devices come with different ones", async (t) => {
    const servers =
      "servers: [{ address: 3, profile: generic-modbus-soil }, { address: 4, profile: generic-modbus-wind }]";
    const [problem] = await problemsOf(t, `serial: [{ ${PORT}, modbus: { ${servers} } }]`);
    assert.match(
      problem ?? "",
      /serial\[0\]\.baudRate: is missing: generic-modbus-soil says 9600 and generic-modbus-wind says 4800/,
    );
    await load(t, `serial: [{ ${PORT}, baudRate: 9600, modbus: { ${servers} } }]`);
  });

  it("takes no profile of a device that is no Modbus server", async (t) => {
    const [problem] = await problemsOf(
      t,
      `serial: [{ ${PORT}, modbus: { servers: [{ address: 3, profile: nova-sds011 }] } }]`,
    );
    assert.match(problem ?? "", /nova-sds011 is no Modbus device: name it on its port/);
  });
});
