import assert from "node:assert/strict";
import { dirname, join, resolve } from "node:path";
import { describe, test } from "node:test";
import { load, problemsOf } from "./fixture.ts";

const TOKEN = "uplink: { tokenFile: '$" + "{CREDENTIALS_DIRECTORY}/token' }";

describe("paths", () => {
  test("a relative file is taken from the configuration file's folder", async (t) => {
    const { config, file } = await load(
      t,
      "gateway: { dataDir: ../data }\nuplink: { tokenFile: secrets/token, tls: { caFile: /ca } }",
    );
    assert.equal(config.gateway.dataDir, join(dirname(dirname(file)), "data"));
    assert.equal(config.uplink.tokenFile, join(dirname(file), "secrets/token"));
    assert.equal(config.uplink.tls.caFile, "/ca");
    assert.equal(config.outbox.file, "outbox.db");
  });

  test("a relative file in a variable is taken from where the command runs", async (t) => {
    const { config } = await load(t, "", {
      SUMMIT_EDGE__GATEWAY__DATADIR: "here",
      SUMMIT_EDGE__MQTT__LISTENERS: "[{ bind: ::1, port: 1, tls: { certFile: c, keyFile: /k } }]",
    });
    assert.equal(config.gateway.dataDir, resolve("here"));
    assert.equal(config.mqtt.listeners[0]?.tls?.certFile, resolve("c"));
    assert.equal(config.mqtt.listeners[0]?.tls?.keyFile, "/k");
  });

  test("systemd's credentials are found where it put them", async (t) => {
    const { config, warnings } = await load(t, `${TOKEN}`, { CREDENTIALS_DIRECTORY: "/run/credentials/x" });
    assert.equal(config.uplink.tokenFile, "/run/credentials/x/token");
    assert.equal(warnings.filter(({ path }) => path === "uplink.tokenFile").length, 0);
  });

  test("without credentials the daemon refuses, and an operator's check warns", async (t) => {
    const { warnings } = await load(t, TOKEN);
    assert.match(warnings.find(({ path }) => path === "uplink.tokenFile")?.message ?? "", /LoadCredential=token/);
    const problems = await problemsOf(t, TOKEN, {}, { credentials: "required" });
    assert.match(problems.join(), /^line 1: uplink.tokenFile: CREDENTIALS_DIRECTORY is not set/);
  });
});
