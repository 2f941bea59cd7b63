import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { presentable, redactUrl } from "#src/config/redact.js";
import { load } from "./fixture.ts";

describe("redaction", () => {
  test("takes user, password, query and fragment out of a URL", () => {
    assert.equal(
      redactUrl("https://user:pw@fusion.example/a?token=t#f"),
      "https://redacted@fusion.example/a?redacted#redacted",
    );
    assert.equal(redactUrl("https://user@fusion.example/"), "https://redacted@fusion.example/");
    assert.equal(redactUrl("https://fusion.example/a/b"), "https://fusion.example/a/b");
    assert.equal(redactUrl("user:pw@fusion"), "redacted");
    assert.equal(redactUrl("fusion"), "fusion");
  });

  test("leaves the effective configuration otherwise as it would be written", async (t) => {
    const { config } = await load(t, "uplink: { url: 'https://fusion.example/a?k=v', tokenFile: /run/token }");
    const shown = presentable(config) as typeof config;
    assert.equal(shown.uplink.url, "https://fusion.example/a?redacted");
    assert.equal(shown.uplink.tokenFile, "/run/token");
    assert.equal(shown.outbox.maxBytes, "2GiB");
    assert.equal(shown.outbox.maxAge, "30d");
    assert.equal(shown.outbox.commitDelay.normal, "250ms");
    assert.equal(config.outbox.commitDelay.normal, 250);
  });
});
