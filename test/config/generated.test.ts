import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { Ajv } from "ajv";
import { parse } from "yaml";
import { readConfig } from "#src/config/load.js";
import { publishedSchema } from "#src/config/published-schema.js";
import { projectRoot, runNode } from "../support/command.ts";
import { load } from "./fixture.ts";

const FIELD_DEFAULT = join(projectRoot, "config/gateway.yaml");

describe("what is generated from the schema", () => {
  for (const script of ["scripts/config-table.mjs", "scripts/config-example.mjs"])
    test(`is up to date: ${script} --check`, async () => {
      const { status, stderr } = await runNode(script, ["--check"]);
      assert.equal(status, 0, stderr);
    });

  test("the field default changes nothing", async (t) => {
    assert.deepEqual((await readConfig(FIELD_DEFAULT, {})).config, (await load(t, "")).config);
  });

  test("every key that the field default has commented out may be put in", async (t) => {
    const text = await readFile(FIELD_DEFAULT, "utf8");
    const uncommented = text.replaceAll(/^( *)#(?! \S)/gm, "$1");
    assert.notEqual(uncommented, text);
    await load(t, uncommented);
  });

  test("the demo's configuration is valid, and stays on loopback", async () => {
    const { config, warnings } = await readConfig(join(projectRoot, "config/demo.yaml"), {});
    assert.deepEqual(warnings, []);
    assert.equal(config.gateway.dataDir, join(projectRoot, "data/demo"));
    assert.deepEqual(
      config.mqtt.listeners.map(({ bind, port, tls }) => [bind, port, tls?.development]),
      [
        ["127.0.0.1", 1883, undefined],
        ["127.0.0.1", 8883, true],
      ],
    );
    assert.deepEqual(
      config.serial.map(({ name, codec }) => [name, codec]),
      [
        ["mast", "nmea0183"],
        ["weather", "csv"],
      ],
    );
    assert.equal(config.uplink.url, "http://127.0.0.1:8490/api/v1/observations/batch");
    assert.equal(config.http.port, 8480);
  });

  test("the published schema is plain JSON Schema and judges files as the gateway does", async () => {
    const validate = new Ajv({ strict: true, formats: { uri: (text: string) => URL.canParse(text) } }).compile(
      publishedSchema(),
    );
    for (const file of ["config/gateway.yaml", "config/demo.yaml"])
      assert.ok(validate(parse(await readFile(join(projectRoot, file), "utf8"))), JSON.stringify(validate.errors));
    assert.ok(!validate({ outbox: { maxAge: "30" } }));
    assert.ok(!validate({ outbox: { maxage: "30d" } }));
    assert.ok(validate({ outbox: { maxAge: "1.5d", maxBytes: "2GiB" } }));
    assert.ok(validate({ mqtt: { limits: null }, serial: null }), "a section with nothing in it");
    const bus = { name: "bus", path: "/dev/ttyUSB0" };
    assert.ok(!validate({ serial: [{ ...bus, modbus: { servers: null } }] }), "one that is required");
    assert.ok(!validate({ outbox: { maxAge: null } }), "a value that is missing");
  });
});
